"""Workers that die or hang, memory that runs out, Ctrl-C twice, processes that are left, descriptors that pile up."""

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
from tests.faults.commands import OUT_OF_MEMORY, advised, before_step, memory_for, tiny_images, train, write_images
from tests.faults.process_tree import Job, tf_training, torch_training

_GO_ON = ["--workers", "1", "--print-freq", "1"]  # what is no part of a run
# In use, less than 600 bytes a step; less than one of Python's blocks a step; and what glibc may keep.
_GROWTH = (4 * 2**20, 7500, 96 * 2**20)
_ORPHANS_SECONDS = 20.0  # torch's data workers look for their parent every five seconds


# -- data workers ----------------------------------------------------------------------------------------------


def a_worker_dies(folder: Path, random: random.Random) -> str:
    """A data worker is killed at a random step: one line that names it, and the continuation is exact."""
    return _lost_worker(
        folder,
        random.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT]),
        random,
        "data worker",
        "continue exactly with --resume",
    )


def a_worker_hangs(folder: Path, random: random.Random) -> str:
    """A data worker is stopped for good at a random step; the same."""
    return _lost_worker(folder, signal.SIGSTOP, random, "has given no batch for 2 seconds", "--timeout SECONDS")


def _lost_worker(folder: Path, number: int, random: random.Random, *words: str) -> str:
    import multiprocessing

    step = random.randint(2, 9)  # what the workers still make of an epoch may already be there at its last step

    def strike(*arguments: Any) -> None:
        os.kill(random.choice(multiprocessing.active_children()).pid or 0, number)

    options = ["--workers", "2", "--save-steps", "1", "--timeout", "2", "--batch-size", "2"]
    with before_step(TORCH, step, strike):
        said = train(TORCH, folder / "run", *options)
    if said.status:
        wrong = next((wrong for word in words for wrong in [said.refused(word)] if wrong), "")
        if wrong:
            return f"{signal.Signals(number).name} before step {step}: {wrong}"
        if multiprocessing.active_children():
            return f"workers are left: {multiprocessing.active_children()}"
        said = train(TORCH, folder / "run", "--resume", str(folder / "run"), *_GO_ON, short=False)
    if said.status:
        return f"the continuation ended with {said.status}: {said.err}"
    return _differs(folder / "run", _undisturbed())


@functools.lru_cache(maxsize=None)
def _undisturbed() -> Path:
    folder = tiny_images() / "undisturbed"
    said = train(TORCH, folder, "--batch-size", "2")
    assert said.status == 0, said.err
    return folder


def _differs(one: Path, other: Path) -> str:
    from tests.torch_imagenet.distributed.jobs import losses, record, same_bits, weights

    if not same_bits(weights(one), weights(other)):
        return "the weights are not those of the undisturbed run"
    if losses(one) != losses(other):
        return "the logged losses are not those of the undisturbed run"
    return "" if record(one)["best"] == record(other)["best"] else "the accuracy is not the undisturbed run's"


# -- memory ----------------------------------------------------------------------------------------------------


def no_memory_to_train(folder: Path, random: random.Random) -> str:
    """Memory for a random number of images a batch: the advice is followed, and trains."""
    limit, accumulate = random.randint(1, 7), random.choice([1, 2])
    with memory_for(limit, random.choice(OUT_OF_MEMORY)):
        said = train(TORCH, folder / "run", "--batch-size", "8", "--accumulate", str(accumulate))
        wrong = said.refused(" fits (tried just now), or end what else is using it")
        if wrong:
            return f"memory for {limit}: {wrong}"
        advice = advised(said.err)
        if int(advice[1]) * int(advice[3]) != 8 * accumulate:
            return f"the advice is another number of images a step: {advice}"
        said = train(TORCH, folder / "again", *advice)
    return "" if said.status == 0 else f"memory for {limit}: {advice} ended with {said.status}: {said.err}"


def no_memory_to_evaluate(folder: Path, random: random.Random) -> str:
    """The same in the evaluation after an epoch."""
    limit = random.randint(2, 7)
    with memory_for(limit, random.choice(OUT_OF_MEMORY)):
        said = train(TORCH, folder / "run", "--batch-size", "2", "--eval-batch-size", "10", "--save-steps", "5")
        wrong = said.refused("to evaluate a batch of 10; --eval-batch-size")
        if wrong:
            return f"memory for {limit}: {wrong}"
        advice = [*advised(said.err), "--resume", str(folder / "run"), *_GO_ON]
        said = train(TORCH, folder / "run", *advice, short=False)
    if said.status:
        return f"memory for {limit}: {advice} ended with {said.status}: {said.err}"
    return _differs(folder / "run", _undisturbed())


def no_memory_in_a_session(folder: Path, random: random.Random) -> str:
    """TensorFlow finds no memory for a batch: its estimate is followed, twice where it must be, and trains."""
    from unittest import mock

    import tensorflow as tf

    session, limit = tf.compat.v1.Session, random.randint(4, 15)
    original, given = session.run, [16]

    def run(self: Any, fetches: Any, *arguments: Any, **words: Any) -> Any:
        if isinstance(fetches, dict) and given[0] > limit:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[16,32,32,16]")
        return original(self, fetches, *arguments, **words)

    with mock.patch.object(session, "run", run):
        while True:
            said = train(TF, folder / "run", "--batch-size", str(given[0]), "--epochs", "1", "--max-steps", "2")
            if given[0] <= limit:
                return "" if said.status == 0 else f"a batch of {given[0]} ended with {said.status}: {said.err}"
            smaller = given[0] // 2
            wrong = said.refused(f"no memory left for a batch of {given[0]}; try --batch-size {smaller}, an estimate")
            if wrong:
                return wrong
            given[0] = smaller


# -- ends ------------------------------------------------------------------------------------------------------


def ends(half: str, how: str, folder: Path, random: random.Random) -> str:
    """A training alone is ended; nobody is left, and what it says is neither a traceback nor a second error."""
    with tf_training(folder) if half == TF else torch_training(folder, tiny_images(), "--workers", "2") as job:
        job.wait_for("step: 3/" if half == TF else "E1-B3/")
        return _ended(job, how)


def ranks_end(how: str, folder: Path, random: random.Random) -> str:
    """The same of two ranks with a data worker each."""
    with torch_training(folder, tiny_images(), "--distributed", "--num-devices", "2", "--workers", "1") as job:
        job.wait_for("E2-B1/")
        return _ended(job, how)


def _ended(job: Job, how: str) -> str:
    status = {"SIGKILL": -9, "SIGTERM": 143, "SIGINT": 130, "SIGHUP": 129, "SIGINT twice": 130}[how]
    number = getattr(signal, how.split()[0])
    if how == "SIGKILL":
        job.process.kill()
    else:
        job.to_all(number)
        if "twice" in how:
            job.to_all(number)
    found = job.end()
    left = job.left(_ORPHANS_SECONDS)
    if left:
        return f"{how}: left after {_ORPHANS_SECONDS:g} s: {left}"
    if found != status or "Traceback" in job.text or (how != "SIGKILL" and "error:" in job.text):
        return f"{how}: status {found}, {job.text[-1500:]}"
    return ""


def check_data_is_killed(folder: Path, random: random.Random) -> str:
    """check-data is killed while its processes look at images: they end too."""
    from tests.faults.process_tree import ROOT

    program = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from shared.system.process_pool import ProcessPool\n"
        "with ProcessPool(2) as pool:\n"
        "    for tag, _ in pool.results(time.sleep, ((n, 0.01) for n in range(10**6)), 4, str):\n"
        "        print('at', tag, flush=True)\n"
    )
    with Job([sys.executable, "-c", program], folder) as job:
        job.wait_for("at 20\n")
        job.process.kill()
        job.end()
        left = job.left(_ORPHANS_SECONDS)
    return f"left: {left}" if left else ""


# -- descriptors and memory ------------------------------------------------------------------------------------


def nothing_piles_up(half: str, steps: int, folder: Path, random: random.Random) -> str:
    """Descriptors, threads and, over a long training, memory are the same after many steps, epochs and checkpoints."""
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
        said = train(half, folder / "run", *options, "--batch-size", "2", "--epochs", str(epochs), "--print-freq", "50")
    if said.status:
        return f"status {said.status}: {said.err}"
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
    """What a process holds. The resident part alone says little: what glibc keeps of freed memory goes up and down."""

    in_use: int  # bytes allocated and not freed, without those of Python's own allocator
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
        """What has grown over 7,500 steps by more than it may."""
        grown = [
            f"{name} by {now - before:,}"
            for name, now, before, most in zip(self._fields, self, earlier, _GROWTH)
            if now - before > most
        ]
        return f"memory grows: {', '.join(grown)}" if grown else ""


_ENDS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGINT twice", "SIGHUP")
CASES = [
    Case("a data worker that dies", TORCH, a_worker_dies, rounds=20),
    Case("a data worker that hangs", TORCH, a_worker_hangs, rounds=5, slow=True),
    Case("no memory to train", TORCH, no_memory_to_train, rounds=10),
    Case("no memory to train", TF, no_memory_in_a_session, rounds=3, short=False),
    Case("no memory to evaluate", TORCH, no_memory_to_evaluate, rounds=10),
    *(
        Case(f"ended by {how}", half, functools.partial(ends, half, how), rounds=2, short=False)
        for half in (TF, TORCH)
        for how in _ENDS
    ),
    *(
        Case(f"two ranks ended by {how}", TORCH, functools.partial(ranks_end, how), rounds=2, short=False)
        for how in _ENDS
    ),
    *(
        Case(
            "300 steps leave nothing",
            half,
            functools.partial(nothing_piles_up, half, 300),
            short=half == TORCH,
            slow=True,
        )
        for half in (TF, TORCH)
    ),
    *(
        Case("10,000 steps leave nothing", half, functools.partial(nothing_piles_up, half, 10_000), short=False)
        for half in (TF, TORCH)
    ),
    Case("check-data is killed", SHARED, check_data_is_killed, rounds=3),
]
