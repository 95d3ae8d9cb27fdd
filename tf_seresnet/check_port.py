"""The mode `check-port`: whether a device computes the training step that float64 in NumPy computes, layer by layer.

One real step is taken on the device and recorded. The reference then computes every layer again from the operands that
the layer had on the device. What rounding does not explain is reported at the layer that did it.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np
import tensorflow as tf

from shared import rng
from shared.errors import UsageError
from shared.port_check import report
from shared.port_check.findings import verdict
from shared.port_check.losses import ROUNDED_RUNS, loss_checks
from shared.port_check.trace import Trace, check_writable, read_trace, write_trace
from shared.recipes.cifar10 import CifarRecipe
from shared.results import record as records
from shared.run.folder import open_folder
from shared.run.history import History
from shared.run.log import RunLog
from shared.system.signals import Interrupts, stop_at_once
from tf_seresnet.layers.initial_values import initial_value
from tf_seresnet.options import RECIPE_OPTIONS, RunConfig
from tf_seresnet.port_check import checks
from tf_seresnet.port_check.recorder import Batch, batch_tensors, describe, record_step
from tf_seresnet.port_check.trajectory import RandomRounding, Trajectory
from tf_seresnet.run import checkpoints, description
from tf_seresnet.run.setup import RunSetup
from tf_seresnet.step import variables
from tf_seresnet.step.spec import NetworkSpec, Normalisation

STEPS = 3  # of the loss curve, unless --max-steps says otherwise
BATCH_SIZE = 4
DESCRIBED = ("network", "recipe", "normalisation", "compute_dtype", "loss_scale", "learning_rate")  # in a trace
KERAS = "keras"  # the layer set that is no graph's


def check_port(config: RunConfig, interrupts: Interrupts) -> None:
    """Record a step, compare it, write port.json. Raises SystemExit(3) where it differs, UsageError without data."""
    history, steps = History(), config.max_steps or STEPS
    if config.save_trace:
        check_writable(config.save_trace)
    against = read_trace(config.against) if config.against else None
    setup, notes = _plain(_setup(config, against))
    folder, moved = open_folder("tf_seresnet", "check-port", "check-port", config.output_dir, None)
    with RunLog(folder) as log, interrupts.forwarded(stop_at_once):
        for line in [setup.data_remark, *moved, *notes, *_lines(setup)]:
            log.line(line)
        description.write_config(setup, folder)
        batch = _first_batch(setup) if against is None else _recorded_batch(against)
        trace = _record(setup, batch, against)
        if config.save_trace:
            write_trace(config.save_trace, trace)
            log.line(f"trace: {config.save_trace}")
        sides = [(_side(setup, trace), trace, _given_weights(setup, trace, against))]
        if against is not None:
            sides.append((f"the trace {config.against}", against, {}))

        def compared() -> Iterator[Tuple[str, Trace, report.Comparison]]:
            for side, recorded, weights in sides:
                yield side, recorded, compare_trace(setup.recipe, recorded, weights)

        agrees = report.write(folder, log, compared())
        parts = {"batch_size": setup.recipe.batch_size, "steps_completed": steps, **history.record()}
        record = description.build_record(setup, None, "", **parts)
        records.write_record(folder / "result.json", record)
        log.line(f"report: {folder / report.FILE}")
        log.succeeded()
    if not agrees:
        raise SystemExit(report.DIFFERS)


def _record(setup: RunSetup, batch: Batch, against: Optional[Trace]) -> Trace:
    """The trace of this machine's step: of the graph, or of the Keras model."""
    recipe, rate, steps = setup.recipe, setup.recipe.largest_rate, setup.config.max_steps or STEPS
    if setup.config.layers != KERAS:
        return record_step(setup, batch, rate, steps, lambda session: _initialise(session, setup, against))
    from tf_seresnet.port_check.keras_step import record_keras_step

    weights = against.named("before") if against is not None else _stored_weights(setup)
    return record_keras_step(batch_tensors(batch), weights, recipe, describe(setup, rate), steps)


def _side(setup: RunSetup, trace: Trace) -> str:
    name = f"{setup.device.kind} ({setup.device.name})"
    return name if setup.config.layers != KERAS else f"{trace.description['layers']} ({setup.device.name})"


def compare_trace(recipe: CifarRecipe, trace: Trace, weights: Mapping[str, np.ndarray]) -> report.Comparison:
    """Compare a trace with the step that begins with these weights."""
    with np.errstate(all="ignore"):  # a step that overflows on the side overflows here
        found = checks.weight_checks(weights, trace) + checks.step_checks(recipe, trace)
        exact = Trajectory(recipe, trace)
        rounding = partial(RandomRounding, trace.description["compute_dtype"], products=trace.float32_products)
        near = Trajectory(recipe, trace, rounding(seed=0))
        others = [Trajectory(recipe, trace, rounding(seed=seed)).losses for seed in range(1, ROUNDED_RUNS)]
    losses = [float(loss) for loss in trace.tensors["losses"]]
    found += loss_checks(losses, exact.losses, [near.losses, *others])
    by_depth = report.error_by_depth(trace, exact.values, near.values)
    by_depth = [row for row in by_depth if row.forward is not None or row.backward is not None]
    curves = {"side": losses, "reference": exact.losses, "rounded": near.losses}
    return report.Comparison(verdict(found), by_depth, curves)


def _setup(config: RunConfig, against: Optional[Trace]) -> RunSetup:
    """That of a training on a small batch; with a trace, of its recipe, network and normalisation."""
    if config.resume is not None:
        raise UsageError("check-port begins with given weights; name them with --checkpoint instead of --resume")
    if against is not None:
        _check_fits(config, against)
    small = dataclasses.replace(config, mode="train", batch_size=config.batch_size or BATCH_SIZE)
    keras = config.layers == KERAS
    small = dataclasses.replace(small, layers=None) if keras else small
    setup = dataclasses.replace(RunSetup.from_config(small), config=config)
    if keras and (setup.device.precision != "O0" or setup.device.loss_scale is not None):
        raise UsageError("the Keras model is compared in float32; give --precision O0, and no --loss-scale")
    if setup.device.count > 1:
        kind = setup.device.kind
        raise UsageError(
            f"check-port compares one device at a time in this half; give --device {kind}:0, then {kind}:1 and so on,"
            " and leave out --num-devices and --distributed"
        )
    if against is None:
        return setup
    described = against.description
    recipe = CifarRecipe.from_json(described["recipe"]).override(
        precision=setup.recipe.precision, loss_scale=setup.recipe.loss_scale, **_overrides(config)
    )
    network = NetworkSpec(layers=setup.network.layers, **described["network"]).checked()
    normalisation = Normalisation(**{name: tuple(values) for name, values in described["normalisation"].items()})
    return dataclasses.replace(setup, recipe=recipe, network=network, normalisation=normalisation)


def _plain(setup: RunSetup) -> Tuple[RunSetup, List[str]]:
    """The setup without what the reference does not compute, and a line that says so."""
    recipe = setup.recipe.plain()
    left_out = ", ".join(setup.recipe.differences(recipe))
    return dataclasses.replace(setup, recipe=recipe), [f"note: compared without {left_out}"] if left_out else []


def _check_fits(config: RunConfig, against: Trace) -> None:
    """Raise UsageError for a trace of the other half or without a part, and for options that contradict a trace."""
    half = against.description.get("half")
    if half != "tf_seresnet":
        raise UsageError(f"{config.against} is a trace of {half}; compare it there")
    tensors = ["images", "labels", "losses", *(f"crop/{name}" for name in rng.Crops._fields)]
    tensors += [call.key("output") for call in against.calls]
    missing = [name for name in DESCRIBED if name not in against.description]
    missing += [name for name in tensors if name not in against.tensors]
    if missing or not against.calls:
        raise UsageError(f"{config.against} has no {(missing or ['calls'])[0]}; write it again with --save-trace")
    for name in config.given(("depth", "variant", "batch_size", "checkpoint")):
        option = "--" + name.replace("_", "-")
        raise UsageError(f"the network, its weights and the batch are those of {config.against}; leave out {option}")


def _overrides(config: RunConfig) -> Dict[str, Any]:
    """The options that override a trace's recipe; precision and loss scale are this device's."""
    return config.given([name for name in RECIPE_OPTIONS if name not in ("precision", "loss_scale")])


def _initialise(session: Any, setup: RunSetup, against: Optional[Trace]) -> None:
    """Give every variable its value, as a training does or as the trace has it."""
    variables.initialise(session, setup.recipe.seed)
    if against is not None:
        variables.load_values(session, against.named("before"))
    elif setup.checkpoint is not None:
        outputs = None if setup.classes.in_place else setup.classes.outputs
        checkpoints.restore(session, setup.checkpoint, variables.model_variables(), outputs)


def _given_weights(setup: RunSetup, trace: Trace, against: Optional[Trace]) -> Dict[str, np.ndarray]:
    """The weights that the device should begin with, read without its help."""
    if against is not None:
        return against.named("before")
    shapes = {name: value.shape for name, value in trace.named("before").items()}
    if setup.checkpoint is None:
        return {name: initial_value(name, shape, setup.recipe.seed) for name, shape in shapes.items()}
    same = setup.classes.in_place  # otherwise the last dense layer has other outputs
    stored = {name: value for name, value in _stored_weights(setup).items() if name in shapes}
    return {name: value for name, value in stored.items() if same or value.shape == shapes[name]}


def _stored_weights(setup: RunSetup) -> Dict[str, np.ndarray]:
    """Every array of the given checkpoint by name."""
    if setup.checkpoint is None:
        return {}
    with checkpoints.reading(setup.checkpoint.prefix) as reader:
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def _first_batch(setup: RunSetup) -> Batch:
    """The first training batch."""
    data, recipe = setup.data, setup.recipe
    count = len(data.train_images)
    own = rng.epoch_order(recipe.seed, 0, count)[: recipe.batch_size]
    crops = rng.epoch_crops(recipe.seed, 0, count, recipe.crop_padding, recipe.flip)
    crops = rng.Crops(*(values[: recipe.batch_size] for values in crops))
    return Batch(data.train_images[own], data.train_labels[own].astype(np.int32), crops)


def _recorded_batch(trace: Trace) -> Batch:
    top, left, flip = (trace.tensors[f"crop/{name}"] for name in rng.Crops._fields)
    return Batch(trace.tensors["images"], trace.tensors["labels"].astype(np.int32), rng.Crops(top, left, flip > 0))


def _lines(setup: RunSetup) -> List[str]:
    recipe, device, network = setup.recipe, setup.device, setup.network
    lines = [f"weights: {setup.checkpoint.prefix}"] if setup.checkpoint and not setup.config.against else []
    if setup.config.against:
        lines.append(f"recipe, weights and batch: those of {setup.config.against}")
    return lines + [
        f"device: {device.kind}, {device.name}, precision {device.precision}, TensorFlow {tf.__version__}",
        f"network: se_resnet{network.depth}, variant {network.variant}, layers {setup.config.layers or network.layers},"
        f" batch {recipe.batch_size}, learning rate {recipe.largest_rate:g}",
    ]
