"""Measures here what the command line puts into its model: decoding, shards, gloo's all-reduce, steps of two ranks.

    python benchmarks/scaling/inputs.py --data-path FOLDER [--parts decode,shards,gloo,step,ranks] [--rounds 7]
        [--output benchmarks/scaling/measured.json]

FOLDER holds a folder of images per class, as train/ of ImageNet does; they should be as large as those that will be
trained on. Decoding is the project's input pipeline in one process, by the processor's clock: images a second and core.
Shards are written of the images by check-data and read in random order from the system's memory: what a core can take
in at most. The all-reduce is gloo's between two processes of this machine; its latency and bandwidth are the line
through the smallest and the largest message. "step" is the spread of the mode `benchmark`: of a shifted exponential of
the same median and 95th percentile. "ranks" trains SE-ResNet-50 on the embedded sample: one process, two that do not
know each other, two ranks. Other programs on the machine slow all but decoding and shards down and widen the spread;
the load before each part is noted. Medians over the rounds, with the lowest and highest. With --output the parts
replace those of the file, whose others stay.
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
from shared.imagenet.reader import ExtentReader  # noqa: E402
from shared.imagenet.split import Split, scan  # noqa: E402
from shared.run import provenance  # noqa: E402
from shared.run.log import now  # noqa: E402
from shared.system.atomic_files import write_atomic  # noqa: E402
from shared.system.paths import expanded  # noqa: E402
from torch_imagenet.input_pipeline.loader import TrainingInput  # noqa: E402
from torch_imagenet.input_pipeline.transforms import TrainTransform  # noqa: E402

SIZES = (4096, 2**20, 25 * 2**20)  # bytes of a message
BATCH = 32
STEP = ["--network", "se_resnet50", "--device", "cpu", "--image-size", "64", "--batch-size", "16", "--max-steps", "40"]
PARTS = ("decode", "shards", "gloo", "step", "ranks")
SIDE, RANK_BATCH = 64, 16
TRAINING = [
    "--device",
    "cpu",
    "--recipe",
    "imagenet_sample",
    "--image-size",
    str(SIDE),
    "--batch-size",
    str(RANK_BATCH),
    "--max-steps",
    "25",
    "--print-freq",
    "1",
    "--workers",
    "1",
]


def summary(values: List[float]) -> Dict[str, float]:
    """Median, lowest and highest, four digits of each."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return {name: float(f"{value:.4g}") for name, value in (("median", middle), ("low", low), ("high", high))}


# -- images ----------------------------------------------------------------------------------------------------


def decode_rate(batches: TrainingInput, epochs: Iterable[int]) -> float:
    """Images a second of one core, from file to a batch of crops."""
    begin = time.process_time()
    images = sum(len(batch.images) for epoch in epochs for batch in batches.epoch(epoch))
    return images / (time.process_time() - begin)


def decode_rates(split: Split, image_size: int, images: int, rounds: int) -> List[float]:
    """The rate of every round, of at least so many images."""
    batches = TrainingInput(split, TrainTransform(image_size), BATCH, 0, workers=0)
    times = -(-images // (batches.steps_per_epoch * BATCH))
    return [decode_rate(batches, range(at * times, (at + 1) * times)) for at in range(rounds + 1)][1:]


def shard_rates(train: Path, images: int, rounds: int) -> Dict[str, Any]:
    """From shards of these images that check-data writes: bytes a second of one core, and images decoded."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("train", "val"):
            (folder / part).symlink_to(train.resolve())
        command = [
            sys.executable,
            "torch_imagenet/main.py",
            "check-data",
            "--data-path",
            name,
            "--workers",
            "1",
            "--write-shards",
            str(folder / "shards"),
            "--shard-size",
            "4",
        ]
        subprocess.run(command, cwd=str(ROOT), check=True, stdout=subprocess.DEVNULL)
        split = imagenet.load(folder / "shards").train
        assert split is not None
        order: List[int] = np.random.RandomState(0).randint(len(split), size=5000).tolist()
        reading = []
        with ExtentReader(split.open_shards) as reader:
            for _ in range(rounds + 1):
                begin = time.process_time()
                taken = sum(len(reader.read(split.extent(index))) for index in order)
                reading.append(taken / 1e9 / (time.process_time() - begin))
        decoding = decode_rates(split, 224, images, rounds)
    return {"gb_s_and_core": summary(reading[1:]), "images_per_second_and_core": summary(decoding)}


# -- exchange --------------------------------------------------------------------------------------------------


def exchange(rank: int, folder: str, rounds: int) -> None:
    """One of two processes: seconds of an all-reduce of every size, written by the first."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
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
    """Seconds by size, and the line through smallest and largest: latency of a message, bytes a second each way."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(exchange, (folder, rounds), nprocs=2)
        times = {int(size): values for size, values in json.loads((Path(folder) / "times.json").read_text()).items()}
    small, large = (statistics.median(times[size]) for size in (SIZES[0], SIZES[-1]))
    # Between two, a ring's all-reduce is two messages of half the size.
    rate = (SIZES[-1] - SIZES[0]) / (large - small)
    return {
        "ms": {str(size): summary([1000 * value for value in values]) for size, values in times.items()},
        "gb_s": float(f"{rate / 1e9:.4g}"),
        "us": float(f"{(small - SIZES[0] / rate) / 2 * 1e6:.4g}"),
    }


# -- a step ----------------------------------------------------------------------------------------------------


def step_spread(rounds: int) -> Dict[str, Any]:
    """The mode `benchmark` of SE-ResNet-50 at 64 pixels, several times: its steps, and the spread in each run."""
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
    """A short training on the embedded sample, with one thread and one worker a rank."""
    command = [sys.executable, "torch_imagenet/main.py", *TRAINING, *options, "--output-dir", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=str(ROOT), env=environment, stdout=subprocess.DEVNULL)


def step_ms(process: "subprocess.Popen[bytes]", folder: Path) -> float:
    """The median step once it has ended."""
    if process.wait():
        raise UsageError(f"a training ended with status {process.returncode}; run it by hand: {process.args!r}")
    return float(json.loads((folder / "result.json").read_text())["throughput"]["step_ms_p50"])


def two_ranks(rounds: int) -> Dict[str, Any]:
    """Milliseconds of a step: one process by itself, two that know nothing of each other, two ranks; in turn."""
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
    """The parts that were asked for."""
    split = scan(options.data_path)
    if len(split) < BATCH:
        raise UsageError(f"{split.folder} holds {len(split)} images in class folders; give train's, of {BATCH} or more")
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
    """Measure and write."""
    options = _parser().parse_args()
    torch.set_num_threads(1)
    result = measured(options)
    if options.output:
        before = json.loads(options.output.read_text()) if options.output.exists() else {}
        write_atomic(options.output, json.dumps({**before, **result}, indent=2) + "\n")
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
