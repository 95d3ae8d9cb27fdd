"""Starts one process per device with torch's elastic launcher and explains how they ended.

For several machines the same command runs on each, with `--nnodes` and `--node-rank`. Under torchrun, Slurm or the
Kubernetes training operator the processes exist already (`torch_imagenet.distributed.environment`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Optional, Sequence

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous.api import RendezvousError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from shared.checkpoint.folder import holds_one, newest
from shared.errors import UsageError
from shared.run.folder import new_folder_name
from shared.system.processes import followed
from shared.system.signals import Interrupts, Stopped, stop_at_once
from torch_imagenet.devices.device import network_environment
from torch_imagenet.distributed.environment import JOB
from torch_imagenet.options import RunConfig

PORT = 29500  # torch's own default
# Each restart gets a new port, so that it does not meet the remains of a broken connection.
_OWN_PORTS = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


def launch(config: RunConfig, devices: int, interrupts: Interrupts) -> None:
    """Run this program with the same arguments in one process per device of this machine, and wait for their end.

    Raises UsageError, Stopped, or SystemExit with the status of the first process that failed and reported its error.
    """
    nodes = config.nnodes or 1
    config = replace(config, num_devices=devices, argv=(*config.argv, "--num-devices", str(devices)))
    in_place = config.resume is not None and holds_one(config.resume)  # else the run goes on from one file
    if config.mode in ("train", "finetune") and not in_place and config.output_dir is None:
        # A restarted process must find the folder of the first attempt.
        folder = str(new_folder_name(f"{config.network or config.recipe or 'run'}-{config.mode}"))
        config = replace(config, output_dir=folder, argv=(*config.argv, "--output-dir", folder))
    address = _own_address(config) if nodes > 1 else "127.0.0.1"
    network = network_environment(address, _interface(address)) if nodes > 1 else {}
    for name, value in {**_OWN_PORTS, **network}.items():
        os.environ.setdefault(name, value)
    os.environ[JOB] = uuid.uuid4().hex
    os.environ.update(followed())
    if "LOGLEVEL" not in os.environ:
        logging.disable()  # torch's launcher logs what is reported here in one line
    port, timeout = config.master_port or (PORT if nodes > 1 else 0), int(config.timeout)
    with tempfile.TemporaryDirectory(prefix="ranks-") as logs, interrupts.forwarded(stop_at_once):
        launcher = LaunchConfig(
            min_nodes=nodes,
            max_nodes=nodes,
            nproc_per_node=devices,
            rdzv_backend="c10d",
            rdzv_endpoint=f"{config.master_addr or address}:{port}",
            max_restarts=config.max_restarts,
            run_id=f"kit-{config.master_addr}-{port}" if nodes > 1 else os.environ[JOB],
            rdzv_configs={"is_host": not config.node_rank, "timeout": timeout, "join_timeout": timeout},
            monitor_interval=0.2,
            local_addr=address,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )
        try:
            elastic_launch(launcher, sys.executable)(os.path.abspath(sys.argv[0]), *config.argv)
        except SignalException as received:
            raise Stopped(int(received.sigval)) from None
        except ChildFailedError as failed:
            _explain(list(failed.failures.values()), config)
        except (RendezvousError, RuntimeError) as error:
            if not isinstance(error, RendezvousError) and "rendezvous" not in str(error).lower():
                raise
            raise UsageError(
                f"the {nodes} machines did not find each other at {launcher.rdzv_endpoint} within {config.timeout:g}"
                " seconds; start the command on each, with its --node-rank, and check address and port"
            ) from error


def _explain(failures: Sequence[ProcessFailure], config: RunConfig) -> None:
    """Raise the error of the first failure; the later ones are its consequences."""
    reported = [failure for failure in failures if Path(failure.error_file).is_file()]
    # torch's launcher ends the other processes with SIGTERM.
    killed = [failure for failure in failures if failure.exitcode < 0 and -failure.exitcode != signal.SIGTERM]
    ended = [failure for failure in failures if failure.exitcode > 0]
    first = min(reported or killed or ended or failures, key=lambda failure: failure.timestamp)
    if reported:  # a signal may have ended it after its report
        raise SystemExit(first.exitcode if first.exitcode > 0 else 2)
    if first.exitcode > 0:
        raise SystemExit(first.exitcode)
    rank = (config.node_rank or 0) * (config.num_devices or 0) + first.local_rank
    name, folder = signal.Signals(-first.exitcode).name, config.output_dir or config.resume
    resumable = folder is not None and newest(Path(folder)) is not None
    advice = f"go on with --resume {folder}" if resumable else "start it again"
    advice += "" if config.mode == "check-port" else ", or let --max-restarts N do so"
    raise UsageError(f"rank {rank} was ended by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}; {advice}")


# -- addresses -------------------------------------------------------------------------------------------------


def _own_address(config: RunConfig) -> str:
    """The address of this machine for the others: --local-addr, else that of the route to --master-addr."""
    if config.node_rank is None or config.master_addr is None:
        raise UsageError("several machines need --node-rank (0 on the first) and --master-addr (the first's); add them")
    if not config.node_rank < (config.nnodes or 1):
        raise UsageError(f"--node-rank {config.node_rank} of --nnodes {config.nnodes}; it counts from 0")
    if config.local_addr is not None:
        return config.local_addr
    try:
        found = socket.getaddrinfo(config.master_addr, config.master_port or PORT, type=socket.SOCK_DGRAM)[0]
        with socket.socket(found[0], socket.SOCK_DGRAM) as probe:
            probe.connect(found[4])  # sends nothing
            return str(probe.getsockname()[0])
    except OSError as error:
        raise UsageError(f"no way to --master-addr {config.master_addr} ({error}); check it") from error


def _interface(address: str) -> Optional[str]:
    """The network interface with this IPv4 address; None where it is unknown."""
    for _, name in socket.if_nameindex():
        with contextlib.suppress(ImportError, OSError):  # not on Linux; an interface without an address
            import fcntl

            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                request = name.encode()[:15].ljust(256, b"\0")
                reply = fcntl.ioctl(probe.fileno(), 0x8915, request)  # SIOCGIFADDR
            if socket.inet_ntoa(reply[20:24]) == address:
                return name
    return None
