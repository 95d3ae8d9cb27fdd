"""Mutated files of TensorFlow's own checkpoints: the variables, or one line.

And a stranger's state.json with right checksums: what follows from it, or one line. Both in children of a process that
imports TensorFlow once and runs no session itself: one that has must not be forked.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Tuple

from tests.faults.case import TF, Case
from tests.faults.cases.fuzz.checkpoints import first_format, write_stranger
from tests.faults.commands import remove_at_exit
from tests.faults.isolated import tried
from tests.faults.json_mutations import changed_value
from tests.faults.mutations import mutated
from tests.faults.small_filesystems import in_child
from tests.faults.trainings import fresh_words
from tests.faults.worker_process import Asked

DATA, INDEX = "model.ckpt.data-00000-of-00001", "model.ckpt.index"


@functools.lru_cache(maxsize=None)
def _server() -> Asked:
    """One for this process."""
    return Asked("tests.faults.cases.fuzz.tf_checkpoints", TF)


def _asked(case: str, count: int, folder: Path, source: random.Random) -> str:
    request = {"case": case, "count": count, "folder": str(folder), "seed": source.getrandbits(32)}
    return str(_server().answer(request))


def serve() -> None:
    import tf_seresnet.checkpoints
    import tf_seresnet.training  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a training says
    for line in sys.stdin:
        request = json.loads(line)
        case = {"checkpoints": _mutated_checkpoints, "states": _strangers_state}[request["case"]]
        answer = case(request["count"], Path(request["folder"]), random.Random(request["seed"]))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _mutated_checkpoints(count: int, folder: Path, source: random.Random) -> str:
    """Write the checkpoint in a child, then try the mutated ones in another."""
    place = folder / "checkpoint"
    place.mkdir()
    lost = tried([place], lambda where: "" if _write(where) else "nothing", folder)
    if lost:
        return lost
    contents = {name: (place / name).read_bytes() for name in (DATA, INDEX)}
    inputs = []
    for _ in range(count):
        name = source.choice((INDEX, INDEX, DATA))
        inputs.append((*mutated(contents[name], contents[DATA], source), name))
    values = _values()
    return tried(inputs, lambda one: _restored(place, contents, values, one), folder, seconds=500)


def _write(folder: Path) -> Dict[str, Any]:
    """A checkpoint of three variables, and their values."""
    import tensorflow as tf

    tf1 = tf.compat.v1
    values = _values()
    with tf.Graph().as_default(), tf1.Session(config=_alone()) as session:
        saved = {name: tf1.get_variable(name, initializer=value) for name, value in values.items()}
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver(saved).save(session, str(folder / "model.ckpt"), write_meta_graph=False, write_state=False)
    return values


def _alone() -> Any:
    import tensorflow as tf

    return tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=1, use_per_session_threads=True
    )


def _restored(folder: Path, contents: Dict[str, bytes], values: Dict[str, Any], one: Tuple[bytes, str, str]) -> str:
    """The values that were saved, or a line: TensorFlow has checksums of its own."""
    import numpy as np
    import tensorflow as tf

    from tf_seresnet import checkpoints

    tf1 = tf.compat.v1
    content, _, name = one
    for other, good in contents.items():
        (folder / other).write_bytes(content if other == name else good)
    with tf.Graph().as_default(), tf1.Session(config=_alone()) as session:
        variables = [tf1.get_variable(key, initializer=np.zeros_like(value)) for key, value in values.items()]
        checkpoints.restore_weights(session, checkpoints.find(folder / "model.ckpt"), variables)
        for variable, value in zip(variables, session.run(variables)):
            if not np.array_equal(value, values[variable.op.name]):
                return f"{variable.op.name} is restored as something else"
    return ""


def _values() -> Dict[str, Any]:
    import numpy as np

    return {
        "conv2d/kernel": np.arange(3 * 3 * 3 * 16, dtype=np.float32).reshape(3, 3, 3, 16),
        "BatchNorm/beta": np.ones(16, np.float32),
        "global_step": np.int64(391),
    }


# -- state.json ------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=None)
def _trained_run() -> Path:
    """A finished run, made once per process."""
    from tf_seresnet.main import main

    folder = Path(tempfile.mkdtemp(prefix="faults-run-"))
    remove_at_exit(folder)
    lost = in_child(lambda: str(main([*fresh_words(TF), "--output-dir", str(folder / "run")]) or ""), folder)
    assert not lost, lost
    return folder / "run"


def _strangers_state(count: int, folder: Path, source: random.Random) -> str:
    """Values of state.json that are of other types, out of range, missing."""
    state = first_format(_trained_run() / "checkpoints" / "last")
    target = folder / "run" / "checkpoints" / "step-00000010"
    inputs = [changed_value(copy.deepcopy(state), source) for _ in range(count)]
    return tried(inputs, lambda one: _set_up(target, one[0]), folder)


def _set_up(target: Path, state: Any) -> str:
    """All that a resumed run, and an evaluation, decide before TensorFlow has work to do."""
    from shared.run.clock import Clock
    from shared.run.progress import Progress
    from tf_seresnet import run_setup, training
    from tf_seresnet.input_pipeline import Normalisation
    from tf_seresnet.network import blocks_per_stage
    from tf_seresnet.options import RunConfig

    write_stranger(target, state, {DATA: b"weights", INDEX: b"index"})  # neither is read
    config = RunConfig.from_argv(["train", "--resume", str(target), "--device", "cpu"])
    config, found = training._resumed(config)
    assert found is not None
    assert found.state is not None
    data, _ = run_setup.load_data(config, found.state)
    recipe = run_setup.resumed_recipe(config, found.state, data)
    network = run_setup.network(config, recipe, found.state, len(data.label_names))
    blocks_per_stage(network.depth, network.variant)
    progress, clock = Progress(**found.state["progress"]), Clock.from_state(found.state["clock"])
    clock.summary()
    Normalisation(**found.state["normalisation"])
    recipe.schedule.at(progress.epoch)
    return ""


if __name__ == "__main__":
    serve()

CASES = [
    Case("mutated TensorFlow checkpoints, 20 a round", TF, functools.partial(_asked, "checkpoints", 20), slow=True),
    Case(
        "mutated TensorFlow checkpoints, 500 a round",
        TF,
        functools.partial(_asked, "checkpoints", 500),
        rounds=4,
        short=False,
    ),
    Case("state.json of a stranger, 100 a round", TF, functools.partial(_asked, "states", 100), rounds=20, slow=True),
]
