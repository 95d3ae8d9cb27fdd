"""Torch's part of a checkpoint: what it holds, and how it is read without running anything in it.

A folder `checkpoints/step-00000391/` has `training.pth` (weights, optimizer, loss scale and average, as plain tensors)
and `state.json` (progress, recipe, network, checksums); `shared.checkpoint.folder` writes it whole or not at all.
"""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Optional, Sequence, Union

import torch

from shared.checkpoint import folder as checkpoint_folder
from shared.checkpoint.folder import Found
from shared.checkpoint.state import check_state, not_ours
from shared.errors import UsageError
from shared.recipes.imagenet import ImageNetRecipe
from shared.system.atomic_files import write_atomic
from torch_imagenet.networks.registry import NETWORKS
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.weights.files import read_weight_file
from torch_imagenet.weights.form import Form
from torch_imagenet.weights.load import with_names

if TYPE_CHECKING:
    from torch_imagenet.input_pipeline.loader import BadImages
    from torch_imagenet.step.training_step import TrainingStep

TRAINING, MODEL = "training.pth", "model.pth"
RUN = "run"  # the key of a file of --original-names that no original has


def find(path: Union[str, Path]) -> Found:
    """The checkpoint that `path` means. Raises UsageError if it is none, the other half's, or incomplete."""
    found = checkpoint_folder.find(path)
    if not (found.folder / TRAINING).is_file():
        raise UsageError(f"{found.folder} is no checkpoint of an ImageNet network; name a run of this program")
    return _checked(found)


def of_file(path: Path, content: Any) -> Optional[Found]:
    """The run that goes on from a file of --original-names; None of any other file. Raises UsageError as `find`."""
    run = content.get(RUN) if isinstance(content, Mapping) else None
    if not isinstance(run, Mapping) or "state" not in run:
        return None
    try:
        state = dict(json.loads(run["state"]))
        return _checked(Found(path, state, []))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise not_ours(path, f"{RUN}, {type(error).__name__}: {error}") from error


def _checked(found: Found) -> Found:
    """The same. Raises UsageError where its state is none of a run of this half."""
    state = found.state
    stored = check_state(found.folder, state, recipe=ImageNetRecipe, network=NetworkSpec)
    stored["recipe"].checked()
    network, bad = stored["network"], state.get("bad_images")
    for wrong, what in (
        (state.get("mode") not in ("train", "finetune"), "mode"),
        (not isinstance(bad, list) or not all(isinstance(text, str) for text in bad), "bad_images"),
        ("count" not in state["device"], "device"),
        (network.name not in NETWORKS or network.name != stored["recipe"].network, "network"),
        (not all(isinstance(value, bool) for value in network.options.values()), "options of the network"),
    ):
        if wrong:
            raise not_ours(found.folder, what)
    return found


def write_training(folder: Path, state: Mapping[str, Any]) -> None:
    """The framework's file of a checkpoint that is being made. Raises OSError where the disk does not take it."""
    (folder / TRAINING).write_bytes(_saved(_to_host(state)))


def read_training(folder: Path) -> Dict[str, Any]:
    """What `write_training` has written, also of a file of --original-names.

    Raises UsageError where it cannot be read as plain tensors.
    """
    if folder.is_file():
        content = read_weight_file(folder)
        network = {"network": content["state_dict"], "average": content["state_dict"]}
        return {**network, "optimizer": content["optimizer"], **content[RUN]}
    path = folder / TRAINING
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch.load raises what the file makes it raise
        reason = " ".join(str(error).split())[:150]
        if isinstance(error, pickle.UnpicklingError):  # torch's advice, to read it all the same, is not passed on
            reason = "it is damaged, or holds more than plain tensors and would run code of its own"
        raise UsageError(f"{path} cannot be read ({reason}); use another checkpoint") from error


def evaluated(folder: Path) -> Dict[str, Any]:
    """The weights of a checkpoint that are evaluated: the average where the run has one.

    Raises UsageError where there are none.
    """
    training = read_training(folder)
    network, average = training.get("network"), training.get("average", {})
    if not isinstance(network, dict) or not isinstance(average, dict):
        raise UsageError(f"{folder / TRAINING} holds no weights of a network; use another checkpoint")
    return {**network, **average}


def load_training(step: TrainingStep, folder: Path) -> None:
    """Go on from a checkpoint, perhaps a stranger's. Raises UsageError if it is not of this network and recipe."""
    try:
        step.load_state_dict(read_training(folder))
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:150]
        what = f"{TRAINING} is not of this network and recipe, {type(error).__name__}: {reason}"
        raise not_ours(folder, what) from error


def writer(
    folder: Path, keep: int, step: TrainingStep, own: Mapping[str, Any], bad: BadImages
) -> Callable[[Dict[str, Any], bool], None]:
    """What `Run` saves with: `own`, what every checkpoint of the run says, its state of now, and the tensors."""
    run_folder = checkpoint_folder.CheckpointFolder(folder, keep)

    def write(state: Dict[str, Any], best: bool) -> None:
        training, number = step.state_dict(), state["progress"]["step"]
        whole = {**own, **state, "bad_images": sorted(bad.known)}
        run_folder.save(number, lambda target: write_training(target, training), whole, best)

    return write


def save_model(
    path: Path,
    weights: Mapping[str, torch.Tensor],
    classes: Optional[Sequence[str]] = None,
    recipe: Optional[Mapping[str, Any]] = None,
) -> None:
    """A bare state dict, torch's usual form, with classes and the form of a recipe's JSON; whole or not at all."""
    form = Form.of_recipe(recipe) if recipe is not None else None
    write_atomic(path, _saved(with_names(_to_host(weights), classes, form)))


def save_with_original_names(folder: Path, state: Mapping[str, Any], step: TrainingStep, best: bool) -> None:
    """The originals' `checkpoint.pth.tar`, and `model_best.pth.tar` beside it where this epoch is the best so far.

    Keys as theirs: epoch (the next one, from 0), arch, state_dict (the average where there is one), best_acc1
    (percent), optimizer. What else the run needs to go on is in RUN; `state` is that of a checkpoint.
    """
    training, progress = _to_host(step.state_dict()), state["progress"]
    weights = {**training["network"], **training.get("average", {})}
    run = {"state": json.dumps(state, allow_nan=False), "loss_scale": training["loss_scale"]}
    content = _saved(
        {
            "epoch": progress["epoch"],
            "arch": state["network"]["name"],
            "state_dict": with_names(weights, state["data"]["classes"], Form.of_recipe(state["recipe"])),
            "best_acc1": progress["best_top1"],
            "optimizer": training["optimizer"],
            RUN: {**run, **({"network": training["network"]} if "average" in training else {})},
        }
    )
    for name in ("checkpoint.pth.tar", *(["model_best.pth.tar"] if best else [])):
        write_atomic(folder / name, content)


def _saved(content: Any) -> bytes:
    """The bytes of torch.save, which hides the error of a disk that does not take them."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def _to_host(value: Any) -> Any:
    """The same structure with every tensor on the CPU, contiguous and in memory of its own size."""
    if isinstance(value, torch.Tensor):
        host = value.detach().to("cpu").contiguous()
        return host.clone() if host.untyped_storage().nbytes() != host.nbytes else host
    if isinstance(value, Mapping):
        return {key: _to_host(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_host(item) for item in value]
    return value
