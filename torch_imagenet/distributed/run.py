"""A mode in the process or processes that the options ask for: alone, as one of several, or starting these."""

from __future__ import annotations

import os
from typing import Any, Callable, Optional, Sequence

import torch

from shared.cli.signals import Interrupts, Stopped
from shared.errors import UsageError
from torch_imagenet.devices.device import Device, open_device, several
from torch_imagenet.devices.npu_options import NpuSettings
from torch_imagenet.distributed.affinity import apply
from torch_imagenet.distributed.environment import ProcessEnvironment, process_environment
from torch_imagenet.distributed.process_group import ALONE, Group, Ranks, lost_connection
from torch_imagenet.options import workers

Mode = Callable[[Any, Device, Ranks, Interrupts], None]
Check = Callable[[Any, Device], None]


def run(mode: Mode, check: Optional[Check], options: Any, words: Sequence[str], interrupts: Interrupts) -> None:
    """Run the mode. `words` are the command line, `check` what can be found wrong before several processes start.

    Raises what the mode raises. A mode without `check` runs on one device alone.
    """
    place = process_environment(options)
    wanted = options.distributed or (options.num_devices or 1) > 1 or (options.nnodes or 1) > 1
    if check is None and (wanted or (place is not None and place.size > 1)):
        raise UsageError(f"the mode {options.mode} looks at one device; leave --distributed and --num-devices out")
    if place is None and wanted:
        devices = several(options.device, options.num_devices, options.nnodes or 1, NpuSettings.from_options(options))
        if devices.count > 1:
            assert check is not None
            check(options, devices)
            try:
                from torch_imagenet.distributed.launch import launch
            except ImportError as error:  # on Python 3.9 it needs a package that torch does not bring
                raise UsageError(f"torch's launcher does not load ({error}); pip install {error.name}") from error
            except ValueError as error:  # torch reads this variable as it loads
                level = os.environ.get("LOGLEVEL")
                raise UsageError(f"torch's launcher does not load (LOGLEVEL={level}: {error}); unset it") from error
            options.num_devices = devices.count // (options.nnodes or 1)
            launch(options, [*words, "--num-devices", str(options.num_devices)], options.num_devices, interrupts)
            return
    if place is None or place.size == 1:
        if options.sync_bn:
            raise UsageError("--sync-bn is for several devices; add --distributed, or leave it out")
        device = open_device(options.device, options.deterministic, npu=NpuSettings.from_options(options))
        mode(options, device, ALONE, interrupts)
    else:
        _run_one_of_several(mode, options, place, interrupts)


def _run_one_of_several(mode: Mode, options: Any, place: ProcessEnvironment, interrupts: Interrupts) -> None:
    from torch.distributed.elastic.multiprocessing.errors import ErrorHandler

    interrupts.once()  # whoever started the processes may send its signal after the terminal's
    handler = ErrorHandler()
    handler.initialize()
    group: Optional[Group] = None
    try:
        npu = NpuSettings.from_options(options)
        device = open_device(options.device, options.deterministic, place.local_rank, place.size, npu)
        _settle(options, device, place)
        group = Group(place, device, options.timeout)
        mode(options, device, group, interrupts)
        group.leave()
    except UsageError as error:
        if group is not None and not group.report(str(error)):
            raise SystemExit(2) from error  # another process has told of it
        handler.record_exception(error)
        raise UsageError(f"rank {place.rank}: {error}") from error
    except Stopped:
        raise
    except Exception as error:
        if group is None or not lost_connection(error):
            handler.record_exception(error)
            raise
        if interrupts.requested is not None:  # the others were faster in ending
            raise Stopped(interrupts.requested) from error
        message = group.broken(error)
        if message is None or not group.report(message):
            raise SystemExit(2) from error
        handler.record_exception(error)
        raise UsageError(message) from error


def _settle(options: Any, device: Device, place: ProcessEnvironment) -> None:
    """Give this process its share of the machine's cores, to compute with and to decode images with."""
    placement = apply(
        place.local_rank, place.local_size, device.module if device.asynchronous else None, bind=options.affinity
    )
    options.workers = workers(options, placement.cpus)
    if not device.asynchronous and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(placement.threads)
    if placement.line is not None:
        device.notes.append(placement.line)
