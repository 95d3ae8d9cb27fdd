"""A mode in the process or processes that the options ask for: alone, as one of several, or starting these."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Callable, Optional

import torch

from shared.errors import UsageError
from shared.system.signals import Interrupts, Stopped
from torch_imagenet.devices.device import Device, open_device, several
from torch_imagenet.distributed.affinity import apply
from torch_imagenet.distributed.environment import ProcessEnvironment, process_environment
from torch_imagenet.distributed.process_group import ALONE, ProcessGroup, Ranks, lost_connection
from torch_imagenet.options import RunConfig, workers

Mode = Callable[[RunConfig, Device, Ranks, Interrupts], None]
Check = Callable[[RunConfig, Device], Any]


def run_on_devices(mode: Mode, config: RunConfig, interrupts: Interrupts, check: Optional[Check] = None) -> None:
    """Run the mode; `check` finds what is wrong before several processes start.

    Raises what the mode raises. A mode without `check` runs on one device alone.
    """
    process, nodes = process_environment(config), config.nnodes or 1
    requested = config.distributed or (config.num_devices or 1) > 1 or nodes > 1
    if check is None and (requested or (process is not None and process.size > 1)):
        raise UsageError(f"the mode {config.mode} looks at one device; leave --distributed and --num-devices out")
    if process is not None and process.size > 1:
        _run_one_of_several(mode, config, process, interrupts)
        return
    if process is None and requested:
        devices = several(config.device, config.num_devices, nodes, config.npu)
        if devices.count > 1:
            assert check is not None
            check(config, devices)
            try:
                from torch_imagenet.distributed.launch import launch
            except (ImportError, ValueError) as error:  # a package that torch does not bring; a wrong LOGLEVEL
                why = f"LOGLEVEL={os.environ.get('LOGLEVEL', 'not set')}: {error}"
                raise UsageError(
                    f"torch's launcher does not load ({why}); unset LOGLEVEL, or install the package"
                ) from error
            launch(config, devices.count // nodes, interrupts)
            return
    if config.sync_bn:
        raise UsageError("--sync-bn is for several devices; add --distributed, or leave it out")
    mode(config, open_device(config.device, config.deterministic, npu=config.npu, tf32=config.tf32), ALONE, interrupts)


def _run_one_of_several(mode: Mode, config: RunConfig, process: ProcessEnvironment, interrupts: Interrupts) -> None:
    from torch.distributed.elastic.multiprocessing.errors import ErrorHandler

    interrupts.once()  # whoever started the processes may send its signal after the terminal's
    handler = ErrorHandler()
    handler.initialize()
    group: Optional[ProcessGroup] = None
    try:
        device = open_device(
            config.device, config.deterministic, process.local_rank, process.size, config.npu, config.tf32
        )
        config = _with_share_of_cores(config, device, process)
        group = ProcessGroup(process, device, config.timeout)
        status = 0
        try:
            mode(config, device, group, interrupts)
        except SystemExit as ended:  # on every rank: none may end before rank 0 has written its files
            status = int(ended.code or 0)
        group.leave(status)
    except UsageError as error:
        if group is not None and not group.report(str(error)):
            raise SystemExit(2) from error  # another rank has reported its error
        handler.record_exception(error)
        raise UsageError(f"rank {process.rank}: {error}") from error
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


def _with_share_of_cores(config: RunConfig, device: Device, process: ProcessEnvironment) -> RunConfig:
    """Bind this process to its share of the machine's cores; the configuration with as many workers."""
    placement = apply(
        process.local_rank, process.local_size, device.module if device.asynchronous else None, bind=config.affinity
    )
    if not device.asynchronous and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(placement.threads)
    if placement.line is not None:
        device.notes.append(placement.line)
    return replace(config, workers=workers(config, placement.cpus))
