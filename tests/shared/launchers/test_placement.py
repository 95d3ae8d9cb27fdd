"""The device, its number and what is exported: what the originals document, and the contradictions."""

from __future__ import annotations

import pytest

from shared.errors import UsageError
from shared.launchers import placement as devices

HALF = "torch_imagenet"


def placement(*arguments, own=None):
    return devices.placement(*arguments, own or {})


@pytest.mark.parametrize(
    ("asked", "device_id", "count", "environment", "device", "number"),
    [
        ("npu", None, 1, {}, "npu", "0"),
        ("npu", "3", 1, {}, "npu:3", "3"),
        ("npu", "3", 1, {"ASCEND_DEVICE_ID": "5"}, "npu:5", "5"),  # as documented, the variable wins
        ("npu", None, 8, {"ASCEND_DEVICE_ID": "5"}, "npu", "0"),  # eight devices are 0 to 7
        ("npu", "0", 8, {}, "npu", "0"),
        ("npu:2", None, 1, {}, "npu:2", "2"),
        ("cuda", "1", 1, {}, "cuda:1", "1"),
        ("cpu", "1", 1, {}, "cpu", "1"),  # there is one; the number names the files
        ("cpu", None, 2, {}, "cpu", "0"),
        ("auto", None, 1, {}, "auto", "0"),
        (None, None, 8, {}, "npu", "0"),  # the documented device
        (None, "2", 1, {}, "npu:2", "2"),
    ],
)
def test_device_and_number(asked, device_id, count, environment, device, number):
    assert placement(HALF, asked, device_id, count, environment)[:2] == (device, number)


def test_without_its_package_the_documented_device_is_replaced_by_none():
    devices.check_adapter(())
    devices.check_adapter(("no_such_package", "json"))
    with pytest.raises(UsageError, match="has no no_such_package or nor_this; .*--device=cuda, --device=cpu or"):
        devices.check_adapter(("no_such_package", "nor_this"))


@pytest.mark.parametrize(
    ("asked", "device_id", "count", "environment"),
    [
        ("auto", "1", 1, {}),
        ("npu", "x", 1, {}),
        ("npu", "-1", 1, {}),
        ("npu", None, 1, {"ASCEND_DEVICE_ID": "0,1"}),
        ("npu", "3", 1, {"ASCEND_DEVICE_ID": ""}),
        ("npu", "1", 2, {}),
    ],
)
def test_contradictions(asked, device_id, count, environment):
    with pytest.raises(UsageError, match="; "):
        placement(HALF, asked, device_id, count, environment)


def test_what_is_exported_is_the_documented_for_an_npu_alone():
    # The names and values of the originals' env_npu.sh.
    documented = {
        "ASCEND_SLOG_PRINT_TO_STDOUT": "0",
        "ASCEND_GLOBAL_LOG_LEVEL": "3",
        "ASCEND_GLOBAL_EVENT_ENABLE": "0",
        "TASK_QUEUE_ENABLE": "1",
        "PTCOPY_ENABLE": "1",
        "COMBINED_ENABLE": "1",
        "DYNAMIC_OP": "ADD#MUL",
        "HCCL_WHITELIST_DISABLE": "1",
    }
    assert placement(HALF, "npu", None, 8, {})[2] == documented
    assert placement(HALF, "npu:1", None, 1, {})[2] == documented
    own = placement(HALF, "npu", None, 8, {"TASK_QUEUE_ENABLE": "2"})[2]
    assert own == {name: value for name, value in documented.items() if name != "TASK_QUEUE_ENABLE"}
    platform = {"etp_running_flag": "true"}
    assert placement(HALF, "npu", None, 8, platform)[2] == {}
    assert placement("tf_seresnet", "npu", None, 1, {})[2] == {}  # that half sets JOB_ID itself
    for environment in ({}, platform):
        runtime = {"ENABLE_RUNTIME_V2": "1"}
        assert placement("tf_seresnet", "npu:1", None, 1, environment, own=runtime)[2] == runtime
        assert placement("tf_seresnet", "cpu", None, 1, environment, own=runtime)[2] == {}
    assert placement(HALF, "cpu", None, 8, {})[2] == {}
    assert placement(HALF, "cuda", None, 8, {})[2] == {}


@pytest.mark.parametrize("index", ["../../elsewhere", "/tmp", "0\n", "1/2", "٣", "-1", "12345"])
def test_a_device_number_is_no_path(index):
    """The number names the output folder."""
    for device, number, environment in (
        (f"npu:{index}", None, {}),
        ("npu", index, {}),
        ("npu", None, {"ASCEND_DEVICE_ID": index}),
    ):
        with pytest.raises(UsageError, match="device number"):
            placement(HALF, device, number, 1, environment)
