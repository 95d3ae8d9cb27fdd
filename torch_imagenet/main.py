"""ImageNet classifiers: `python torch_imagenet/main.py [MODE] [options]`. Parses, picks a mode, calls it.

Modes: train (default), evaluate, finetune, benchmark, profile, check-data, summary. `--help` lists the options;
README.md has examples.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any, Optional, Sequence

if not __package__:
    # Run as a script from a bare checkout: the packages are found from the checkout's root, and this folder must not
    # be on the path, where its profiling.py and benchmark.py could stand before others.
    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry or ".").resolve() != here)]

from shared.cli.entry_point import run
from shared.cli.signals import Interrupts
from shared.errors import UsageError
from torch_imagenet.options import parser


def _torch(options: Any) -> None:
    """Import torch. Raises UsageError where it, numpy's companion Pillow, or a new enough torch is missing."""
    if options.distributed or options.num_devices:
        # Every process's account of a broken connection; its reason is said in one line. Read when torch loads.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    # Threads that wait for each other sleep: by default they spin, and on a machine that is shared, with the processes
    # that decode images for instance, they take the processor from whom they are waiting for. Read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import PIL  # noqa: F401
        import torch
    except ImportError as error:
        raise UsageError(
            f"{sys.executable} has no {error.name} ({error}); python -m pip install -r requirements/torch.txt"
        ) from error
    release = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if release < (2, 6):
        raise UsageError(f"torch {torch.__version__} is too old; this half needs 2.6 or newer")


# Where each mode's function is, and whose `check` looks at its options before several processes start; None: it has
# one device.
MODES = {
    "train": ("training", "train", "training_setup"),
    "evaluate": ("evaluation", "evaluate", "evaluation"),
    "finetune": ("training", "train", "training_setup"),
    "benchmark": ("benchmark", "benchmark", "benchmark"),
    "profile": ("profiling", "profile", None),
    "check-data": ("check_data", "check_data", None),
    "summary": ("summary", "summary", None),
}


def _run(options: Any, interrupts: Interrupts) -> None:
    module, function, checking = MODES[options.mode]
    if options.mode == "check-data":
        from torch_imagenet.check_data import check_data

        check_data(options, interrupts)
        return
    _torch(options)
    mode = getattr(importlib.import_module(f"torch_imagenet.{module}"), function)
    if options.mode == "summary":
        mode(options)
        return
    from torch_imagenet.distributed import run as ranked

    check = importlib.import_module(f"torch_imagenet.{checking}").check if checking else None
    ranked.run(mode, check, options, options.words, interrupts)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """The exit status; see `shared.cli.entry_point`."""
    return run(lambda: _options(argv), dict.fromkeys(MODES, _run))


def _options(argv: Optional[Sequence[str]]) -> Any:
    options = parser(tuple(MODES)).parse_args(argv)
    options.words = list(sys.argv[1:] if argv is None else argv)  # to start other processes with
    options.mode = options.mode_flag or options.mode  # the originals' --evaluate and --profile
    return options


if __name__ == "__main__":
    sys.exit(main())
