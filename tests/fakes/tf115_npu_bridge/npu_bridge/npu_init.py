"""A fake of the Ascend adapter's module for session scripts, on the CPU with stock TensorFlow.

A run with this module proves that the program takes its NPU path from the command line to the checkpoint; the adapter's
parser would accept the session configuration (keys, types, values and rules are checked against an independent table
whenever a session with an `NpuOptimizer` is opened); the loss is scaled, the gradients are scaled back, a step that
overflows is skipped, and the scale is stored in variables that checkpoints contain. Several processes with the
environment of ranks exchange what they would exchange through HCCL: gradients are averaged, an overflow on one rank
skips the step on all, variables are broadcast.

What it does not prove: the speed and the numbers of an NPU, that its compiler accepts the graph, its float16, its
overflow flag (saturating chips have one instead of infinities), HCCL itself, its rank tables and its networks. Stock
TensorFlow computes the graph in float32.

If the environment variable NPU_STAND_IN_RECORD is the path of a file, a JSON line is appended to it for every session
({"session": {key: value}}, null without the adapter's configuration) and every optimizer ({"optimizer": class,
"manager": class, "is_distributed": bool}). With NPU_STAND_IN_OLD the fake is an older adapter, which reads RANK_SIZE
only.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import tensorflow as _tensorflow
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig
from tensorflow.python.client import session as _session

_tf = _tensorflow.compat.v1

__all__ = [
    "ExponentialUpdateLossScaleManager",
    "FixedLossScaleManager",
    "NPUDistributedOptimizer",
    "NPULossScaleOptimizer",
    "RewriterConfig",
    "check_session_config",
    "hccl_ops",
    "npu_tf_optimizer",
]


def _sibling(name):
    """A module of this folder, even if this file was loaded without its package."""
    spec = importlib.util.spec_from_file_location("npu_stand_in_" + name, str(Path(__file__).with_name(name + ".py")))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


exchange = _sibling("exchange")
hccl_ops = _sibling("hccl_ops")
hccl_ops.exchange = exchange

# -- optimizers and loss scales ------------------------------------------------------------------------------


class NPUDistributedOptimizer(_tf.train.Optimizer):
    """Averages the gradients over the ranks."""

    def __init__(self, opt):
        self._opt = opt
        super().__init__(use_locking=False, name="NPUDistributedOptimizer")

    def compute_gradients(self, *args, **kwargs):
        gradients = self._opt.compute_gradients(*args, **kwargs)
        ranks = exchange.size()
        if ranks <= 1:
            return gradients
        sums = iter(hccl_ops.allreduce_all([g for g, _ in gradients if g is not None], "sum"))
        return [(None if g is None else next(sums) / _tf.cast(ranks, g.dtype), v) for g, v in gradients]

    def apply_gradients(self, *args, **kwargs):
        return self._opt.apply_gradients(*args, **kwargs)

    def get_slot(self, *args, **kwargs):
        return self._opt.get_slot(*args, **kwargs)

    def get_slot_names(self, *args, **kwargs):
        return self._opt.get_slot_names(*args, **kwargs)

    def variables(self):
        return self._opt.variables()


def npu_tf_optimizer(opt):
    return NPUDistributedOptimizer(opt)


class FixedLossScaleManager:
    """A constant loss scale; steps that overflow are skipped if `enable_overflow_check`."""

    def __init__(self, loss_scale, enable_overflow_check=True):
        if loss_scale < 1:
            raise ValueError("loss scale must be at least 1.")
        self._loss_scale = _tf.convert_to_tensor(loss_scale, dtype=_tf.float32)
        self._enable_overflow_check = enable_overflow_check

    def get_loss_scale(self):
        return self._loss_scale

    def get_enable_overflow_check(self):
        return self._enable_overflow_check

    def update_loss_scale(self, finite_grads):
        return _tf.no_op()


class ExponentialUpdateLossScaleManager:
    """Increases the scale after `incr_every_n_steps` consecutive good steps, decreases it after some bad ones.

    The rule is that of `tf.contrib.mixed_precision`, from which the real one is derived: bad steps accumulate until the
    scale changes, a bad step resets the count of good steps, the scale never overflows float32 nor falls below 1.
    """

    def __init__(self, init_loss_scale, incr_every_n_steps, decr_every_n_nan_or_inf=2, incr_ratio=2, decr_ratio=0.8):
        self._incr_every_n_steps = incr_every_n_steps
        self._decr_every_n_nan_or_inf = decr_every_n_nan_or_inf
        self._incr_ratio = incr_ratio
        self._decr_ratio = decr_ratio
        self._loss_scale = _counter("loss_scale", float(init_loss_scale), _tf.float32)
        self._num_good_steps = _counter("good_steps", 0, _tf.int32)
        self._num_bad_steps = _counter("bad_steps", 0, _tf.int32)

    def get_loss_scale(self):
        return self._loss_scale

    def update_loss_scale(self, finite_grads):
        """The operation that updates the three variables, all of which it reads first."""
        scale, good = _tf.identity(self._loss_scale), _tf.identity(self._num_good_steps)
        bad = _tf.identity(self._num_bad_steps)
        good = _tf.where(finite_grads, good + 1, _tf.zeros_like(good))
        bad = _tf.where(finite_grads, bad, bad + 1)
        raised, lowered = scale * self._incr_ratio, _tf.maximum(1.0, scale * self._decr_ratio)
        raised = _tf.where(_tf.math.is_finite(raised), raised, scale)
        rise = _tf.logical_and(finite_grads, good >= self._incr_every_n_steps)
        fall = _tf.logical_and(_tf.logical_not(finite_grads), bad >= self._decr_every_n_nan_or_inf)
        reset = _tf.logical_or(rise, fall)
        new = [
            (self._loss_scale, _tf.where(rise, raised, _tf.where(fall, lowered, scale))),
            (self._num_good_steps, _tf.where(reset, _tf.zeros_like(good), good)),
            (self._num_bad_steps, _tf.where(reset, _tf.zeros_like(bad), bad)),
        ]
        with _tf.control_dependencies([value for _, value in new]):
            return _tf.group(*[_tf.assign(variable, value) for variable, value in new])


class NPULossScaleOptimizer(_tf.train.Optimizer):
    """Scales the loss and scales the gradients back; skips the whole update if a gradient is not finite."""

    def __init__(self, opt, loss_scale_manager, is_distributed=False):
        if is_distributed != (exchange.size() > 1):
            raise ValueError("is_distributed is {} with {} ranks".format(is_distributed, exchange.size()))
        self._opt = opt
        self._is_distributed = is_distributed
        self._loss_scale_manager = loss_scale_manager
        super().__init__(use_locking=False, name="NPULossScaleOptimizer")
        names = {"optimizer": type(opt).__name__, "manager": type(loss_scale_manager).__name__}
        _record(dict(names, is_distributed=is_distributed))

    def compute_gradients(self, loss, *args, **kwargs):
        scale = self._loss_scale_manager.get_loss_scale()
        scaled = self._opt.compute_gradients(loss * _tf.cast(scale, loss.dtype.base_dtype), *args, **kwargs)
        return [(None if g is None else g * _tf.cast(1.0 / scale, g.dtype.base_dtype), v) for g, v in scaled]

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        grads_and_vars = list(grads_and_vars)
        finite = _tf.constant(True)
        if getattr(self._loss_scale_manager, "get_enable_overflow_check", lambda: True)():
            gradients = [g for g, _ in grads_and_vars if g is not None]
            finite = _tf.reduce_all([_tf.reduce_all(_tf.math.is_finite(g)) for g in gradients])
            if self._is_distributed:
                overflows = hccl_ops.allreduce(_tf.cast(_tf.logical_not(finite), _tf.float32), "sum", fusion=0)
                finite = _tf.equal(overflows, 0.0)
        update = _tf.cond(
            finite, lambda: self._opt.apply_gradients(grads_and_vars, global_step, name), lambda: _tf.no_op()
        )
        # After the update: the gradients must be scaled back with the scale they were computed with.
        with _tf.control_dependencies([update]):
            return _tf.group(update, self._loss_scale_manager.update_loss_scale(finite))

    def get_slot(self, *args, **kwargs):
        return self._opt.get_slot(*args, **kwargs)

    def get_slot_names(self, *args, **kwargs):
        return self._opt.get_slot_names(*args, **kwargs)

    def variables(self):
        return self._opt.variables()


def _counter(name, value, dtype):
    return _tf.Variable(value, name=name, dtype=dtype, trainable=False)


# -- the session configuration, read as the adapter reads it -------------------------------------------------

# Keys by field of the parameter map, from the adapter's documents and not from the program's table, so that an error in
# either shows.
_FIELDS = {
    "b": """use_off_line mix_compile_mode hcom_parallel enable_dump enable_dump_debug profiling_mode
        hcom_multi_mode external_weight enable_graph_parallel
        dynamic_input enable_data_pre_proc variable_format_optimize
        lower_functional_ops is_tailing_optimization in_out_pair_flag enable_compress_weight""",
    "i": """iterations_per_loop graph_run_mode deterministic session_device_id local_rank_id
        hccl_timeout op_wait_timeout
        op_execute_timeout graph_exec_timeout static_memory_policy topo_sorting_mode
        stream_sync_timeout event_sync_timeout dynamic_node_type enable_small_channel enable_exception_dump
        op_debug_level atomic_clean_policy task_index""",
    "s": """precision_mode precision_mode_v2 modify_mixlist op_precision_mode customize_dtypes dump_path
        dump_step dump_mode dump_debug_mode profiling_options aoe_mode work_path op_compiler_cache_mode
        op_compiler_cache_dir graph_memory_max_size variable_memory_max_size fusion_switch_file input_shape
        dynamic_dims HCCL_algorithm jit_compile graph_compiler_cache_dir dynamic_graph_execute_mode
        op_select_implmode optypelist_for_implmode dynamic_inputs_shape_range stream_max_parallel_num
        soc_config auto_tune_mode enable_scope_fusion_passes distribute_config local_device_list in_out_pair
        buffer_optimize compress_weight_conf debug_dir device_type op_debug_config insert_op_file
        resource_config_path graph_parallel_option_path dump_data dump_layer aoe_config_file job
        experimental_logical_device_cluster_deploy_mode experimental_logical_device_id
        experimental_model_deploy_mode experimental_model_deploy_devicelist""",
}
_FIELD_OF = {key: field for field, keys in _FIELDS.items() for key in keys.split()}
_PRECISION_MODES = b"""force_fp32 allow_fp32_to_fp16 force_fp16 must_keep_origin_dtype allow_mix_precision
    cube_fp16in_fp32out allow_mix_precision_fp16 allow_mix_precision_bf16 allow_fp32_to_bf16""".split()


def check_session_config(config):
    """The parameter map of the one `NpuOptimizer` in this ConfigProto, as a dict.

    Raises ValueError with all that the adapter would refuse, ignore or read as empty.
    """
    rewrite = config.graph_options.rewrite_options
    optimizers = [custom for custom in rewrite.custom_optimizers if custom.name == "NpuOptimizer"]
    if len(optimizers) != 1:
        raise ValueError("{} custom optimizers are named NpuOptimizer".format(len(optimizers)))
    errors = [
        "{} is not OFF".format(name)
        for name in ("remapping", "memory_optimization")
        if getattr(rewrite, name) != RewriterConfig.OFF  # integers: OFF prints as MANUAL
    ]
    values = {}
    for key, value in optimizers[0].parameter_map.items():
        field = value.WhichOneof("value")
        if key not in _FIELD_OF:
            errors.append("unknown key {}".format(key))
        elif field != _FIELD_OF[key]:
            errors.append("{} is in field {}, not {}".format(key, field, _FIELD_OF[key]))
        else:
            values[key] = getattr(value, field)
    errors += _broken_rules(values)
    if errors:
        raise ValueError("; ".join(errors))
    return values


def _broken_rules(values):
    if values.get("precision_mode", b"force_fp32") not in _PRECISION_MODES:
        yield "precision_mode is {!r}".format(values["precision_mode"])
    if "precision_mode" in values and "precision_mode_v2" in values:
        yield "precision_mode and precision_mode_v2 together"
    if "modify_mixlist" in values and values.get("precision_mode") != b"allow_mix_precision":
        yield "modify_mixlist without precision_mode allow_mix_precision"
    if (values.get("enable_dump") or values.get("enable_dump_debug")) and not values.get("dump_path"):
        yield "dump without dump_path"
    if len({key in values for key in ("input_shape", "dynamic_dims", "dynamic_node_type")}) > 1:
        yield "input_shape, dynamic_dims and dynamic_node_type not together"
    if not 0 <= values.get("graph_run_mode", 1) <= 1:
        yield "graph_run_mode is {}".format(values["graph_run_mode"])
    if values.get("session_device_id", 0) < 0:
        yield "session_device_id is negative"


def _record(entry):
    path = os.environ.get("NPU_STAND_IN_RECORD")
    if path:
        with open(path, "a") as file:
            file.write(json.dumps(entry, sort_keys=True) + "\n")


def _check_every_session():
    """Hook the check into the session's constructor; TensorFlow's graph optimizer calls the real adapter."""
    original = _session.BaseSession.__init__
    if getattr(original, "stand_in", False):
        return

    def checked(self, target="", graph=None, config=None):
        values, self._session = None, None  # the destructor reads it
        if config is not None and config.graph_options.rewrite_options.custom_optimizers:
            values = check_session_config(config)
            values = {key: v.decode() if isinstance(v, bytes) else v for key, v in values.items()}
        _record({"session": values})
        original(self, target, graph, config)

    checked.stand_in = True
    _session.BaseSession.__init__ = checked


_check_every_session()
