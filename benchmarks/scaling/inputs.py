"""Measures inputs of the scaling model on this machine: decoding, shards, gloo's all-reduce, steps of two ranks.

    python benchmarks/scaling/inputs.py --data-path FOLDER [--parts decode,shards,gloo,step,ranks] [--rounds 7]
        [--output benchmarks/scaling/measured.json]

FOLDER holds one folder of images per class, like train/ of ImageNet, of the size of the training images.

decode  the input pipeline in one process, in images per second of processor time
shards  shards that check-data writes, read in random order from the page cache: the upper limit of a core
gloo    all-reduces between two processes; latency and bandwidth are the line through smallest and largest message
step    the mode `benchmark`: the spread of the shifted exponential with the same median and 95th percentile
ranks   training SE-ResNet-50 on the embedded sample in one process, in two independent ones, and in two ranks

The figures are medians over the rounds, with the lowest and the highest. Other programs disturb all parts but decode
and shards, so the load before each part is recorded. --output replaces the measured parts in its file and keeps the
others.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402

from shared import imagenet  # noqa: E402
from shared.cli.arguments import Parser, number, one_of  # noqa: E402
from shared.errors import UsageError  # noqa: E402
from shared.imagenet.extent_reader import ExtentReader  # noqa: E402
from shared.imagenet.split import Split, scan  # noqa: E402
from shared.run import provenance  # noqa: E402
from shared.run.log import now  # noqa: E402
from shared.system.atomic_files import write_atomic  # noqa: E402
from shared.system.paths import expanded  # noqa: E402
from torch_imagenet.input_pipeline.loader import Loading, TrainingInput  # noqa: E402
from torch_imagenet.input_pipeline.transforms import TrainTransform  # noqa: E402

SIZES = (4096, 2**20, 25 * 2**20)  # bytes of a message
BATCH = 32
STEP = "--network se_resnet50 --device cpu --image-size 64 --batch-size 16 --max-steps 40".split()
PARTS = ("decode", "shards", "gloo", "step", "ranks")
SIDE, RANK_BATCH = 64, 16
TRAINING = (
    f"--device cpu --recipe imagenet_sample --image-size {SIDE} --batch-size {RANK_BATCH} --max-steps 25"
    " --print-freq 1 --workers 1"
).split()


def summary(values: List[float]) -> Dict[str, float]:
    """Median, lowest and highest, with four significant digits."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return {name: float(f"{value:.4g}") for name, value in (("median", middle), ("low", low), ("high", high))}


# -- images ----------------------------------------------------------------------------------------------------


def decode_rate(batches: TrainingInput, epochs: Iterable[int]) -> float:
    """Images per second of processor time, from file to a batch of crops."""
    begin = time.process_time()
    images = sum(len(batch.images) for epoch in epochs for batch in batches.epoch(epoch))
    return images / (time.process_time() - begin)


def decode_rates(split: Split, image_size: int, images: int, rounds: int) -> List[float]:
    """The rate of every round, each of at least `images` images."""
    batches = TrainingInput(split, TrainTransform(image_size), BATCH, 0, Loading(0))
    times = -(-images // (batches.steps_per_epoch * BATCH))
    return [decode_rate(batches, range(at * times, (at + 1) * times)) for at in range(rounds + 1)][1:]


def shard_rates(train: Path, images: int, rounds: int) -> Dict[str, Any]:
    """Rates of one core from shards of these images: GB/s read, and images per second decoded."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("train", "val"):
            (folder / part).symlink_to(train.resolve())
        options = ["--data-path", name, "--write-shards", str(folder / "shards"), "--shard-size", "4", "--workers", "1"]
        command = [sys.executable, "torch_imagenet/main.py", "check-data", *options]
        subprocess.run(command, cwd=str(ROOT), check=True, stdout=subprocess.DEVNULL)
        split = imagenet.load(folder / "shards").train
        assert split is not None
        order: List[int] = np.random.RandomState(0).randint(len(split), size=5000).tolist()
        reading = []
        with ExtentReader(split.open_shards) as reader:
            for _ in range(rounds + 1):
                begin = time.process_time()
                size = sum(len(reader.read(split.extent(index))) for index in order)
                reading.append(size / 1e9 / (time.process_time() - begin))
        decoding = decode_rates(split, 224, images, rounds)
    return {"gb_s_and_core": summary(reading[1:]), "images_per_second_and_core": summary(decoding)}


# -- all-reduce ------------------------------------------------------------------------------------------------


def time_all_reduce(rank: int, folder: str, rounds: int) -> None:
    """Time all-reduces of all SIZES in one of two processes; rank 0 writes the seconds to times.json."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    times: Dict[int, List[float]] = {}
    for size in SIZES:
        values = torch.ones(size // 4)
        repeats = max(3, min(200, 2**26 // size))
        for attempt in range(rounds + 1):
            dist.barrier()
            begin = time.perf_counter()
            for _ in range(repeats):
                dist.all_reduce(values)
            if attempt:
                times.setdefault(size, []).append((time.perf_counter() - begin) / repeats)
    if rank == 0:
        (Path(folder) / "times.json").write_text(json.dumps(times))
    dist.destroy_process_group()


def all_reduce(rounds: int) -> Dict[str, Any]:
    """Milliseconds by size, and the latency and bandwidth of a message."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(time_all_reduce, (folder, rounds), nprocs=2)
        times = {int(size): values for size, values in json.loads((Path(folder) / "times.json").read_text()).items()}
    small, large = (statistics.median(times[size]) for size in (SIZES[0], SIZES[-1]))
    # A ring all-reduce between two processes is two messages of half the size.
    rate = (SIZES[-1] - SIZES[0]) / (large - small)
    return {
        "ms": {str(size): summary([1000 * value for value in values]) for size, values in times.items()},
        "gb_s": float(f"{rate / 1e9:.4g}"),
        "us": float(f"{(small - SIZES[0] / rate) / 2 * 1e6:.4g}"),
    }


# -- a step ----------------------------------------------------------------------------------------------------


def step_spread(rounds: int) -> Dict[str, Any]:
    """Step time and spread of the mode `benchmark`, over several runs."""
    spreads, medians = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "torch_imagenet/main.py", "benchmark", *STEP, "--output-dir", folder]
            subprocess.run(command, cwd=str(ROOT), check=True, stdout=subprocess.DEVNULL)
            speed = json.loads((Path(folder) / "result.json").read_text())["throughput"]
        scale = (speed["step_ms_p95"] - speed["step_ms_p50"]) / math.log(10)
        medians.append(speed["step_ms_p50"])
        spreads.append(scale / (16000 / speed["images_per_second"]))
    return {"step_ms": summary(medians), "spread": summary(spreads)}


# -- two ranks -------------------------------------------------------------------------------------------------


def started(folder: Path, *options: str) -> "subprocess.Popen[bytes]":
    """Start a short training on the embedded sample, with one thread and one worker per rank."""
    command = [sys.executable, "torch_imagenet/main.py", *TRAINING, *options, "--output-dir", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=str(ROOT), env=environment, stdout=subprocess.DEVNULL)


def step_ms(process: "subprocess.Popen[bytes]", folder: Path) -> float:
    """Wait for a training and read its median step time in milliseconds."""
    if process.wait():
        raise UsageError(f"a training ended with status {process.returncode}; run it by itself: {process.args!r}")
    return float(json.loads((folder / "result.json").read_text())["throughput"]["step_ms_p50"])


def two_ranks(rounds: int) -> Dict[str, Any]:
    """Milliseconds of a step in one process, in two independent processes and in two ranks, in turn."""
    times: Dict[str, List[float]] = {"alone": [], "side_by_side": [], "ranks": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            times["alone"].append(step_ms(started(folder / "1"), folder / "1"))
            both = [started(folder / number) for number in "23"]
            times["side_by_side"].append(max(step_ms(one, folder / number) for one, number in zip(both, "23")))
            ranks = started(folder / "4", "--distributed", "--num-devices", "2")
            times["ranks"].append(step_ms(ranks, folder / "4"))
    return {"image_size": SIDE, "batch_size": RANK_BATCH, **{name: summary(values) for name, values in times.items()}}


def measured(options: Any) -> Dict[str, Any]:
    """Measure the parts that the options name."""
    split = scan(options.data_path)
    if len(split) < BATCH:
        raise UsageError(f"{split.folder} has {len(split)} images in class folders; give a folder with {BATCH} or more")
    sizes = [Path(split.path(index)).stat().st_size for index in range(len(split))]
    work: Dict[str, Callable[[], Any]] = {
        "decode": lambda: {
            "image_kb": float(f"{statistics.mean(sizes) / 1000:.4g}"),
            "images_per_second_and_core": {
                str(size): summary(decode_rates(split, size, options.images, options.rounds)) for size in (224, 331)
            },
        },
        "shards": lambda: shard_rates(Path(options.data_path), options.images, options.rounds),
        "gloo": lambda: all_reduce(options.rounds),
        "step": lambda: step_spread(options.rounds),
        "ranks": lambda: two_ranks(options.rounds),
    }
    origin = {"machine": provenance.machine(), "date": now()[:10], "torch": torch.__version__, "rounds": options.rounds}
    return {part: {**origin, "load": round(os.getloadavg()[0], 1), **work[part]()} for part in options.parts}


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--data-path", type=expanded, required=True)
    parser.add_argument("--images", type=number(int, BATCH), default=320)
    parser.add_argument("--rounds", type=number(int, 1), default=7)
    parser.add_argument("--parts", type=lambda text: [one_of(*PARTS)(part) for part in text.split(",")], default=PARTS)
    parser.add_argument("--output", type=lambda text: Path(expanded(text)))
    return parser


def main() -> None:
    """Measure, print, and update the file of --output."""
    options = _parser().parse_args()
    torch.set_num_threads(1)
    result = measured(options)
    if options.output:
        before = json.loads(options.output.read_text()) if options.output.exists() else {}
        write_atomic(options.output, json.dumps({**before, **result}, indent=2) + "\n")
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
