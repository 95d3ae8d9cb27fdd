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
from shared.recipes.imagenet import ImageNetRecipe
from shared.results import record as records
from shared.results.rows import beside_documented
from shared.results.tables import render
from shared.run import disk_errors, provenance
from shared.run.events import log_evaluation
from shared.run.examples import FILE, MostConfident, write_examples
from shared.run.finite import check_evaluation
from shared.run.folder import run_folder, set_aside
from shared.run.log import RunLog, now, open_log
from torch_imagenet import run_setup
from torch_imagenet.devices import out_of_memory
from torch_imagenet.devices.device import Device
from torch_imagenet.devices.precision import Precision, precision, to_half
from torch_imagenet.distributed.data_parallel import broadcast
from torch_imagenet.distributed.process_group import Ranks
from torch_imagenet.input_pipeline.bad_images import BadImages
from torch_imagenet.input_pipeline.loader import Batch, EvaluationInput
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.options import RunConfig, patience, workers
from torch_imagenet.step import not_finite
from torch_imagenet.step.normalisation import Normalisation
from torch_imagenet.weights.source import FoundWeights, found_weights

Forward = Callable[[torch.Tensor], torch.Tensor]

RULE = "-" * 40
_OTHER_CLASSES = "check --data-path and the names of the classes, or give it a new head with the mode finetune"
_PICTURE = 128  # pixels that an example image is wide and high at most


def count_images(
    forward: Forward,
    network: nn.Module,
    batches: Iterable[Batch],
    num_classes: int,
    device: Device,
    level: Precision,
    normalise: Normalisation,
    interrupts: Interrupts,
    bad: BadImages,
    most_confident: MostConfident,
) -> Tuple[Metrics, Optional[str]]:
    """Metrics over all images by `forward`, the `network` in evaluation mode; `most_confident` sees the same.

    Beside them the first layer whose output is not finite, None where every answer is. Raises Stopped between two
    batches, RunEnded where memory runs out.
    """
    metrics, layer = Metrics(num_classes), None

    def logits(images: torch.Tensor, by: Forward = forward) -> torch.Tensor:
        with device.autocast(level):
            return by(normalise(images.to(device.torch_device, non_blocking=True))).float().cpu()

    with torch.inference_mode():
        for batch in batches:
            interrupts.raise_if_requested()
            bad.note(batch.bad)
            labels = batch.labels.numpy()
            answered = metrics.update(out_of_memory.limited(logits, batch.images, device).numpy(), labels)
            most_confident.update(batch.indices, labels, answered)
            if metrics.non_finite and layer is None:
                layer = not_finite.layer_of(network, partial(logits, batch.images, network))
    return metrics, layer


def together(
    count: Callable[[], Tuple[Metrics, Optional[str]]], bad: BadImages, ranks: Ranks, data: str, training: bool
) -> Metrics:
    """What all processes `count`, each its share, added up: every image once, exactly; `bad` has the bad ones of all.

    Raises Stopped, in all processes, where one of them was asked to stop, UsageError where the images of `data` have
    given no result; see `check_evaluation`.
    """
    metrics, layer, stopped = None, None, Stopped(signal.SIGTERM)
    try:
        metrics, layer = count()
    except Stopped as asked:
        stopped = asked
    whole, (skipped, layers) = ranks.merged(metrics, [bad.to_state(), [layer] if layer else []])
    if whole is None:
        raise stopped
    bad.note(skipped)
    check_evaluation(whole, data, layers[0] if layers else None, training)
    return whole


def write_pictures(
    log: RunLog, folder: Path, most_confident: MostConfident, data: run_setup.Data, validation: EvaluationInput
) -> None:
    """examples.json, of the validation images; a line in the log where it cannot be written."""

    def picture(index: int) -> Tuple[str, bytes]:
        file, image = io.BytesIO(), Image.fromarray(validation.image(index))
        image.thumbnail((_PICTURE, _PICTURE))
        image.save(file, "JPEG", quality=85)
        return "image/jpeg", file.getvalue()

    write = partial(write_examples, folder, most_confident, data.content.classes, picture)
    disk_errors.optional(write, folder / FILE, log)


def documented_lines(metrics: Metrics, epoch: Optional[int] = None) -> List[str]:
    """SENet154's validation lines; without an epoch those of a pure evaluation."""
    head = "" if epoch is None else f"Validation Epoch #{epoch}:\t"
    return [RULE, f"{head}Avg. Acc@1: {metrics.top1:.3f}\tAvg. Acc@5: {metrics.top5:.3f}", RULE]


def evaluate(config: RunConfig, device: Device, ranks: Ranks, interrupts: Interrupts) -> None:
    """The mode `evaluate`: one checkpoint on the validation images. The first process writes result.json."""
    started, begin = now(), time.time()

    # -- What is evaluated -------------------------------------------------------------------------------------
    weights = ranks.from_first(lambda: found_weights(config))
    data, recipe, spec, found = _subject(config, weights)
    labelled = data.labelled(found)
    ranks.same("data set", data.content.fingerprint)
    level = precision(_precision(config, recipe.precision, weights.state, device))
    batch_size = config.eval_batch_size or config.batch_size or recipe.batch_size

    # -- Network -----------------------------------------------------------------------------------------------
    network = spec.make()
    matched = weights.load(network) if ranks.is_first else []
    memory_format = device.memory_format(spec.name, config.memory_format)
    device.place(network, memory_format)
    broadcast(network.state_dict().values(), ranks)
    if level.weights != torch.float32:
        to_half(network, level.weights)
    network.eval()
    forward = _answering(torch.compile(network) if config.compile else network, found, device)

    # -- Folder and log ----------------------------------------------------------------------------------------
    folder, aside = ranks.from_first(lambda: _folder(config))
    with open_log(folder, 0, config.log_file, silent=not ranks.is_first) as log, ranks.listening(log.line):
        moved = [f"note: the run that was in {folder} is now in {aside}"] if aside else []
        for line in [
            data.remark,
            *data.content.remarks,
            *moved,
            *weights.notes,
            f"weights: {weights.path}",
            *matched,
            *[f"note: {note}" for note in found.notes],
            *run_setup.device_lines(device, level),
            run_setup.network_line(spec, network),
        ]:
            log.line(line)
        if ranks.is_first:
            run_setup.write_config(folder, config, recipe, spec, device, data)

        # -- Count ---------------------------------------------------------------------------------------------
        bad, most_confident = BadImages(log), MostConfident()
        with EvaluationInput(
            labelled.content.val,
            run_setup.eval_transform(config, recipe, spec),
            batch_size,
            workers(config),
            on_bad_image=config.on_bad_image,
            pin_memory=device.asynchronous,
            rank=ranks.rank,
            ranks=ranks.size,
            patience=patience(config, ranks.size),
        ) as batches:
            normalise = run_setup.normalisation(spec, device, level, memory_format)
            count = partial(
                count_images,
                forward,
                network,
                batches,
                len(found.names),
                device,
                level,
                normalise,
                interrupts,
                bad,
                most_confident,
            )
            metrics = together(count, bad, ranks, data.content.path, training=False)
            if ranks.is_first:
                write_pictures(log, folder, most_confident, labelled, batches)
        if not ranks.is_first:
            return
        for line in documented_lines(metrics):
            log.line(line)
        log_evaluation(log, weights.step, metrics)

        # -- Record --------------------------------------------------------------------------------------------
        result = records.build_record(
            half="torch_imagenet",
            mode="evaluate",
            network=spec.name,
            recipe=recipe.name,
            image_size=recipe.image_size,
            dataset=data.describe(),
            device=device.describe(),
            machine=provenance.machine(),
            precision=level.name,
            batch_size=batch_size,
            evaluation=dict(
                records.evaluation_part(metrics, str(weights.path), bad.count),
                **records.evaluated_classes(found, data.content.classes),
            ),
            parameters=run_setup.parameters(network),
            versions=run_setup.versions(),
            started=started,
            seconds=time.time() - begin,
        )
        finish(log, folder, result, metrics)


def check(config: RunConfig, device: Device) -> None:
    """Raise UsageError for what every process of an evaluation would find wrong; nothing is changed."""
    _subject(config, found_weights(config))


def _subject(config: RunConfig, weights: FoundWeights) -> Tuple[run_setup.Data, ImageNetRecipe, NetworkSpec, Match]:
    """The images, the recipe of the weights' training, the network, and which outputs the images' classes are.

    Raises UsageError where they do not fit.
    """
    state = weights.state
    data = run_setup.load_data(config, state, need_train=False)
    recipe = run_setup.evaluated_recipe(config, state, data)
    outputs = weights.classes or data.classes  # weights without a head do not fit, which `load_weights` says
    found = match(outputs, data.classes, _OTHER_CLASSES)
    spec = run_setup.network_spec(config, recipe, state, len(outputs.names), "network")
    return data, recipe, spec, found.for_evaluation(config.restrict_classes)


def _answering(network: Forward, found: Match, device: Device) -> Forward:
    """The network, of whose outputs those alone are answers that `found` leaves."""
    if found.columns is None:
        return network
    columns = torch.tensor(found.columns, device=device.torch_device)
    return lambda images: network(images)[:, columns]


def _folder(config: RunConfig) -> Tuple[Path, Optional[Path]]:
    """The folder of the evaluation, and where the files of an earlier one went that was in it."""
    folder = run_folder(config.output_dir, "evaluate")
    if (folder / "checkpoints").exists():
        raise UsageError(f"{folder} holds a training run; choose another folder for the evaluation with --output-dir")
    return folder, set_aside(folder, "torch_imagenet", "evaluate")


def finish(
    log: RunLog, folder: Path, result: Dict[str, Any], metrics: Metrics, advice: str = "choose another --output-dir"
) -> None:
    """Write the record, and a run's last lines: the counts, where the record is, the documented rows above its own.

    Raises UsageError with the `advice` where the record cannot be written.
    """
    records.write_record(folder / "result.json", result, advice)
    log.succeeded()
    trained, tested = result.get("bad_images", 0), result["evaluation"].get("skipped", 0)
    if trained or tested:
        log.line(f"bad images left out: {trained} in training, {tested} in the evaluation")
    log.line(records.evaluation_line(metrics, tested or 0))
    log.line(f"record: {folder / 'result.json'}")
    log.line("\n" + render(beside_documented(result)).rstrip())


def _precision(config: RunConfig, recipe_precision: str, state: Optional[Dict[str, Any]], device: Device) -> str:
    """What was asked for; else the training's where that was on the same kind of device; else float32."""
    if config.precision is not None:
        return config.precision
    trained_here = state is not None and state["device"]["kind"] == device.kind
    return recipe_precision if trained_here else "O0"
