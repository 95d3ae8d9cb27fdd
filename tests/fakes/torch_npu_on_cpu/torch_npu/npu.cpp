// A device "npu" with the host's memory, for tests of everything around the kernels. See ../README.md.
#include <ATen/autocast_mode.h>

#include "devices.h"
#include "hccl.h"
#include "operators.h"

namespace simulated_npu {
namespace {

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);
REGISTER_ALLOCATOR(kNpu, &allocator);

// -- operators that the boxed kernel cannot handle: between two devices, or left to each device by torch ------------

// The host waits for a copy from or to pageable memory, or if the caller wants a blocking copy.
at::Tensor copy_from(const at::Tensor& self, const at::Tensor& to, bool non_blocking) {
  const bool from_npu = self.device().type() == kNpu, to_npu = to.device().type() == kNpu;
  if (!from_npu || !to_npu) {
    ++(from_npu ? counters.device_to_host : counters.host_to_device);
    const void* host = (from_npu ? to : self).storage().data();
    if (!non_blocking || !PinnedAllocator::instance().holds(host)) ++counters.waits;
  }
  on_host(to).copy_(on_host(self));
  saturate(to);
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& self, const at::Tensor& to) {
  at::native::resize_(to, self.sizes());
  return copy_from(self, to, false);
}

at::Scalar read_scalar(const at::Tensor& self) {
  ++counters.scalar_reads;
  ++counters.waits;
  return at::_local_scalar_dense(on_host(self));
}

// What is wrong with grouped convolutions: nothing, "values", or they fail in the pass "forward" or "backward".
std::string grouped_fault;

void fail_where_grouped(int64_t groups, const std::string& pass) {
  TORCH_CHECK(groups == 1 || grouped_fault != pass, "simulated: no kernel for groups > 1\nEZ9999: inner error");
}

at::Tensor convolution(
    const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding,
    int64_t groups) {
  TORCH_CHECK(input.device() == weight.device(), "convolution: input on ", input.device(), ", weight on ",
              weight.device());
  note({"aten::convolution_overrideable", ""});
  fail_where_grouped(groups, "forward");
  Call call;
  std::optional<at::Tensor> host_bias;
  if (bias && bias->defined()) host_bias = call.in(*bias);
  at::Tensor result = at::convolution(call.in(input), call.in(weight), host_bias, stride, padding, dilation, transposed,
                                      output_padding, groups);
  if (groups > 1 && grouped_fault == "values") result = result.flip(1);
  at::Tensor moved = call.out(result);
  saturate(moved);
  return moved;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& gradient, const at::Tensor& input, const at::Tensor& weight, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding, int64_t groups,
    std::array<bool, 3> output_mask) {
  note({"aten::convolution_backward_overrideable", ""});
  fail_where_grouped(groups, "backward");
  Call call;
  const std::vector<int64_t> bias_sizes{gradient.size(1)};
  auto [of_input, of_weight, of_bias] = at::convolution_backward(
      call.in(gradient), call.in(input), call.in(weight), at::OptionalIntArrayRef(bias_sizes), stride, padding,
      dilation, transposed, output_padding, groups, output_mask);
  return {call.out(of_input), call.out(of_weight), call.out(of_bias)};
}

// On devices torch uses a fused dropout operator, whose CPU kernel rounds differently from the CPU's dropout. This is
// the arithmetic of the latter.
std::tuple<at::Tensor, at::Tensor> dropout(const at::Tensor& input, double rate, std::optional<bool> train) {
  note({"aten::native_dropout", ""});
  if (train && !*train) return {input.clone(), at::ones_like(input, input.options().dtype(at::kBool))};
  at::Tensor noise = at::empty_like(input).bernoulli_(1 - rate);
  at::Tensor mask = noise.to(at::kBool);
  return {input * noise.div_(1 - rate), mask};
}

at::Tensor dropout_backward(const at::Tensor& gradient, const at::Tensor& mask, double scale) {
  note({"aten::native_dropout_backward", ""});
  return gradient * mask.to(gradient.scalar_type()).div_(1 / scale);
}

// In saturation mode the real one looks at no gradient: it waits for the flag of its device, and clears one that is set.
void check_and_unscale(at::TensorList gradients, at::Tensor& found_inf, const at::Tensor& inverse_scale) {
  note({"aten::_amp_foreach_non_finite_check_and_unscale_", ""});
  Call call;
  std::vector<at::Tensor> host;
  for (const at::Tensor& gradient : gradients) host.push_back(call.in(gradient));
  at::Tensor found = call.in(found_inf), scale = call.in(inverse_scale);
  if (!saturating) return at::_amp_foreach_non_finite_check_and_unscale_(host, found, scale);
  ++counters.waits;
  if (overflowed.at(found_inf.device().index()).exchange(false)) found.fill_(1);
  for (at::Tensor& gradient : host) gradient.mul_(scale);
}

at::Tensor& set_storage_at(
    at::Tensor& self, c10::Storage storage, int64_t offset, at::IntArrayRef sizes, at::IntArrayRef strides) {
  self.unsafeGetTensorImpl()->set_storage_keep_dtype(std::move(storage));
  self.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides, offset);
  return self;
}

at::Tensor& set_storage(at::Tensor& self, c10::Storage storage) {
  const auto elements = static_cast<int64_t>(storage.nbytes() / self.dtype().itemsize());
  return set_storage_at(self, std::move(storage), 0, {elements}, {1});
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&run>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("_copy_from", copy_from);
  library.impl("_copy_from_and_resize", copy_from_and_resize);
  library.impl("_local_scalar_dense", read_scalar);
  library.impl("convolution_overrideable", convolution);
  library.impl("convolution_backward_overrideable", convolution_backward);
  library.impl("_amp_foreach_non_finite_check_and_unscale_", check_and_unscale);
  library.impl("native_dropout", dropout);
  library.impl("native_dropout_backward", dropout_backward);
  library.impl("set_.source_Storage_storage_offset", set_storage_at);
  library.impl("set_.source_Storage", set_storage);
  // Not left to the fallback: torch looks this one up by name, and would split the lists of tensors.
  library.impl("_fused_sgd_", torch::CppFunction::makeFromBoxedFunction<&run>());
  for (const c10::OperatorName& name : c10::Dispatcher::singleton().getAllOpNames()) {
    if (name.name.rfind("aten::_foreach_", 0) != 0) continue;
    const std::string full_name = name.overload_name.empty() ? name.name : name.name + "." + name.overload_name;
    if (full_name.find("out") == std::string::npos)
      library.impl(full_name.c_str() + 6, torch::CppFunction::makeFromBoxedFunction<&run>());
  }
}

// -- autocast: torch's operator lists for every device -------------------------------------------------------------

TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {  // the macros below call it m
#define LOWER_PRECISION(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, lower_precision_fp)
#define FLOAT32(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32)
#define FLOAT32_RESULT(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32_set_opt_dtype)
#define WIDEST(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, promote)
  AT_FORALL_LOWER_PRECISION_FP(LOWER_PRECISION)
  AT_FORALL_FP32(FLOAT32)
  AT_FORALL_FP32_SET_OPT_DTYPE(FLOAT32_RESULT)
  AT_FORALL_PROMOTE(WIDEST)
}

// torch_npu.npu_change_data_ptr: the storage of the tensor, and of all that share it, becomes a part of the block's.
void change_data_ptr(const at::Tensor& tensor, const at::Tensor& block, int64_t offset) {
  auto* storage = tensor.storage().unsafeGetStorageImpl();
  auto* kept = new c10::Storage(block.storage());
  char* data = static_cast<char*>(block.data_ptr()) + offset * block.element_size();
  storage->set_data_ptr_noswap(
      {data, kept, [](void* p) { delete static_cast<c10::Storage*>(p); }, tensor.device()});
}

std::map<std::string, int64_t> counted() {
  return {{"operators", counters.operators}, {"host_to_device", counters.host_to_device},
          {"device_to_host", counters.device_to_host}, {"scalar_reads", counters.scalar_reads},
          {"waits", counters.waits}};
}

}  // namespace
}  // namespace simulated_npu

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  using namespace simulated_npu;
  at::RegisterPrivateUse1HooksInterface(new Hooks());
  module.def("set_device_count", [](int devices) {
    TORCH_CHECK(devices >= 0 && devices <= kMost, "0 to ", kMost, " devices can be simulated");
    count = static_cast<c10::DeviceIndex>(devices);
  });
  module.def("device_count", [] { return static_cast<int>(count); });
  module.def("current_device", [] { return static_cast<int>(current); });
  module.def("set_device", [](int index) { Guard().setDevice({kNpu, static_cast<c10::DeviceIndex>(index)}); });
  module.def("synchronize", [] { ++counters.waits; });
  module.def("default_generator", [](int index) { return default_generator(static_cast<c10::DeviceIndex>(index)); });
  module.def("memory_allocated", [](int index) { return memory.at(index).now.load(); });
  module.def("max_memory_allocated", [](int index) { return memory.at(index).peak.load(); });
  module.def("reset_peak_memory", [](int index) { memory.at(index).peak = memory.at(index).now.load(); });
  module.def("counters", &counted);
  module.def("record_operators", [](bool on) { recording = on; });
  module.def("recorded_operators", [] {
    std::lock_guard<std::mutex> lock(recorded_guard);
    return recorded;
  });
  module.def("allow_internal_format", [](bool on) { internal_format = on; });
  module.def("break_grouped_convolutions", [](const std::string& fault) { grouped_fault = fault; });
  module.def("break_fused_sgd", [](const std::string& fault) { fused_sgd_fault = fault; });
  module.def("saturate", [](bool on) { saturating = on; });
  module.def("saturates", [] { return saturating.load(); });
  module.def("clear_overflow", [] { overflowed.at(current) = false; });
  module.def("change_data_ptr", &change_data_ptr);
  module.def("hccl", [](const c10::intrusive_ptr<c10d::Backend>& gloo) -> c10::intrusive_ptr<c10d::Backend> {
    return c10::make_intrusive<Hccl>(gloo);
  });
}
