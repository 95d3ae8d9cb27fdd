"""SE-ResNet as a Keras model on JAX, with CIFAR-10 and its augmentation on the device. Needs JAX and Keras 3.

A round is options["steps"] steps. `on_device` is one compiled scan over steps that draw, crop and mirror their images
on the device; `fit` is Keras' own loop, which the host feeds with augmented batches that lie ready.
"""

from __future__ import annotations

import os
from typing import Any, Tuple

import numpy as np

from benchmarks.contender import Contender, Options

IMAGES = 50000


def fit(options: Options) -> Contender:
    """Keras' loop."""
    keras, network = _network(options)
    steps, batch = options["steps"], options["batch"]
    random = np.random.RandomState(0)
    images = random.standard_normal((steps * batch, 32, 32, 3)).astype(np.float32)
    labels = random.randint(0, 10, steps * batch)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.SGD(0.1, 0.9, nesterov=True), loss)

    def run(attempt: int) -> int:
        network.fit(images, labels, batch, epochs=1, verbose=0, shuffle=False)
        return int(steps * batch)

    return Contender(run, f"Keras {keras.__version__} fit on JAX, {options['precision']}", device=_device())


def on_device(options: Options) -> Contender:
    """The scan."""
    keras, network = _network(options)
    import jax
    import jax.numpy as jnp

    steps, batch = options["steps"], options["batch"]
    images = jax.random.bits(jax.random.key(0), (IMAGES, 32, 32, 3), jnp.uint8)
    labels = jax.random.randint(jax.random.key(1), (IMAGES,), 0, 10)

    def loss(weights: Any, others: Any, x: Any, y: Any) -> Tuple[Any, Any]:
        logits, others = network.stateless_call(weights, others, x, training=True)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean(), others

    def step(state: Any, _: Any) -> Tuple[Any, Any]:
        weights, others, momentum, key = state
        key, drawn, augmented = jax.random.split(key, 3)
        index = jax.random.randint(drawn, (batch,), 0, IMAGES)
        x = _augmented(images[index], augmented)
        (value, others), gradients = jax.value_and_grad(loss, has_aux=True)(weights, others, x, labels[index])
        gradients = [gradient + 1e-4 * weight for gradient, weight in zip(gradients, weights)]
        momentum = [0.9 * old + gradient for old, gradient in zip(momentum, gradients)]
        weights = [w - 0.1 * (g + 0.9 * m) for w, g, m in zip(weights, gradients, momentum)]
        return (weights, others, momentum, key), value

    weights = [variable.value for variable in network.trainable_variables]
    others = [variable.value for variable in network.non_trainable_variables]
    state = [(weights, others, [jnp.zeros_like(weight) for weight in weights], jax.random.key(2))]
    scan = jax.jit(lambda carry: jax.lax.scan(step, carry, None, length=steps))

    def run(attempt: int) -> int:
        state[0], _ = jax.block_until_ready(scan(state[0]))
        return int(steps * batch)

    return Contender(run, f"the set on the device, one scan, JAX, {options['precision']}", device=_device())


def _augmented(images: Any, key: Any) -> Any:
    """Padded by 4, cropped and mirrored, float32, from uint8 [batch, 32, 32, 3]."""
    import jax
    import jax.numpy as jnp

    at, mirrored = jax.random.split(key)
    padded = jnp.pad((images.astype(jnp.float32) - 120) / 64, ((0, 0), (4, 4), (4, 4), (0, 0)))
    corner = jax.random.randint(at, (len(images), 2), 0, 9)
    cut = jax.vmap(lambda image, where: jax.lax.dynamic_slice(image, (where[0], where[1], 0), (32, 32, 3)))
    x = cut(padded, corner)
    return jnp.where(jax.random.bernoulli(mirrored, 0.5, (len(images), 1, 1, 1)), x[:, :, ::-1], x)


def _network(options: Options) -> Tuple[Any, Any]:
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if options["device"] == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    import keras

    from tf_seresnet.keras import se_resnet

    keras.mixed_precision.set_global_policy(options["precision"])
    return keras, se_resnet(options["depth"])


def _device() -> str:
    import jax

    device = jax.devices()[0]
    return "" if device.platform == "cpu" else str(device.device_kind)
