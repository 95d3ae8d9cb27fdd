"""Mutated checkpoints, and forged ones with valid checksums: the original, an older one or one error line."""

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
from tests.faults.isolated import first_failure
from tests.faults.json_mutations import mutate_values
from tests.faults.mutations import batch, mutated

PER_ROUND = 100
STATE = "state.json"


# -- damaged by a disk ----------------------------------------------------------------------------------------


def _damaged(folder: Path, rng: random.Random) -> str:
    """One file of the newest checkpoint is mutated: `find` gives the original, or the previous one and a note."""
    from shared.checkpoint.folder import CheckpointFolder, find

    kept = CheckpointFolder(folder, keep=3)
    for step in (5, 10, 15):
        content = bytes(rng.randrange(256) for _ in range(3000))
        kept.save(step, lambda target, c=content: (target / "weights").write_bytes(c), {"progress": {"step": step}})  # type: ignore[misc]
    newest = folder / "checkpoints" / "step-00000015"
    contents = {path.name: path.read_bytes() for path in newest.iterdir()}
    state = find(folder).state
    names = [rng.choice((STATE, STATE, "weights")) for _ in range(PER_ROUND)]
    inputs = [(*mutated(contents[name], contents[STATE], rng), name) for name in names]
    return first_failure(inputs, lambda item: _found(folder, newest, contents, state, item), folder)


def _found(folder: Path, newest: Path, contents: Dict[str, bytes], state: Any, item: Tuple[bytes, str, str]) -> str:
    from shared.checkpoint.folder import find

    content, _, name = item
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


# -- forged ---------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=None)
def trained_run() -> Path:
    """A finished run of the ImageNet half on tiny data, trained once per process."""
    folder = Path(tempfile.mkdtemp(prefix="faults-run-")) / "run"
    result = commands.train(TORCH, folder)
    if result.status != 0:
        raise RuntimeError(result.err)
    commands.remove_at_exit(folder.parent)
    return folder


def first_format(folder: Path) -> Any:
    """The state in the first format, which has no checksum of its own, so that it can be forged."""
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    state.pop("checksum", None)
    return dict(state, format=1)


def write_forged(target: Path, state: Any, contents: Dict[str, bytes]) -> None:
    """Write a checkpoint with valid checksums."""
    shutil.rmtree(str(target), ignore_errors=True)
    target.mkdir(parents=True)
    for name, content in contents.items():
        (target / name).write_bytes(content)
    if isinstance(state, dict) and "files" in state:
        state["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    (target / STATE).write_text(json.dumps(state), encoding="utf-8")


def _forged_state(folder: Path, rng: random.Random) -> str:
    """Values of state.json of another type, out of range or missing: a valid set-up or one error line."""
    good = trained_run() / "checkpoints" / "last"
    state, training = first_format(good), (good / "training.pth").read_bytes()
    target = folder / "run" / "checkpoints" / "step-00000010"
    inputs = [mutate_values(copy.deepcopy(state), rng) for _ in range(PER_ROUND)]
    return first_failure(inputs, lambda item: _set_up(target, item, training), folder)


def _set_up(target: Path, item: Any, training: bytes) -> str:
    """All that a resumed run decides before it creates the network."""
    from shared.run.clock import Clock
    from shared.run.progress import Progress
    from torch_imagenet.devices.device import open_device
    from torch_imagenet.distributed.process_group import ALONE
    from torch_imagenet.options import RunConfig
    from torch_imagenet.run.description import resumption_notes
    from torch_imagenet.run.setup import TrainingSetup
    from torch_imagenet.weights.source import origin

    write_forged(target, item[0], {"training.pth": training})
    argv = ["train", *commands.TORCH_OPTIONS[2:], "--data-path", str(commands.tiny_images()), "--resume", str(target)]
    config, found, _ = origin(RunConfig.from_argv(argv))
    assert found is not None
    device = open_device("cpu")
    setup = TrainingSetup.from_config(config, device, ALONE, found, None)
    progress, clock = Progress(**found.state["progress"]), Clock(state=found.state["clock"])
    clock.summary()
    resumption_notes(setup)
    setup.recipe.schedule.at(progress.epoch)
    return ""


def _forged_training(folder: Path, rng: random.Random) -> str:
    """A training.pth that is mutated or has another structure, in whole runs with --resume and --checkpoint."""
    good = trained_run() / "checkpoints" / "last"
    state, content = first_format(good), (good / "training.pth").read_bytes()
    target = folder / "run" / "checkpoints" / "step-00000010"
    inputs = [*batch([content], 12, rng), *[_other_training(content, rng) for _ in range(12)]]
    return first_failure(
        inputs, lambda item: _commands(folder, target, copy.deepcopy(state), item[0]), folder, seconds=300
    )


def _other_training(content: bytes, rng: random.Random) -> Tuple[bytes, str]:
    """A valid torch file with another structure."""
    import torch

    state = torch.load(io.BytesIO(content), weights_only=True)
    mutant, how = mutate_values(state, rng)
    file = io.BytesIO()
    torch.save(mutant, file)
    return file.getvalue(), how


def _commands(folder: Path, target: Path, state: Any, training: bytes) -> str:
    write_forged(target, state, {"training.pth": training})
    for option in ("--resume", "--checkpoint"):
        result = commands.train(TORCH, folder / "out", option, str(target))
        lines = result.err.splitlines()
        if result.status not in (0, 2) or (
            result.status == 2 and (len(lines) != 1 or not lines[0].startswith("error: "))
        ):
            return f"{option} ends with {result.status}: {result.err[-300:]}"
    return ""


# -- files of weights ------------------------------------------------------------------------------------------


def _weight_files(folder: Path, rng: random.Random) -> str:
    """Mutated .pth files, in both of torch's formats, and .safetensors: all tensors or one error line."""
    import torch
    from safetensors.torch import save

    good = {f"last_linear.{name}": value for name, value in torch.nn.Linear(12, 4).state_dict().items()}
    contents: List[bytes] = []
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save({"state_dict": good, "epoch": 3}, file, _use_new_zipfile_serialization=zipped)
        contents.append(file.getvalue())
    inputs = [(*item, ".pth") for item in batch(contents, PER_ROUND * 3 // 4, rng)]
    inputs += [(*item, ".safetensors") for item in batch([save(good)], PER_ROUND // 4, rng)]
    return first_failure(inputs, lambda item: _loaded(folder, item), folder)


def _loaded(folder: Path, item: Tuple[bytes, str, str]) -> str:
    import torch

    from torch_imagenet.weights.load import load_weights

    path = folder / f"weights{item[2]}"
    path.write_bytes(item[0])
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
    Case("state.json of a stranger, 100 a round", TORCH, _forged_state, rounds=20),
    Case("training.pth of a stranger, 48 commands a round", TORCH, _forged_training, rounds=4, quick=False),
    Case("mutated files of weights, 100 a round", TORCH, _weight_files, rounds=20),
]
