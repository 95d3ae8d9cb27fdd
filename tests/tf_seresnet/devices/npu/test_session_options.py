from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import UsageError
from tf_seresnet.devices.npu import session_options as npu

pytestmark = pytest.mark.once

# Of each type, a value that fits the key.
ONE_OF_EACH = {"b": "true", "i": "1", "s": "some/text"}


def _sample(name: str) -> str:
    key = npu.KEYS[name]
    return key.values[-1] if key.values else ONE_OF_EACH[key.field]


def test_training_session_as_documented():
    values, notes = npu.session_options([], "O1")
    assert values == {"use_off_line": True, "graph_run_mode": 1, "precision_mode": "allow_mix_precision"}
    assert notes == []


@pytest.mark.parametrize(
    ("precision", "mode", "scaled"),
    [
        ("O0", "must_keep_origin_dtype", False),
        ("O1", "allow_mix_precision", True),
        ("bf16", "allow_mix_precision_bf16", False),
    ],
)
def test_precision(precision, mode, scaled):
    values, _ = npu.session_options([], precision)
    assert values["precision_mode"] == mode
    assert npu.uses_float16(values) is scaled


def test_index_and_determinism_are_written_only_when_asked_for():
    values, _ = npu.session_options([], "O0", index=3, deterministic=True)
    assert values["session_device_id"] == 3
    assert values["deterministic"] == 1
    assert not {"session_device_id", "deterministic"} & set(npu.session_options([])[0])


def test_v2_replaces_our_precision_mode_and_decides_about_scaling():
    values, _ = npu.session_options(["precision_mode_v2=mixed_float16"], "O0")
    assert "precision_mode" not in values
    assert npu.uses_float16(values)
    assert not npu.uses_float16(npu.session_options(["precision_mode_v2=mixed_bfloat16"], "O1")[0])


def test_the_user_wins_over_the_documented_values():
    values, notes = npu.session_options(
        ["precision_mode=force_fp32", "use_off_line=False", "deterministic=0"], "O1", deterministic=True
    )
    assert values["precision_mode"] == "force_fp32"
    assert (values["use_off_line"], values["deterministic"]) == (False, 0)
    assert len(notes) == 1
    assert "host" in notes[0]


@pytest.mark.parametrize("name", sorted(npu.KEYS))
def test_every_key_takes_a_value_of_its_type(name):
    typed = npu.parse([f"{name}={_sample(name)}"])[name]
    assert type(typed) is {"b": bool, "i": int, "s": str}[npu.KEYS[name].field]


@pytest.mark.parametrize("name", sorted(n for n, key in npu.KEYS.items() if key.field != "s" or key.values))
def test_every_typed_key_refuses_another_type(name):
    with pytest.raises(UsageError, match=name):
        npu.parse([f"{name}=nonsense"])


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("True", True), ("1", True), ("false", False), ("0", False)]
)
def test_booleans(text, value):
    assert npu.parse([f"enable_dump={text}"]) == {"enable_dump": value}


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("precision_mod=force_fp32", "did you mean 'precision_mode'?"),
        ("dumppath=x", "did you mean 'dump_path'?"),
        ("enable_dump", "write --npu-option KEY=VALUE"),
        ("nonsense=1", "its documentation lists them"),
        ("precision_mode=allow_mix_precison", "did you mean 'allow_mix_precision'?"),
        ("precision_mode=allow_mix", "choose one of "),
        ("precision_mode_v2=allow_mix_precision", "mixed_float16"),
        ("graph_run_mode=2", "cannot be '2'"),
        ("session_device_id=-1", "at least 0"),
        ("hccl_timeout=1.5", "whole number"),
        ("hccl_timeout=9223372036854775808", "64 bits"),
        ("dump_path=", "empty"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(option, says):
    with pytest.raises(UsageError) as refused:
        npu.session_options([option])
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "precision", "says"),
    [
        (["modify_mixlist=a.json"], "O0", "--precision O1"),
        (["modify_mixlist=a.json", "precision_mode=allow_mix_precision_fp16"], "O1", "allow_mix_precision"),
        (["modify_mixlist=a.json", "precision_mode_v2=mixed_float16"], "O1", "allow_mix_precision"),
        (["enable_dump=1"], "O1", "dump_path"),
        (["enable_dump_debug=true"], "O1", "dump_path"),
        (["input_shape=x:1,2"], "O1", "input_shape needs dynamic_dims"),
        (["input_shape=x:1,2", "dynamic_node_type=0"], "O1", "input_shape needs dynamic_dims"),
        (["precision_mode=force_fp32", "precision_mode_v2=origin"], "O0", "exclude"),
        (["optypelist_for_implmode=Pooling"], "O0", "op_select_implmode"),
        (["enable_compress_weight=1", "compress_weight_conf=c"], "O0", "exclude"),
        (["dump_step=1", "dump_step=2"], "O0", "give it once"),
    ],
)
def test_rules_between_keys(options, precision, says):
    with pytest.raises(UsageError, match=says):
        npu.session_options(options, precision)


@pytest.mark.parametrize(
    "options",
    [
        ["modify_mixlist=a.json"],
        ["enable_dump=1", "dump_path=/tmp"],
        ["enable_dump=0"],
        ["input_shape=x:-1,2", "dynamic_dims=1;2", "dynamic_node_type=0"],
        ["dump_step=1", "dump_step=1"],
    ],
)
def test_rules_kept(options):
    values, _ = npu.session_options(options, "O1")
    assert set(npu.parse(options)) < set(values)


def test_a_home_in_a_path_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home")
    values, _ = npu.session_options(["dump_path=~/dump"])
    assert values["dump_path"] == "/home/dump"
    with pytest.raises(UsageError, match="~nosuchuser"):
        npu.session_options(["debug_dir=~nosuchuser/x"])


def test_two_device_indices_contradict():
    with pytest.raises(UsageError, match="contradict"):
        npu.session_options(["session_device_id=1"], index=0)
    assert npu.session_options(["session_device_id=1"], index=1)[0]["session_device_id"] == 1


def test_deprecated_keys_are_accepted_with_a_note():
    deprecated = sorted(name for name, key in npu.KEYS.items() if key.deprecated)
    _, notes = npu.session_options([f"{name}={_sample(name)}" for name in deprecated])
    assert len(notes) == len(deprecated) >= 5
    assert all(any(f" {name} " in note for note in notes) for name in deprecated)


@given(st.lists(st.text(max_size=30), max_size=4), st.sampled_from(["O0", "O1", "bf16"]))
def test_any_text_is_typed_or_refused(texts, precision):
    try:
        values, _ = npu.session_options(texts, precision)
    except UsageError as error:
        outcome = str(error)
    else:
        outcome = " ".join(values)
        assert set(values) <= set(npu.KEYS)
    assert "\n" not in outcome


@given(st.sampled_from(sorted(npu.KEYS)), st.integers(0, 2), st.sampled_from("abcxyz_"))
def test_a_misspelt_key_is_answered_with_a_key(name, position, letter):
    misspelt = name[:position] + letter + name[position:]
    with pytest.raises(UsageError) as refused:
        npu.parse([misspelt + "=1"])
    assert any(f"did you mean {key!r}?" in str(refused.value) for key in npu.KEYS)
