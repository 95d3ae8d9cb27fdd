"""A training step of SE-ResNet on the embedded sample of CIFAR-10's layout. Needs TensorFlow; `keras` also Keras 3.

All train the same network from the same weights. The original's step crops and mirrors image by image in Python, feeds
the batch, and runs the network a second time for the accuracy (docs/differences.md); this program's has the input
pipeline in the graph and counts from the one forward pass. Keras' `fit` gets augmented batches that lie ready.
"""

from __future__ import annotations

from typing import Any, Callable, Tuple

import numpy as np

from benchmarks.contender import Contender, Options
from shared import cifar10, sample
from shared.cifar10.dataset import Cifar10
from shared.recipes.cifar10 import CifarRecipe
from tf_seresnet import devices
from tf_seresnet.options import RunConfig
from tf_seresnet.run.setup import RunSetup


def ours(options: Options) -> Contender:
    """The step of `tf_seresnet.training`, over as many epochs as it takes."""
    setup = setup_of(options)
    import tensorflow as tf

    from tf_seresnet.step import variables
    from tf_seresnet.step.input_pipeline import TrainingInput
    from tf_seresnet.step.training_step import TrainingStep

    with tf.Graph().as_default():
        data = setup.data
        batch = TrainingInput(data.train_images, data.train_labels, setup.normalisation, setup.recipe, setup.device)
        training = TrainingStep(setup.network, batch)
        session = tf.compat.v1.Session(config=setup.device.session_config())
        variables.initialise(session, setup.recipe.seed)

    full = len(data.train_images) // setup.recipe.batch_size  # steps of an epoch without its short batch

    def run(attempt: int) -> int:
        epoch, position = divmod(attempt, full)
        if position == 0:
            batch.start_epoch(session, epoch)
        training.run(session, 0.01)
        return setup.recipe.batch_size

    level = "float32" if setup.device.precision == "O0" else setup.device.precision
    return Contender(run, f"this program, {level}", device=_name(setup.device))


def original(options: Options) -> Contender:
    """A step of the original's loop: its feed, its update, its second forward pass."""
    step, device = originals_loop(options)
    return Contender(step, "the original's loop, float32", device=_name(device))


def keras(options: Options) -> Contender:
    """Keras 3 on TensorFlow: `fit` of the same network, one step a round."""
    setup = setup_of({**options, "precision": "O0"})
    import keras as package

    from tf_seresnet.keras import se_resnet

    recipe = setup.recipe
    network = se_resnet(recipe.depth, recipe.variant, len(setup.data.label_names), weight_decay=recipe.weight_decay)
    optimizer = package.optimizers.SGD(0.01, recipe.momentum, nesterov=True)
    loss = package.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(optimizer, loss, metrics=["accuracy"])
    images = np.asarray(normalised(setup.data)[: recipe.batch_size])
    labels = np.asarray(setup.data.train_labels[: recipe.batch_size])

    def run(attempt: int) -> int:
        network.fit(images, labels, recipe.batch_size, epochs=1, verbose=0, shuffle=False)
        return recipe.batch_size

    return Contender(run, f"Keras {package.__version__} fit, float32", device=_name(setup.device))


def setup_of(options: Options) -> RunSetup:
    """What a run of this program with these options is; TensorFlow is imported here."""
    words = ["--recipe=se_resnet110_gpu", f"--depth={options['depth']}", f"--batch-size={options['batch']}"]
    words += [f"--precision={options['precision']}", f"--device={options['device']}"]
    config = RunConfig.from_argv([*words, f"--data-path={sample.cifar10_folder()}"])
    devices.load_tensorflow(config.device, config.xla)
    return RunSetup.from_config(config)


def normalised(data: Cifar10) -> np.ndarray:
    """The training images, float32 [N, 32, 32, 3], of zero mean and unit variance."""
    mean, std = cifar10.channel_statistics(data.train_images)
    return np.asarray((data.train_images - mean) / std, np.float32)


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


def originals_loop(options: Options) -> Tuple[Callable[[int], int], Any]:
    """A step of the original's loop as a function of its number, with the graph built and the weights set; a device."""
    setup = setup_of({**options, "precision": "O0"})
    import tensorflow as tf

    recipe, data, tf1 = setup.recipe, setup.data, tf.compat.v1
    images, classes = normalised(data), len(data.label_names)
    labels = np.eye(classes, dtype=np.float32)[data.train_labels]
    random = np.random.RandomState(0)
    with tf.Graph().as_default():
        x = tf1.placeholder(tf.float32, [None, 32, 32, 3])
        y = tf1.placeholder(tf.float32, [None, classes])
        update, loss, accuracy = _originals_graph(x, y, recipe, classes)
        session = tf1.Session(config=setup.device.session_config())
        session.run(tf1.global_variables_initializer())

    def step(attempt: int) -> int:
        start = attempt * recipe.batch_size % (len(images) - recipe.batch_size)
        rows = slice(start, start + recipe.batch_size)
        feed = {x: originals_batch(images[rows], random), y: labels[rows]}
        session.run([update, loss], feed)
        session.run(accuracy, feed)
        return recipe.batch_size

    return step, setup.device


def _originals_graph(x: Any, y: Any, recipe: CifarRecipe, classes: int) -> Tuple[Any, Any, Any]:
    """The update, the loss and the accuracy."""
    import tensorflow as tf

    from tf_seresnet.layers.core import CoreLayers
    from tf_seresnet.network import se_resnet

    tf1, layers = tf.compat.v1, CoreLayers()
    logits = se_resnet(x, layers, recipe.depth, recipe.variant, classes, training=True)
    loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels=y, logits=logits))
    accuracy = tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, 1), tf.argmax(y, 1)), tf.float32))
    optimizer = tf1.train.MomentumOptimizer(0.01, recipe.momentum, use_nesterov=True)
    with tf.control_dependencies(layers.update_averages(layers.batch_statistics())):
        squares = tf.add_n([tf.nn.l2_loss(variable) for variable in tf1.trainable_variables()])
        return optimizer.minimize(loss + recipe.weight_decay * squares), loss, accuracy


def _name(device: Any) -> str:
    return "" if device.kind == "cpu" else str(device.name)
