"""Twenty training steps of the program's own from given weights: two images of 40 pixels, ten classes, in float64.

Loss, smoothing, auxiliary head, momentum and weight decay are the recipe's; PNASNet is the published one, with zero
padding. Nothing is drawn (no dropout, no drop path), since another machine's generators draw other numbers. From
weights that were not trained these networks are chaotic in float32: a relative change of 1e-7 becomes 4e-3 in
SE-ResNet-50's losses within twenty steps, 0.2 in SENet154's. In float64, at rates that are small enough, what another
processor rounds otherwise stays far below `TOLERANCE`: a relative change of 1e-14 does.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Dict, List

import numpy as np
import torch

from shared import recipes
from tests.torch_imagenet.networks.references import drawn
from torch_imagenet.devices.device import open_device
from torch_imagenet.devices.precision import Precision
from torch_imagenet.distributed.process_group import ALONE
from torch_imagenet.input_pipeline.loader import Batch
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.options import RunConfig
from torch_imagenet.run.setup import RunSetup
from torch_imagenet.step.to_device import Normalisation
from torch_imagenet.step.training_step import TrainingStep

FILE = Path(__file__).with_name("twenty_steps.json")
# At 5e-6 a relative change of 1e-14 in the weights of SENet154 becomes 0.3 in its losses within twenty steps.
RATES: Dict[str, float] = {"se_resnet50": 1e-4, "senet154": 3e-8, "pnasnet5large": 3e-8}
CLASSES, BATCH, SIDE, STEPS = 10, 2, 40, 20
TOLERANCE = 1e-6


class Setup(RunSetup):
    """With a mean and a deviation of its own."""

    def normalisation(self) -> Normalisation:
        """In float64."""
        return Normalisation((0.5,) * 3, (0.25,) * 3, self.device.torch_device, torch.float64, True)


def losses(name: str, rate: float, steps: int = STEPS) -> List[float]:
    """The mean loss of each step, before its update."""
    recipe = recipes.get(f"{name}_1p").override(precision="O0", loss_scale=None, zero_pad=True)
    with torch.device("meta"):
        spec = dataclasses.replace(NetworkSpec.from_recipe(recipe, CLASSES), dropout=0.0, drop_path=0.0)
        network = spec.make()
    device = open_device("cpu")
    config = RunConfig.from_argv(["--memory-format", "contiguous"])
    level = Precision("float64", weights=torch.float64)
    step = TrainingStep(drawn(network), Setup(config, device, ALONE, recipe, spec, level, None))
    random = np.random.RandomState(0)
    pixels = torch.from_numpy(random.randint(0, 256, (BATCH, SIDE, SIDE, 3)).astype(np.uint8))
    batch = Batch(pixels, torch.arange(BATCH) % CLASSES, ())
    return [float(step.run([batch], rate, 0, number)[0]) for number in range(steps)]


def renew() -> None:
    """Write the file."""
    found = {name: losses(name, rate) for name, rate in RATES.items()}
    FILE.write_text(json.dumps(found, indent=1) + "\n")
