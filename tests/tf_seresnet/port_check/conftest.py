"""A side to compare: one training step in float32 NumPy, in which a fault can be planted."""

from __future__ import annotations

import numpy as np
import pytest

from shared import recipes, rng
from shared.port_check.trace import LayerCall, Trace
from tf_seresnet.layers.initial_values import initial_value
from tf_seresnet.network import BATCH_NORM_DECAY, se_resnet
from tf_seresnet.port_check import operations
from tf_seresnet.port_check.checks import images_of
from tf_seresnet.port_check.numpy_layers import Value
from tf_seresnet.port_check.reference import IMAGES
from tf_seresnet.port_check.trajectory import FreeLayers, RandomRounding

NETWORKS = {"port": 11, "paper": 8}
RATE, BATCH, SIDE, CLASSES = 0.1, 2, 8, 10


class NumpySide(FreeLayers):
    """`fault(call)` returns the call to make in its place."""

    def __init__(self, weights, fault, products):
        super().__init__(weights, RandomRounding("float32", seed=7, products=products))
        self.calls, self.means, self._fault = [], {}, fault

    def apply(self, call):
        self.calls.append(call)
        if call.kind == "batch_norm":
            self.means[call.layer] = call.inputs["x"].array
        return super().apply(self._fault(call))


@pytest.fixture
def recipe():
    return recipes.get("sample")


@pytest.fixture
def record(recipe):
    """record(variant, fault=..., decayed=...) returns the trace of a step; what is planted is the test's business.

    `products` is what the factors of its products are rounded to, and `said` what the trace says of that.
    """

    def make(variant="port", fault=lambda call: call, decayed=lambda name: True, scale=1.0, products=None, said=None):
        random = np.random.RandomState(1)
        network = {"depth": NETWORKS[variant], "variant": variant, "num_classes": CLASSES}
        trace = Trace(
            {
                "half": "tf_seresnet",
                "network": network,
                "compute_dtype": "float32",
                "float32_products": said or {},
                "loss_scale": scale,
                "learning_rate": RATE,
                "recipe": recipe.to_json(),
                "normalisation": {"mean": [120.0, 121.0, 122.0], "std": [60.0, 61.0, 62.0]},
            }
        )
        crops = rng.Crops(*(np.arange(BATCH, dtype=np.int32) + n for n in range(3)))
        trace.tensors.update({f"crop/{name}": value % 2 for name, value in crops._asdict().items()})
        trace.tensors["images"] = random.randint(0, 256, (BATCH, SIDE, SIDE, 3)).astype(np.uint8)
        trace.tensors["labels"] = random.randint(0, CLASSES, BATCH)
        images = images_of(trace, recipe.crop_padding).astype(np.float32).astype(np.float64)
        weights = _weights(network)
        layers = NumpySide(weights, fault, products)
        logits = se_resnet(Value(IMAGES, images), layers, **network)
        loss = operations.cross_entropy(logits.array, trace.tensors["labels"])
        gradients = layers.backward(logits, loss.backward(np.asarray(scale))["logits"])
        _store(trace, layers, images, loss, gradients, weights, recipe, decayed)
        return trace

    return make


def _weights(network):
    shapes = {}

    class Shapes(FreeLayers):
        def apply(self, call):
            for operand, name in call.weights.items():
                channels = call.inputs["x"].array.shape[-1]
                self._weights[name] = initial_value(name, self.shape(call, operand, channels), 0).astype(np.float64)
            return super().apply(call)

        def conv(self, x, filters, kernel, strides=1, bias=True):
            self.shape = lambda call, operand, n: (kernel, kernel, n, filters) if operand == "kernel" else (filters,)
            return super().conv(x, filters, kernel, strides, bias)

        def dense(self, x, units):
            self.shape = lambda call, operand, channels: (channels, units)
            return super().dense(x, units)

        def batch_norm(self, x, training):
            self.shape = lambda call, operand, channels: (channels,)
            return super().batch_norm(x, training)

    se_resnet(Value(IMAGES, np.zeros((1, SIDE, SIDE, 3))), Shapes(shapes, None), **network)
    return shapes


def _store(trace, layers, images, loss, gradients, weights, recipe, decayed):
    values = {f"output/{IMAGES}/0": images, **layers.values}
    trace.tensors.update({key: value.astype(np.float32) for key, value in values.items()})
    trace.calls.append(LayerCall(IMAGES, 0, "images", "float32", "float32"))
    trace.calls += [LayerCall(call.layer, 0, call.text, "float32", "float32") for call in layers.calls]
    trace.tensors["losses"] = np.array([float(loss.output)])
    for name, gradient in gradients.items():
        decay = recipe.weight_decay * weights[name] if decayed(name) else 0.0
        gradient = (gradient / trace.description["loss_scale"] + decay).astype(np.float32)
        trace.tensors[f"before/{name}"] = weights[name].astype(np.float32)
        trace.tensors[f"gradient/{name}"] = gradient
        trace.tensors[f"after/{name}"] = (weights[name] - RATE * (1 + recipe.momentum) * gradient).astype(np.float32)
    rate = float(np.float32(1 - BATCH_NORM_DECAY))
    for layer, x in layers.means.items():
        mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2), ddof=1)
        new = {"moving_mean": mean, "moving_variance": 1 - (1 - variance) * rate}
        new.update({f"{layer}/moving_mean/biased": mean * rate, f"{layer}/moving_mean/local_step": np.ones(())})
        for kind, value in new.items():
            old = np.ones_like(value) if kind == "moving_variance" else np.zeros_like(value)
            trace.tensors[f"before/{layer}/{kind}"] = old.astype(np.float32)
            trace.tensors[f"after/{layer}/{kind}"] = value.astype(np.float32)
