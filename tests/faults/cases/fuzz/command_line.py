"""Mutated command lines and recipes: a valid configuration, or one error line and exit status 2."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import random
from pathlib import Path
from typing import Any, List, Tuple
from unittest import mock

from tests.faults import commands
from tests.faults.case import SHARED, TF, TORCH, Case
from tests.faults.isolated import first_failure
from tests.faults.json_mutations import STRANGE, mutate_values
from tests.faults.mutations import mutated

PER_ROUND = 100
_VALUES = (
    "1",
    "0",
    "-1",
    "7",
    "64",
    "0.1",
    "1e-3",
    "1e400",
    "nan",
    "inf",
    "-inf",
    "1e30",
    "99999999999999999999",
    "1_0",
    "٣",
    "cosine",
    "step",
    "cpu",
    "cpu:1",
    "gpu",
    "cuda:999",
    "npu:0",
    "O1",
    "bf16",
    "dynamic",
    "30,60",
    "0.1,0.01",
    "60,30",
    "2,9",
    ",",
    "",
    " ",
    "-",
    "--",
    "=",
    "a b",
    "a\nb",
    "$(touch marker)",
    "`touch marker`",
    "; touch marker",
    "%s",
    "../..",
    "/dev/null",
    "\x00",
    "\udcff",
    "x" * 5000,
    "{0}",
    "se_resnet50",
    "senet154",
    "sample",
    "se_resnet50_1p",
    "se_resnet110_gpu",
    "train",
    "evaluate",
    "check-data",
    "core",
    "slim",
    "port",
)


def _lines(parser: Any, count: int, rng: random.Random) -> List[List[str]]:
    """Command lines of known options with valid, invalid and mutated values."""
    actions = [action for action in parser._actions if action.option_strings and action.dest not in ("help", "version")]
    lines = []
    for _ in range(count):
        argv: List[str] = []
        for _ in range(rng.choice((1, 1, 2, 3, 6))):
            action = rng.choice(actions)
            option, value = rng.choice(action.option_strings), rng.choice(_VALUES)
            if rng.random() < 0.15:
                option = mutated(option.encode(), b"--epochs", rng)[0].decode("utf-8", "surrogateescape")
            argv += [option] if action.nargs == 0 else rng.choice(([option, value], [f"{option}={value}"]))
        if rng.random() < 0.2:
            argv.insert(rng.randrange(len(argv) + 1), rng.choice(_VALUES))
        lines.append(argv)
    return lines


def _invalid_end(result: commands.Result) -> str:
    """How the command ended, unless with status 0 or with status 2 and one error line."""
    lines = result.err.split("\n")[:-1]
    if result.status == 0 and not lines:
        return ""
    if result.status != 2 or len(lines) != 1 or not lines[0].startswith("error: ") or ";" not in lines[0]:
        return f"exit status {result.status}, {result.err[-300:]!r}"
    return "" if lines[0].isprintable() and len(lines[0]) < 12_000 else f"no readable line: {lines[0][:200]!r}"


def _torch_lines(folder: Path, rng: random.Random) -> str:
    import torch_imagenet.run.setup  # noqa: F401  # torch, before the fork
    from torch_imagenet.options import parser

    commands.tiny_images()
    os.makedirs(str(folder / "here"))
    lines = _lines(parser(), PER_ROUND, rng)
    return first_failure(lines, lambda line: _torch_line(folder / "here", line), folder)


def _torch_line(folder: Path, argv: List[str]) -> str:
    """All modes until their work would begin, in an empty folder, where nothing may be written."""
    from torch_imagenet import main
    from torch_imagenet.devices.device import open_device
    from torch_imagenet.distributed.process_group import ALONE
    from torch_imagenet.input_pipeline.transforms import TrainTransform
    from torch_imagenet.run import setup as setups
    from torch_imagenet.weights import source

    def locked(config: Any, interrupts: Any) -> None:
        config = dataclasses.replace(config, mode="train")  # an evaluation has nothing to train on
        if not config.data_path:
            config = dataclasses.replace(config, data_path=str(commands.tiny_images()))
        device = open_device(config.device, config.deterministic)
        config, found, given = source.origin(config)
        setup = setups.TrainingSetup.from_config(config, device, ALONE, found, given)
        TrainTransform.from_recipe(setup.recipe)
        _usable(setup.recipe)

    os.chdir(str(folder))
    with mock.patch.dict(main.MODES, dict.fromkeys(main.MODES, locked)):
        result = commands.run_command(main.main, argv)
    return _invalid_end(result) or _nothing_written(folder)


def _tf_lines(folder: Path, rng: random.Random) -> str:
    from tf_seresnet.options import parser

    os.makedirs(str(folder / "here"))
    return first_failure(_lines(parser(), PER_ROUND, rng), lambda line: _tf_line(folder / "here", line), folder)


def _tf_line(folder: Path, argv: List[str]) -> str:
    """All modes until TensorFlow would be imported."""
    from shared import recipes
    from tf_seresnet import main
    from tf_seresnet.network import blocks_per_stage

    def locked(options: Any, interrupts: Any) -> None:
        given = tuple(
            (
                "epochs batch_size learning_rate scheduler milestones factors warm_up_epochs momentum "
                "weight_decay seed steps_per_epoch depth variant"
            ).split()
        )
        changes = {name: getattr(options, name) for name in given if getattr(options, name) is not None}
        recipe: Any = recipes.get(options.recipe or "sample").override(**changes)
        blocks_per_stage(recipe.depth, recipe.variant)
        _usable(recipe)

    os.chdir(str(folder))
    with mock.patch.dict(main.MODES, dict.fromkeys(main.MODES, locked)):
        result = commands.run_command(main.main, argv)
    return _invalid_end(result) or _nothing_written(folder)


def _nothing_written(folder: Path) -> str:
    written = os.listdir(str(folder))
    return f"{written} is written" if written else ""


def _usable(recipe: Any) -> None:
    """Raises AssertionError unless the learning rates of its first, middle and last epochs are finite."""
    schedule = recipe.schedule
    for epoch in {0, schedule.warm_up_epochs, schedule.epochs // 2, schedule.epochs - 1}:
        if not 0 <= schedule.at(epoch) < math.inf:
            raise AssertionError(f"the rate of epoch {epoch} is {schedule.at(epoch)}")
    schedule.describe()
    schedule.remarks()


# -- recipes ---------------------------------------------------------------------------------------------------


def _mutated_recipes(folder: Path, rng: random.Random) -> str:
    """Recipes of both halves as in state.json and config.json, mutated as values and as bytes."""
    from shared import recipes

    names = recipes.names()
    inputs: List[Tuple[Any, str, str]] = []
    for _ in range(PER_ROUND):
        name = rng.choice(names)
        content = json.loads(json.dumps(recipes.get(name).to_json()))
        if rng.random() < 0.7:
            inputs.append((*mutate_values(copy.deepcopy(content), rng), name))
            continue
        text = mutated(json.dumps(content).encode(), b"[" * 3000, rng)[0]
        try:
            inputs.append((json.loads(text.decode("utf-8", "replace")), "text", name))
        except (ValueError, RecursionError):
            inputs.append((rng.choice(STRANGE), "text", name))
    return first_failure(inputs, _recipe, folder)


def _recipe(item: Tuple[Any, str, str]) -> str:
    from shared import recipes

    recipe = type(recipes.get(item[2])).from_json(item[0])
    _usable(recipe)
    if type(recipe).from_json(json.loads(json.dumps(recipe.to_json(), allow_nan=False))) != recipe:
        return "it changes in a round trip through JSON"
    return ""


CASES = [
    Case("mutated option lines, 100 a round", TORCH, _torch_lines, rounds=20),
    Case("mutated option lines, 100 a round", TF, _tf_lines, rounds=20),
    Case("mutated recipes, 100 a round", SHARED, _mutated_recipes, rounds=20),
]
