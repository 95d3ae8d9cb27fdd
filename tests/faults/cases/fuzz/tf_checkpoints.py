"""Mutated TensorFlow checkpoints, and a forged state.json with valid checksums: a valid result or one error line.

Both run in children of a process that imports TensorFlow once and runs no session itself: a process that has run one
must not be forked.
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
from tests.faults.cases.fuzz.checkpoints import first_format, write_forged
from tests.faults.commands import remove_at_exit
from tests.faults.isolated import first_failure
from tests.faults.json_mutations import mutate_values
from tests.faults.mutations import mutated
from tests.faults.small_filesystems import in_child
from tests.faults.trainings import new_run_options
from tests.faults.worker_process import Worker

DATA, INDEX = "model.ckpt.data-00000-of-00001", "model.ckpt.index"


@functools.lru_cache(maxsize=None)
def _worker() -> Worker:
    """The worker of this process, started on first use."""
    return Worker("tests.faults.cases.fuzz.tf_checkpoints", TF)


def _run_in_worker(case: str, count: int, folder: Path, rng: random.Random) -> str:
    request = {"case": case, "count": count, "folder": str(folder), "seed": rng.getrandbits(32)}
    return str(_worker().request(request))


def serve() -> None:
    import tf_seresnet.run.checkpoints
    import tf_seresnet.training  # noqa: F401

    replies = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # drop the output of trainings
    for line in sys.stdin:
        request = json.loads(line)
        case = {"checkpoints": _mutated_checkpoints, "states": _forged_state}[request["case"]]
        loss = case(request["count"], Path(request["folder"]), random.Random(request["seed"]))
        replies.write(json.dumps(loss) + "\n")
        replies.flush()


def _mutated_checkpoints(count: int, folder: Path, rng: random.Random) -> str:
    """Write the checkpoint in a child, then try the mutated ones in another."""
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    failure = first_failure([checkpoint], lambda target: "" if _write(target) else "nothing", folder)
    if failure:
        return failure
    contents = {name: (checkpoint / name).read_bytes() for name in (DATA, INDEX)}
    inputs = []
    for _ in range(count):
        name = rng.choice((INDEX, INDEX, DATA))
        inputs.append((*mutated(contents[name], contents[DATA], rng), name))
    values = _values()
    return first_failure(inputs, lambda item: _restored(checkpoint, contents, values, item), folder, seconds=500)


def _write(folder: Path) -> Dict[str, Any]:
    """Write a checkpoint of three variables. Returns their values."""
    import tensorflow as tf

    tf1 = tf.compat.v1
    values = _values()
    with tf.Graph().as_default(), tf1.Session(config=_single_threaded()) as session:
        saved = {name: tf1.get_variable(name, initializer=value) for name, value in values.items()}
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver(saved).save(session, str(folder / "model.ckpt"), write_meta_graph=False, write_state=False)
    return values


def _single_threaded() -> Any:
    import tensorflow as tf

    return tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=1, use_per_session_threads=True
    )


def _restored(folder: Path, contents: Dict[str, bytes], values: Dict[str, Any], item: Tuple[bytes, str, str]) -> str:
    """The saved values or one error line: TensorFlow has checksums of its own."""
    import numpy as np
    import tensorflow as tf

    from tf_seresnet.run import checkpoints

    tf1 = tf.compat.v1
    content, _, name = item
    for other, good in contents.items():
        (folder / other).write_bytes(content if other == name else good)
    with tf.Graph().as_default(), tf1.Session(config=_single_threaded()) as session:
        variables = [tf1.get_variable(key, initializer=np.zeros_like(value)) for key, value in values.items()]
        checkpoints.restore(session, checkpoints.find(folder / "model.ckpt"), variables)
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
    """A finished run, trained once per process."""
    from tf_seresnet.main import main

    folder = Path(tempfile.mkdtemp(prefix="faults-run-"))
    remove_at_exit(folder)
    lost = in_child(lambda: str(main([*new_run_options(TF), "--output-dir", str(folder / "run")]) or ""), folder)
    assert not lost, lost
    return folder / "run"


def _forged_state(count: int, folder: Path, rng: random.Random) -> str:
    """Values of state.json of another type, out of range or missing."""
    state = first_format(_trained_run() / "checkpoints" / "last")
    target = folder / "run" / "checkpoints" / "step-00000010"
    inputs = [mutate_values(copy.deepcopy(state), rng) for _ in range(count)]
    return first_failure(inputs, lambda item: _set_up(target, item[0]), folder)


def _set_up(target: Path, state: Any) -> str:
    """All that a resumed run and an evaluation decide before TensorFlow runs."""
    from shared.run.clock import Clock
    from shared.run.progress import Progress
    from tf_seresnet.options import RunConfig
    from tf_seresnet.run.setup import RunSetup

    write_forged(target, state, {DATA: b"weights", INDEX: b"index"})  # neither is read
    setup = RunSetup.from_config(RunConfig.from_argv(["train", "--resume", str(target), "--device", "cpu"]))
    resumed = setup.resumed_state
    assert resumed is not None
    progress, clock = Progress(**resumed["progress"]), Clock(state=resumed["clock"])
    clock.summary()
    setup.recipe.schedule.at(progress.epoch)
    assert setup.plan.total_steps > 0
    return ""


if __name__ == "__main__":
    serve()

CASES = [
    Case(
        "mutated TensorFlow checkpoints, 20 a round",
        TF,
        functools.partial(_run_in_worker, "checkpoints", 20),
        slow=True,
    ),
    Case(
        "mutated TensorFlow checkpoints, 500 a round",
        TF,
        functools.partial(_run_in_worker, "checkpoints", 500),
        rounds=4,
        quick=False,
    ),
    Case(
        "state.json of a stranger, 100 a round",
        TF,
        functools.partial(_run_in_worker, "states", 100),
        rounds=20,
        slow=True,
    ),
]
