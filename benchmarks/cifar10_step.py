"""A training step as the original ran it against a step of ours, alternating in one process.

    python benchmarks/cifar10_step.py [--device cpu] [--precision bf16] [--depth 11] [--batch-size 128] [--rounds 15]

Both train the same network from the same weights on the embedded sample. The original's step crops and mirrors image
by image in Python, feeds the batch, and runs the network a second time for the accuracy (see docs/differences.md);
ours has the input pipeline in the graph and counts from the one forward pass.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402

from benchmarks.timing import Contender, measure, report  # noqa: E402
from shared import cifar10, recipes, sample  # noqa: E402
from shared.cli.parser import Parser, number, one_of  # noqa: E402
from shared.recipes.cifar10 import CifarRecipe  # noqa: E402
from tf_seresnet import devices  # noqa: E402
from tf_seresnet.devices.base import PRECISIONS, add_options  # noqa: E402
from tf_seresnet.network import LAYERS_PER_N  # noqa: E402


def originals_batch(images: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Flip, zero-pad by 4 and crop each image in Python: float32 [batch, 32, 32, 3] in and out."""
    batch = []
    for image in images:
        if random.randint(2):
            image = image[:, ::-1]
        padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), "constant")
        top, left = random.randint(0, 9, 2)
        batch.append(padded[top : top + 32, left : left + 32])
    return np.asarray(batch, np.float32)


def originals_step(data: cifar10.Cifar10, recipe: CifarRecipe, device: Any) -> Contender:
    """One step of the original's loop: its feed, its update, its second forward pass."""
    import tensorflow as tf

    from tf_seresnet.layers.core import CoreLayers
    from tf_seresnet.network import se_resnet
    from tf_seresnet.step import variables

    tf1 = tf.compat.v1
    mean, std = cifar10.channel_statistics(data.train_images)
    images = ((data.train_images - mean) / std).astype(np.float32)
    labels = np.eye(len(data.label_names), dtype=np.float32)[data.train_labels]
    random = np.random.RandomState(0)
    with tf.Graph().as_default():
        x = tf1.placeholder(tf.float32, [None, 32, 32, 3])
        y = tf1.placeholder(tf.float32, [None, len(data.label_names)])
        layers = CoreLayers()
        logits = se_resnet(x, layers, recipe.depth, recipe.variant, len(data.label_names), training=True)
        loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels=y, logits=logits))
        accuracy = tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, 1), tf.argmax(y, 1)), tf.float32))
        optimizer = tf1.train.MomentumOptimizer(0.01, recipe.momentum, use_nesterov=True)
        with tf.control_dependencies(layers.update_averages(layers.batch_statistics())):
            squares = tf.add_n([tf.nn.l2_loss(variable) for variable in tf1.trainable_variables()])
            update = optimizer.minimize(loss + recipe.weight_decay * squares)
        session = tf1.Session(config=device.session_config())
        variables.initialise(session, recipe.seed)

    def step(attempt: int) -> int:
        start = attempt * recipe.batch_size % (len(images) - recipe.batch_size)
        rows = slice(start, start + recipe.batch_size)
        feed = {x: originals_batch(images[rows], random), y: labels[rows]}
        session.run([update, loss], feed)
        session.run(accuracy, feed)
        return recipe.batch_size

    return step


def our_step(data: cifar10.Cifar10, recipe: CifarRecipe, device: Any) -> Contender:
    """The step of `tf_seresnet.training`, over as many epochs as it takes."""
    import tensorflow as tf

    from tf_seresnet.step import variables
    from tf_seresnet.step.graph import NetworkSpec
    from tf_seresnet.step.input_pipeline import Normalisation, TrainingInput
    from tf_seresnet.step.training_step import TrainingStep

    with tf.Graph().as_default():
        device.static_shapes = True
        normalise = Normalisation.from_images(data.train_images)
        batch = TrainingInput(data.train_images, data.train_labels, normalise, recipe, device)
        network = NetworkSpec(recipe.depth, recipe.variant, "core", len(data.label_names))
        training = TrainingStep(network, batch)
        session = tf.compat.v1.Session(config=device.session_config())
        variables.initialise(session, recipe.seed)

    def step(attempt: int) -> int:
        epoch, position = divmod(attempt, batch.steps_per_epoch)
        if position == 0:
            batch.start_epoch(session, epoch)
        training.run(session, 0.01)
        return recipe.batch_size

    return step


def main() -> None:
    parser = Parser(description=__doc__, prog="cifar10_step.py")
    parser.add_argument("--device", default="auto", help="as of tf_seresnet/main.py")
    parser.add_argument("--precision", type=one_of(*PRECISIONS), default="O0", help="of our step; the other is O0")
    parser.add_argument("--depth", type=number(int, 8), default=11)
    parser.add_argument("--variant", type=one_of(*LAYERS_PER_N), default="port")
    parser.add_argument("--batch-size", type=number(int, 1), default=128)
    parser.add_argument("--rounds", type=number(int, 1), default=15)
    add_options(lambda *names, modes=(), **settings: parser.add_argument(*names, **settings))
    options = parser.parse_args()
    settings = {"xla": options.xla, "npu_options": tuple(options.npu_option)}
    devices.load_tensorflow(options.device, options.xla)
    data = cifar10.load(sample.cifar10_folder())
    changed = {"depth": options.depth, "variant": options.variant, "batch_size": options.batch_size}
    recipe = recipes.get("se_resnet110_gpu").override(**changed)
    device = devices.open_device(options.device, options.precision, options.loss_scale, **settings)
    theirs = originals_step(data, recipe, devices.open_device(options.device, **settings))
    contenders = {"original's step": theirs, "ours": our_step(data, recipe, device)}
    network = f"depth {options.depth}, {options.variant}, batch {options.batch_size}"
    print(f"{device.kind}, {device.name}, {device.precision}; {network}, {options.rounds} rounds")
    print(report(measure(contenders, options.rounds, warm_up=3)), end="")


if __name__ == "__main__":
    main()
