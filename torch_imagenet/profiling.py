"""The mode `profile`: a Chrome trace of warmed-up training steps (`output.prof`) and the most expensive operators."""

from __future__ import annotations

import time
from typing import List

import torch

from shared.results import record as records
from shared.run.folder import open_folder
from shared.run.log import RunLog, now
from shared.system.atomic_files import write_atomic
from shared.system.signals import Interrupts
from torch_imagenet import description
from torch_imagenet.benchmark import SyntheticStep, write
from torch_imagenet.devices.device import Device
from torch_imagenet.distributed.process_group import Ranks
from torch_imagenet.options import RunConfig

TRACE = "output.prof"  # the documented name; chrome://tracing and Perfetto read it
STEPS = 1  # profiled ones, as in the originals, unless --max-steps says otherwise
OPERATORS = 10


def profile(config: RunConfig, device: Device, ranks: Ranks, interrupts: Interrupts) -> None:
    """Write trace and record, print the table. Raises UsageError where the device is not there, Stopped at a signal."""
    started, begin = now(), time.time()
    synthetic = SyntheticStep(config, device, ranks)
    folder, _ = open_folder("torch_imagenet", "profile", "profile", config.output_dir, None)
    with RunLog(folder, text_file=config.log_file) as log:
        for line in [*description.device_lines(synthetic.setup), synthetic.line()]:
            log.line(line)
        description.write_config(synthetic.setup, folder)
        for _ in range(device.warm_up_steps):
            interrupts.raise_if_requested()
            synthetic.train()
        device.synchronize()
        steps = config.max_steps or STEPS
        activities = [torch.profiler.ProfilerActivity.CPU, device.profiler_activity()]
        with torch.profiler.profile(activities=[one for one in activities if one is not None]) as profiler:
            for _ in range(steps):
                interrupts.raise_if_requested()
                synthetic.train()
            device.synchronize()
        synthetic.check_numbers()
        temporary = folder / f".{TRACE}"
        profiler.export_chrome_trace(str(temporary))
        write_atomic(folder / TRACE, temporary.read_bytes())
        temporary.unlink()
        for line in most_expensive(profiler, device, steps):
            log.line(line)
        log.line(f"trace: {folder / TRACE}; open it in https://ui.perfetto.dev or chrome://tracing")
        result = records.build_record(
            half="torch_imagenet",
            mode="profile",
            steps_completed=steps,
            started=started,
            seconds=time.time() - begin,
            **synthetic.describe(),
        )
        write(log, folder, result)


def most_expensive(profiler: torch.profiler.profile, device: Device, steps: int) -> List[str]:
    """The operators that took the most time of the device itself: milliseconds a step, share, calls a step."""
    attribute = "self_device_time_total" if device.asynchronous else "self_cpu_time_total"
    events = [(event, float(getattr(event, attribute))) for event in profiler.key_averages()]
    whole = sum(microseconds for _, microseconds in events) or 1.0
    rows = [f"{'operator':<52} {'ms/step':>9} {'share':>7} {'calls':>7}"]
    for event, microseconds in sorted(events, key=lambda pair: -pair[1])[:OPERATORS]:
        share = f"{100 * microseconds / whole:.1f}%"
        rows.append(f"{event.key[:52]:<52} {microseconds / 1000 / steps:>9.2f} {share:>7} {event.count / steps:>7.0f}")
    return rows
