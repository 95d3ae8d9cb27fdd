"""Workers that die or hang, out-of-memory errors, signals, remaining processes, leaks of descriptors and memory."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any, List, NamedTuple, Tuple

from tests.faults.case import SHARED, TF, TORCH, Case
from tests.faults.commands import (
    OUT_OF_MEMORY,
    advised_options,
    before_step,
    memory_for,
    tiny_images,
    train,
    write_images,
)
from tests.faults.process_tree import Job, tf_training, torch_training

_GO_ON = ["--workers", "1", "--print-freq", "1"]  # options that a continuation may change
# Less than 600 bytes and less than one Python block per step, and the memory that glibc may keep.
_MAX_GROWTH = (4 * 2**20, 7500, 96 * 2**20)
_ORPHANS_SECONDS = 20.0  # torch's data workers check their parent every five seconds


# -- data workers ----------------------------------------------------------------------------------------------


def a_worker_dies(folder: Path, rng: random.Random) -> str:
    """A data worker is killed at a random step: one error line names it, and the continuation is exact."""
    return _lost_worker(
        folder,
        rng.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT]),
        rng,
        "data worker",
        "continue exactly with --resume",
    )


def a_worker_hangs(folder: Path, rng: random.Random) -> str:
    """A data worker is stopped for good at a random step: likewise."""
    return _lost_worker(folder, signal.SIGSTOP, rng, "has given no batch for 2 seconds", "--timeout SECONDS")


def _lost_worker(folder: Path, number: int, rng: random.Random, *messages: str) -> str:
    import multiprocessing

    step = rng.randint(2, 9)  # at the last step of an epoch all batches may be ready

    def strike(*arguments: Any) -> None:
        os.kill(rng.choice(multiprocessing.active_children()).pid or 0, number)

    options = ["--workers", "2", "--save-steps", "1", "--timeout", "2", "--batch-size", "2"]
    with before_step(TORCH, step, strike):
        result = train(TORCH, folder / "run", *options)
    if result.status:
        failure = next(filter(None, map(result.missing_refusal, messages)), "")
        if failure:
            return f"{signal.Signals(number).name} before step {step}: {failure}"
        if multiprocessing.active_children():
            return f"workers are left: {multiprocessing.active_children()}"
        result = train(TORCH, folder / "run", "--resume", str(folder / "run"), *_GO_ON, defaults=False)
    if result.status:
        return f"the continuation ended with {result.status}: {result.err}"
    return _differs(folder / "run", _undisturbed())


@functools.lru_cache(maxsize=None)
def _undisturbed() -> Path:
    folder = tiny_images() / "undisturbed"
    result = train(TORCH, folder, "--batch-size", "2")
    assert result.status == 0, result.err
    return folder


def _differs(run: Path, reference: Path) -> str:
    from tests.torch_imagenet.distributed.jobs import losses, record, same_bits, weights

    if not same_bits(weights(run), weights(reference)):
        return "the weights are not those of the undisturbed run"
    if losses(run) != losses(reference):
        return "the logged losses are not those of the undisturbed run"
    return "" if record(run)["best"] == record(reference)["best"] else "the accuracy is not the undisturbed run's"


# -- memory ----------------------------------------------------------------------------------------------------


def no_memory_to_train(folder: Path, rng: random.Random) -> str:
    """Memory for a random number of images per batch: the advised batch size trains."""
    limit, accumulate = rng.randint(1, 7), rng.choice([1, 2])
    with memory_for(limit, rng.choice(OUT_OF_MEMORY)):
        result = train(TORCH, folder / "run", "--batch-size", "8", "--accumulate", str(accumulate))
        failure = result.missing_refusal(" fits (tried just now), or end what else is using it")
        if failure:
            return f"memory for {limit}: {failure}"
        advice = advised_options(result.err)
        if int(advice[1]) * int(advice[3]) != 8 * accumulate:
            return f"the advice changes the number of images per step: {advice}"
        result = train(TORCH, folder / "again", *advice)
    return "" if result.status == 0 else f"memory for {limit}: {advice} ended with {result.status}: {result.err}"


def no_memory_to_evaluate(folder: Path, rng: random.Random) -> str:
    """Likewise in the evaluation after an epoch."""
    limit = rng.randint(2, 7)
    with memory_for(limit, rng.choice(OUT_OF_MEMORY)):
        result = train(TORCH, folder / "run", "--batch-size", "2", "--eval-batch-size", "10", "--save-steps", "5")
        failure = result.missing_refusal("to evaluate a batch of 10; --eval-batch-size")
        if failure:
            return f"memory for {limit}: {failure}"
        advice = [*advised_options(result.err), "--resume", str(folder / "run"), *_GO_ON]
        result = train(TORCH, folder / "run", *advice, defaults=False)
    if result.status:
        return f"memory for {limit}: {advice} ended with {result.status}: {result.err}"
    return _differs(folder / "run", _undisturbed())


def no_memory_in_a_session(folder: Path, rng: random.Random) -> str:
    """TensorFlow runs out of memory: the estimated batch size trains, after two errors at most."""
    from unittest import mock

    import tensorflow as tf

    session, limit = tf.compat.v1.Session, rng.randint(4, 15)
    original, batch_sizes = session.run, [16]

    def run(self: Any, fetches: Any, *arguments: Any, **settings: Any) -> Any:
        if isinstance(fetches, dict) and batch_sizes[-1] > limit:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[16,32,32,16]")
        return original(self, fetches, *arguments, **settings)

    with mock.patch.object(session, "run", run):
        while True:
            result = train(
                TF, folder / "run", "--batch-size", str(batch_sizes[-1]), "--epochs", "1", "--max-steps", "2"
            )
            if batch_sizes[-1] <= limit:
                return (
                    ""
                    if result.status == 0
                    else f"a batch of {batch_sizes[-1]} ended with {result.status}: {result.err}"
                )
            smaller = batch_sizes[-1] // 2
            failure = result.missing_refusal(
                f"no memory left for a batch of {batch_sizes[-1]}; try --batch-size {smaller}, an estimate"
            )
            if failure:
                return failure
            batch_sizes.append(smaller)


# -- ends ------------------------------------------------------------------------------------------------------


def ends(half: str, how: str, folder: Path, rng: random.Random) -> str:
    """A single-process training is ended: no process remains, and it prints neither a traceback nor an error."""
    with tf_training(folder) if half == TF else torch_training(folder, tiny_images(), "--workers", "2") as job:
        job.wait_for("step: 3/" if half == TF else "Epoch: [0][2/")
        return _ended(job, how)


def ranks_end(how: str, folder: Path, rng: random.Random) -> str:
    """Likewise for two ranks with one data worker each."""
    with torch_training(folder, tiny_images(), "--distributed", "--num-devices", "2", "--workers", "1") as job:
        job.wait_for("Epoch: [1][0/")
        return _ended(job, how)


def _ended(job: Job, how: str) -> str:
    status = {"SIGKILL": -9, "SIGTERM": 143, "SIGINT": 130, "SIGHUP": 129, "SIGINT twice": 130}[how]
    number = getattr(signal, how.split()[0])
    if how == "SIGKILL":
        job.process.kill()
    else:
        job.signal_group(number)
        if "twice" in how:
            job.signal_group(number)
    actual = job.wait()
    remaining = job.kill_remaining(_ORPHANS_SECONDS)
    if remaining:
        return f"{how}: processes remain after {_ORPHANS_SECONDS:g} s: {remaining}"
    if actual != status or "Traceback" in job.output or (how != "SIGKILL" and "error:" in job.output):
        return f"{how}: status {actual}, {job.output[-1500:]}"
    return ""


def check_data_is_killed(folder: Path, rng: random.Random) -> str:
    """check-data is killed while its processes read images: they end, too."""
    from tests.faults.process_tree import ROOT

    program = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from shared.system.processes import ProcessPool\n"
        "with ProcessPool(2) as pool:\n"
        "    for tag, _ in pool.results(time.sleep, ((n, 0.01) for n in range(10**6)), 4, str):\n"
        "        print('at', tag, flush=True)\n"
    )
    with Job([sys.executable, "-c", program], folder) as job:
        job.wait_for("at 20\n")
        job.process.kill()
        job.wait()
        remaining = job.kill_remaining(_ORPHANS_SECONDS)
    return f"processes remain: {remaining}" if remaining else ""


# -- descriptors and memory ------------------------------------------------------------------------------------


def no_leaks(half: str, steps: int, folder: Path, rng: random.Random) -> str:
    """Descriptors, threads and, in a long training, memory do not grow over steps, epochs and checkpoints."""
    import threading
    from unittest import mock

    from shared.run.progress import Progress

    seen: List[Tuple[int, int]] = []
    memory: List[_Memory] = []
    epochs = steps // 100
    original = Progress.end_epoch

    def end_epoch(self: Any) -> None:
        seen.append((len(os.listdir("/proc/self/fd")), threading.active_count()))
        if epochs >= 20:
            memory.append(_Memory.now())
        original(self)

    data = folder / "data"
    write_images(data, 0, 200)
    options = {TORCH: ["--data-path", str(data), "--workers", "1"], TF: ["--steps-per-epoch", "100"]}[half]
    with mock.patch.object(Progress, "end_epoch", end_epoch):
        result = train(
            half, folder / "run", *options, "--batch-size", "2", "--epochs", str(epochs), "--print-freq", "50"
        )
    if result.status:
        return f"status {result.status}: {result.err}"
    (descriptors, threads), last = seen[0], seen[-1]
    if last[0] > descriptors or last[1] > threads:
        return f"descriptors {descriptors} -> {last[0]}, threads {threads} -> {last[1]} over {steps} steps"
    settled = memory[len(memory) // 4 :]
    return settled[-1].beyond(settled[0]) if settled else ""


class _Heap(ctypes.Structure):
    """glibc's struct mallinfo2, bytes."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "mapped", "usmblks", "fsmblks", "used", "free", "keepcost")
    ]


class _Memory(NamedTuple):
    """A process's memory. The resident size alone is not enough: glibc keeps a varying amount of freed memory."""

    in_use: int  # bytes allocated outside Python's own allocator
    blocks: int  # of Python's own allocator, each up to 512 bytes
    resident: int  # bytes

    @classmethod
    def now(cls) -> _Memory:
        gc.collect()
        mallinfo = ctypes.CDLL("libc.so.6").mallinfo2  # glibc 2.33
        mallinfo.restype = _Heap
        heap = mallinfo()
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return cls(heap.mapped + heap.used, sys.getallocatedblocks(), resident)

    def beyond(self, earlier: _Memory) -> str:
        """Values that have grown by more than `_MAX_GROWTH` over 7,500 steps."""
        grown = [
            f"{name} by {now - before:,}"
            for name, now, before, most in zip(self._fields, self, earlier, _MAX_GROWTH)
            if now - before > most
        ]
        return f"memory grows: {', '.join(grown)}" if grown else ""


_ENDS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGINT twice", "SIGHUP")
CASES = [
    Case("a data worker that dies", TORCH, a_worker_dies, rounds=20),
    Case("a data worker that hangs", TORCH, a_worker_hangs, rounds=5, slow=True),
    Case("no memory to train", TORCH, no_memory_to_train, rounds=10),
    Case("no memory to train", TF, no_memory_in_a_session, rounds=3, quick=False),
    Case("no memory to evaluate", TORCH, no_memory_to_evaluate, rounds=10),
    *(
        Case(f"ended by {how}", half, functools.partial(ends, half, how), rounds=2, quick=False)
        for half in (TF, TORCH)
        for how in _ENDS
    ),
    *(
        Case(f"two ranks ended by {how}", TORCH, functools.partial(ranks_end, how), rounds=2, quick=False)
        for how in _ENDS
    ),
    *(
        Case("300 steps leave nothing", half, functools.partial(no_leaks, half, 300), quick=half == TORCH, slow=True)
        for half in (TF, TORCH)
    ),
    *(
        Case("10,000 steps leave nothing", half, functools.partial(no_leaks, half, 10_000), quick=False)
        for half in (TF, TORCH)
    ),
    Case("check-data is killed", SHARED, check_data_is_killed, rounds=3),
]
