"""The Ascend adapter's session options as data: the type and values of every key, and the rules between keys.

The keys, types and rules are those of the adapter's parser of the custom optimizer `NpuOptimizer`. Where the adapter
ends the process or silently ignores a key, this module raises UsageError.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from shared.errors import UsageError
from shared.system.paths import expanded
from shared.text import closest, nearest

Value = Union[bool, int, str]

# The TensorFlow version of each adapter: its package and the module that a session script imports.
ADAPTERS = {(1, 15): ("npu_bridge", "npu_bridge.npu_init"), (2, 6): ("npu_device", "npu_device.compat.v1.npu_init")}
ADAPTER_NAMES = (  # used from that module
    "npu_tf_optimizer",
    "NPULossScaleOptimizer",
    "ExponentialUpdateLossScaleManager",
    "FixedLossScaleManager",
)

# The loss scale of the documented run starts at 2**32, doubles after 1000 finite steps and halves after 2 overflows.
# The high start costs some skipped steps; `--loss-scale NUMBER` replaces it.
DYNAMIC_LOSS_SCALE = {
    "init_loss_scale": 2**32,
    "incr_every_n_steps": 1000,
    "decr_every_n_nan_or_inf": 2,
    "decr_ratio": 0.5,
}

# The adapter's precision_mode for `--precision`. O0 is float32 only: must_keep_origin_dtype, because force_fp32 is
# documented to feed float16 to convolutions. On a chip whose matrix unit has no float32, O0 is therefore slow, or the
# adapter refuses it; use `--npu-option precision_mode=force_fp32` there.
PRECISION_MODES = {"O0": "must_keep_origin_dtype", "O1": "allow_mix_precision", "bf16": "allow_mix_precision_bf16"}
# Values of precision_mode and precision_mode_v2 under which float16 gradients can underflow.
FLOAT16_MODES = tuple(
    (
        "force_fp32 allow_fp32_to_fp16 force_fp16 allow_mix_precision allow_mix_precision_fp16 "
        "cube_fp16in_fp32out fp16 mixed_float16"
    ).split()
)


@dataclass(frozen=True)
class Key:
    """A key of the adapter's parameter map: its field (b: bool, i: int, s: bytes) and its valid values."""

    field: str
    values: Tuple[str, ...] = ()  # empty: any value
    minimum: Optional[int] = None
    deprecated: bool = False


_FLAG = Key("b")
_NUMBER = Key("i")
_COUNT = Key("i", minimum=0)
_BIT = Key("i", values=("0", "1"))
_TEXT = Key("s")

KEYS: Dict[str, Key] = {
    # execution
    "use_off_line": _FLAG,
    "mix_compile_mode": _FLAG,
    "iterations_per_loop": Key("i", minimum=1),
    "lower_functional_ops": _FLAG,
    "graph_run_mode": _BIT,
    "deterministic": _BIT,
    "session_device_id": _COUNT,
    "jit_compile": Key("s", values=("auto", "true", "false")),
    "stream_max_parallel_num": _TEXT,
    "is_tailing_optimization": _FLAG,
    "topo_sorting_mode": _COUNT,
    "enable_small_channel": _BIT,
    "buffer_optimize": Key("s", values=("l2_optimize", "off_optimize")),
    "enable_scope_fusion_passes": _TEXT,
    "fusion_switch_file": _TEXT,
    "insert_op_file": _TEXT,
    "device_type": _TEXT,
    "soc_config": _TEXT,
    "resource_config_path": _TEXT,
    # precision
    "precision_mode": Key(
        "s",
        values=tuple(
            (
                "force_fp32 allow_fp32_to_fp16 force_fp16 must_keep_origin_dtype allow_mix_precision "
                "allow_mix_precision_fp16 cube_fp16in_fp32out allow_mix_precision_bf16 allow_fp32_to_bf16"
            ).split()
        ),
    ),
    "precision_mode_v2": Key(
        "s",
        values=("fp16", "origin", "cube_fp16in_fp32out", "mixed_float16", "mixed_bfloat16", "cube_hif8", "mixed_hif8"),
    ),
    "modify_mixlist": _TEXT,
    "op_precision_mode": _TEXT,
    "customize_dtypes": _TEXT,
    # memory
    "graph_memory_max_size": _TEXT,
    "variable_memory_max_size": _TEXT,
    "static_memory_policy": _COUNT,
    "atomic_clean_policy": _BIT,
    "external_weight": _FLAG,
    "enable_compress_weight": _FLAG,
    "compress_weight_conf": _TEXT,
    # compiling and tuning
    "op_compiler_cache_mode": Key("s", values=("enable", "disable", "force")),
    "op_compiler_cache_dir": _TEXT,
    "graph_compiler_cache_dir": _TEXT,
    "aoe_mode": Key("s", values=("1", "2", "4")),
    "aoe_config_file": _TEXT,
    "work_path": _TEXT,
    "auto_tune_mode": _TEXT,
    "distribute_config": _TEXT,
    # shapes
    "input_shape": _TEXT,
    "dynamic_dims": _TEXT,
    "dynamic_node_type": _BIT,
    # several devices
    "hcom_parallel": _FLAG,
    "hcom_multi_mode": _FLAG,
    "HCCL_algorithm": _TEXT,
    "hccl_timeout": _COUNT,
    "local_rank_id": _COUNT,
    "local_device_list": _TEXT,
    "job": _TEXT,
    "task_index": _COUNT,
    "enable_graph_parallel": _FLAG,
    "graph_parallel_option_path": _TEXT,
    "in_out_pair_flag": _FLAG,
    "in_out_pair": _TEXT,
    "experimental_logical_device_cluster_deploy_mode": _TEXT,
    "experimental_logical_device_id": _TEXT,
    "experimental_model_deploy_mode": _TEXT,
    "experimental_model_deploy_devicelist": _TEXT,
    # timeouts in the adapter's units; -1 means no limit for the last three
    "op_wait_timeout": _COUNT,
    "op_execute_timeout": _COUNT,
    "graph_exec_timeout": Key("i", minimum=-1),
    "stream_sync_timeout": Key("i", minimum=-1),
    "event_sync_timeout": Key("i", minimum=-1),
    # debugging
    "enable_dump": _FLAG,
    "enable_dump_debug": _FLAG,
    "dump_path": _TEXT,
    "dump_step": _TEXT,
    "dump_mode": Key("s", values=("input", "output", "all")),
    "dump_debug_mode": Key("s", values=("aicore_overflow", "atomic_overflow", "all")),
    "dump_data": Key("s", values=("tensor", "stats")),
    "dump_layer": _TEXT,
    "profiling_mode": _FLAG,
    "profiling_options": _TEXT,
    "enable_exception_dump": Key("i", values=("0", "1", "2")),
    "op_debug_config": _TEXT,
    "debug_dir": _TEXT,
    # deprecated
    "dynamic_input": Key("b", deprecated=True),
    "dynamic_graph_execute_mode": Key("s", values=("lazy_recompile", "dynamic_execute"), deprecated=True),
    "dynamic_inputs_shape_range": Key("s", deprecated=True),
    "enable_data_pre_proc": Key("b", deprecated=True),
    "variable_format_optimize": Key("b", deprecated=True),
    "op_select_implmode": Key("s", deprecated=True),
    "optypelist_for_implmode": Key("s", deprecated=True),
    "op_debug_level": Key("i", values=("0", "1", "2", "3", "4"), deprecated=True),
}


def session_options(
    user_options: Sequence[str],
    precision: str = "O0",
    index: Optional[int] = None,
    deterministic: bool = False,
    distributed: bool = False,
) -> Tuple[Dict[str, Value], List[str]]:
    """The parameter map of a training session, and notes for the user.

    `user_options`, "key=value" texts of `--npu-option`, override the documented configuration. `index` is the device to
    use; None leaves it to the adapter. `distributed` is for one of several ranks: gradients are exchanged while others
    are still computed. Raises UsageError for an unknown key, an invalid value or keys that exclude each other.
    """
    user = parse(user_options)
    values: Dict[str, Value] = {"use_off_line": True, "graph_run_mode": 1}
    if "precision_mode_v2" not in user:  # the adapter refuses both together
        values["precision_mode"] = PRECISION_MODES[precision]
    if index is not None:
        if user.get("session_device_id", index) != index:
            raise UsageError(
                f"--npu-option session_device_id={user['session_device_id']} and device index {index} "
                "contradict each other; give one of them"
            )
        values["session_device_id"] = index
    if deterministic:
        values["deterministic"] = 1
    if distributed:
        values["hcom_parallel"] = True
    values.update(user)
    check(values)
    notes = [f"npu option {key} is deprecated by the adapter" for key in user if KEYS[key].deprecated]
    if not values["use_off_line"]:
        notes.append("npu option use_off_line=false: the graph runs on the host, not on the NPU")
    return values, notes


def parse(user_options: Sequence[str]) -> Dict[str, Value]:
    """Typed values of "key=value" texts. Raises UsageError with the nearest key or the valid values."""
    values: Dict[str, Value] = {}
    for text in user_options:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--npu-option {text!r} has no value; write --npu-option KEY=VALUE")
        if name not in KEYS:
            near = closest(name, KEYS)
            hint = f"did you mean {near!r}?" if near else "its documentation lists them"
            raise UsageError(f"the Ascend adapter has no option {name!r}; {hint}")
        parsed = _parse_value(name, KEYS[name], value)
        if values.setdefault(name, parsed) != parsed:
            raise UsageError(f"--npu-option {name} is given as {values[name]} and as {parsed}; give it once")
    return values


def check(values: Mapping[str, Value]) -> None:
    """Raise UsageError if the values break one of the adapter's rules between keys."""
    if "precision_mode" in values and "precision_mode_v2" in values:
        raise UsageError("npu options precision_mode and precision_mode_v2 exclude each other; give one")
    if "modify_mixlist" in values and values.get("precision_mode") != "allow_mix_precision":
        raise UsageError(
            "npu option modify_mixlist needs precision_mode allow_mix_precision; add --precision O1 or "
            "--npu-option precision_mode=allow_mix_precision"
        )
    for dump in ("enable_dump", "enable_dump_debug"):
        if values.get(dump) and not values.get("dump_path"):
            raise UsageError(f"npu option {dump} needs a folder; add --npu-option dump_path=FOLDER")
    shapes = ("input_shape", "dynamic_dims", "dynamic_node_type")
    missing = [key for key in shapes if key not in values]
    if missing and len(missing) < len(shapes):
        raise UsageError(
            f"npu options {', '.join(shapes)} need each other; add {' and '.join(missing)}, or leave all three out"
        )
    if "optypelist_for_implmode" in values and "op_select_implmode" not in values:
        raise UsageError("npu option optypelist_for_implmode needs op_select_implmode; add it")
    if "enable_compress_weight" in values and "compress_weight_conf" in values:
        raise UsageError("enable_compress_weight and compress_weight_conf exclude each other; give one")


def uses_float16(values: Mapping[str, Value]) -> bool:
    """Whether gradients are computed in float16, so that the loss needs scaling."""
    return values.get("precision_mode", values.get("precision_mode_v2")) in FLOAT16_MODES


def write(values: Mapping[str, Value], parameter_map: Any) -> None:
    """Fill a custom optimizer's `parameter_map`: each value into the field of its type, text as bytes."""
    for name, value in values.items():
        content = value.encode("utf-8") if isinstance(value, str) else value
        setattr(parameter_map[name], KEYS[name].field, content)


# -- values --------------------------------------------------------------------------------------------------

_BOOLS = {"true": True, "1": True, "false": False, "0": False}


def _parse_value(name: str, key: Key, text: str) -> Value:
    """The value of option `name`, of the key's type. Raises UsageError."""
    if key.field == "b":
        if text.lower() not in _BOOLS:
            raise UsageError(f"npu option {name} must be true or false, not {text!r}; write {name}=true")
        return _BOOLS[text.lower()]
    if key.values and text not in key.values:
        raise UsageError(f"npu option {name} cannot be {text!r}; {nearest(text, key.values)}")
    if key.field == "s":
        if not text:
            raise UsageError(f"npu option {name} is empty; write {name}=VALUE")
        return expanded(text)  # many are paths, and no other value begins with ~
    try:
        number = int(text)
    except ValueError:
        raise UsageError(f"npu option {name} must be a whole number, not {text!r}; write {name}=1") from None
    if key.minimum is not None and number < key.minimum:
        raise UsageError(f"npu option {name} must be at least {key.minimum}, not {number}; raise it")
    if not -(2**63) <= number < 2**63:
        raise UsageError(f"npu option {name} does not fit 64 bits: {number}; lower it")
    return number
