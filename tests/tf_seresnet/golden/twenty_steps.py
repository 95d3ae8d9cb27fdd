"""Twenty training steps from given weights: depth 11, batch 32, learning rate 0.01, on the embedded sample."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from shared import cifar10, recipes, sample
from tf_seresnet import devices
from tf_seresnet.step import variables
from tf_seresnet.step.graph import NetworkSpec
from tf_seresnet.step.input_pipeline import Normalisation, TrainingInput
from tf_seresnet.step.training_step import TrainingStep

tf1 = tf.compat.v1
BATCH, RATE, STEPS = 32, 0.01, 20


def unpack(path) -> dict:
    """Variables by name, float32."""
    with np.load(str(path)) as packed:
        content = {name: packed[name] for name in packed.files}
    weights = {name: value for name, value in content.items() if ":" not in name}
    for name, value in content.items():
        if name.endswith(":int8"):
            kernel = name[: -len(":int8")]
            weights[kernel] = value.astype(np.float32) * content[kernel + ":scale"]
    return weights


def losses(weights: dict, layers: str, steps: int = STEPS) -> list:
    """Mean cross-entropy of each of the first `steps`, before its update."""
    data = cifar10.load(sample.cifar10_folder())
    recipe = recipes.get("sample").override(batch_size=BATCH)
    with tf.Graph().as_default():
        device, normalise = devices.open_device("cpu"), Normalisation.from_images(data.train_images)
        batch = TrainingInput(data.train_images, data.train_labels, normalise, recipe, device)
        network = NetworkSpec(recipe.depth, recipe.variant, layers, len(data.label_names))
        step = TrainingStep(network, batch)
        with tf1.Session() as session:
            variables.initialise(session, seed=0)
            variables.load_values(session, weights)
            batch.start_epoch(session, epoch=0)
            return [step.run(session, RATE).loss for _ in range(steps)]
