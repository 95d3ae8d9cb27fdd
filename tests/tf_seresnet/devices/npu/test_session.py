"""The session configuration that goes to the Ascend adapter, against the documented one, key by key.

The table below is written from the adapter's public documents ("Session Configuration" and "sess.run Migration" of the
TF Adapter 1.x, "Distributed Training with Multiple Devices"), not from the program's own.
"""

from __future__ import annotations

import json

import pytest

tf = pytest.importorskip("tensorflow")

from tests.tf_seresnet.devices.test_devices import RANKS, STAND_IN, adapter, environment, no_stand_in_afterwards  # noqa: E402, F401
from tf_seresnet import devices  # noqa: E402

V1 = tf.compat.v1
OFF = 2  # RewriterConfig.OFF; of memory_optimization the same number is called MANUAL

# What every session has, then what is added or replaced: key: (field, value).
DOCUMENTED = {
    "use_off_line": ("b", True),  # run on the NPU and not on the host
    "graph_run_mode": ("i", 1),  # a graph with variables that are set: 1, training; 0 is for frozen graphs
}
PRECISIONS = {
    "O0": ("s", b"must_keep_origin_dtype"),
    "O1": ("s", b"allow_mix_precision"),
    "bf16": ("s", b"allow_mix_precision_bf16"),
}
CASES = {
    "train": ("npu", {}, {}),
    "one of several NPUs": ("npu:3", {}, {"session_device_id": ("i", 3)}),
    "deterministic": ("npu", {"deterministic": True}, {"deterministic": ("i", 1)}),
    "a user's option": ("npu", {"npu_options": ["hccl_timeout=60"]}, {"hccl_timeout": ("i", 60)}),
}


def documented(keys):
    """The configuration as the documents' scripts write it."""
    from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

    config = V1.ConfigProto()
    custom_op = config.graph_options.rewrite_options.custom_optimizers.add()
    custom_op.name = "NpuOptimizer"
    for key, (field, value) in keys.items():
        setattr(custom_op.parameter_map[key], field, value)
    config.graph_options.rewrite_options.remapping = RewriterConfig.OFF
    config.graph_options.rewrite_options.memory_optimization = RewriterConfig.OFF
    return config


def assert_documented(config, keys):
    rewrite = config.graph_options.rewrite_options
    assert [custom.name for custom in rewrite.custom_optimizers] == ["NpuOptimizer"]
    emitted = rewrite.custom_optimizers[0].parameter_map
    assert sorted(emitted) == sorted(keys)  # none is missing, none is more
    for key, (field, value) in keys.items():
        assert emitted[key].WhichOneof("value") == field, key
        assert getattr(emitted[key], field) == value, key
    assert (int(rewrite.remapping), int(rewrite.memory_optimization)) == (OFF, OFF)
    assert config == documented(keys)  # nothing else is set anywhere


@pytest.mark.parametrize("precision", sorted(PRECISIONS))
@pytest.mark.parametrize("case", sorted(CASES))
def test_a_session_is_the_documented_one(adapter, monkeypatch, case, precision):  # noqa: F811
    monkeypatch.setattr(devices.base, "_make_deterministic", lambda: None)  # TensorFlow's is for the process
    spec, options, more = CASES[case]
    config = devices.open_device(spec, precision=precision, **options).session_config()
    assert_documented(config, {**DOCUMENTED, "precision_mode": PRECISIONS[precision], **more})


@pytest.mark.parametrize("precision", sorted(PRECISIONS))
@pytest.mark.parametrize("way", ["rank table", "chief"])
def test_a_rank_has_hcom_parallel_besides(adapter, monkeypatch, tmp_path, way, precision):  # noqa: F811
    """The device is the one that ASCEND_DEVICE_ID names: a rank's session has no session_device_id."""
    ranks = {
        "CM_CHIEF_IP": "10.0.0.1",
        "CM_CHIEF_PORT": "6000",
        "CM_CHIEF_DEVICE": "0",
        "CM_WORKER_SIZE": "2",
        "CM_WORKER_IP": "10.0.0.1",
        "ASCEND_DEVICE_ID": "1",
    }
    if way == "rank table":
        listed = [{"rank_id": str(number), "device_id": str(number)} for number in range(2)]
        (tmp_path / "table.json").write_text(json.dumps({"server_list": [{"device": listed}]}))
        ranks = {"RANK_TABLE_FILE": str(tmp_path / "table.json"), "RANK_ID": "1", "RANK_SIZE": "2"}
    for name, value in ranks.items():
        monkeypatch.setenv(name, value)
    device = devices.open_device("npu", precision=precision)
    assert (device.rank, device.count, device.index) == (1, 2, 1)
    keys = {**DOCUMENTED, "precision_mode": PRECISIONS[precision], "hcom_parallel": ("b", True)}
    assert_documented(device.session_config(), keys)


def test_the_comparison_notices_one_key_too_many_and_an_integer_off(adapter):  # noqa: F811
    keys = {**DOCUMENTED, "precision_mode": PRECISIONS["O0"]}
    for spoil in (
        lambda rewrite: rewrite.custom_optimizers[0].parameter_map["enable_dump"],  # reading makes an entry
        lambda rewrite: setattr(rewrite, "memory_optimization", 1),
        lambda rewrite: setattr(rewrite, "constant_folding", OFF),
        lambda rewrite: setattr(rewrite.custom_optimizers[0].parameter_map["graph_run_mode"], "i", 0),
    ):
        config = devices.open_device("npu").session_config()
        assert_documented(config, keys)
        spoil(config.graph_options.rewrite_options)
        with pytest.raises(AssertionError):
            assert_documented(config, keys)


def test_an_adapter_that_would_train_without_the_others_is_refused(adapter, monkeypatch):  # noqa: F811
    """Before CM_* counted for the optimizer, it looked at RANK_SIZE alone, and averaged nothing."""
    for name in ("CM_CHIEF_IP", "CM_CHIEF_PORT", "CM_CHIEF_DEVICE", "CM_WORKER_SIZE", "CM_WORKER_IP"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("ASCEND_DEVICE_ID", "0")
    monkeypatch.setenv("NPU_STAND_IN_OLD", "1")
    with pytest.raises(devices.base.UsageError, match="does not average gradients.*use RANK_TABLE_FILE"):
        devices.open_device("npu")
    monkeypatch.delenv("NPU_STAND_IN_OLD")
    assert devices.open_device("npu").count == 2


def test_several_npus_in_one_process_are_refused(adapter, monkeypatch):  # noqa: F811
    monkeypatch.setenv("RANK_SIZE", "1")
    with pytest.raises(devices.base.UsageError, match="--num-devices 2, but RANK_SIZE makes this process the only one"):
        devices.open_device("npu", number=2)
