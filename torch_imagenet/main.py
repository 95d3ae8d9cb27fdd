"""ImageNet classifiers: `python torch_imagenet/main.py [MODE] [options]`. Parses, picks a mode, calls it."""

import os
import sys
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

if not __package__:
    # Run as a script from a bare checkout: the packages are found from the checkout's root, and this folder must not
    # be on the path, where its profiling.py and benchmark.py could stand before others.
    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry or ".").resolve() != here)]

from shared.cli.interpreter import INSTALL_TORCH, unfit

if unfit((3, 9), INSTALL_TORCH):
    sys.exit(2)

from shared.cli.entry_point import run
from shared.errors import UsageError
from shared.system.signals import Interrupts
from torch_imagenet.check_data import check_data
from torch_imagenet.options import RunConfig


def _on_devices(config: RunConfig, interrupts: Interrupts) -> None:
    _load_torch(config)
    from torch_imagenet import benchmark, evaluation, predict, profiling, training
    from torch_imagenet.distributed.run_on_devices import run_on_devices
    from torch_imagenet.run import setup

    modes: Dict[str, Any] = {
        "train": (training.train, setup.check),
        "finetune": (training.train, setup.check),
        "evaluate": (evaluation.evaluate, evaluation.prepare),
        "predict": (predict.predict, None),
        "benchmark": (benchmark.benchmark, benchmark.prepare),
        "profile": (profiling.profile, None),
    }
    mode, check = modes[config.mode]
    run_on_devices(mode, config, interrupts, check)


def _check_port(config: RunConfig, interrupts: Interrupts) -> None:
    _load_torch(config)
    from torch_imagenet.check_port import check_port, prepare
    from torch_imagenet.distributed.run_on_devices import run_on_devices

    run_on_devices(check_port, config, interrupts, prepare)


def _summary(config: RunConfig, interrupts: Interrupts) -> None:
    _load_torch(config)
    from torch_imagenet.summary import summary

    summary(config)


def _export(config: RunConfig, interrupts: Interrupts) -> None:
    _load_torch(config)
    from torch_imagenet.export import export

    export(config, interrupts)


MODES = {
    **dict.fromkeys(("train", "evaluate", "predict", "finetune", "benchmark", "profile"), _on_devices),
    "check-port": _check_port,
    "check-data": check_data,
    "summary": _summary,
    "export": _export,
}


def _load_torch(config: RunConfig) -> None:
    """Import torch. Raises UsageError where torch or Pillow is missing, or torch is too old."""
    if config.distributed or config.num_devices:
        # Without it every process logs its own account of a broken connection. Read when torch loads.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    # How often an OpenMP thread that waits looks again before it sleeps: through the pauses of a step, and not long
    # enough to keep a core from the processes that decode images. Read when torch loads.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        import PIL  # noqa: F401
        import torch
    except ImportError as error:
        raise UsageError(f"{sys.executable} has no {error.name} ({error}); {INSTALL_TORCH}") from error
    release = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if release < (2, 6):
        raise UsageError(f"torch {torch.__version__} is too old; this half needs 2.6 or newer")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """The exit status; see `shared.cli.entry_point`."""
    return run(lambda: RunConfig.from_argv(argv), MODES)


if __name__ == "__main__":
    sys.exit(main())
