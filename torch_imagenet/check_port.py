"""The mode `check-port`: whether a device computes the training step that float64 on the CPU computes, layer by layer.

One real step is taken on the device and recorded. The reference then computes every layer again from the operands that
the layer had on the device. What rounding does not explain is reported at the layer that did it.
"""

from __future__ import annotations

import copy
from typing import Iterator

from shared.port_check import report
from shared.port_check.trace import check_writable, write_trace
from shared.results import record as records
from shared.run.history import History
from shared.system.signals import Interrupts, stop_at_once
from torch_imagenet.devices.device import Device
from torch_imagenet.distributed.process_group import ALONE, Ranks
from torch_imagenet.options import RunConfig
from torch_imagenet.port_check import grouped_forms, several
from torch_imagenet.port_check.msprobe import DumpRecorder, check_new, write_dump
from torch_imagenet.port_check.msprobe_check import check_dump
from torch_imagenet.port_check.msprobe_read import is_dump
from torch_imagenet.port_check.record_step import record_step
from torch_imagenet.port_check.reference import compare_trace
from torch_imagenet.port_check.setup import first_batch, origin, recorded_setup, text
from torch_imagenet.run import description
from torch_imagenet.run.setup import TrainingSetup
from torch_imagenet.weights import source

STEPS = 3  # of the loss curve, unless --max-steps says otherwise


def check_port(config: RunConfig, device: Device, ranks: Ranks, interrupts: Interrupts) -> None:
    """Record a step, compare it, write port.json. Raises SystemExit(3) where it differs, UsageError without data."""
    history = History()
    if ranks.size > 1:
        several.check(config)
    if config.against and is_dump(config.against):
        check_dump(config, device, interrupts)
        return
    if config.save_trace:
        check_writable(config.save_trace)
    if config.msprobe:
        check_new(config.msprobe)
    against = several.read(config.against, ranks) if config.against else None
    setup, network, lines = recorded_setup(config, device, ranks, against)
    ranks.require_equal("data set", setup.data.content.fingerprint)
    steps = config.max_steps or STEPS
    lines = [setup.data.remark, *lines, *description.device_lines(setup), text(setup)]
    with description.open_run(setup, lines) as (folder, log), interrupts.forwarded(stop_at_once):
        side = copy.deepcopy(network)
        dump = DumpRecorder(side) if config.msprobe else None
        trace = record_step(setup, side, first_batch(setup, against), steps, dump)
        if config.msprobe and dump is not None:
            log.line(f"msProbe's dump: {write_dump(config.msprobe, dump)}")
        if config.save_trace:
            write_trace(several.rank_file(config.save_trace, ranks), trace)
            files = sorted({several.rank_file(config.save_trace, ranks, rank) for rank in (0, ranks.size - 1)})
            log.line("trace: " + " to ".join(files))
        sides = {f"{device.kind} ({device.name}){', compiled,' if config.compile else ''}": trace}
        if against is not None:
            sides[several.side(str(config.against), against, ranks)] = against

        def compared() -> Iterator[several.Compared]:
            for side, recorded in sides.items():
                found = compare_trace(setup.recipe, network, recorded, ranks)
                yield side, recorded, found
                faulty = grouped_forms.at_fault(network, recorded, found.verdict)
                if faulty:
                    log.line(grouped_forms.line(setup, network, recorded, faulty, here=recorded is trace))

        found = several.of_all(ranks, compared())
        agrees = ranks.broadcast_result(lambda: report.write(folder, log, found))
        if ranks.size > 1 and not agrees:
            log.line(several.summary(found))
        if ranks.is_first:
            parts = {**description.of_steps(setup), "steps_completed": steps}
            record = description.build_record(setup, network, **parts, **history.record())
            records.write_record(folder / "result.json", record)
        log.line(f"report: {folder / report.FILE}")
    if not agrees:
        raise SystemExit(report.DIFFERS)


def prepare(config: RunConfig, device: Device) -> None:
    """Raise UsageError for what every one of several processes would find wrong."""
    several.check(config)
    if config.save_trace:
        check_writable(config.save_trace)
    if config.against is None:
        config, weights = origin(config, ALONE, None)
        setup = TrainingSetup.from_config(config, device, ALONE, None, weights)
        if weights is not None:
            source.head(weights, setup.data.classes, config)
