"""HCCL's operations on the CPU, named like the real ones so that they can be found in a graph."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import tensorflow as _tensorflow

_tf = _tensorflow.compat.v1
exchange = None  # the module of that name, set by `npu_init`
_REDUCE = {"sum": np.add, "max": np.maximum, "min": np.minimum, "prod": np.multiply}


def allreduce(tensor, reduction, fusion=1, fusion_id=-1, group="hccl_world_group"):
    """The tensor reduced over all ranks, on all ranks."""
    return allreduce_all([tensor], reduction)[0]


def allreduce_all(tensors, reduction):
    """Several all-reduces fused into one exchange, as the compiler fuses them."""
    tensors = [_tf.convert_to_tensor(tensor) for tensor in tensors]
    if any(tensor.op.type.startswith("Variable") for tensor in tensors):
        raise ValueError("the upstream node of allreduce must not be a variable")

    def combine(values, *own):
        return [functools.reduce(_REDUCE[reduction], parts) for parts in zip(*values)]

    return _exchange_op("HcomAllReduce", combine, tensors)


def broadcast(tensor, root_rank, fusion=2, fusion_id=0, group="hccl_world_group"):
    """The root rank's values of a list of tensors, on all ranks."""
    if not isinstance(tensor, list):
        raise ValueError("broadcast takes a list")
    tensors = [_tf.convert_to_tensor(part) for part in tensor]
    return _exchange_op("HcomBroadcast", lambda values, *own: values[root_rank], tensors)


def _exchange_op(kind, combine, tensors):
    name = _tf.get_default_graph().unique_name(kind, mark_as_used=False)
    numbers = itertools.count()

    def run(*own):
        values = exchange.exchange(name, next(numbers), [np.asarray(value) for value in own])
        return combine(values, *own)

    results = _tf.py_func(run, tensors, [tensor.dtype.base_dtype for tensor in tensors], stateful=True, name=kind)
    for result, tensor in zip(results, tensors):
        result.set_shape(tensor.shape)
    return results
