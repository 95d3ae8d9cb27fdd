"""The precision levels: what is float16 and what is not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from shared.errors import UsageError  # noqa: E402
from torch_imagenet.devices.device import open_device  # noqa: E402
from torch_imagenet.devices.precision import multiply_in_tf32, precision, to_half  # noqa: E402


def _network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))


def test_an_unknown_level_says_which_there_are():
    with pytest.raises(UsageError, match="unknown precision 'O4'; choose one of O0, O1, O2, bf16, bf16_weights"):
        precision("O4")


@pytest.mark.parametrize(("level", "dtype"), [("O2", torch.float16), ("bf16_weights", torch.bfloat16)])
def test_batch_normalisation_stays_in_float32_as_in_apex(level, dtype):
    network = _network()
    to_half(network, precision(level).weights)
    kinds = {name: value.dtype for name, value in network.state_dict().items() if value.is_floating_point()}
    assert kinds["0.weight"] == kinds["0.bias"] == kinds["4.weight"] == dtype
    assert {kind for name, kind in kinds.items() if name.startswith("1.")} == {torch.float32}
    logits = network(torch.zeros(2, 3, 8, 8, dtype=dtype))
    assert logits.dtype == dtype


@pytest.mark.parametrize(
    ("kind", "wanted", "expected"),
    [
        ("cuda", True, (True, True)),
        ("cuda", False, (False, False)),
        ("cuda", None, (True, False)),
        ("cpu", False, (True, False)),
    ],
)
def test_tf32_is_as_the_option_says_or_torchs_default(kind, wanted, expected, monkeypatch):
    backends = SimpleNamespace(allow_tf32=True), SimpleNamespace(allow_tf32=False)
    monkeypatch.setattr(torch.backends, "cudnn", backends[0])
    monkeypatch.setattr(torch.backends.cuda, "matmul", backends[1])
    multiply_in_tf32(kind, wanted)
    assert tuple(backend.allow_tf32 for backend in backends) == expected


def test_tf32_elsewhere_is_refused():
    with pytest.raises(UsageError, match="--tf32 is for NVIDIA GPUs and this is a cpu device"):
        open_device("cpu", tf32=True)
