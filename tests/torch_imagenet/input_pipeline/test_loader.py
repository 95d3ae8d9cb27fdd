"""Batches: the right images, once, in the right order, whatever the workers; bad images; no process left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from shared import imagenet  # noqa: E402
from shared.errors import DataError  # noqa: E402
from shared.imagenet.decode import read_rgb  # noqa: E402
from shared.rng import epoch_order  # noqa: E402
from torch_imagenet.input_pipeline.loader import EvaluationInput, Loading, TrainingInput  # noqa: E402
from torch_imagenet.input_pipeline.transforms import EvalTransform, TrainTransform  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def split(tiny):
    return imagenet.load(tiny.folder).train


def _pixels(batches):
    return [(batch.images.numpy().copy(), batch.labels.tolist()) for batch in batches]


def _same(one, other):
    return len(one) == len(other) and all(np.array_equal(a[0], b[0]) and a[1] == b[1] for a, b in zip(one, other))


def test_an_epoch_is_the_order_cut_into_whole_batches(split):
    transform = TrainTransform(24)
    with TrainingInput(split, transform, 4, 7, Loading(0)) as batches:
        assert batches.steps_per_epoch == 5
        got = list(batches.epoch(3))
    order = epoch_order(7, 3, 21)
    for step, batch in enumerate(got):
        indices = order[step * 4 : step * 4 + 4]
        assert batch.images.dtype == torch.uint8
        assert batch.images.shape == (4, 24, 24, 3)
        assert batch.labels.tolist() == split.labels[indices].tolist()
        for row, index in zip(batch.images.numpy(), indices.tolist()):
            assert np.array_equal(row, transform(read_rgb(split.path(index)), 7, 3, index))


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(split, workers):
    with TrainingInput(split, TrainTransform(24), 4, 0, Loading(0)) as here, TrainingInput(
        split, TrainTransform(24), 4, 0, Loading(workers)
    ) as there:
        for epoch in range(2):
            assert _same(_pixels(here.epoch(epoch)), _pixels(there.epoch(epoch)))


@pytest.mark.parametrize(("batch_size", "training", "evaluation"), [(4, 5, 6), (10, 2, 3), (21, 1, 1)])
def test_no_more_workers_are_begun_than_there_are_batches(split, batch_size, training, evaluation):
    """A thousand processes for a few batches would take the machine's memory."""
    with TrainingInput(split, TrainTransform(24), batch_size, 0, Loading(1000)) as batches:
        list(batches.epoch(0))
        assert len(multiprocessing.active_children()) == training
    with EvaluationInput(split, EvalTransform(24), batch_size, Loading(1000)) as batches:
        list(batches)
        assert len(multiprocessing.active_children()) == evaluation


def test_an_epoch_may_begin_anywhere_and_be_left_anywhere(split):
    with TrainingInput(split, TrainTransform(24), 4, 0, Loading(2)) as batches:
        whole = _pixels(batches.epoch(1))
        for first in range(6):
            assert _same(whole[first:], _pixels(batches.epoch(1, first)))
        abandoned = batches.epoch(0)
        next(abandoned)
        assert _same(whole, _pixels(batches.epoch(1)))


@pytest.mark.parametrize("asked", [(1, 2), (1, 0), (0, 2)])
def test_what_is_begun_ahead_is_only_used_where_it_is_asked_for(split, asked):
    with TrainingInput(split, TrainTransform(24), 4, 0, Loading()) as images:
        expected = [batch.images.tolist() for batch in images.epoch(*asked)]
        images.begin(1, 2)
        begun = images._begun[1, 2]
        batches = images.epoch(*asked)
        assert (batches is begun) == (asked == (1, 2))
        assert [batch.images.tolist() for batch in batches] == expected
        assert [batch.images.tolist() for batch in images.epoch(*asked)] == expected


def test_the_workers_are_begun_before_a_batch_is_asked_for(split):
    with TrainingInput(split, TrainTransform(24), 4, 0, Loading(1)) as images:
        images.begin(0, 0)
        assert images._watch.iterator._workers[0].is_alive()


def test_torchs_generator_is_the_trainings_alone(split):
    with TrainingInput(split, TrainTransform(24), 4, 0, Loading(1)) as batches:
        torch.manual_seed(0)
        before = torch.get_rng_state()
        list(batches.epoch(0))
        assert torch.equal(before, torch.get_rng_state())


@given(batch_size=st.integers(1, 25))
@settings(deadline=None, max_examples=12)
def test_the_evaluation_has_every_image_once_in_order(tiny, batch_size):
    split = imagenet.load(tiny.folder).val
    with EvaluationInput(split, EvalTransform(24), batch_size, Loading(0)) as batches:
        for _ in range(2):
            got = list(batches)
            assert sum((batch.labels.tolist() for batch in got), []) == split.labels.tolist()
            assert [len(batch.labels) for batch in got[:-1]] == [batch_size] * (len(got) - 1)
            images = np.concatenate([batch.images.numpy() for batch in got])
    assert np.array_equal(images[-1], EvalTransform(24)(read_rgb(split.path(len(split) - 1))))


@pytest.fixture
def damaged(tmp_path):
    for number in range(6):
        for name in ("train", "val"):
            folder = tmp_path / name / f"c{number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (30, 30), (40 * number, 0, 0)).save(folder / f"{number}.png")
    (tmp_path / "val" / "c1" / "3.png").write_bytes(b"")
    (tmp_path / "val" / "c1" / "5.png").write_bytes(b"x")
    return imagenet.load(tmp_path).val


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_is_fatal_with_its_name_and_what_to_do(damaged, workers):
    with EvaluationInput(damaged, EvalTransform(24), 2, Loading(workers)) as batches, pytest.raises(
        DataError
    ) as caught:
        list(batches)
    assert "c1/3.png (cannot identify image file" in str(caught.value)
    assert "--on-bad-image skip" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 6])
def test_a_bad_image_is_left_out_and_named(damaged, batch_size):
    with EvaluationInput(damaged, EvalTransform(24), batch_size, Loading(1, skip_bad=True)) as batches:
        got = list(batches)
    assert sum(len(batch.labels) for batch in got) == 4
    assert sum((batch.labels.tolist() for batch in got), []) == [0, 0, 0, 1]
    assert sorted(name.split(" (")[0] for batch in got for name in batch.bad) == ["c1/3.png", "c1/5.png"]
    assert all(len(batch.images) == len(batch.labels) for batch in got)


def _children():
    return multiprocessing.active_children()


def test_no_worker_stays_whenever_it_is_closed(split):
    before = set(_children())
    with TrainingInput(split, TrainTransform(24), 2, 0, Loading(2)) as batches:
        running = batches.epoch(0)
        next(running)
        assert len(set(_children()) - before) == 2
    assert set(_children()) <= before
    batches.close()  # twice is no mistake


@pytest.mark.slow
def test_it_can_be_sent_to_a_process_that_starts_from_nothing(split, monkeypatch):
    """Where fork is not the way (macOS, Windows), split and transform are pickled."""
    with TrainingInput(split, TrainTransform(24), 4, 0, Loading(0)) as here:
        expected = _pixels(here.epoch(0))
    with TrainingInput(split, TrainTransform(24), 4, 0, Loading(1)) as batches:
        batches._loader.multiprocessing_context = multiprocessing.get_context("spawn")
        assert _same(expected, _pixels(batches.epoch(0)))


PROGRAM = """
import os, signal, sys, time
sys.path.insert(0, {root!r})
from shared import imagenet
from shared.system.signals import Interrupts, Stopped
from torch_imagenet.input_pipeline.loader import Loading, TrainingInput
from torch_imagenet.input_pipeline.transforms import TrainTransform

if __name__ == "__main__":
    split = imagenet.load({data!r}).train
    with Interrupts() as interrupts, TrainingInput(split, TrainTransform(24), 2, 0, Loading(2)) as batches:
        for epoch in range(10**6):
            for batch in batches.epoch(epoch):
                print("batch", flush=True)
                if interrupts.requested:
                    print("asked", flush=True)
                    for _ in range(3):
                        next(batches.epoch(epoch))  # the workers are still there for what is left to do
                    print("worked on", flush=True)
                    sys.exit(0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_leaves_the_workers_to_the_main_one(tiny, tmp_path, number):
    """A terminal sends Ctrl-C, a scheduler SIGTERM, to the whole group; the main process still wants its batches."""
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM.format(root=str(ROOT), data=str(tiny.folder))))
    process = _started(program)
    assert process.stdout.readline() == "batch\n"
    os.killpg(process.pid, number)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert output.endswith("asked\nworked on\n")
    assert not _group(process.pid)


@pytest.mark.slow
def test_the_workers_die_with_the_main_process(tiny, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM.format(root=str(ROOT), data=str(tiny.folder))))
    process = _started(program)
    assert process.stdout.readline() == "batch\n"
    assert len(_group(process.pid)) >= 3
    process.kill()
    process.communicate(timeout=60)
    for _ in range(300):
        if not _group(process.pid):
            return
        time.sleep(0.1)
    raise AssertionError(f"still there: {_group(process.pid)}")


KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
from multiprocessing import connection
from shared import imagenet
from torch_imagenet.input_pipeline.loader import Loading, TrainingInput
from torch_imagenet.input_pipeline.transforms import TrainTransform

main, answer = os.getpid(), connection.answer_challenge

def killed_in_the_main_process(*arguments):
    if os.getpid() == main:
        os.kill(main, signal.SIGKILL)
    answer(*arguments)

if __name__ == "__main__":
    connection.answer_challenge = killed_in_the_main_process  # of the connection over which shared memory is fetched
    with TrainingInput(imagenet.load({data!r}).train, TrainTransform(24), 2, 0, Loading(1)) as batches:
        next(batches.epoch(0))
        print("fetched a batch")
"""


@pytest.mark.slow
def test_a_worker_prints_nothing_where_the_main_process_is_killed_while_it_fetches_a_batch(tiny, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(KILLED.format(root=str(ROOT), data=str(tiny.folder)))
    process = _started(program, stderr=subprocess.STDOUT)
    assert process.communicate(timeout=60)[0] == ""  # at the end of the worker, which has the file open too
    assert process.returncode == -signal.SIGKILL


def _started(program, **options):
    return subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, text=True, start_new_session=True, **options
    )


def _group(number):
    """The living processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split() if entry.name.isdigit() else []
        except OSError:
            continue
        if fields and int(fields[2]) == number and fields[0] != "Z":
            found.append(entry.name)
    return found
