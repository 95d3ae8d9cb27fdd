"""Exact evaluation: every image once, at any batch size, and the mode `evaluate`."""

from __future__ import annotations

import io
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from PIL import Image
from torch import nn

from shared.class_names import Match, match
from shared.metrics import Metrics
from shared.results import record as records
from shared.run.divergence import check_evaluation
from shared.run.example_predictions import MostConfident, write_examples
from shared.run.folder import refuse_training
from shared.run.history import History
from shared.run.log import RunLog
from shared.system.signals import Interrupts, Stopped
from torch_imagenet.devices import out_of_memory
from torch_imagenet.devices.device import Device
from torch_imagenet.devices.precision import precision, to_half
from torch_imagenet.distributed.data_parallel import broadcast
from torch_imagenet.distributed.process_group import ALONE, Ranks
from torch_imagenet.input_pipeline.dataset import Data, load_data
from torch_imagenet.input_pipeline.loader import BadImages, EvaluationInput
from torch_imagenet.networks.grouped_conv import set_form
from torch_imagenet.options import RunConfig
from torch_imagenet.run import description, dry_run
from torch_imagenet.run.log_lines import log_lines
from torch_imagenet.run.recipe import evaluated_recipe, network_spec
from torch_imagenet.run.setup import RunSetup
from torch_imagenet.step import not_finite
from torch_imagenet.step.compiled import Compiled, padded
from torch_imagenet.weights.source import FoundWeights, found_weights

Forward = Callable[[torch.Tensor], torch.Tensor]


class Evaluator:
    """Counts validation images, each process its share. `bad` has the unreadable ones of all processes."""

    def __init__(self, setup: RunSetup, images: EvaluationInput, interrupts: Interrupts, log: RunLog) -> None:
        self._setup, self._images, self._interrupts, self._log = setup, images, interrupts, log
        self.bad = BadImages(log)
        self._most_confident = MostConfident()

    def count(self, forward: Forward, network: nn.Module) -> Metrics:
        """The metrics over all processes, every image once, by `forward`, the `network` in evaluation mode.

        Raises Stopped, in all processes, where one of them has received a signal, RunEnded where memory runs out,
        UsageError where the images give no result; see `check_evaluation`.
        """
        setup, device, normalise = self._setup, self._setup.device, self._setup.normalisation()
        assert setup.data is not None

        def logits(images: torch.Tensor, by: Forward = forward) -> torch.Tensor:
            with device.autocast(setup.precision):
                return by(normalise(images)).float().cpu()

        own, stopped, self._most_confident = Metrics(len(self._images.split.classes)), None, MostConfident()
        layers: List[str] = []  # the first whose output is not finite
        size = self._images.batch_size if setup.config.compile else None  # which a compiled network is compiled for
        try:
            with torch.inference_mode():
                for batch in self._images:
                    self._interrupts.raise_if_requested()
                    self.bad.note(batch.bad)
                    labels = batch.labels.numpy()
                    images = padded(batch.images, size)
                    outputs = out_of_memory.limited(logits, images, device)[: len(labels)]
                    predicted = own.update(outputs.numpy(), labels)
                    self._most_confident.update(batch.indices, labels, predicted)
                    if own.non_finite and not layers:
                        layer = not_finite.layer_of(network, partial(logits, batch.images, network))
                        layers += [layer] if layer else []
        except Stopped as error:
            stopped = error
        merged, (bad, layers) = setup.ranks.all_reduce(None if stopped else own, [sorted(self.bad.known), layers])
        if merged is None:
            raise stopped or Stopped(signal.SIGTERM)
        self.bad.note(bad)
        layer = layers[0] if layers else None
        check_evaluation(merged, setup.data.content.path, layer, training=setup.config.mode != "evaluate")
        return merged

    def write_examples(self, folder: Path) -> None:
        """examples.json, of this process's last count; a line in the log where it cannot be written."""

        def picture(index: int) -> Tuple[str, bytes]:
            file, image = io.BytesIO(), Image.fromarray(self._images.image(index))
            image.thumbnail((128, 128))  # pixels at most
            image.save(file, "JPEG", quality=85)
            return "image/jpeg", file.getvalue()

        write_examples(folder, self._log, self._most_confident, self._images.split.classes, picture)


def evaluate(config: RunConfig, device: Device, ranks: Ranks, interrupts: Interrupts) -> None:
    """The mode `evaluate`: one checkpoint on the validation images. Rank 0 writes result.json."""
    history = History()

    # -- What is evaluated -------------------------------------------------------------------------------------
    weights = ranks.broadcast_result(lambda: _weights(config))
    setup, classes = prepare(config, device, ranks, weights)
    data = setup.data
    assert data is not None
    ranks.require_equal("data set", data.content.fingerprint)
    network, matched = load_network(setup, weights)
    val = data.content.val  # under the numbers and names that the network's outputs have
    labelled = replace(val, classes=classes.names, labels=classes.labels(val.labels))
    logits: Forward = Compiled(network, config.compile, device) if config.compile else network
    columns = slice(None) if classes.columns is None else torch.tensor(classes.columns, device=device.torch_device)
    lines = [*data.lines, *weights.notes, weights.line, *matched]
    lines += [*(f"note: {note}" for note in classes.notes), *description.device_lines(setup)]
    lines.append(description.network_line(setup, network))

    if config.dry_run:
        dry_run.evaluation(setup, network, lines)
        return

    # -- Count -------------------------------------------------------------------------------------------------
    with description.open_run(setup, lines, weights=weights) as (folder, log):
        with EvaluationInput.from_setup(setup, labelled) as images:
            evaluator = Evaluator(setup, images, interrupts, log)
            metrics = evaluator.count(lambda batch: logits(batch)[:, columns], network)
            if ranks.is_first:
                evaluator.write_examples(folder)
        if not ranks.is_first:
            return
        form = log_lines(setup)
        log.lines(form.evaluation(metrics))
        log.evaluation(weights.step, metrics)

        # -- Record --------------------------------------------------------------------------------------------
        counted = records.evaluation_part(metrics, weights.name, len(evaluator.bad.known), weights.sha256)
        evaluation = {**counted, **records.evaluated_classes(classes, data.content.classes)}
        record = description.build_record(
            setup, network, batch_size=setup.eval_batch_size, evaluation=evaluation, **history.record()
        )
        records.finish(log, folder, record, metrics)
        log.lines(form.last())


def _weights(config: RunConfig) -> FoundWeights:
    """The weights to evaluate. Raises UsageError where there are none, or the evaluation would replace a training."""
    if config.output_dir is not None:
        refuse_training(Path(config.output_dir))
    return found_weights(config)


def prepare(
    config: RunConfig, device: Device, ranks: Ranks = ALONE, weights: Optional[FoundWeights] = None
) -> Tuple[RunSetup, Match]:
    """What runs, and which outputs are the images' classes. Raises UsageError if the weights do not fit the images."""
    weights = weights or _weights(config)
    config, state = weights.settle(config), weights.state
    data = load_data(config, state)
    outputs = weights.classes or data.classes  # weights without a head do not fit, which `load_weights` says
    advice = "check --data-path and the names of the classes, or give it a new head with the mode finetune"
    classes = match(outputs, data.classes, advice)
    setup = evaluated_setup(config, device, ranks, state, len(outputs.names), data)
    return setup, classes.for_evaluation(config.restrict_classes)


def evaluated_setup(
    config: RunConfig,
    device: Device,
    ranks: Ranks,
    state: Optional[Dict[str, Any]],
    outputs: int,
    data: Optional[Data] = None,
) -> RunSetup:
    """What runs, for weights of so many outputs by which `config` is settled; `state` is that of their checkpoint."""
    recipe = evaluated_recipe(config, state)
    spec = network_spec(config, recipe, state, outputs, "network")
    trained_here = state is not None and state["device"]["kind"] == device.kind
    level = precision(config.precision or (recipe.precision if trained_here else "O0"))
    return RunSetup(config, device, ranks, recipe, spec, level, data)


def load_network(setup: RunSetup, weights: FoundWeights) -> Tuple[nn.Module, List[str]]:
    """The network with these weights, on its device and in evaluation mode, on every rank; lines of what was loaded."""
    network = set_form(setup.spec.make(), setup.config.grouped_conv)
    matched = weights.load(network) if setup.ranks.is_first else []
    setup.device.place(network, setup.memory_format)
    broadcast(network.state_dict().values(), setup.ranks)
    if setup.precision.weights != torch.float32:
        to_half(network, setup.precision.weights)
    return network.eval(), matched
