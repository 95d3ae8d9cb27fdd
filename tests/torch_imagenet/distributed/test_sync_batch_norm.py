"""Synchronised batch normalisation: two ranks compute what torch's batch normalisation does with their joined batch."""

from __future__ import annotations

import sys
import threading

import pytest

torch = pytest.importorskip("torch")

from tests.torch_imagenet.distributed.jobs import losses, train, weights  # noqa: E402
from torch_imagenet.devices.device import open_device  # noqa: E402
from torch_imagenet.distributed import sync_batch_norm  # noqa: E402
from torch_imagenet.distributed.data_parallel import with_synchronised_statistics  # noqa: E402


class Ranks:
    """torch.distributed for threads of one process, as far as batch normalisation uses it."""

    def __init__(self, size):
        self.size, self.own, self.barrier = size, {}, threading.Barrier(size, timeout=60)
        self.local = threading.local()

    def get_world_size(self):
        return self.size

    def _all(self, tensor):
        self.own[self.local.rank] = tensor.detach().clone()
        self.barrier.wait()
        tensors = [self.own[rank] for rank in range(self.size)]
        self.barrier.wait()
        return tensors

    def all_gather_into_tensor(self, output, tensor):
        output.copy_(torch.cat(self._all(tensor)))

    def all_reduce(self, tensor):
        tensor.copy_(sum(self._all(tensor)))

    def run(self, work):
        """What `work(rank)` returns in each thread."""
        results = {}

        def one(rank):
            self.local.rank = rank
            results[rank] = work(rank)

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [results[rank] for rank in range(self.size)]


def layer(channels, dtype=torch.float32):
    """One with weights and statistics that are not the initial ones."""
    generator = torch.Generator().manual_seed(0)  # the threads share torch's own
    made = torch.nn.BatchNorm2d(channels, eps=1e-3, momentum=0.2, dtype=dtype)
    for tensor in (made.weight.data, made.bias.data, made.running_mean, made.running_var):
        tensor.uniform_(0.5, 1.5, generator=generator)
    return made


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_ranks_with_unequal_batches_equal_one_with_the_joined_batch(monkeypatch, dtype, layout):
    """Outputs, gradients of input, weight and bias, running statistics; torch's nn.BatchNorm2d is the reference."""
    ranks, sizes = Ranks(2), [5, 2]
    monkeypatch.setattr(sync_batch_norm, "dist", ranks)
    x = (3 + 2 * torch.randn(7, 4, 6, 5, generator=torch.Generator().manual_seed(1))).to(dtype)
    gradient = torch.randn(7, 4, 6, 5, generator=torch.Generator().manual_seed(2)).to(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    joined, whole = layer(4, wide), x.to(wide).clone().requires_grad_()
    expected = joined(whole)
    expected.backward(gradient.to(wide))

    def one(rank):
        own = with_synchronised_statistics(torch.nn.Sequential(layer(4, wide)), open_device("cpu"))
        part = x.split(sizes)[rank].contiguous(memory_format=layout).requires_grad_()
        result = own(part)
        assert result.dtype == dtype
        assert result.is_contiguous(memory_format=layout)
        result.backward(gradient.split(sizes)[rank])
        return own[0], part.grad, result.detach()

    results = ranks.run(one)
    close = {"rtol": 1e-2, "atol": 2e-2} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    close = {"rtol": 1e-9, "atol": 1e-9} if dtype == torch.float64 else close
    torch.testing.assert_close(torch.cat([result for _, _, result in results]), expected.detach().to(dtype), **close)
    torch.testing.assert_close(torch.cat([grad for _, grad, _ in results]), whole.grad.to(dtype), **close)
    for name in ("weight", "bias"):
        total = sum(getattr(own, name).grad for own, _, _ in results)
        torch.testing.assert_close(total, getattr(joined, name).grad, **close)
    for own, _, _ in results:
        for name, value in joined.named_buffers():
            torch.testing.assert_close(dict(own.named_buffers())[name], value, rtol=1e-5, atol=1e-6)
    assert torch.equal(results[0][0].running_var, results[1][0].running_var)


def test_in_an_evaluation_each_rank_is_alone(monkeypatch):
    monkeypatch.setattr(sync_batch_norm, "dist", None)
    own = with_synchronised_statistics(torch.nn.Sequential(layer(4)), open_device("cpu")).eval()
    x = torch.randn(2, 4, 3, 3)
    assert torch.equal(own(x), layer(4).eval()(x))
    assert list(own.state_dict()) == list(torch.nn.Sequential(layer(4)).state_dict())


def test_a_frozen_layer_has_no_gradients(monkeypatch):
    ranks = Ranks(1)
    monkeypatch.setattr(sync_batch_norm, "dist", ranks)
    own = with_synchronised_statistics(torch.nn.Sequential(layer(4)), open_device("cpu"))
    own.requires_grad_(False)
    x = torch.randn(2, 4, 3, 3, requires_grad=True)

    def one(rank):
        own(x).square().sum().backward()

    ranks.run(one)
    assert x.grad is not None
    assert own[0].weight.grad is None


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="starts processes as on Linux")
def test_two_ranks_train_as_one_with_the_whole_batch(tiny, tmp_path):
    """The command over gloo: losses and all weights after two epochs, running statistics included."""
    options = "--epochs 2 --label-smoothing 0.1 --learning-rate 0.05".split()
    train(tmp_path / "one", tiny.folder, *options, "--batch-size", "8")
    train(tmp_path / "two", tiny.folder, *options, "--batch-size", "4", "--num-devices", "2", "--sync-bn")
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    one, several = (weights(tmp_path / name)["network"] for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(several[name], value, rtol=1e-3, atol=1e-4, msg=name)
