// The backend "hccl": gloo on the same bytes. A collective ends before its call returns; gloo's exceptions, for example
// when a peer is gone, pass through.
#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include "operators.h"

namespace simulated_npu {

class Hccl final : public c10d::Backend {
  using Tensors = std::vector<at::Tensor>;
  using Work = c10::intrusive_ptr<c10d::Work>;

 public:
  explicit Hccl(c10::intrusive_ptr<c10d::Backend> gloo)
      : c10d::Backend(gloo->getRank(), gloo->getSize()), gloo_(std::move(gloo)) {}

  const std::string getBackendName() const override { return "hccl"; }

  Work broadcast(Tensors& tensors, const c10d::BroadcastOptions& options) override {
    Tensors host = hosts(tensors);
    return done(gloo_->broadcast(host, options), tensors);
  }
  Work allreduce(Tensors& tensors, const c10d::AllreduceOptions& options) override {
    Tensors host = hosts(tensors);
    return done(gloo_->allreduce(host, options), tensors);
  }
  Work allreduce_coalesced(Tensors& tensors, const c10d::AllreduceCoalescedOptions& options) override {
    Tensors host = hosts(tensors);
    return done(gloo_->allreduce_coalesced(host, options), tensors);
  }
  Work reduce(Tensors& tensors, const c10d::ReduceOptions& options) override {
    Tensors host = hosts(tensors);
    return done(gloo_->reduce(host, options), tensors);
  }
  Work allgather(std::vector<Tensors>& outputs, Tensors& inputs, const c10d::AllgatherOptions& options) override {
    std::vector<Tensors> host_outputs;
    for (Tensors& output : outputs) host_outputs.push_back(hosts(output));
    Tensors host = hosts(inputs);
    return done(gloo_->allgather(host_outputs, host, options), outputs.at(0));
  }
  Work _allgather_base(at::Tensor& output, at::Tensor& input, const c10d::AllgatherOptions& options) override {
    at::Tensor host_output = on_device(output), host = on_device(input);
    return done(gloo_->_allgather_base(host_output, host, options), {output});
  }
  Work barrier(const c10d::BarrierOptions&) override { return done(gloo_->barrier(c10d::BarrierOptions()), {}); }

 private:
  c10::intrusive_ptr<c10d::Backend> gloo_;

  static at::Tensor on_device(const at::Tensor& tensor) {
    TORCH_CHECK(tensor.device().type() == kNpu, "hccl: a tensor is on ", tensor.device(), ", not on an npu");
    return on_host(tensor);
  }
  static Tensors hosts(const Tensors& tensors) {
    Tensors all;
    for (const at::Tensor& tensor : tensors) all.push_back(on_device(tensor));
    return all;
  }
  static Work done(const Work& work, const Tensors& tensors) {
    work->wait();
    auto result = c10::make_intrusive<c10::ivalue::Future>(c10::ListType::create(c10::TensorType::get()));
    result->markCompleted(c10::IValue(tensors));
    return c10d::Work::create_from_future(result);
  }
};

}  // namespace simulated_npu
