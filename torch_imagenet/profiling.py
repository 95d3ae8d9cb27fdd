"""The mode `profile`: a Chrome trace of warmed-up training steps (`output.prof`) and the most expensive operators."""

from __future__ import annotations

from typing import List

import torch

from shared.system.atomic_files import complete
from shared.system.signals import Interrupts
from torch_imagenet.benchmark import SyntheticStep
from torch_imagenet.devices.device import Device
from torch_imagenet.distributed.process_group import Ranks
from torch_imagenet.options import RunConfig

TRACE = "output.prof"  # the documented name; chrome://tracing and Perfetto read it
STEPS = 1  # profiled ones, as in the originals, unless --max-steps says otherwise


def profile(config: RunConfig, device: Device, ranks: Ranks, interrupts: Interrupts) -> None:
    """Write trace and record, print the table. Raises UsageError where the device is not there, Stopped at a signal."""
    synthetic, steps = SyntheticStep(config, device, ranks), config.max_steps or STEPS

    def train(steps: int) -> None:
        for _ in range(steps):
            interrupts.raise_if_requested()
            synthetic.train()
        device.synchronize()

    with synthetic.open_run() as (folder, log):
        train(device.warm_up_steps)
        activities = [torch.profiler.ProfilerActivity.CPU, device.profiler_activity()]
        with torch.profiler.profile(activities=[one for one in activities if one is not None]) as profiler:
            train(steps)
        synthetic.check_numbers()
        with complete(folder / TRACE) as file:
            profiler.export_chrome_trace(str(file))
        for line in most_expensive(profiler, device, steps):
            log.line(line)
        log.line(f"trace: {folder / TRACE}; open it in https://ui.perfetto.dev or chrome://tracing")
        synthetic.write_record(folder, log, steps_completed=steps)


def most_expensive(profiler: torch.profiler.profile, device: Device, steps: int) -> List[str]:
    """The operators that took the most time of the device itself: milliseconds a step, share, calls a step."""
    attribute = "self_device_time_total" if device.asynchronous else "self_cpu_time_total"
    events = [(event, float(getattr(event, attribute))) for event in profiler.key_averages()]
    whole = sum(microseconds for _, microseconds in events) or 1.0
    rows = [f"{'operator':<52} {'ms/step':>9} {'share':>7} {'calls':>7}"]
    for event, microseconds in sorted(events, key=lambda pair: -pair[1])[:10]:
        share = f"{100 * microseconds / whole:.1f}%"
        rows.append(f"{event.key[:52]:<52} {microseconds / 1000 / steps:>9.2f} {share:>7} {event.count / steps:>7.0f}")
    return rows
