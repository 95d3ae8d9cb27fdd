// Operators: one boxed kernel handles every call, runs the CPU's kernel on the same bytes and moves the results to the
// device of the arguments. Nothing is copied, so results equal the CPU's bit for bit.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <set>

#include "devices.h"

namespace simulated_npu {

// Names of the operators called while `recording` is on.
inline std::atomic<bool> recording{false};
inline std::mutex recorded_guard;
inline std::set<std::string> recorded;

inline void note(const c10::OperatorName& op) {
  ++counters.operators;
  if (!recording) return;
  std::lock_guard<std::mutex> lock(recorded_guard);
  recorded.insert(op.overload_name.empty() ? op.name : op.name + "." + op.overload_name);
}

// A tensor on another device with the same bytes; it keeps the old tensor's storage alive.
inline at::Tensor retagged(const at::Tensor& tensor, c10::Device device) {
  const c10::Storage& storage = tensor.storage();
  auto* kept = new c10::Storage(storage);
  auto release = [](void* p) { delete static_cast<c10::Storage*>(p); };
  c10::DataPtr data(const_cast<void*>(storage.data()), kept, release, device);
  const bool to_npu = device.type() == kNpu;
  if (to_npu) data = owned(std::move(data), device, static_cast<int64_t>(storage.nbytes()));
  c10::Allocator* owner = to_npu ? static_cast<c10::Allocator*>(&allocator) : c10::GetCPUAllocator();
  auto result = at::detail::make_tensor<c10::TensorImpl>(
      c10::Storage(c10::Storage::use_byte_size_t(), storage.nbytes(), std::move(data), owner, true),
      c10::DispatchKeySet(to_npu ? c10::DispatchKey::PrivateUse1 : c10::DispatchKey::CPU), tensor.dtype());
  result.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides(), tensor.storage_offset());
  return result;
}

inline at::Tensor on_host(const at::Tensor& tensor) {
  return tensor.device().type() == kNpu ? retagged(tensor, at::kCPU) : tensor;
}

// Moves the arguments of one call to the CPU and its results back to the device.
class Call {
 public:
  c10::Device device{kNpu, current};

  at::Tensor in(const at::Tensor& tensor) {
    if (!tensor.defined() || tensor.device().type() != kNpu) return tensor;
    device = tensor.device();
    pairs_.emplace_back(tensor, retagged(tensor, at::kCPU));
    return pairs_.back().second;
  }

  c10::IValue in(const c10::IValue& value) {
    if (value.isTensor()) return in(value.toTensor());
    if (value.isTensorList()) {
      std::vector<at::Tensor> all;
      for (const at::Tensor& tensor : value.toTensorList()) all.push_back(in(tensor));
      return all;
    }
    if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> all;
      for (const auto& tensor : value.toOptionalTensorVector())
        all.push_back(tensor ? std::optional<at::Tensor>(in(*tensor)) : tensor);
      return all;
    }
    if (value.isDevice() && value.toDevice().type() == kNpu) {
      device = value.toDevice().has_index() ? value.toDevice() : c10::Device(kNpu, current);
      return c10::Device(at::kCPU);
    }
    if (value.isGenerator() && value.toGenerator().device().type() == kNpu)
      return static_cast<Generator*>(value.toGenerator().unsafeGetGeneratorImpl())->inner;
    return value;
  }

  // Gives an argument that the kernel has resized (`out=`) the new memory and shape.
  void settle() {
    for (auto& [npu, cpu] : pairs_) {
      auto* tensor = npu.unsafeGetTensorImpl();
      if (cpu.storage().data() != npu.storage().data())
        tensor->set_storage_keep_dtype(retagged(cpu, npu.device()).storage());
      if (cpu.sizes() != npu.sizes() || cpu.strides() != npu.strides())
        tensor->set_sizes_and_strides(cpu.sizes(), cpu.strides(), cpu.storage_offset());
    }
  }

  at::Tensor out(const at::Tensor& tensor) {
    if (!tensor.defined() || tensor.device().type() != at::kCPU) return tensor;
    for (auto& [npu, cpu] : pairs_)
      if (tensor.is_same(cpu)) return npu;  // in place
    for (auto& [npu, cpu] : pairs_)
      if (tensor.storage().is_alias_of(cpu.storage())) return view(npu, tensor);
    return retagged(tensor, device);
  }

  c10::IValue out(const c10::IValue& value) {
    if (value.isTensor()) return out(value.toTensor());
    if (value.isTensorList()) {
      std::vector<at::Tensor> all;
      for (const at::Tensor& tensor : value.toTensorList()) all.push_back(out(tensor));
      return all;
    }
    return value;
  }

 private:
  std::vector<std::pair<at::Tensor, at::Tensor>> pairs_;  // on the device, on the host

  // With the base's dispatch keys: the mode in which the base was created counts, not the current mode.
  static at::Tensor view(const at::Tensor& base, const at::Tensor& like) {
    auto result = at::detail::make_tensor<c10::TensorImpl>(
        c10::TensorImpl::VIEW, c10::Storage(base.storage()), base.key_set(), like.dtype());
    result.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
    return result;
  }
};

// As on a real device, all tensors must be on one device; CPU scalars are allowed.
inline void check_devices(const c10::OperatorHandle& op, const torch::jit::Stack& stack, size_t first) {
  std::optional<c10::Device> device;
  auto see = [&](const at::Tensor& tensor) {
    if (!tensor.defined() || (tensor.device().is_cpu() && tensor.dim() == 0)) return;
    if (!device) device = tensor.device();
    TORCH_CHECK(*device == tensor.device(), op.schema().name(), ": all tensors must be on one device, found ", *device,
                " and ", tensor.device());
  };
  for (size_t i = first; i < stack.size(); ++i) {
    if (stack[i].isTensor()) see(stack[i].toTensor());
    if (stack[i].isTensorList())
      for (const at::Tensor& tensor : stack[i].toTensorList()) see(tensor);
  }
}

// Whether the host must synchronise with the device: a shape or a Python value depends on the data, by the operator's
// tags or because a boolean mask selects elements.
inline bool host_waits(const c10::OperatorHandle& op, const torch::jit::Stack& stack, size_t first) {
  if (op.hasTag(at::Tag::data_dependent_output)) return true;
  if (!op.hasTag(at::Tag::dynamic_output_shape)) return false;
  bool indices = false, masks = false;
  for (size_t i = first; i < stack.size(); ++i) {
    if (!stack[i].isOptionalTensorList()) continue;
    indices = true;
    for (const auto& index : stack[i].toOptionalTensorVector())
      masks = masks || (index && (index->scalar_type() == at::kBool || index->scalar_type() == at::kByte));
  }
  return !indices || masks;
}

// While alive, the CPU's generator has the state of the device's; afterwards each continues from its own state.
class DeviceRandomness {
 public:
  explicit DeviceRandomness(c10::DeviceIndex device)
      : own_(static_cast<Generator*>(default_generator(device).unsafeGetGeneratorImpl())->inner),
        cpu_(at::globalContext().defaultGenerator(at::kCPU)),
        before_(cpu_.get_state()) {
    cpu_.set_state(own_.get_state());
  }
  ~DeviceRandomness() {
    own_.set_state(cpu_.get_state());
    cpu_.set_state(before_);
  }

 private:
  at::Generator own_, cpu_;
  at::Tensor before_;
};

// Errors of torch_npu, with its messages: channels_last tensors, and lists of tensors in internal formats.
inline std::atomic<bool> internal_format{false};

inline void check_layout(const c10::OperatorHandle& op, const torch::jit::Stack& stack) {
  const std::string& name = op.schema().name();
  if (name == "aten::empty" && stack.back().isInt())
    TORCH_CHECK(stack.back().toMemoryFormat() == c10::MemoryFormat::Contiguous,
                "Only c10::MemoryFormat::Contiguous is supported for creating a npu tensor");
  if (internal_format)
    TORCH_CHECK(name.rfind("aten::_foreach", 0) != 0 && name.rfind("aten::_fused", 0) != 0, "Current operator ",
                name.substr(6), " do not support internal format.");
}

// The saturation mode of the Ascend 910: a 16-bit result that overflows becomes the largest number and sets a flag of its
// device, which nobody else sees.
inline std::atomic<bool> saturating{false};
inline std::array<std::atomic<bool>, kMost> overflowed;

// Memory that is allocated or viewed may hold anything: only what these compute overflows.
inline bool computes(const c10::OperatorHandle& op) {
  static const std::set<std::string> names{"aten::add", "aten::addmm", "aten::div", "aten::mean", "aten::mm", "aten::mul",
                                           "aten::sum"};
  return names.count(op.schema().name()) != 0;
}

inline void saturate(const at::Tensor& result) {
  if (!saturating || !result.defined() || result.scalar_type() != at::kHalf || result.device().type() != kNpu) return;
  at::Tensor host = on_host(result);
  if (host.isfinite().all().item<bool>()) return;
  overflowed.at(result.device().index()) = true;
  host.nan_to_num_(0.0, 65504.0, -65504.0);
}

// One that a kernel of this torch_npu lacks on its card, or gives wrong "values": see `break_fused_sgd`.
inline std::string fused_sgd_fault;

inline void run(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  note(op.operator_name());
  const size_t first = stack->size() - op.schema().arguments().size();
  check_devices(op, *stack, first);
  check_layout(op, *stack);
  const bool fused_sgd = op.schema().name() == "aten::_fused_sgd_";
  TORCH_CHECK(!fused_sgd || fused_sgd_fault != "fails", "simulated: aclnnApplyFusedSgd is not supported\nEZ1001");
  if (fused_sgd && fused_sgd_fault == "values") {
    torch::jit::drop(*stack, op.schema().arguments().size());
    return;
  }
  if (host_waits(op, *stack, first)) ++counters.waits;
  Call call;
  for (size_t i = first; i < stack->size(); ++i) (*stack)[i] = call.in((*stack)[i]);
  {
    std::optional<DeviceRandomness> randomness;
    if (op.hasTag(at::Tag::nondeterministic_seeded)) randomness.emplace(call.device.index());
    op.callBoxed(stack);
  }
  call.settle();
  for (size_t i = stack->size() - op.schema().returns().size(); i < stack->size(); ++i) {
    (*stack)[i] = call.out((*stack)[i]);
    if (computes(op) && (*stack)[i].isTensor()) saturate((*stack)[i].toTensor());
  }
}

}  // namespace simulated_npu
