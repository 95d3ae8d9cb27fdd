"""Numbers that are not finite, and continuations that would differ: each is detected and reported with one line."""

from __future__ import annotations

import functools
import random
import re
from pathlib import Path
from typing import Any, Callable, Dict, List

from tests.faults.case import TF, TORCH, Case
from tests.faults.commands import Result, before_step, train, write_images

_STEPS = {TF: 6, TORCH: 10}
_BAD = (float("nan"), float("inf"), -float("inf"))


def a_bad_weight(half: str, folder: Path, rng: random.Random) -> str:
    """A weight becomes infinite or NaN before a random step: the run ends, and all saved weights are finite."""
    number, value = rng.randint(2, _STEPS[half]), rng.choice(_BAD)
    with before_step(half, number, functools.partial(_spoil_a_weight, half, value)):
        result = train(half, folder / "run", *(["--save-steps", "1", "--keep", "9"] if half == TORCH else []))
    failure = result.missing_refusal("start from the last good checkpoint with --checkpoint")
    if failure:
        return f"{value} before step {number}: {failure}"
    for path in sorted((folder / "run" / "checkpoints").glob("step-*")):
        if not _finite(half, path):
            return f"{value} before step {number}: {path.name} holds it"
    return ""


def bad_gradients(folder: Path, rng: random.Random) -> str:
    """A gradient is infinite or NaN at a random step, without a loss scale that would skip the step."""
    from unittest import mock

    from torch_imagenet.step.optimizer import Weights

    number, value, calls = rng.randint(1, 10), rng.choice(_BAD), []
    original = Weights.take_gradients

    def take(self: Any) -> None:
        original(self)
        calls.append(1)
        if len(calls) == number:
            _set_first(next(iter(self.trainable().values())).grad, value)

    with mock.patch.object(Weights, "take_gradients", take):
        result = train(TORCH, folder / "run", "--save-steps", "1", "--keep", "11")
    failure = result.missing_refusal("is not a number after step")
    bad = [path.name for path in (folder / "run" / "checkpoints").glob("step-*") if not _finite(TORCH, path)]
    return f"{value} at step {number}: {failure or bad}" if failure or bad else ""


def a_loss_scale_that_trains_nothing(folder: Path, rng: random.Random) -> str:
    """Gradients overflow in every step: a dynamic scale falls below 1, a static one never takes a step."""
    from unittest import mock

    from torch_imagenet.step.loss_scale import LossScale

    scale = rng.choice(["dynamic", "128", "4294967296"])
    original = LossScale.unscale_

    def unscale(self: Any, optimizer: Any) -> None:
        _set_first(optimizer.param_groups[0]["params"][0].grad, float("inf"))
        original(self, optimizer)

    with mock.patch.object(LossScale, "unscale_", unscale):
        result = train(TORCH, folder / "run", "--precision", "O2", "--loss-scale", scale, "--epochs", "6")
    if scale == "dynamic":
        return result.missing_refusal("the loss scale has fallen to")
    return result.missing_refusal(f"gradients overflow at the loss scale {float(scale):g}")


def a_schedule_that_does_not_fit(half: str, folder: Path, rng: random.Random) -> str:
    """A training that ends before its schedule prints a note."""
    options, note = rng.choice(
        [(("--scheduler", "step"), "the rate's first fall"), (("--warm-up-epochs", "3"), "the warm-up of 3 epochs")]
    )
    result = train(half, folder / "run", *options, "--max-steps", "1")
    return "" if result.status == 0 and note in result.out else f"{options}: status {result.status}, no note {note!r}"


def a_longer_continuation(half: str, folder: Path, rng: random.Random) -> str:
    """A cosine over more epochs is another cosine: a note gives the learning rates."""
    into_the_second = str(_STEPS[half] // 2 + 1)
    train(half, folder / "run", "--scheduler", "cosine", "--warm-up-epochs", "0", "--max-steps", into_the_second)
    result = _resumed(half, folder, "--epochs", "3", "--max-steps", into_the_second)
    noted = re.search(r"note: over 3 epochs instead of 2 .* instead of .*; leave out --epochs", result.out)
    return "" if result.status == 0 and noted else f"status {result.status}, no note: {result.err}"


def another_run(half: str, what: str, folder: Path, rng: random.Random) -> str:
    """--resume with another data set, recipe, option or number of devices is refused."""
    first = train(half, folder / "run", "--max-steps", "1")
    if first.status:
        return f"the first run ended with {first.status}: {first.err}"
    changes: Dict[str, Callable[[], Result]] = {
        "data set": lambda: _resumed(half, folder, *_other_data(half, folder)),
        "recipe": lambda: _resumed(half, folder, "--recipe", {TF: "se_resnet110_gpu", TORCH: "senet154_1p"}[half]),
        "option": lambda: _resumed(
            half,
            folder,
            *rng.choice([["--learning-rate", "0.3"], ["--batch-size", "2"], ["--seed", "77"], ["--momentum", "0.5"]]),
        ),
        "number of devices": lambda: _resumed(half, folder, "--distributed", "--num-devices", "2"),
    }
    errors = {
        "data set": "is not the data set that the run was trained on",
        "recipe": "contradicts the run",
        "option": "contradicts the run",
        "number of devices": "devices",
    }
    before = _contents(folder / "run")
    failure = changes[what]().missing_refusal(errors[what])
    if not failure and _contents(folder / "run") != before:
        failure = "the refused continuation has changed the run"
    return failure


def _resumed(half: str, folder: Path, *options: str) -> Result:
    return train(half, folder / "run", "--resume", str(folder / "run"), *options, defaults=False)


def _other_data(half: str, folder: Path) -> List[str]:
    other = folder / "other"
    if half == TORCH:
        write_images(other, 1)
        (other / "train" / "class0" / "image00.png").rename(other / "train" / "class1" / "image00.png")
        return ["--data-path", str(other)]
    from shared import sample

    other = sample.cifar10_folder(other)
    first, second = other / "data_batch_1", other / "data_batch_2"
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    return ["--data-path", str(other)]


def _spoil_a_weight(half: str, value: float, step: Any, *arguments: Any) -> None:
    if half == TORCH:
        _set_first(next(iter(step.weights.masters.values())).detach(), value)
        return
    import tensorflow as tf

    variable = tf.compat.v1.trainable_variables()[0]
    (session, *_) = arguments
    content = session.run(variable)
    content.flat[0] = value
    variable.load(content, session)


def _set_first(tensor: Any, value: float) -> None:
    tensor[(0,) * tensor.dim()] = value


def _finite(half: str, checkpoint: Path) -> bool:
    import numpy as np

    if half == TORCH:
        import torch

        network = torch.load(str(checkpoint / "training.pth"), map_location="cpu", weights_only=True)["network"]
        return all(bool(torch.isfinite(value).all()) for value in network.values())
    import tensorflow as tf

    reader = tf.compat.v1.train.load_checkpoint(str(checkpoint / "model.ckpt"))
    return all(bool(np.isfinite(reader.get_tensor(name)).all()) for name in reader.get_variable_to_shape_map())


def _contents(folder: Path) -> Dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and "tensorboard" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _both(name: str, run: Callable[..., str], **settings: Any) -> List[Case]:
    return [Case(name, half, functools.partial(run, half), **settings) for half in (TF, TORCH)]


CASES = [
    *_both("a weight that is no number", a_bad_weight, rounds=10),
    Case("a gradient that is no number", TORCH, bad_gradients, rounds=10),
    Case("a loss scale that trains nothing", TORCH, a_loss_scale_that_trains_nothing, rounds=3),
    *_both("a training that ends before its schedule", a_schedule_that_does_not_fit, rounds=4, quick=False),
    *_both("a continuation over more epochs", a_longer_continuation, rounds=2, quick=False),
    *(
        case
        for what in ("data set", "recipe", "option", "number of devices")
        for case in _both(
            f"a continuation with another {what}",
            lambda half, folder, rng, what=what: another_run(half, what, folder, rng),
            rounds=3,
            quick=False,
        )
    ),
]
