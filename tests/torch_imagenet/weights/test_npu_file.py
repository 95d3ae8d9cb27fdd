"""Files that torch_npu has saved from an NPU are read where there is none."""

from __future__ import annotations

import enum
import sys
import types
from collections import OrderedDict

import pytest

torch = pytest.importorskip("torch")

from tests.torch_imagenet.small_network import SmallNetwork  # noqa: E402
from torch_imagenet.weights.load import load_weights  # noqa: E402


class _OnNpu:
    """Pickled as torch_npu before 2.1 pickles a tensor on an NPU."""

    def __init__(self, tensor, memory_format):
        storage = tensor._typed_storage()
        self.parts = (storage, 0, tensor.size(), tensor.stride(), False, OrderedDict(), memory_format)

    def __reduce__(self):
        return sys.modules["torch_npu.utils.storage"]._rebuild_npu_tensor, self.parts


def _torch_npu():
    """What those files name, by module."""

    def rebuild(*parts):
        raise AssertionError("nothing of torch_npu is called")

    names = ("torch_npu", "torch_npu.utils", "torch_npu.utils.storage", "torch_npu.npu", "torch_npu.npu._format")
    modules = {name: types.ModuleType(name) for name in names}
    rebuild.__module__, rebuild.__qualname__ = "torch_npu.utils.storage", "_rebuild_npu_tensor"
    modules["torch_npu.utils.storage"]._rebuild_npu_tensor = rebuild
    modules["torch_npu.npu._format"].Format = enum.IntEnum("Format", {"NZ": 29}, module="torch_npu.npu._format")
    return modules


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_saved_on_an_npu(zipped, tmp_path, monkeypatch):
    torch.manual_seed(0)
    weights, modules = SmallNetwork(3, 0.0, 0.0).state_dict(), _torch_npu()
    with monkeypatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        patch.setattr(torch.serialization, "location_tag", lambda storage: "npu:3")
        formats = modules["torch_npu.npu._format"].Format
        saved = {name: _OnNpu(value, formats.NZ if value.dim() else True) for name, value in weights.items()}
        torch.save({"state_dict": saved}, tmp_path / "x.pth.tar", _use_new_zipfile_serialization=zipped)
    network = SmallNetwork(3, 0.0, 0.0)
    assert load_weights(network, tmp_path / "x.pth.tar").matched == len(weights)
    for name, value in network.state_dict().items():
        assert torch.equal(value, weights[name])
