"""The module `torch.npu`: the part of torch_npu's that torch and the project use."""

from __future__ import annotations

import contextlib
import time
from types import SimpleNamespace
from typing import Any, ContextManager, Dict, List, Optional, Union

import torch

from torch_npu.extension import EXTENSION

NAME = "Simulated NPU"  # unlike any Ascend's name in a record
Index = Union[None, int, str, torch.device]

# The project's settings, for tests to inspect.
settings: Dict[str, Any] = {}

device_count = EXTENSION.device_count
current_device = EXTENSION.current_device


def _index(device: Index) -> int:
    if device is None:
        return int(current_device())
    if isinstance(device, int):
        return device
    index = torch.device(device).index
    return int(current_device()) if index is None else index


def is_available() -> bool:
    return bool(device_count())


def is_initialized() -> bool:
    return True


def init() -> None:
    pass


def _lazy_init() -> None:
    pass


def _is_in_bad_fork() -> bool:
    return False


def set_device(device: Index) -> None:
    EXTENSION.set_device(_index(device))


def get_device_name(device: Index = None) -> str:
    return NAME


def get_device_properties(device: Index = None) -> SimpleNamespace:
    return SimpleNamespace(name=NAME, total_memory=1 << 34)


def synchronize(device: Index = None) -> None:
    EXTENSION.synchronize()


class device:  # noqa: N801 - torch's name
    """`with torch.npu.device(1):`"""

    def __init__(self, device: Index) -> None:
        self._index = _index(device)

    def __enter__(self) -> None:
        self._before = current_device()
        EXTENSION.set_device(self._index)

    def __exit__(self, *error: object) -> None:
        EXTENSION.set_device(self._before)


# -- random numbers ------------------------------------------------------------------------------------------------


def manual_seed(seed: int) -> None:
    EXTENSION.default_generator(current_device()).manual_seed(seed)


def manual_seed_all(seed: int) -> None:
    for index in range(device_count()):
        EXTENSION.default_generator(index).manual_seed(seed)


def get_rng_state(device: Index = None) -> torch.Tensor:
    return EXTENSION.default_generator(_index(device)).get_state()


def set_rng_state(state: torch.Tensor, device: Index = None) -> None:
    EXTENSION.default_generator(_index(device)).set_state(state)


# -- memory --------------------------------------------------------------------------------------------------------


def memory_allocated(device: Index = None) -> int:
    return int(EXTENSION.memory_allocated(_index(device)))


def max_memory_allocated(device: Index = None) -> int:
    return int(EXTENSION.max_memory_allocated(_index(device)))


def reset_peak_memory_stats(device: Index = None) -> None:
    EXTENSION.reset_peak_memory(_index(device))


def empty_cache() -> None:
    pass


# -- streams and events: every operator ends before its call returns --------------------------------------------------


class Stream:
    def __init__(self, device: Index = None, priority: int = 0) -> None:
        self.device = torch.device("npu", _index(device))

    def wait_stream(self, stream: Stream) -> None:
        pass

    def wait_event(self, event: Event) -> None:
        pass

    def record_event(self, event: Optional[Event] = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def synchronize(self) -> None:
        EXTENSION.synchronize()

    def query(self) -> bool:
        return True


class Event:
    def __init__(self, enable_timing: bool = False, **settings: Any) -> None:
        self._time = 0.0

    def record(self, stream: Optional[Stream] = None) -> None:
        self._time = time.perf_counter()

    def elapsed_time(self, later: Event) -> float:
        return (later._time - self._time) * 1000

    def synchronize(self) -> None:
        EXTENSION.synchronize()

    def wait(self, stream: Optional[Stream] = None) -> None:
        pass

    def query(self) -> bool:
        return True


def current_stream(device: Index = None) -> Stream:
    return Stream(device)


def default_stream(device: Index = None) -> Stream:
    return Stream(device)


def stream(stream: Optional[Stream]) -> ContextManager[None]:
    return contextlib.nullcontext()


# -- what only torch_npu has -----------------------------------------------------------------------------------------


def get_amp_supported_dtype() -> List[torch.dtype]:
    return [torch.float16, torch.bfloat16]


def is_bf16_supported() -> bool:
    return True


def set_compile_mode(jit_compile: bool = False) -> None:
    settings["jit_compile"] = jit_compile


class utils:  # noqa: N801 - torch_npu's module
    """Its overflow mode: not a number and infinity, or saturation and a flag of each device."""

    @staticmethod
    def is_support_inf_nan() -> bool:
        return not EXTENSION.saturates()

    @staticmethod
    def clear_npu_overflow_flag() -> None:
        EXTENSION.clear_overflow()


class _Config:
    """Like torch_npu's: one attribute, which can be set but not read."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "allow_internal_format":
            settings[name] = bool(value)
            EXTENSION.allow_internal_format(bool(value))


config = _Config()
conv = SimpleNamespace(allow_hf32=True)  # torch_npu's defaults; here they change no number
matmul = SimpleNamespace(allow_hf32=False)
