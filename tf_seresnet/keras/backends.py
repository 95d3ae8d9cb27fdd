"""What Keras leaves to its backends: gradients, compilation, and several steps in one call."""

from __future__ import annotations

import abc
from typing import Any, Callable, Dict, Tuple, Type

import numpy as np

from tf_seresnet.keras.layers import keras
from tf_seresnet.keras.step import DataSet, State, Tensors

StepFunction = Callable[[State, DataSet, Tensors], Tuple[State, Any]]
Steps = Callable[[State, DataSet, Dict[str, np.ndarray]], Tuple[State, np.ndarray]]


class Backend(abc.ABC):
    """How one backend computes. `steps_per_call`: the steps of one call at most; `xla`: compile them with XLA."""

    def __init__(self, steps_per_call: int, xla: bool) -> None:
        self.steps_per_call, self.xla = steps_per_call, xla

    @abc.abstractmethod
    def gradients(self, function: Callable[[Tensors], Tuple[Any, Any]], weights: Tensors) -> Tuple[Any, Any, Tensors]:
        """value, more and the gradients of value, where value, more = function(weights)."""

    @abc.abstractmethod
    def steps(self, step: StepFunction) -> Steps:
        """run(state, data, numbers) -> (state, outputs [steps, 4]); each of `numbers` is [steps, ...]."""

    @abc.abstractmethod
    def function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of tensors, compiled; its results are NumPy arrays."""


class Jax(Backend):
    """One compiled loop. Its number of steps is no part of the program: one compilation for each size of a batch."""

    def gradients(self, function: Callable[[Tensors], Tuple[Any, Any]], weights: Tensors) -> Tuple[Any, Any, Tensors]:
        import jax

        (value, more), found = jax.value_and_grad(function, has_aux=True)(weights)
        return value, more, found

    def steps(self, step: StepFunction) -> Steps:
        import jax
        import jax.numpy as jnp

        def looped(state: State, pixels: Any, labels: Any, side: int, numbers: Tensors, count: Any) -> Any:
            data = DataSet(pixels, labels, side)

            def body(number: Any, carry: Any) -> Any:
                state, outputs = step(carry[0], data, {name: values[number] for name, values in numbers.items()})
                return state, carry[1].at[number].set(outputs)

            if self.steps_per_call == 1:
                return body(0, (state, jnp.zeros((1, 4))))
            return jax.lax.fori_loop(0, count, body, (state, jnp.zeros((self.steps_per_call, 4))))

        # The state is donated: the new one takes its memory.
        compiled = jax.jit(looped, static_argnums=3, donate_argnums=0)

        def run(state: State, data: DataSet, numbers: Dict[str, np.ndarray]) -> Tuple[State, np.ndarray]:
            count = len(numbers["order"])
            state, outputs = compiled(state, *data, _filled(numbers, self.steps_per_call), count)
            return state, np.asarray(outputs)[:count]

        return run

    def function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        import jax

        compiled = jax.jit(function)
        return lambda *arguments: np.asarray(compiled(*arguments))


class TensorFlow(Backend):
    """One tf.function around a while loop, whatever the sizes; with XLA one compilation for each."""

    def gradients(self, function: Callable[[Tensors], Tuple[Any, Any]], weights: Tensors) -> Tuple[Any, Any, Tensors]:
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            value, more = function(weights)
        return value, more, tape.gradient(value, weights)

    def steps(self, step: StepFunction) -> Steps:
        import tensorflow as tf

        def looped(state: State, data: DataSet, numbers: Tensors, count: Any) -> Any:
            def body(number: Any, state: State, outputs: Any) -> Any:
                state, new = step(state, data, {name: values[number] for name, values in numbers.items()})
                return number + 1, state, outputs.write(number, new)

            outputs = tf.TensorArray(tf.float32, self.steps_per_call, element_shape=[4])
            if self.steps_per_call == 1:
                _, state, outputs = body(0, state, outputs)
            else:
                first = tf.constant(0)
                _, state, outputs = tf.while_loop(lambda number, *_: number < count, body, (first, state, outputs))
            return state, outputs.stack()

        compiled = tf.function(looped, jit_compile=self.xla, autograph=False, reduce_retracing=True)

        def run(state: State, data: DataSet, numbers: Dict[str, np.ndarray]) -> Tuple[State, np.ndarray]:
            count = len(numbers["order"])
            tensors = {name: tf.constant(values) for name, values in _filled(numbers, self.steps_per_call).items()}
            state, outputs = compiled(state, data, tensors, tf.constant(count))
            return state, outputs.numpy()[:count]

        return run

    def function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        import tensorflow as tf

        compiled = tf.function(function, jit_compile=self.xla, autograph=False)
        return lambda *arguments: compiled(*arguments).numpy()


class Torch(Backend):
    """Step by step, as torch computes; nothing is compiled."""

    def gradients(self, function: Callable[[Tensors], Tuple[Any, Any]], weights: Tensors) -> Tuple[Any, Any, Tensors]:
        import torch

        leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
        with torch.enable_grad():
            value, more = function(leaves)
            found = torch.autograd.grad(value, list(leaves.values()))
        return value, more, dict(zip(leaves, found))

    def steps(self, step: StepFunction) -> Steps:
        import torch

        @torch.no_grad()
        def run(state: State, data: DataSet, numbers: Dict[str, np.ndarray]) -> Tuple[State, np.ndarray]:
            tensors = {name: keras.ops.convert_to_tensor(values) for name, values in numbers.items()}
            outputs = []
            for number in range(len(numbers["order"])):
                state, new = step(state, data, {name: values[number] for name, values in tensors.items()})
                state = {kind: {name: one.detach() for name, one in group.items()} for kind, group in state.items()}
                outputs.append(new.detach())
            return state, torch.stack(outputs).cpu().numpy()

        return run

    def function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        import torch

        @torch.no_grad()
        def run(*arguments: Any) -> np.ndarray:
            found: np.ndarray = function(*arguments).cpu().numpy()
            return found

        return run


def _filled(numbers: Dict[str, np.ndarray], steps: int) -> Dict[str, np.ndarray]:
    """The numbers of so many steps: those that are not there are zeros, and not computed."""
    missing = steps - len(numbers["order"])
    if not missing:
        return numbers
    return {name: np.pad(one, [(0, missing)] + [(0, 0)] * (one.ndim - 1)) for name, one in numbers.items()}


BACKENDS: Dict[str, Type[Backend]] = {"jax": Jax, "tensorflow": TensorFlow, "torch": Torch}
