"""Comparing a dump of msProbe with the reference: the mode `check-port` with --against and a dump."""

from __future__ import annotations

import copy
from typing import List, Tuple

import torch
from torch import nn

from shared.errors import UsageError
from shared.port_check import report
from shared.port_check.findings import verdict
from shared.port_check.report import Comparison
from shared.port_check.trace import Trace
from shared.results import record as records
from shared.run.history import History
from shared.system.signals import Interrupts, stop_at_once
from torch_imagenet.devices.device import Device
from torch_imagenet.devices.precision import precision
from torch_imagenet.distributed.process_group import ALONE
from torch_imagenet.networks.registry import NETWORKS
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.options import RunConfig
from torch_imagenet.port_check.checks import Problem, layer_checks, weight_checks
from torch_imagenet.port_check.msprobe_read import Dump, dump_weights, images_and_loss, read_dump, trace_of
from torch_imagenet.run import description
from torch_imagenet.run.recipe import choose_recipe
from torch_imagenet.run.setup import RunSetup
from torch_imagenet.weights import source


def check_dump(config: RunConfig, device: Device, interrupts: Interrupts) -> None:
    """Compare a dump of msProbe, which was made elsewhere; no step is taken here. Raises as `check_port` does."""
    history = History()
    setup, network, dump, lines = _dumped(config, device)
    with description.open_run(setup, lines) as (folder, log), interrupts.forwarded(stop_at_once):
        trace = trace_of(dump, copy.deepcopy(network).double().train())
        for line in dump.notes(trace, network):
            log.line(line)
        agrees = report.write(folder, log, [(f"the dump {config.against}", trace, compare_dump(network, trace))])
        records.write_record(folder / "result.json", description.build_record(setup, network, **history.record()))
        log.line(f"report: {folder / report.FILE}")
    if not agrees:
        raise SystemExit(report.DIFFERS)


def compare_dump(network: nn.Module, trace: Trace) -> Comparison:
    """Compare the step of `msprobe_read.trace_of` layer by layer: forward and backward, and the weights before it."""
    reference = copy.deepcopy(network).double().train()
    images, loss = images_and_loss(trace)
    problem = Problem(reference, images, images.abs(), loss)
    return Comparison(verdict([*weight_checks(reference, trace), *layer_checks(problem, trace)]), [], {})


def _dumped(config: RunConfig, device: Device) -> Tuple[RunSetup, nn.Module, Dump, List[str]]:
    """A dump, the network that it is of, with the weights of --checkpoint or else its own; log lines."""
    unused = config.given(
        ("data_path", "batch_size", "image_size", "num_classes", "max_steps", "save_trace", "msprobe")
    )
    if unused:
        option = "--" + next(iter(unused)).replace("_", "-")
        raise UsageError(f"the step is that of the dump {config.against}; leave {option} out")
    config, _, weights = source.origin(config)
    recipe = choose_recipe(config, device).override(dropout=0.0, drop_path=0.0)
    head, auxiliary = NETWORKS[recipe.network].head, NETWORKS[recipe.network].auxiliary_head
    with torch.device("meta"):
        whole = NetworkSpec.from_recipe(recipe.override(auxiliary_weight=0.4 if auxiliary else 0.0), 2).make()
    dump = read_dump(str(config.against), [name for name, _ in whole.named_modules()])
    present = auxiliary is not None and dump.shape(auxiliary) is not None
    shape = dump.shape(head)
    if shape is None:
        raise UsageError(f"{dump.file} has no output of {head}; it is not of {recipe.network}: give its --network")
    spec = NetworkSpec.from_recipe(recipe.override(auxiliary_weight=0.4 if present else 0.0), shape[-1])
    setup = RunSetup(config, device, ALONE, recipe, spec, precision(recipe.precision), None)
    network = spec.make()
    lines = [f"network: {spec.text()}", f"weights: those of {config.against}"]
    if weights is None:
        network.load_state_dict(dump_weights(dump, network), strict=False)  # a dump has no running statistics
    else:
        lines[1:] = weights.load(network)
    return setup, network, dump, lines
