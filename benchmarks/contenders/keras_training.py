"""SE-ResNet as a Keras model on options["backend"], tensorflow or jax. Needs Keras 3 and the backend.

A round is options["steps"] steps. `ours` is the training of `--layers keras`, which computes them in one call, on
50,000 images made of the embedded sample's that lie on the device, as does their augmentation; `fit` is Keras' own
loop, which the host feeds with augmented batches that lie ready.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Tuple

import numpy as np

from benchmarks.contender import Contender, Options
from shared import sample

IMAGES = 50000


def fit(options: Options) -> Contender:
    """Keras' loop."""
    keras, policy = _keras(options)
    from tf_seresnet.keras import se_resnet

    keras.mixed_precision.set_global_policy(policy)
    network = se_resnet(options["depth"])
    steps, batch = options["steps"], options["batch"]
    random = np.random.RandomState(0)
    images = random.standard_normal((steps * batch, 32, 32, 3)).astype(np.float32)
    labels = random.randint(0, 10, steps * batch)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.SGD(0.1, 0.9, nesterov=True), loss)

    def run(attempt: int) -> int:
        network.fit(images, labels, batch, epochs=1, verbose=0, shuffle=False)
        return int(steps * batch)

    return Contender(run, f"Keras {keras.__version__} fit on {_what(options)}", device=_device(options))


def ours(options: Options) -> Contender:
    """The steps of `--layers keras`, a round in one call."""
    keras, _ = _keras(options)
    from tf_seresnet.keras.training_step import KerasStep, build
    from tf_seresnet.options import RunConfig
    from tf_seresnet.run.setup import RunSetup

    steps, batch = options["steps"], options["batch"]
    words = ["--layers", "keras", "--recipe", "se_resnet110_gpu", "--depth", str(options["depth"])]
    words += ["--batch-size", str(batch), "--device", options["device"], "--precision", options["precision"]]
    words += ["--steps-per-call", str(steps), "--data-path", str(sample.cifar10_folder())]
    setup = RunSetup.from_config(RunConfig.from_argv(words))
    images, labels = setup.data.train_images, setup.data.train_labels
    data = dataclasses.replace(
        setup.data, train_images=np.resize(images, (IMAGES, 32, 32, 3)), train_labels=np.resize(labels, IMAGES)
    )
    setup = dataclasses.replace(setup, data=data)
    training = KerasStep(setup, *build(setup))
    whole = IMAGES // batch // steps  # rounds of an epoch

    def run(attempt: int) -> int:
        epoch, place = divmod(attempt, whole)
        if place == 0:
            training.start_epoch(epoch, 0)
        training.read([(place * steps + number, 0.01) for number in range(steps)])
        return int(steps * batch)

    what = f"this program on Keras {keras.__version__} and {_what(options)}"
    return Contender(run, what, device=_device(options))


def _keras(options: Options) -> Tuple[Any, str]:
    """Keras on the backend, and the name of its policy for the precision."""
    os.environ["KERAS_BACKEND"] = options["backend"]
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if options["device"] == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    from tf_seresnet.devices.keras_backend import POLICIES, load

    return load(), POLICIES[options["precision"]]


def _what(options: Options) -> str:
    return f"{options['backend']}, {'float32' if options['precision'] == 'O0' else options['precision']}"


def _device(options: Options) -> str:
    """The name of a GPU; those of TensorFlow are not asked for."""
    if options["backend"] != "jax":
        return ""
    import jax

    device = jax.devices()[0]
    return "" if device.platform == "cpu" else str(device.device_kind)
