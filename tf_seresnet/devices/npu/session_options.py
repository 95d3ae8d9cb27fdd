"""The Ascend adapter's session options as data: the type and values of every key, and the rules between keys.

They are those of the adapter's parser of the custom optimizer `NpuOptimizer`, which ends the process or ignores a key
where this module raises UsageError.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from shared.errors import UsageError
from shared.system.paths import expanded
from shared.text import closest, nearest

Value = Union[bool, int, str]

# The adapter's precision_mode for `--precision`. O0 is float32 only: must_keep_origin_dtype, because force_fp32 is
# documented to feed float16 to convolutions. On a chip whose matrix unit has no float32, O0 is therefore slow, or the
# adapter refuses it; use `--npu-option precision_mode=force_fp32` there.
PRECISION_MODES = {"O0": "must_keep_origin_dtype", "O1": "allow_mix_precision", "bf16": "allow_mix_precision_bf16"}
# Values of precision_mode and of precision_mode_v2 under which float16 gradients can underflow, and the others.
_FLOAT16 = (
    "force_fp32 allow_fp32_to_fp16 force_fp16 allow_mix_precision allow_mix_precision_fp16 cube_fp16in_fp32out",
    "fp16 cube_fp16in_fp32out mixed_float16",
)
_OTHERS = (
    "must_keep_origin_dtype allow_mix_precision_bf16 allow_fp32_to_bf16",
    "origin mixed_bfloat16 cube_hif8 mixed_hif8",
)


@dataclass(frozen=True)
class Key:
    """A key of the adapter's parameter map: its field (b: bool, i: int, s: bytes) and its valid values."""

    field: str
    values: Tuple[str, ...] = ()  # empty: any value
    minimum: Optional[int] = None
    deprecated: bool = False


def _keys(names: str, field: str, values: str = "", minimum: Optional[int] = None) -> Dict[str, Key]:
    return dict.fromkeys(names.split(), Key(field, tuple(values.split()), minimum))


KEYS: Dict[str, Key] = {
    **_keys(
        "use_off_line mix_compile_mode lower_functional_ops is_tailing_optimization external_weight hcom_parallel"
        " hcom_multi_mode enable_compress_weight enable_graph_parallel in_out_pair_flag enable_dump enable_dump_debug"
        " profiling_mode",
        "b",
    ),
    **_keys("graph_run_mode deterministic enable_small_channel atomic_clean_policy dynamic_node_type", "i", "0 1"),
    **_keys("enable_exception_dump", "i", "0 1 2"),
    **_keys("iterations_per_loop", "i", minimum=1),
    **_keys(
        "session_device_id topo_sorting_mode static_memory_policy hccl_timeout local_rank_id task_index op_wait_timeout"
        " op_execute_timeout",
        "i",
        minimum=0,
    ),
    **_keys("graph_exec_timeout stream_sync_timeout event_sync_timeout", "i", minimum=-1),  # -1: no limit
    **_keys("precision_mode", "s", f"{_FLOAT16[0]} {_OTHERS[0]}"),
    **_keys("precision_mode_v2", "s", f"{_FLOAT16[1]} {_OTHERS[1]}"),
    **_keys("jit_compile", "s", "auto true false"),
    **_keys("buffer_optimize", "s", "l2_optimize off_optimize"),
    **_keys("op_compiler_cache_mode", "s", "enable disable force"),
    **_keys("aoe_mode", "s", "1 2 4"),
    **_keys("dump_mode", "s", "input output all"),
    **_keys("dump_debug_mode", "s", "aicore_overflow atomic_overflow all"),
    **_keys("dump_data", "s", "tensor stats"),
    **_keys(
        "stream_max_parallel_num enable_scope_fusion_passes fusion_switch_file insert_op_file device_type soc_config"
        " resource_config_path modify_mixlist op_precision_mode customize_dtypes graph_memory_max_size"
        " variable_memory_max_size compress_weight_conf op_compiler_cache_dir graph_compiler_cache_dir aoe_config_file"
        " work_path auto_tune_mode distribute_config input_shape dynamic_dims HCCL_algorithm local_device_list job"
        " graph_parallel_option_path in_out_pair experimental_logical_device_cluster_deploy_mode"
        " experimental_logical_device_id experimental_model_deploy_mode experimental_model_deploy_devicelist dump_path"
        " dump_step dump_layer profiling_options op_debug_config debug_dir",
        "s",
    ),
    **dict.fromkeys(("dynamic_input", "enable_data_pre_proc", "variable_format_optimize"), Key("b", deprecated=True)),
    **dict.fromkeys(
        ("dynamic_inputs_shape_range", "op_select_implmode", "optypelist_for_implmode"), Key("s", deprecated=True)
    ),
    "dynamic_graph_execute_mode": Key("s", ("lazy_recompile", "dynamic_execute"), deprecated=True),
    "op_debug_level": Key("i", ("0", "1", "2", "3", "4"), deprecated=True),
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
    if index is not None and user.get("session_device_id", index) != index:
        raise UsageError(
            f"--npu-option session_device_id={user['session_device_id']} contradicts --device npu:{index}; give one of"
            " them"
        )
    own: Dict[str, Optional[Value]] = {
        "use_off_line": True,
        "graph_run_mode": 1,
        "precision_mode": None if "precision_mode_v2" in user else PRECISION_MODES[precision],  # one of them
        "session_device_id": index,
        "deterministic": 1 if deterministic else None,
        "hcom_parallel": True if distributed else None,
    }
    values = {**{key: value for key, value in own.items() if value is not None}, **user}
    _check(values)
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


def _check(values: Mapping[str, Value]) -> None:
    """Raise UsageError if the values break one of the adapter's rules between keys."""
    for one, other in (("precision_mode", "precision_mode_v2"), ("enable_compress_weight", "compress_weight_conf")):
        if one in values and other in values:
            raise UsageError(f"npu options {one} and {other} exclude each other; give one")
    if "modify_mixlist" in values and values.get("precision_mode") != "allow_mix_precision":
        raise UsageError("npu option modify_mixlist needs precision_mode allow_mix_precision; add --precision O1")
    needs = [("optypelist_for_implmode", "op_select_implmode")]
    needs += [(dump, "dump_path") for dump in ("enable_dump", "enable_dump_debug") if values.get(dump)]
    shapes = ("input_shape", "dynamic_dims", "dynamic_node_type")
    needs += [(one, other) for one in shapes for other in shapes]
    for one, other in needs:
        if one in values and other not in values:
            raise UsageError(f"npu option {one} needs {other}; add --npu-option {other}=VALUE, or leave {one} out")


def uses_float16(values: Mapping[str, Value]) -> bool:
    """Whether gradients are computed in float16, so that the loss needs scaling."""
    return values.get("precision_mode", values.get("precision_mode_v2")) in " ".join(_FLOAT16).split()


def write(values: Mapping[str, Value], parameter_map: Any) -> None:
    """Fill a custom optimizer's `parameter_map`: each value into the field of its type, text as bytes."""
    for name, value in values.items():
        content = value.encode("utf-8") if isinstance(value, str) else value
        setattr(parameter_map[name], KEYS[name].field, content)


_BOOLS = {"true": True, "1": True, "false": False, "0": False}


def _parse_value(name: str, key: Key, text: str) -> Value:
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
    least = -(2**63) if key.minimum is None else key.minimum
    try:
        number = int(text)
    except ValueError:
        number = 2**63  # refused as one beyond 64 bits is
    if not least <= number < 2**63:
        raise UsageError(
            f"npu option {name} must be a whole number of 64 bits, at least {least}, not {text!r}; write {name}=1"
        )
    return number
