"""The inputs of a run: training and validation images as its recipe, options and rank want them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Tuple

from shared.recipes.imagenet import ImageNetRecipe
from torch_imagenet.distributed.process_group import Ranks
from torch_imagenet.input_pipeline.dataset import Data
from torch_imagenet.input_pipeline.loader import EvaluationInput, TrainingInput
from torch_imagenet.input_pipeline.transforms import EvalTransform, TrainTransform
from torch_imagenet.networks.registry import NETWORKS
from torch_imagenet.options import patience, workers

if TYPE_CHECKING:
    from torch_imagenet.run_setup import RunSetup, TrainingSetup


def training_input(setup: TrainingSetup, ranks: Ranks) -> TrainingInput:
    """The training images: random crops, flips and, where the recipe has it, RandAugment."""
    recipe, config = setup.recipe, setup.config
    return TrainingInput(
        setup.data.train,
        train_transform(recipe),
        recipe.batch_size,
        recipe.seed,
        workers(config),
        on_bad_image=config.on_bad_image,
        pin_memory=setup.device.asynchronous,
        rank=ranks.rank,
        ranks=ranks.size,
        patience=patience(config, ranks.size),
    )


def evaluation_input(setup: RunSetup, data: Data, ranks: Ranks) -> EvaluationInput:
    """The validation images, resized and centre-cropped by the network's documented fraction."""
    config = setup.config
    return EvaluationInput(
        data.content.val,
        EvalTransform(setup.recipe.image_size, NETWORKS[setup.spec.name].crop_fraction, config.keep_aspect),
        setup.eval_batch_size,
        workers(config),
        on_bad_image=config.on_bad_image,
        pin_memory=setup.device.asynchronous,
        rank=ranks.rank,
        ranks=ranks.size,
        patience=patience(config, ranks.size),
    )


def train_transform(recipe: ImageNetRecipe) -> TrainTransform:
    """Random crops, flips and, where the recipe has it, RandAugment."""
    numbers = recipe.randaugment
    augment: Optional[Tuple[int, int]] = (numbers[0], numbers[1]) if numbers else None
    return TrainTransform(recipe.image_size, crop_scale=recipe.crop_scale, flip=recipe.flip, randaugment=augment)
