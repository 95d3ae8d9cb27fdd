"""The promises that a GPU must keep: no waiting, the CPU's losses, equal repetitions, advice where memory runs out."""

from __future__ import annotations

import contextlib
import re
import sys

import pytest

torch = pytest.importorskip("torch")

from tests.torch_imagenet import conftest as running  # noqa: E402
from tests.torch_imagenet.distributed.jobs import Job, same_bits, train, weights  # noqa: E402
from tests.torch_imagenet.gpu.conftest import GPU, waiting_is_an_error  # noqa: E402
from tests.torch_imagenet.small_network import SmallNetwork, training_step  # noqa: E402
from torch_imagenet.devices.precision import PRECISIONS  # noqa: E402
from torch_imagenet.input_pipeline.loader import Batch  # noqa: E402
from torch_imagenet.networks import create  # noqa: E402

CLASSES, IMAGES = 4, 8
EVERYTHING = {"clip_norm": 1.0, "ema_decay": 0.9, "label_smoothing": 0.1}


def batch(number, device):
    """As the loader gives it: in page-locked memory for a device that copies from it without waiting."""
    generator = torch.Generator().manual_seed(number)
    images = torch.randint(0, 256, (IMAGES, 32, 32, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, CLASSES, (IMAGES,), generator=generator)
    return Batch(*(one.pin_memory() if device == GPU else one for one in (images, labels)), ())


def small(device, *words, **changes):
    """A step of the small network, with the weights of the seed."""
    torch.manual_seed(0)
    return training_step(SmallNetwork(CLASSES, 0.0, 0.0), CLASSES, device, words, **{"loss_scale": "128", **changes})


def losses(step, device, steps=5):
    pending = [step.run([batch(number, device)], 0.05, 0, number) for number in range(steps)]
    return [result.loss for result in step.read(pending)]


@pytest.mark.parametrize("words", [(), ("--sync-bn",)])
@pytest.mark.parametrize("level", PRECISIONS)
def test_no_step_waits_for_the_device(device, level, words, one_rank):
    step = small(device, *words, precision=level, **EVERYTHING)
    losses(step, device, 2)  # allocates, and tries algorithms
    batches = [batch(number, device) for number in range(3)]
    with waiting_is_an_error(device):
        pending = [step.run([one], 0.05, 0, number) for number, one in enumerate(batches)]
    assert all(result.images == IMAGES for result in step.read(pending))


@pytest.mark.parametrize("level", PRECISIONS)
def test_each_precision_has_the_losses_of_float32_on_the_cpu(device, level):
    """A GPU's convolutions are TF32 at O0, which rounds as the 16-bit levels do."""
    expected = losses(small("cpu", precision="O0"), "cpu")
    assert losses(small(device, precision=level), device) == pytest.approx(expected, rel=0.02)


def test_one_rank_with_synchronised_statistics_is_one_without(device, one_rank):
    """On a GPU over NCCL, with torch's kernels for the parts of batch normalisation."""
    expected = losses(small(device, precision="O0"), device)
    assert losses(small(device, "--sync-bn", precision="O0"), device) == pytest.approx(expected, rel=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("level", ["O0", "bf16"])
def test_a_compiled_step_has_the_losses_of_the_other(level):
    expected = losses(small(GPU, precision=level), GPU)
    assert losses(small(GPU, "--compile", precision=level), GPU) == pytest.approx(expected, rel=0.01)


@contextlib.contextmanager
def little_memory(device, monkeypatch):
    """A GiB on a GPU; on a CPU, which would swap, a network that has memory for 64 images."""
    if device == GPU:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(2**30 / total, 0)
        yield
        torch.cuda.set_per_process_memory_fraction(1.0, 0)
        return
    original = running.create_small

    def limited(module, inputs):
        if len(inputs[0]) > 64:
            raise torch.OutOfMemoryError("CUDA out of memory")

    def create_limited(*arguments, **options):
        network = original(*arguments, **options)
        network.register_forward_pre_hook(limited)
        return network

    with monkeypatch.context() as patch:
        patch.setattr(running, "create_small", create_limited)
        yield


def test_the_batch_size_advised_where_memory_runs_out_fits(device, run_in, tmp_path, monkeypatch, capsys):
    too_many, pixels = (8192, 128) if device == GPU else (128, 32)
    words = f"--network se_resnet50 --num-classes 5 --image-size {pixels} --max-steps 1 --device {device}".split()

    def benchmark(size):
        options = [*words, "--batch-size", str(size), "--precision", "O0"]
        status = run_in(tmp_path / str(size), *options, plain=True, mode="benchmark").status
        return status, capsys.readouterr().err.splitlines()

    with little_memory(device, monkeypatch):
        status, lines = benchmark(too_many)
        assert status == 2
        advised = re.search(
            r"no memory left for a batch of \d+; --batch-size (\d+) .*fits \(tried just now\)", lines[-1]
        )
        assert advised, lines
        assert benchmark(advised.group(1))[0] == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="starts processes as on Linux")
def test_deterministic_runs_are_equal(device, tiny, tmp_path):
    """In processes of their own: cuBLAS reads its setting at its first use."""
    for name in ("one", "other"):
        train(tmp_path / name, tiny.folder, "--device", device, "--deterministic", "--batch-size", "4")
    assert same_bits(weights(tmp_path / "one"), weights(tmp_path / "other"))


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["se_resnet50_1p", "senet154_1p", "pnasnet5large_1p"])
def test_deterministic_takes_every_network(recipe, tiny, tmp_path):
    """PNASNet with its auxiliary head, whose pooling of small maps had no deterministic backward pass."""
    words = f"-m torch_imagenet.main train --recipe {recipe} --data-path {tiny.folder} --device {GPU} --deterministic"
    more = f"--image-size 64 --batch-size 4 --max-steps 2 --workers 1 --output-dir {tmp_path / 'run'}"
    job = Job([*words.split(), *more.split()], tmp_path / "out", PYTHONPATH=str(running.ROOT))
    assert job.end() == 0, job.text


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["se_resnet50", "se_resnet50_caffe"])
def test_a_real_network_waits_for_nothing(name):
    torch.manual_seed(0)
    step = training_step(create(name, CLASSES), CLASSES, GPU, (), precision="O1", loss_scale="dynamic")
    losses(step, GPU, 2)
    batches = [batch(number, GPU) for number in range(2)]
    with waiting_is_an_error(GPU):
        pending = [step.run([one], 0.05, 0, number) for number, one in enumerate(batches)]
    assert len(step.read(pending)) == 2
