"""The training loss: cross-entropy of labels, of mixed labels and of smoothed ones; the counts of accuracy."""

from __future__ import annotations

from typing import Any, List

import tensorflow as tf

from shared.metrics import TOP_K
from tf_seresnet.step.input_pipeline import Batch

tf1 = tf.compat.v1


def mean_loss(logits: Any, batch: Batch, smoothing: float) -> Any:
    """The mean over the batch, float32 []; `smoothing` distributes this share of each target over all classes.

    Sources: Szegedy et al., arXiv 1512.00567, section 7, and the papers of MixUp and CutMix.
    """
    if batch.share is None and not smoothing:
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=batch.labels, logits=logits)
    else:
        classes = int(logits.shape[1])
        targets = probabilities(batch, classes) * (1.0 - smoothing) + smoothing / classes
        loss = tf1.nn.softmax_cross_entropy_with_logits_v2(labels=tf.stop_gradient(targets), logits=logits)
    return tf.reduce_mean(loss)


def probabilities(batch: Batch, classes: int) -> Any:
    """What the labels of a batch say of each class: float32 [batch, classes]."""
    own = tf.one_hot(batch.labels, classes)
    if batch.share is None:
        return own
    share = batch.share[:, None]
    return own * share + tf.one_hot(batch.others, classes) * (1.0 - share)


def hits(logits: Any, batch: Batch) -> List[Any]:
    """How many labels are the most probable class, and among the five most probable; ties go to the lower class.

    The label of a mixed image is that with the larger share.
    """
    labels = batch.labels
    if batch.share is not None:
        labels = tf.argmax(probabilities(batch, int(logits.shape[1])), axis=1, output_type=tf.int32)
    top = tf.nn.top_k(logits, min(TOP_K, int(logits.shape[1]))).indices
    found = tf.cast(tf.equal(top, tf.expand_dims(labels, 1)), tf.int32)
    return [tf.reduce_sum(found[:, 0]), tf.reduce_sum(found)]
