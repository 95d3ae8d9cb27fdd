"""Loss scaling that unscales and checks all gradients as one vector.

TensorFlow's optimizer of this name does so one by one: a product and two reductions for each of SE-ResNet-110's 667
gradients, each a launch on a GPU. What it computes is the same.
"""

from __future__ import annotations

from typing import Any, List, Sequence, Tuple

import tensorflow as tf

tf1: Any = tf.compat.v1


class FlatLossScaleOptimizer(tf1.train.experimental.MixedPrecisionLossScaleOptimizer):
    """MixedPrecisionLossScaleOptimizer for dense gradients of known shapes and one dtype, in any TensorFlow."""

    def _unscale_grads(self, grads: Sequence[Any]) -> List[Any]:
        flat = _flat(grads) * (1 / self._loss_scale())
        parts = tf.split(flat, [gradient.shape.num_elements() for gradient in grads])
        return [tf.reshape(part, gradient.shape) for part, gradient in zip(parts, grads)]

    def apply_gradients(self, grads_and_vars: Any, global_step: Any = None, name: Any = None) -> Any:
        if not self._doing_dynamic_loss_scaling():
            return super().apply_gradients(grads_and_vars, global_step, name)
        pairs = tuple(grads_and_vars)
        flat = _flat([gradient for gradient, _ in pairs])
        replica = tf.distribute.get_replica_context()
        return replica.merge_call(self._apply_where_finite, args=(flat, pairs, global_step, name or self.get_name()))

    def _apply_where_finite(
        self, distribution: Any, flat: Any, pairs: Tuple[Any, ...], global_step: Any, name: str
    ) -> Any:
        update, finite = self._loss_scale.update([flat])
        applied = tf1.cond(
            finite, lambda: self._apply_gradients(distribution, pairs, global_step, f"{name}-wrapped"), tf.no_op
        )
        return tf.group(applied, update, name=name)


def _flat(gradients: Sequence[Any]) -> Any:
    return tf.concat([tf.reshape(gradient, [-1]) for gradient in gradients], 0)
