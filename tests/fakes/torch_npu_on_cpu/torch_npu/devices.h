// The simulated devices: the current device, memory, random generators, pinned host memory, and counters of the copies
// and synchronisations of a real device.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/extension.h>

#include <array>
#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>

namespace simulated_npu {

constexpr auto kNpu = c10::DeviceType::PrivateUse1;
constexpr int kMost = 16;  // devices

inline thread_local c10::DeviceIndex current = 0;
inline c10::DeviceIndex count = 0;  // set once, at import

// `waits` counts the points where the host would wait for the device's queue.
struct Counters {
  std::atomic<int64_t> operators{0}, host_to_device{0}, device_to_host{0}, scalar_reads{0}, waits{0};
};
inline Counters counters;

// -- memory ------------------------------------------------------------------------------------------------------

struct Memory {
  std::atomic<int64_t> now{0}, peak{0};
  void add(int64_t bytes) {
    const int64_t total = now += bytes;
    int64_t before = peak;
    while (before < total && !peak.compare_exchange_weak(before, total)) {}
  }
};
inline std::array<Memory, kMost> memory;

// Owner of a device's bytes, which are counted while it lives.
struct Owner {
  c10::DataPtr bytes;
  c10::DeviceIndex device;
  int64_t size;
  Owner(c10::DataPtr b, c10::DeviceIndex d, int64_t n) : bytes(std::move(b)), device(d), size(n) { memory[d].add(n); }
  ~Owner() { memory[device].add(-size); }
  static void release(void* owner) { delete static_cast<Owner*>(owner); }
};

inline c10::DataPtr owned(c10::DataPtr bytes, c10::Device device, int64_t size) {
  void* data = bytes.get();
  return {data, new Owner(std::move(bytes), device.index(), size), &Owner::release, device};
}

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    return owned(c10::GetCPUAllocator()->allocate(bytes), {kNpu, current}, static_cast<int64_t>(bytes));
  }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
};
inline Allocator allocator;

// "Pinned" host memory is ordinary memory in a registry: is_pinned() must recognise it, or the DataLoader and
// DistributedDataParallel treat it as pageable.
struct PinnedAllocator final : c10::Allocator {
  std::mutex guard;
  std::map<const char*, size_t> blocks;
  static PinnedAllocator& instance() {
    static auto* allocator = new PinnedAllocator();  // never destroyed: tensors may outlive static objects
    return *allocator;
  }
  static void release(void* data) {
    {
      std::lock_guard<std::mutex> lock(instance().guard);
      instance().blocks.erase(static_cast<const char*>(data));
    }
    c10::free_cpu(data);
  }
  c10::DataPtr allocate(size_t bytes) override {
    void* data = c10::alloc_cpu(std::max<size_t>(bytes, 1));
    std::lock_guard<std::mutex> lock(guard);
    blocks[static_cast<const char*>(data)] = std::max<size_t>(bytes, 1);
    return {data, data, &release, c10::Device(c10::kCPU)};
  }
  bool holds(const void* data) {
    std::lock_guard<std::mutex> lock(guard);
    auto after = blocks.upper_bound(static_cast<const char*>(data));
    if (after == blocks.begin()) return false;
    --after;
    return static_cast<const char*>(data) < after->first + after->second;
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
};

// -- devices -----------------------------------------------------------------------------------------------------

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kNpu; }
  c10::Device exchangeDevice(c10::Device device) const override {
    const c10::Device before = getDevice();
    setDevice(device);
    return before;
  }
  c10::Device getDevice() const override { return {kNpu, current}; }
  void setDevice(c10::Device device) const override {
    TORCH_CHECK(device.index() < count, "there is no npu:", static_cast<int>(device.index()));
    uncheckedSetDevice(device);
  }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    if (device.index() >= 0) current = device.index();
  }
  c10::DeviceIndex deviceCount() const noexcept override { return count; }
  // Every operator ends before its call returns, so streams and events have nothing to order.
  c10::Stream getStream(c10::Device device) const override { return c10::Stream(c10::Stream::DEFAULT, device); }
  c10::Stream getNewStream(c10::Device device, int) const override { return getStream(device); }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    return c10::Stream(c10::Stream::DEFAULT, stream.device());
  }
  void record(void**, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, c10::DeviceIndex) const noexcept override {}
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override { ++counters.waits; }
  void synchronizeDevice(c10::DeviceIndex) const override { ++counters.waits; }
  void synchronizeEvent(void*) const override { ++counters.waits; }
};

// -- random numbers ----------------------------------------------------------------------------------------------

// A device's generator: the CPU's algorithm, so that a seed gives the CPU's numbers, but its own state, so that tests
// notice a seed or a restored state that left out the device.
struct Generator final : c10::GeneratorImpl {
  at::Generator inner = at::make_generator<at::CPUGeneratorImpl>();
  explicit Generator(c10::DeviceIndex device)
      : c10::GeneratorImpl({kNpu, device}, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)) {}
  void set_current_seed(uint64_t seed) override { inner.set_current_seed(seed); }
  uint64_t current_seed() const override { return inner.current_seed(); }
  uint64_t seed() override { return inner.seed(); }
  void set_offset(uint64_t offset) override { inner.set_offset(offset); }
  uint64_t get_offset() const override { return inner.get_offset(); }
  void set_state(const c10::TensorImpl& state) override { inner.unsafeGetGeneratorImpl()->set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override { return inner.unsafeGetGeneratorImpl()->get_state(); }
  Generator* clone_impl() const override {
    auto* copy = new Generator(device().index());
    copy->inner = inner.clone();
    return copy;
  }
};

inline const at::Generator& default_generator(c10::DeviceIndex index) {
  static std::array<at::Generator, kMost> all;
  static std::once_flag once;
  std::call_once(once, [] {
    for (int i = 0; i < kMost; ++i) all[i] = at::make_generator<Generator>(static_cast<c10::DeviceIndex>(i));
  });
  return all[index < 0 ? current : index];
}

// -- torch's hooks for a device that it does not know -----------------------------------------------------------------

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return count > 0; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return count; }
  c10::DeviceIndex getCurrentDevice() const override { return current; }
  void setCurrentDevice(c10::DeviceIndex device) const override { Guard().setDevice({kNpu, device}); }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex device) const override {
    return Guard().exchangeDevice({kNpu, device}).index();
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex device) const override { return exchangeDevice(device); }
  void init() const override {}
  at::Allocator* getPinnedMemoryAllocator() const override { return &PinnedAllocator::instance(); }
  bool isPinnedPtr(const void* data) const override { return PinnedAllocator::instance().holds(data); }
  at::Device getDeviceFromPtr(void*) const override { return {kNpu, current}; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex device) const override { return default_generator(device); }
  at::Generator getNewGenerator(c10::DeviceIndex device) const override {
    return at::make_generator<Generator>(device < 0 ? current : device);
  }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    c10::DataPtr data = allocator.allocate(bytes);
    if (storage.data() != nullptr) std::memcpy(data.get(), storage.data(), std::min(bytes, storage.nbytes()));
    storage.unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(data));
    storage.unsafeGetStorageImpl()->set_nbytes(bytes);
  }
};

}  // namespace simulated_npu
