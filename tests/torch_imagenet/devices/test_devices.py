"""Spellings, absent devices, defaults, and the rule that no other file names a device."""

from __future__ import annotations

import re
import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from shared.errors import UsageError  # noqa: E402
from torch_imagenet.devices import availability  # noqa: E402
from torch_imagenet.devices.device import Device, open_device, parse  # noqa: E402
from torch_imagenet.devices.npu_options import NpuSettings  # noqa: E402
from torch_imagenet.devices.precision import precision  # noqa: E402


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", ("auto", None)),
        ("cpu", ("cpu", None)),
        ("cuda", ("cuda", None)),
        ("gpu", ("cuda", None)),
        ("cuda:0", ("cuda", 0)),
        ("GPU:3", ("cuda", 3)),
        ("npu", ("npu", None)),
        ("npu:7", ("npu", 7)),
    ],
)
def test_every_documented_spelling(text, expected):
    assert parse(text) == expected


@given(text=st.text(max_size=12))
def test_anything_else_is_one_line_with_the_nearest(text):
    if re.fullmatch(r"(auto|cpu|(gpu|cuda|npu)(:\d{1,4})?)", text.strip().lower()):
        return
    with pytest.raises(UsageError, match="unknown device (?s:.*); "):
        parse(text)


class _Accelerator:
    """Stands for torch.cuda or torch.npu on a machine that has `count` of them."""

    def __init__(self, count, capability=(9, 0), built=()):
        self.count, self.chosen = count, None
        self.capability, self.built = capability, list(built)

    def is_available(self):
        return self.count > 0

    def device_count(self):
        return self.count

    def set_device(self, device):
        self.chosen = device

    def get_device_name(self, index):
        return f"card {index}"

    def get_device_capability(self, index):
        return self.capability

    def get_arch_list(self):
        return self.built

    def init(self):
        if not self.count:
            raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040). Please update it.")


@pytest.mark.parametrize(("count", "text", "index"), [(1, "cuda", 0), (4, "cuda:3", 3), (2, "auto", 0)])
def test_a_card_is_opened_by_its_index(monkeypatch, count, text, index):
    cuda = _Accelerator(count)
    monkeypatch.setattr(torch, "cuda", cuda)
    device = open_device(text)
    assert (device.kind, device.torch_device.index, device.name) == ("cuda", index, f"card {index}")
    assert cuda.chosen == torch.device("cuda", index)
    assert device.asynchronous
    assert device.training_precision("O2") == "O2"


@pytest.mark.parametrize(
    ("count", "text", "message"),
    [
        (0, "cuda:0", "there is no cuda device here .*; use --device cpu"),
        (1, "cuda:1", "there is no cuda:1 here; choose cuda:0"),
        (4, "cuda:4", "there is no cuda:4 here; choose cuda:0 to cuda:3"),
    ],
)
def test_a_card_that_is_not_there(monkeypatch, count, text, message):
    monkeypatch.setattr(torch, "cuda", _Accelerator(count))
    with pytest.raises(UsageError, match=message):
        open_device(text)


def test_an_npu_needs_torch_npu_and_says_how_it_failed(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_npu", None)
    with pytest.raises(UsageError, match="torch_npu does not load .*; install the torch_npu that fits torch"):
        open_device("npu:0")


def test_a_torch_npu_without_cann_is_no_traceback(monkeypatch, tmp_path):
    (tmp_path / "torch_npu.py").write_text("raise RuntimeError('libhccl.so: cannot open\\nshared object file')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match="libhccl.so: cannot open shared object file.*CANN's set_env.sh"):
        open_device("npu")


def test_an_npu_that_is_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_npu", types.ModuleType("torch_npu"))
    monkeypatch.setattr(torch, "npu", _Accelerator(0), raising=False)
    with pytest.raises(UsageError, match="there is no npu device here .*npu-smi"):
        open_device("npu")


def test_auto_is_the_cpu_where_nothing_else_is(monkeypatch):
    monkeypatch.setattr(torch, "cuda", _Accelerator(0))
    monkeypatch.setitem(sys.modules, "torch_npu", None)
    device = open_device("auto")
    assert device.kind == "cpu"
    assert not device.asynchronous
    assert device.training_precision("O2") == "O0"
    assert device.peak_memory() is None
    device.synchronize()


@pytest.mark.parametrize("has", [True, False])
def test_bf16_is_offered_where_it_was_measured_to_be_faster(has, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has, raising=False)
    assert (open_device("cpu").bf16_speedup is not None) == has
    assert _npu().bf16_speedup is None


def test_what_auto_passes_over_for_the_cpu_is_said(monkeypatch):
    """The driver has made a device file, and torch cannot use the device."""
    monkeypatch.setattr(torch, "cuda", _Accelerator(0))
    monkeypatch.setitem(sys.modules, "torch_npu", None)
    monkeypatch.setattr(availability.glob, "glob", lambda pattern: [])
    assert open_device("auto").notes == []
    monkeypatch.setattr(availability.glob, "glob", lambda pattern: [pattern])
    card, npu = open_device("auto").notes
    assert card.startswith("an NVIDIA GPU is here, but torch cannot use it (torch ")
    assert npu.startswith("an Ascend NPU is here, but torch cannot use it (torch_npu does not load (")
    assert card.endswith("; this runs on the CPU")
    assert open_device("cpu").notes == []  # as asked for


@pytest.mark.parametrize(
    ("capability", "built", "runs"),
    [
        ((7, 0), ["sm_75", "sm_90", "sm_120", "compute_120"], False),  # a V100 and PyPI's wheel of torch 2.13
        ((7, 5), ["sm_75", "sm_90"], True),
        ((8, 9), ["sm_75", "sm_86", "sm_90"], True),
        ((8, 0), ["sm_75", "sm_86", "sm_90"], False),
        ((10, 3), ["sm_90", "sm_100"], True),
        ((12, 0), ["sm_90", "compute_90"], True),
        ((7, 0), ["sm_90", "compute_90"], False),
        ((9, 0), ["gfx90a"], True),
    ],
)
def test_a_card_that_torch_has_no_kernels_for(monkeypatch, capability, built, runs):
    """Its first operator would end in "no kernel image is available for execution on the device"."""
    monkeypatch.setattr(torch, "cuda", _Accelerator(1, capability, built))
    monkeypatch.setitem(sys.modules, "torch_npu", None)
    monkeypatch.setattr(availability.glob, "glob", lambda pattern: [pattern] if "nvidia" in pattern else [])
    opened = open_device("auto")
    assert opened.kind == ("cuda" if runs else "cpu")
    if runs:
        return
    missing = f"has no kernels for card 0, sm_{capability[0]}{capability[1]}, only sm_"
    assert missing in opened.notes[0]
    with pytest.raises(UsageError, match=missing):
        open_device("cuda")


def test_an_old_driver_is_said(monkeypatch):
    monkeypatch.setattr(torch, "cuda", _Accelerator(0))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(
        UsageError, match=r"with CUDA: The NVIDIA driver on your system is too old \(found version 11040"
    ):
        open_device("cuda")


def test_the_layout_follows_the_network_unless_asked(monkeypatch):
    cpu = open_device("cpu")
    assert cpu.memory_format("senet154", None) == "channels_last"
    monkeypatch.setattr(torch, "cuda", _Accelerator(1))
    card = open_device("cuda")
    assert card.memory_format("senet154", None) == "contiguous"
    assert card.memory_format("se_resnet50", None) == "channels_last"
    assert card.memory_format("senet154", "channels_last") == "channels_last"


def test_a_seed_begins_the_draws_anew():
    device = open_device("cpu")
    device.seed(3)
    first = torch.rand(4)
    device.seed(3)
    assert torch.equal(first, torch.rand(4))
    device.seed(4)
    assert not torch.equal(first, torch.rand(4))


def test_autocast_is_that_of_the_level():
    device, weight = open_device("cpu"), torch.randn(4, 4)
    for name, dtype in (("O0", torch.float32), ("O1", torch.float16), ("O2", torch.float32), ("bf16", torch.bfloat16)):
        with device.autocast(precision(name)):
            assert (weight @ weight).dtype == dtype


# -- what only an NPU has --------------------------------------------------------------------------------------


def _npu(**settings):
    return Device("npu", torch.device("cpu"), "card", npu=NpuSettings(**settings))


@pytest.mark.parametrize("settings", [{}, {"jit_compile": True}, {"internal_format": True}])
def test_an_npus_settings_are_told_before_it_is_opened(settings, monkeypatch):
    calls = []

    class Module(_Accelerator):
        config = types.SimpleNamespace()

        def set_compile_mode(self, jit_compile):
            calls.append(jit_compile)

        def set_device(self, device):
            calls.append(self.config.allow_internal_format)

    monkeypatch.setattr(torch, "npu", Module(1), raising=False)
    monkeypatch.setattr(torch, "device", lambda kind, index: (kind, index))  # torch parses npu with torch_npu alone
    device = open_device("npu:0", npu=NpuSettings(**settings))
    assert calls == [settings.get("jit_compile", False), settings.get("internal_format", False)]
    assert device.npu == NpuSettings(**settings)


@pytest.mark.parametrize("name", ["fused_sgd", "jit_compile", "internal_format"])
@pytest.mark.parametrize("text", ["cpu", "cuda"])
def test_an_npus_settings_are_refused_on_another_device(text, name, monkeypatch):
    monkeypatch.setattr(torch, "cuda", _Accelerator(1))
    option = "--npu-" + name.replace("_", "-")
    with pytest.raises(UsageError, match=f"{option} is for an NPU, and this is {text}; leave it out"):
        open_device(text, npu=NpuSettings(**{name: True}))


def test_an_npu_has_contiguous_tensors_alone():
    assert _npu().memory_format("se_resnet50", None) == "contiguous"
    assert _npu().memory_format("se_resnet50", "contiguous") == "contiguous"
    with pytest.raises(UsageError, match="torch_npu has no channels_last tensors; leave --memory-format out"):
        _npu().memory_format("se_resnet50", "channels_last")


def test_an_npu_has_fused_sgd_where_torch_npu_has_the_kernel(monkeypatch):
    kernels = {"aten::_fused_sgd_": True}
    monkeypatch.setattr(torch._C, "_dispatch_has_kernel_for_dispatch_key", lambda name, key: kernels[name])
    assert _npu().has_fused_sgd(0.9)
    assert not _npu().has_fused_sgd(0.0)
    assert not _npu(internal_format=True).has_fused_sgd(0.9)
    kernels["aten::_fused_sgd_"] = False
    assert not _npu().has_fused_sgd(0.9)
    assert open_device("cpu").has_fused_sgd(0.0)


def test_more_steps_are_left_out_of_timings_where_operators_are_compiled():
    assert open_device("cpu").warm_up_steps < _npu().warm_up_steps


def test_torch_npus_own_optimizer_on_request(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_npu.optim", types.SimpleNamespace(NpuFusedSGD="its class"))
    assert _npu(fused_sgd=True).own_sgd == "its class"
    assert _npu().own_sgd is None
