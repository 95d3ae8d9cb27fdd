"""SE-ResNet on CIFAR-10: `python tf_seresnet/main.py [MODE] [options]`. Parses, picks a mode, calls it.

Modes: train (default), evaluate, check-data, summary. `--help` lists the options; README.md has examples.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Optional, Sequence

if not __package__:
    # Run as a script from a bare checkout: the packages are found from the checkout's root, and this folder must not
    # be on the path, where its keras.py would stand before Keras itself.
    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry or ".").resolve() != here)]

from shared import recipes
from shared.cli.arguments import Parser, common_parser, number, one_of
from shared.cli.entry_point import Mode, run
from shared.cli.signals import Interrupts
from tf_seresnet import devices, modelarts
from tf_seresnet.network import LAYERS_PER_N


def parser() -> Parser:
    """The command line of this half."""
    made = common_parser(
        "tf_seresnet/main.py",
        "SE-ResNet on CIFAR-10",
        tuple(MODES),
        ("se_resnet110",),
        recipes.names("tf_seresnet"),
        devices.TENSORFLOW_PACKAGES,
    )
    add = made.add_argument_group("CIFAR-10 half").add_argument
    add("--depth", type=number(int, 8, 2001), metavar="N", help="another depth: 9n+2 (port), 6n+2 (paper)")
    add("--variant", type=one_of(*LAYERS_PER_N), help="port (the original's network, default) or paper")
    add("--layers", type=one_of("core", "slim"), help="core (default) or slim (tf-slim and tflearn, up to 2.12)")
    add("--steps-per-epoch", "--iteration", type=number(int, 1), metavar="N", help="shorten every epoch")
    add("--eval-batch-size", type=number(int, 1), metavar="N", help="images an evaluation step (default: 1000)")
    add("--test_iteration", type=number(int, 1), metavar="N", help="the same, as the number of batches")
    devices.add_options(made.add_argument_group("device"))
    modelarts.add_options(made.add_argument_group("ModelArts"))
    return made


def _train(options: Any, interrupts: Interrupts) -> None:
    devices.load_tensorflow(options)
    from tf_seresnet.training import train

    _on_devices(train, options, interrupts)


def _evaluate(options: Any, interrupts: Interrupts) -> None:
    devices.load_tensorflow(options)
    from tf_seresnet.evaluation import evaluate

    _on_devices(evaluate, options, interrupts)


def _on_devices(mode: Mode, options: Any, interrupts: Interrupts) -> None:
    """The mode in this process, or in processes of its own where the devices want one each."""
    if devices.starts_ranks(options):
        modelarts.refuse_remote(options)
        devices.start_ranks(options, interrupts)
        return
    with devices.with_rank_named(), modelarts.staged(options):
        mode(options, interrupts)


def _check_data(options: Any, interrupts: Interrupts) -> None:
    from tf_seresnet.check_data import check_data

    modelarts.stage_data(options)
    check_data(options)


def _summary(options: Any, interrupts: Interrupts) -> None:
    from tf_seresnet.summary import summary

    summary(options)


MODES = {"train": _train, "evaluate": _evaluate, "check-data": _check_data, "summary": _summary}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """The exit status; see `shared.cli.entry_point`."""
    return run(lambda: parser().parse_args(argv), MODES)


if __name__ == "__main__":
    sys.exit(main())
