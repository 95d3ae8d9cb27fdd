"""What a GPU must do beside being fast: no step waits for it, and it computes what the CPU computes. Needs torch.

A check has no rounds: it is done when it is set up, and its findings are what was wrong.
"""

from __future__ import annotations

import contextlib
from typing import Any, Iterator, List

import torch

from benchmarks.contender import Contender, Options
from torch_imagenet.benchmark import SyntheticStep
from torch_imagenet.devices.device import Device, open_device
from torch_imagenet.devices.precision import PRECISIONS
from torch_imagenet.distributed.process_group import ALONE
from torch_imagenet.options import RunConfig

TOLERANCE = 1e-3  # of the losses of float32 steps on two kinds of device, relative


def synchronisation(options: Options) -> Contender:
    """Every network at every precision, with averaged weights, clipped gradients and two batches a step."""
    device, findings = open_device(options["device"]), []
    more = ("--ema-decay=0.9", "--clip-norm=1", "--accumulate=2")
    for network in options["networks"]:
        for level in PRECISIONS if device.asynchronous else ("O0", "bf16"):
            step = _step(device, options, network, level, *more)
            for _ in range(2):
                step.train()
            device.synchronize()
            try:
                with _refused(device):
                    for _ in range(3):
                        step.train()
            except RuntimeError as error:
                findings.append(f"{network}, {level}: {str(error).splitlines()[0]}")
    return _done("no synchronisation in the step", device, findings)


def agreement(options: Options) -> Contender:
    """The losses of three steps from the same weights on the same images, without TF32."""
    findings: List[str] = []
    here = open_device(options["device"])
    torch.backends.cudnn.allow_tf32 = False
    for network in options["networks"]:
        both = []
        for name in (options["device"], "cpu"):
            step = _step(open_device(name), {**options, "device": name}, network, "O0", "--dropout=0")
            both.append([float(step.step.run([step.batch], 0.01, 0, at).tolist()[0]) for at in range(3)])
        if not torch.allclose(torch.tensor(both[0]), torch.tensor(both[1]), rtol=TOLERANCE, atol=0):
            findings.append(f"{network}: losses {both[0]} and on the CPU {both[1]}")
    return _done("the CPU's losses", here, findings)


def _step(device: Device, options: Options, network: str, level: str, *more: str) -> SyntheticStep:
    words = ["benchmark", f"--network={network}", f"--precision={level}", f"--device={options['device']}"]
    words += [f"--batch-size={options['batch']}", f"--image-size={options['size']}"]
    return SyntheticStep(RunConfig.from_argv([*words, *more]), device, ALONE)


@contextlib.contextmanager
def _refused(device: Device) -> Iterator[None]:
    """While entered, waiting for an NVIDIA device is an error; nothing on others."""
    module: Any = device.module
    if not hasattr(module, "set_sync_debug_mode"):
        yield
        return
    module.set_sync_debug_mode("error")
    try:
        yield
    finally:
        module.set_sync_debug_mode("default")


def _done(what: str, device: Device, findings: List[str]) -> Contender:
    return Contender(
        lambda attempt: 0, what, device=device.name if device.asynchronous else "", findings=tuple(findings)
    )
