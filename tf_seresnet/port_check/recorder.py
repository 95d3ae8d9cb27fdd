"""Recording what the graph of a training step computes: every layer's output, and the gradient that reaches it."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple, cast

import numpy as np
import tensorflow as tf

from shared.port_check.rounding import rounded
from shared.port_check.trace import LayerCall, Trace
from shared.rng import Crops
from tf_seresnet.devices.base import Device
from tf_seresnet.layers.core import CoreLayers
from tf_seresnet.network import Layers, se_resnet
from tf_seresnet.port_check.reference import IMAGES
from tf_seresnet.run.setup import RunSetup
from tf_seresnet.step import variables
from tf_seresnet.step.input_pipeline import TrainingInput
from tf_seresnet.step.spec import NetworkSpec, graph_layers
from tf_seresnet.step.training_step import TrainingStep

tf1 = tf.compat.v1

COMPUTED = {"O0": "float32", "O1": "float16", "bf16": "bfloat16"}  # in what convolutions are, by precision


class Batch(NamedTuple):
    """Images uint8 [batch, 32, 32, 3] as the data set has them, labels int32 [batch], and how they are augmented."""

    images: np.ndarray
    labels: np.ndarray
    crops: Crops


class RecordedLayers(Layers):
    """A layer set that remembers the output of every layer of another, and the gradient tensor that reaches it.

    The gradient is that of the step's own backward pass: an identity behind each layer sees it go by.
    """

    def __init__(self, layers: CoreLayers) -> None:
        super().__init__()
        self._layers = layers
        self.outputs: List[Tuple[str, Any]] = []
        self.gradients: Dict[str, Any] = {}
        self.batch_statistics, self.update_averages = layers.batch_statistics, layers.update_averages

    def conv(self, x: Any, filters: int, kernel: int, strides: int = 1, bias: bool = True) -> Any:
        return self._named(self._layers.conv(x, filters, kernel, strides, bias))

    def batch_norm(self, x: Any, training: Optional[bool]) -> Any:
        return self._named(self._layers.batch_norm(x, training))

    def dense(self, x: Any, units: int) -> Any:
        return self._named(self._layers.dense(x, units))

    def global_average_pool(self, x: Any) -> Any:
        return self._numbered("global_average_pool", self._layers.global_average_pool(x))

    def relu(self, x: Any) -> Any:
        return self._numbered("relu", self._layers.relu(x))

    def gate(self, x: Any, excitation: Any) -> Any:
        return self._numbered("gate", self._layers.gate(x, excitation))

    def add(self, x: Any, y: Any) -> Any:
        return self._numbered("add", self._layers.add(x, y))

    def shortcut(self, x: Any, filters: int, strides: int) -> Any:
        return self._numbered("shortcut", self._layers.shortcut(x, filters, strides))

    def images(self, x: Any) -> Any:
        """The input of the network, recorded too."""
        self.outputs.append((IMAGES, x))
        return x

    def _named(self, output: Any) -> Any:
        return self._recorded(self._layers.outputs[-1][0], output)

    def _numbered(self, kind: str, output: Any) -> Any:
        return self._recorded(self.next_name(kind), output)

    def _recorded(self, name: str, output: Any) -> Any:
        @tf.custom_gradient
        def identity(x: Any) -> Any:
            def backward(gradient: Any) -> Any:
                self.gradients[name] = gradient
                return gradient

            return tf.identity(x), backward

        self.outputs.append((name, output))
        return identity(output)


class RecordedNetwork:
    """Builds the network of a specification in `RecordedLayers`."""

    layers: RecordedLayers

    def __init__(self, spec: NetworkSpec) -> None:
        self._spec = spec

    def build(
        self, images: Any, training: bool, reuse: bool = False, branch_factors: None = None, products: bool = False
    ) -> Tuple[Any, RecordedLayers]:
        """As `NetworkSpec.build`, layer by layer also with `products`, in which a gated convolution has no output."""
        spec, layers = self._spec, RecordedLayers(graph_layers(self._spec.layers)(reuse=reuse))
        self.layers = layers
        return se_resnet(layers.images(images), layers, spec.depth, spec.variant, spec.num_classes, training), layers


def record_step(setup: RunSetup, batch: Batch, rate: float, steps: int, initialise: Any) -> Trace:
    """One step of the configured training, recorded, and the losses of `steps` of them on the same batch.

    `initialise(session)` gives every variable its value.
    """
    recipe, network, device = setup.recipe, RecordedNetwork(setup.network), setup.device
    with tf.Graph().as_default(), device.connected() as replicas:
        inputs = TrainingInput(batch.images, batch.labels, setup.normalisation, recipe, device, replicas, 1)
        step = TrainingStep(cast(NetworkSpec, network), inputs)
        trainable, own = tf1.trainable_variables(), variables.model_variables()
        layers, names = network.layers, [variable.op.name for variable in own]
        step.fetches.update(
            outputs_of_layers=dict(layers.outputs),
            gradients_of_layers=layers.gradients,
            gradients={v.op.name: gradient for v, gradient in zip(trainable, step.gradients)},
        )
        with tf1.Session(config=device.session_config()) as session:
            initialise(session)
            replicas.align(session)
            step.begin(session)
            trace = Trace(describe(setup, rate, _loss_scale(device, session)))
            trace.tensors.update(batch_tensors(batch))
            before, losses = session.run(own), []
            for number in range(steps):
                inputs.start(session, *batch)
                losses.append(step.run(session, rate).loss)
                if number == 0:
                    _store(trace, layers.outputs, step.fetched)
                    trace.tensors.update({f"before/{n}": np.asarray(v) for n, v in zip(names, before)})
                    trace.tensors.update({f"after/{n}": np.asarray(v) for n, v in zip(names, session.run(own))})
                    for entry in ("outputs_of_layers", "gradients_of_layers", "gradients"):
                        del step.fetches[entry]
    trace.tensors["losses"] = np.array(losses, np.float64)
    return trace


def _store(trace: Trace, outputs: List[Tuple[str, Any]], fetched: Dict[str, Any]) -> None:
    low = trace.description["compute_dtype"]
    for name, _ in outputs:
        value = fetched["outputs_of_layers"][name]
        call = LayerCall(name, 0, name.rstrip("_0123456789"), low, _dtype(value, low))
        trace.calls.append(call)
        trace.tensors[call.key("output")] = value
        if name in fetched["gradients_of_layers"]:
            trace.tensors[call.key("output gradient")] = fetched["gradients_of_layers"][name]
    trace.tensors.update({f"gradient/{name}": value for name, value in fetched["gradients"].items()})


def _dtype(value: np.ndarray, low: str) -> str:
    """In what a layer's values are kept: a rewritten graph does not say, but its values show it."""
    exact = value.astype(np.float64)
    finite = exact[np.isfinite(exact)]
    return low if np.array_equal(rounded(finite, low), finite) else "float32"


def batch_tensors(batch: Batch) -> Dict[str, np.ndarray]:
    """The batch as the tensors of a trace."""
    crops = {f"crop/{name}": value.astype(np.int32) for name, value in batch.crops._asdict().items()}
    return {"images": batch.images, "labels": batch.labels.astype(np.int64), **crops}


def _loss_scale(device: Device, session: Any) -> float:
    """That of the next step."""
    if device.loss_scale != "dynamic":
        return float(device.loss_scale or 1.0)
    scales = [v for v in tf1.global_variables() if "loss_scale" in v.op.name.rsplit("/", 1)[-1]]
    return float(session.run(scales[0]))


def describe(setup: RunSetup, rate: float, scale: float = 1.0) -> Dict[str, Any]:
    """What the trace of a step at this learning rate and loss scale says of itself."""
    device, network = setup.device, setup.network
    return {
        "half": "tf_seresnet",
        "network": {"depth": network.depth, "variant": network.variant, "num_classes": network.num_classes},
        "layers": network.layers,
        "precision": device.precision,
        "compute_dtype": COMPUTED[device.precision],
        "loss_scale": scale,
        "learning_rate": rate,
        "recipe": setup.recipe.to_json(),
        "normalisation": {"mean": list(setup.normalisation.mean), "std": list(setup.normalisation.std)},
        "device": device.describe(),
        "float32_products": device.float32_products,
        "versions": {"tensorflow": str(tf.__version__), "numpy": np.__version__},
    }
