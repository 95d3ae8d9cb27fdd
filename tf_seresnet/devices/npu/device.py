"""Ascend NPUs through their TensorFlow adapter: one per process, alone or as one of several ranks."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Dict, Iterator, Optional

from shared.errors import UsageError
from tf_seresnet.devices import probe
from tf_seresnet.devices.base import Device, Request, refuse_index
from tf_seresnet.devices.graph_probe import switch
from tf_seresnet.devices.npu import environment
from tf_seresnet.devices.npu import session_options as npu
from tf_seresnet.devices.npu.adapter import environment_index, load_adapter


class NpuDevice(Device):
    """One Ascend NPU: npu_bridge on TensorFlow 1.15, npu_device on 2.6."""

    kind = "npu"
    name = "Ascend NPU"
    static_shapes = True
    times_data_wait = False

    def __init__(self, index: Optional[int], request: Request) -> None:
        rank = environment.current_rank()
        self.adapter = load_adapter(probe.tensorflow_version())
        super().__init__(request)
        if request.xla:
            raise UsageError("--xla has no effect on an NPU, whose adapter compiles graphs itself; leave it out")
        if rank is not None:
            refuse_index(self.kind, index)
            self._join(rank)
        elif request.number not in (None, 1):
            raise UsageError(
                f"--num-devices {request.number}, but RANK_SIZE makes this process the only one; unset it and RANK_ID"
            )
        self.index = environment_index() if index is None else index
        self.session_options, notes = npu.session_options(
            request.npu_options, self.precision, index, request.deterministic, distributed=self.count > 1
        )
        self.notes.extend(notes)
        self.loss_scale = request.loss_scale or ("dynamic" if npu.uses_float16(self.session_options) else None)

    def _join(self, rank: environment.Rank) -> None:
        """Become one of several ranks. Raises UsageError if the adapter would train without the others."""
        self.rank, self.count = rank.number, rank.size
        os.environ["ASCEND_DEVICE_ID"] = str(rank.device)  # the adapter reads both when its first session opens
        os.environ.setdefault("JOB_ID", environment.JOB_ID)
        if not hasattr(self.adapter, "hccl_ops") or not self._averages_gradients():
            # Older adapters read RANK_SIZE only, and under CM_* silently train without the others.
            raise UsageError(
                "this Ascend adapter does not average gradients over the devices that the environment names; use"
                f" {environment.TABLE} with RANK_ID and RANK_SIZE, or a newer adapter"
            )

    def _averages_gradients(self) -> bool:
        """Whether the adapter's optimizer adds an all-reduce to a graph."""
        import tensorflow as tf

        with tf.Graph().as_default() as graph:
            weight = tf.compat.v1.get_variable("weight", initializer=1.0)
            optimizer = self.adapter.npu_tf_optimizer(tf.compat.v1.train.GradientDescentOptimizer(1.0))
            optimizer.compute_gradients(weight * weight, [weight])
        return any("HcomAllReduce" in operation.name for operation in graph.get_operations())

    def session_config(self) -> Any:
        import tensorflow as tf

        config = tf.compat.v1.ConfigProto()
        rewrite = config.graph_options.rewrite_options
        custom = rewrite.custom_optimizers.add()
        custom.name = "NpuOptimizer"
        npu.write(self.session_options, custom.parameter_map)
        switch(rewrite, "remapping", on=False)
        switch(rewrite, "memory_optimization", on=False)
        return config

    def wrap_optimizer(self, optimizer: Any) -> Any:
        optimizer = self.adapter.npu_tf_optimizer(optimizer)  # averages the gradients over the ranks
        if self.loss_scale is None:
            return optimizer
        if self.loss_scale == "dynamic":
            manager = self.adapter.ExponentialUpdateLossScaleManager(**npu.DYNAMIC_LOSS_SCALE)
        else:
            manager = self.adapter.FixedLossScaleManager(loss_scale=self.loss_scale)
        return self.adapter.NPULossScaleOptimizer(optimizer, manager, is_distributed=self.count > 1)

    @contextlib.contextmanager
    def connected(self) -> Iterator[Any]:
        if self.count == 1:
            with super().connected() as alone:
                yield alone
            return
        from tf_seresnet.devices.npu.hccl import HcclRanks

        yield HcclRanks(self.rank, self.count, self.adapter.hccl_ops)

    def settings(self) -> Dict[str, Any]:
        scale = npu.DYNAMIC_LOSS_SCALE if self.loss_scale == "dynamic" else None
        return {
            **super().settings(),
            "adapter": self.adapter.__name__.partition(".")[0],
            "npu_options": dict(self.session_options),
            "dynamic_loss_scale": scale and dict(scale),
        }
