"""torch_imagenet/main.py with a small network in the place of the real one, for processes of their own.

    python tests/torch_imagenet/distributed/driver.py train --num-devices 2 ...
    python -m torch.distributed.run --nproc_per_node 2 tests/torch_imagenet/distributed/driver.py train ...

RANKS_DRIVER_PLAIN=1: without batch normalisation, which is each device's own, so that two ranks compute what one does.
RANKS_DRIVER_LIMIT=4: the first rank runs out of memory in the backward pass of a larger batch.
RANKS_DRIVER_OVERFLOW=2: in the backward pass of this step a float16 number overflows on the last rank; at its end each
rank leaves its weights and loss scale in rank-R.pth.
RANKS_DRIVER_SIZES=1,7: the mode evaluate is run at each of these batch sizes, into the folders size-1, size-7.
RANKS_DRIVER_FAULTS=1: the mode check-port is run with each fault of `rank_faults`, into folders of their names.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import torch
from torch import nn

from tests.torch_imagenet.port_check import rank_faults
from tests.torch_imagenet.small_network import create_small
from torch_imagenet import check_port, evaluation
from torch_imagenet.main import main
from torch_imagenet.networks import spec
from torch_imagenet.step import training_step

# A rank is forked from a launcher that has already put others in their places.
_EVALUATE, _CHECK_PORT, _RUN = evaluation.evaluate, check_port.check_port, training_step.TrainingStep.run


class Limited(torch.autograd.Function):
    """Nothing, but that its backward pass has memory for so many images alone."""

    @staticmethod
    def forward(context, features):
        return features.view_as(features)

    @staticmethod
    def backward(context, gradient):
        if len(gradient) > int(os.environ["RANKS_DRIVER_LIMIT"]) and os.environ["RANK"] == "0":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return gradient


def _overflow(gradient):
    torch.full_like(gradient, 6e4, dtype=torch.float16).mul_(2)


def with_an_overflow(run):
    """`TrainingStep.run`, one of which overflows on one rank, which leaves no trace in its gradients."""
    steps = []

    def overflowing(step, *arguments):
        steps.append(1)
        hook = None
        last = int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1
        if last and len(steps) == int(os.environ["RANKS_DRIVER_OVERFLOW"]):
            parameter = next(step.network.parameters())
            hook = parameter.register_hook(_overflow)
        result = run(step, *arguments)
        if hook is not None:
            hook.remove()
        state = {"network": step.weights.state_dict(), "scale": step.loss_scale.state_dict()}
        torch.save(state, Path(sys.argv[sys.argv.index("--output-dir") + 1]).parent / f"rank-{os.environ['RANK']}.pth")
        return result

    return overflowing


def create(name, num_classes, dropout, drop_path, **options):
    """`create_small`, or the same without batch normalisation."""
    network = create_small(name, num_classes, dropout, drop_path, **options)
    if os.environ.get("RANKS_DRIVER_PLAIN"):
        network.stem[1] = nn.Identity()
        network.layer1[1] = nn.Identity()
    if os.environ.get("RANKS_DRIVER_LIMIT"):
        network.stem.register_forward_hook(lambda module, images, features: Limited.apply(features))
    return network


def at_each_size(evaluate, sizes):
    """The mode evaluate, several times in one process."""

    def run(config, *others):
        for size in sizes:
            folder = str(Path(config.output_dir) / f"size-{size}")
            evaluate(dataclasses.replace(config, eval_batch_size=int(size), output_dir=folder), *others)

    return run


def run() -> int:
    """The command line in sys.argv, with what the environment asks for; its exit status."""
    spec.create = create
    if os.environ.get("RANKS_DRIVER_SIZES"):
        evaluation.evaluate = at_each_size(_EVALUATE, os.environ["RANKS_DRIVER_SIZES"].split(","))
    if os.environ.get("RANKS_DRIVER_FAULTS"):
        check_port.check_port = rank_faults.with_each(_CHECK_PORT)
    if os.environ.get("RANKS_DRIVER_OVERFLOW"):
        training_step.TrainingStep.run = with_an_overflow(_RUN)
    return main()


if __name__ == "__main__":
    sys.exit(run())
