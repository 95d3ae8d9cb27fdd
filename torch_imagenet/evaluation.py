"""Exact evaluation: every image once, at any batch size, and the mode `evaluate`."""

from __future__ import annotations

import io
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

import torch
from PIL import Image
from torch import nn

from shared.class_names import Match, match
from shared.cli.signals import Interrupts, Stopped
from shared.errors import UsageError
from shared.metrics import Metrics
from shared.results import record as records
from shared.run import disk_errors
from shared.run.events import log_evaluation
from shared.run.example_predictions import FILE, MostConfident, write_examples
from shared.run.finite import check_evaluation
from shared.run.folder import open_folder, run_folder
from shared.run.log import RunLog, now, open_log
from torch_imagenet import description
from torch_imagenet.devices import out_of_memory
from torch_imagenet.devices.device import Device
from torch_imagenet.devices.precision import precision, to_half
from torch_imagenet.distributed.data_parallel import broadcast
from torch_imagenet.distributed.process_group import Ranks
from torch_imagenet.input_pipeline.bad_images import BadImages
from torch_imagenet.input_pipeline.dataset import Data, load_data
from torch_imagenet.input_pipeline.inputs import evaluation_input
from torch_imagenet.input_pipeline.loader import Batch, EvaluationInput
from torch_imagenet.log_lines import evaluation_lines
from torch_imagenet.options import RunConfig
from torch_imagenet.recipe import evaluated_recipe, network_spec
from torch_imagenet.run_setup import RunSetup
from torch_imagenet.step import not_finite
from torch_imagenet.weights.source import FoundWeights, found_weights

Forward = Callable[[torch.Tensor], torch.Tensor]

_OTHER_CLASSES = "check --data-path and the names of the classes, or give it a new head with the mode finetune"
_PICTURE = 128  # pixels that an example image is wide and high at most


def count_images(
    setup: RunSetup,
    forward: Forward,
    network: nn.Module,
    batches: Iterable[Batch],
    interrupts: Interrupts,
    bad: BadImages,
    most_confident: MostConfident,
    metrics: Metrics,
) -> Optional[str]:
    """Count all images of this process by `forward`, the `network` in evaluation mode, in `metrics`.

    Returns the first layer whose output is not finite, None where every logit is. Raises Stopped between two batches,
    RunEnded where memory runs out.
    """
    layer, normalise, device = None, setup.normalisation(), setup.device

    def logits(images: torch.Tensor, by: Forward = forward) -> torch.Tensor:
        with device.autocast(setup.precision):
            return by(normalise(images.to(device.torch_device, non_blocking=True))).float().cpu()

    with torch.inference_mode():
        for batch in batches:
            interrupts.raise_if_requested()
            bad.note(batch.bad)
            labels = batch.labels.numpy()
            predicted = metrics.update(out_of_memory.limited(logits, batch.images, device).numpy(), labels)
            most_confident.update(batch.indices, labels, predicted)
            if metrics.non_finite and layer is None:
                layer = not_finite.layer_of(network, partial(logits, batch.images, network))
    return layer


def count_together(
    setup: RunSetup,
    batches: EvaluationInput,
    ranks: Ranks,
    interrupts: Interrupts,
    bad: BadImages,
    most_confident: MostConfident,
    forward: Forward,
    network: nn.Module,
    classes: Optional[int] = None,
    training: bool = True,
) -> Metrics:
    """The metrics over all processes, each of which counts its share: every image once, exactly.

    `bad` gets the bad images of all processes, `most_confident` this process's. Raises Stopped, in all processes, where
    one of them has received a signal, UsageError where the images give no result; see `check_evaluation`.
    """
    assert setup.data is not None
    own = Metrics(classes or setup.spec.num_classes)
    metrics: Optional[Metrics] = own
    layer, stopped = None, Stopped(signal.SIGTERM)
    try:
        layer = count_images(setup, forward, network, batches, interrupts, bad, most_confident, own)
    except Stopped as error:
        metrics, stopped = None, error
    merged, (skipped, layers) = ranks.merged(metrics, [bad.to_state(), [layer] if layer else []])
    if merged is None:
        raise stopped
    bad.note(skipped)
    check_evaluation(merged, setup.data.content.path, layers[0] if layers else None, training)
    return merged


def write_pictures(
    log: RunLog, folder: Path, most_confident: MostConfident, data: Data, images: EvaluationInput
) -> None:
    """examples.json, of the validation images; a line in the log where it cannot be written."""

    def picture(index: int) -> Tuple[str, bytes]:
        file, image = io.BytesIO(), Image.fromarray(images.image(index))
        image.thumbnail((_PICTURE, _PICTURE))
        image.save(file, "JPEG", quality=85)
        return "image/jpeg", file.getvalue()

    write = partial(write_examples, folder, most_confident, data.content.classes, picture)
    disk_errors.optional(write, folder / FILE, log)


def evaluate(config: RunConfig, device: Device, ranks: Ranks, interrupts: Interrupts) -> None:
    """The mode `evaluate`: one checkpoint on the validation images. Rank 0 writes result.json."""
    started, begin = now(), time.time()

    # -- What is evaluated -------------------------------------------------------------------------------------
    weights = ranks.from_first(lambda: found_weights(config))
    setup, data, classes = _setup(config, device, weights)
    labelled = data.labelled(classes)
    ranks.same("data set", data.content.fingerprint)
    network, matched = _network(setup, weights, ranks)
    forward = _restricted(torch.compile(network) if config.compile else network, classes, device)

    # -- Folder and log ----------------------------------------------------------------------------------------
    folder, moved = ranks.from_first(lambda: _folder(config))
    with open_log(folder, 0, config.log_file, silent=not ranks.is_first) as log, ranks.listening(log.line):
        notes = [f"note: {note}" for note in classes.notes]
        for line in [data.remark, *data.content.remarks, *moved, *weights.notes, f"weights: {weights.path}", *matched]:
            log.line(line)
        for line in [*notes, *description.device_lines(setup), description.network_line(setup, network)]:
            log.line(line)
        if ranks.is_first:
            description.write_config(setup, folder)

        # -- Count ---------------------------------------------------------------------------------------------
        bad, most_confident = BadImages(log), MostConfident()
        with evaluation_input(setup, labelled, ranks) as images:
            count = partial(count_together, setup, images, ranks, interrupts, bad, most_confident)
            metrics = count(forward, network, len(classes.names), training=False)
            if ranks.is_first:
                write_pictures(log, folder, most_confident, labelled, images)
        if not ranks.is_first:
            return
        for line in evaluation_lines(metrics):
            log.line(line)
        log_evaluation(log, weights.step, metrics)

        # -- Record --------------------------------------------------------------------------------------------
        counted = records.evaluation_part(metrics, str(weights.path), bad.count)
        result = records.build_record(
            half="torch_imagenet",
            mode="evaluate",
            batch_size=setup.eval_batch_size,
            evaluation={**counted, **records.evaluated_classes(classes, data.content.classes)},
            started=started,
            seconds=time.time() - begin,
            **description.for_record(setup, network),
        )
        records.finish(log, folder, result, metrics)


def check(config: RunConfig, device: Device) -> None:
    """Raise UsageError for what every process of an evaluation would find wrong; nothing is changed."""
    _setup(config, device, found_weights(config))


def _setup(config: RunConfig, device: Device, weights: FoundWeights) -> Tuple[RunSetup, Data, Match]:
    """What runs, on which images, and which outputs of the network are their classes.

    The recipe is that of the weights' training. Raises UsageError where images and weights do not fit.
    """
    state = weights.state
    data = load_data(config, state, need_train=False)
    recipe = evaluated_recipe(config, state, data)
    outputs = weights.classes or data.classes  # weights without a head do not fit, which `load_weights` says
    classes = match(outputs, data.classes, _OTHER_CLASSES)
    spec = network_spec(config, recipe, state, len(outputs.names), "network")
    level = precision(_precision(config, recipe.precision, state, device))
    return RunSetup(config, device, recipe, spec, level, data), data, classes.for_evaluation(config.restrict_classes)


def _network(setup: RunSetup, weights: FoundWeights, ranks: Ranks) -> Tuple[nn.Module, List[str]]:
    """The network with its weights, on the device, and what the log says about how they matched."""
    network = setup.spec.make()
    matched = weights.load(network) if ranks.is_first else []
    setup.device.place(network, setup.memory_format)
    broadcast(network.state_dict().values(), ranks)
    if setup.precision.weights != torch.float32:
        to_half(network, setup.precision.weights)
    return network.eval(), matched


def _restricted(network: Forward, classes: Match, device: Device) -> Forward:
    """The network with those of its outputs alone that `classes` keeps."""
    if classes.columns is None:
        return network
    columns = torch.tensor(classes.columns, device=device.torch_device)
    return lambda images: network(images)[:, columns]


def _folder(config: RunConfig) -> Tuple[Path, List[str]]:
    """The folder of the evaluation, and a line where the files of an earlier one were moved."""
    folder = run_folder(config.output_dir, "evaluate")
    if (folder / "checkpoints").exists():
        raise UsageError(f"{folder} holds a training run; choose another folder for the evaluation with --output-dir")
    return open_folder("torch_imagenet", "evaluate", "evaluate", str(folder), None)


def _precision(config: RunConfig, recipe_precision: str, state: Optional[Dict[str, Any]], device: Device) -> str:
    """What was asked for; else the training's where that was on the same kind of device; else float32."""
    if config.precision is not None:
        return config.precision
    trained_here = state is not None and state["device"]["kind"] == device.kind
    return recipe_precision if trained_here else "O0"
