"""Mutated checkpoints: what was written, an older one, or one line. Strangers', with right checksums: one line."""

from __future__ import annotations

import copy
import functools
import hashlib
import io
import json
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Tuple

from tests.faults import commands
from tests.faults.case import SHARED, TORCH, Case
from tests.faults.isolated import tried
from tests.faults.json_mutations import changed_value
from tests.faults.mutations import batch, mutated

PER_ROUND = 100
STATE = "state.json"


# -- as a disk damages them ------------------------------------------------------------------------------------


def _damaged(folder: Path, source: random.Random) -> str:
    """Three checkpoints, one file of the newest mutated: found is the newest as it was, or the one before it, named."""
    from shared.checkpoint.folder import CheckpointFolder, find

    kept = CheckpointFolder(folder, keep=3)
    for step in (5, 10, 15):
        content = bytes(source.randrange(256) for _ in range(3000))
        kept.save(step, lambda place, c=content: (place / "weights").write_bytes(c), {"progress": {"step": step}})  # type: ignore[misc]
    newest = folder / "checkpoints" / "step-00000015"
    contents = {path.name: path.read_bytes() for path in newest.iterdir()}
    state = find(folder).state
    names = [source.choice((STATE, STATE, "weights")) for _ in range(PER_ROUND)]
    inputs = [(*mutated(contents[name], contents[STATE], source), name) for name in names]
    return tried(inputs, lambda one: _found(folder, newest, contents, state, one), folder)


def _found(folder: Path, newest: Path, contents: Dict[str, bytes], state: Any, one: Tuple[bytes, str, str]) -> str:
    from shared.checkpoint.folder import find

    content, _, name = one
    (newest / name).write_bytes(content)
    found = find(folder)
    (newest / name).write_bytes(contents[name])
    if found.folder == newest:
        if name != STATE and content != contents[name]:
            return f"the newest is taken with another {name}"
        return "" if found.state == state else f"another state is taken for the newest: {found.state}"
    if found.state["progress"]["step"] != 10 or not any("step-00000015" in note for note in found.notes):
        return f"{found.folder} is taken, and the notes are {found.notes}"
    return ""


# -- as a stranger makes them ----------------------------------------------------------------------------------


@functools.lru_cache(maxsize=None)
def trained_run() -> Path:
    """A finished run of the ImageNet half on tiny data, made once per process."""
    folder = Path(tempfile.mkdtemp(prefix="faults-run-")) / "run"
    said = commands.train(TORCH, folder)
    if said.status != 0:
        raise RuntimeError(said.err)
    commands.remove_at_exit(folder.parent)
    return folder


def first_format(folder: Path) -> Any:
    """As of the first format, whose state had no checksum of its own: a stranger can make that too."""
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    state.pop("checksum", None)
    return dict(state, format=1)


def write_stranger(target: Path, state: Any, contents: Dict[str, bytes]) -> None:
    """A checkpoint whose checksums are right, whatever is in it."""
    shutil.rmtree(str(target), ignore_errors=True)
    target.mkdir(parents=True)
    for name, content in contents.items():
        (target / name).write_bytes(content)
    if isinstance(state, dict) and "files" in state:
        state["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    (target / STATE).write_text(json.dumps(state), encoding="utf-8")


def _strangers_state(folder: Path, source: random.Random) -> str:
    """Values of state.json that are of other types, out of range, missing: what follows from them, or one line."""
    good = trained_run() / "checkpoints" / "last"
    state, training = first_format(good), (good / "training.pth").read_bytes()
    target = folder / "run" / "checkpoints" / "step-00000010"
    inputs = [changed_value(copy.deepcopy(state), source) for _ in range(PER_ROUND)]
    return tried(inputs, lambda one: _set_up(target, one, training), folder)


def _set_up(target: Path, one: Any, training: bytes) -> str:
    """All that a resumed run decides before its network is made."""
    from shared.run.clock import Clock
    from shared.run.progress import Progress
    from torch_imagenet import run_setup
    from torch_imagenet.devices.device import open_device
    from torch_imagenet.options import RunConfig
    from torch_imagenet.training_setup import Setup, origin_of

    write_stranger(target, one[0], {"training.pth": training})
    words = ["train", *commands.TORCH_SHORT[2:], "--data-path", str(commands.tiny_images()), "--resume", str(target)]
    config, found, _ = origin_of(RunConfig.from_argv(words))
    assert found is not None
    device = open_device("cpu")
    setup = Setup.of(config, device, found)
    progress, clock = Progress(**found.state["progress"]), Clock.from_state(found.state["clock"])
    clock.summary()
    run_setup.resumption_remarks(found.state, setup.recipe, run_setup.arithmetic(device, "channels_last", False))
    setup.recipe.schedule.at(progress.epoch)
    return ""


def _strangers_training(folder: Path, source: random.Random) -> str:
    """A training.pth that is mutated, or of other tensors, in whole runs: --resume, --checkpoint, evaluate."""
    good = trained_run() / "checkpoints" / "last"
    state, content = first_format(good), (good / "training.pth").read_bytes()
    target = folder / "run" / "checkpoints" / "step-00000010"
    inputs = [*batch([content], 12, source), *[_other_training(content, source) for _ in range(12)]]
    return tried(inputs, lambda one: _commands(folder, target, copy.deepcopy(state), one[0]), folder, seconds=300)


def _other_training(content: bytes, source: random.Random) -> Tuple[bytes, str]:
    """Plain tensors, of another structure than a training's."""
    import torch

    whole = torch.load(io.BytesIO(content), weights_only=True)
    spoiled, how = changed_value(whole, source)
    file = io.BytesIO()
    torch.save(spoiled, file)
    return file.getvalue(), how


def _commands(folder: Path, target: Path, state: Any, training: bytes) -> str:
    write_stranger(target, state, {"training.pth": training})
    for words in (["--resume", str(target)], ["--checkpoint", str(target)]):
        said = commands.train(TORCH, folder / "out", *words)
        lines = said.err.splitlines()
        if said.status not in (0, 2) or (said.status == 2 and (len(lines) != 1 or not lines[0].startswith("error: "))):
            return f"{words[0]} ends with {said.status}: {said.err[-300:]}"
    return ""


# -- files of weights ------------------------------------------------------------------------------------------


def _weight_files(folder: Path, source: random.Random) -> str:
    """.pth of both of torch's formats and .safetensors: the network's tensors, all of them, or one line."""
    import torch
    from safetensors.torch import save

    good = {f"last_linear.{name}": value for name, value in torch.nn.Linear(12, 4).state_dict().items()}
    contents: List[bytes] = []
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save({"state_dict": good, "epoch": 3}, file, _use_new_zipfile_serialization=zipped)
        contents.append(file.getvalue())
    inputs = [(*one, ".pth") for one in batch(contents, PER_ROUND * 3 // 4, source)]
    inputs += [(*one, ".safetensors") for one in batch([save(good)], PER_ROUND // 4, source)]
    return tried(inputs, lambda one: _loaded(folder, one), folder)


def _loaded(folder: Path, one: Tuple[bytes, str, str]) -> str:
    import torch

    from torch_imagenet.weights.load import load_weights

    path = folder / f"weights{one[2]}"
    path.write_bytes(one[0])
    network = torch.nn.ModuleDict({"last_linear": torch.nn.Linear(12, 4)})
    before = [value.clone() for value in network.state_dict().values()]
    try:
        report = load_weights(network, path)
    except BaseException:
        if not all(map(torch.equal, before, network.state_dict().values())):
            return "refused, with the network changed"
        raise
    return "" if report.matched == report.total == 2 else f"{report.lines()}"


CASES = [
    Case("mutated files of a checkpoint, 100 a round", SHARED, _damaged, rounds=20),
    Case("state.json of a stranger, 100 a round", TORCH, _strangers_state, rounds=20),
    Case("training.pth of a stranger, 48 commands a round", TORCH, _strangers_training, rounds=4, short=False),
    Case("mutated files of weights, 100 a round", TORCH, _weight_files, rounds=20),
]
