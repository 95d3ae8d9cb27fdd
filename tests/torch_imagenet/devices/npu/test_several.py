"""Two simulated NPUs train together over hccl, in processes that the program starts itself."""

from __future__ import annotations

import sys

import pytest

torch = pytest.importorskip("torch")

from tests.torch_imagenet.distributed.jobs import losses, record, same_bits, train, weights  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="starts processes as on Linux")

OPTIONS = (
    "--distributed --num-devices 2 --batch-size 2 --epochs 1 --accumulate 2 --ema-decay 0.9 --clip-norm 1 "
    "--dropout 0.3 --memory-format contiguous"
).split()


@pytest.mark.slow
def test_two_npus_are_two_processes_on_the_cpu(npu_environment, tiny, tmp_path):
    """O2 with a dynamic loss scale, whose verdict all processes share.

    torch_npu's own optimizer moves the gradients out of the memory in which DistributedDataParallel would keep them.
    """
    options = [*OPTIONS, "--precision", "O2"]
    train(tmp_path / "cpu", tiny.folder, *options, "--device", "cpu")
    job = train(tmp_path / "npu", tiny.folder, *options, "--device", "npu", real=True, **npu_environment)
    assert record(tmp_path / "npu")["device"] == {"kind": "npu", "name": "Simulated NPU", "count": 2}, job.text
    assert losses(tmp_path / "npu") == losses(tmp_path / "cpu")
    assert len(losses(tmp_path / "npu")) == 2
    assert same_bits(weights(tmp_path / "npu"), weights(tmp_path / "cpu"))
    train(tmp_path / "own", tiny.folder, *options, "--device", "npu", "--npu-fused-sgd", real=True, **npu_environment)
    plain, own = weights(tmp_path / "npu")["network"], weights(tmp_path / "own")["network"]
    for name, value in plain.items():
        torch.testing.assert_close(own[name], value, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.slow
def test_more_npus_than_there_are_is_one_line(npu_environment, tiny, tmp_path):
    options = ["--distributed", "--num-devices", "3", "--device", "npu", "--batch-size", "2"]
    job = train(tmp_path / "run", tiny.folder, *options, status=2, real=True, **npu_environment)
    assert job.text.splitlines()[-1] == "error: --num-devices 3, but this machine has 2 npu; lower it"
    job = train(tmp_path / "run", tiny.folder, "--num-devices", "2", "--npu-fused-sgd", "--batch-size", "2", status=2)
    assert "error: --npu-fused-sgd is for an NPU, and this is cpu; leave it out" in job.text.splitlines()[-1]


@pytest.mark.slow
def test_an_overflow_on_one_saturating_npu_is_one_of_both(npu_environment, tiny, tmp_path):
    """On the Ascend 910 it is a flag of one card, and in no gradient: both must leave the update out."""
    options = "--distributed --num-devices 2 --batch-size 2 --epochs 1 --precision O2 --loss-scale 128".split()
    saturating = {**npu_environment, "SIMULATED_NPU_SATURATES": "1", "RANKS_DRIVER_OVERFLOW": "2"}
    job = train(tmp_path / "run", tiny.folder, *options, "--device", "npu", real=True, **saturating)
    files = [tmp_path / f"rank-{rank}.pth" for rank in range(2)]
    first, second = (torch.load(file, map_location="cpu", weights_only=True) for file in files)
    assert first["scale"]["skipped"] == 1, job.text
    assert same_bits(first["scale"], second["scale"])
    assert same_bits(first["network"], second["network"])
