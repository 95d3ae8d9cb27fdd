"""oneDNN is on where it is faster, unless the user decides; what the program believes is what TensorFlow does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

tf = pytest.importorskip("tensorflow")
from shared.errors import UsageError  # noqa: E402
from shared.run.resumption import rounding_changes  # noqa: E402
from shared.system import processor  # noqa: E402
from tf_seresnet import devices  # noqa: E402
from tf_seresnet.devices import onednn  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
VERSION = tuple(int(part) for part in re.findall(r"\d+", tf.__version__)[:2])
VARIABLE = "TF_ENABLE_ONEDNN_OPTS"
since_29 = pytest.mark.skipif(VERSION < (2, 9), reason="TensorFlow has oneDNN since 2.9")


def of_a_machine(monkeypatch, flags, version, value=None):
    monkeypatch.setattr(processor, "cpuinfo", lambda: f"flags\t\t: fpu {flags}\n")
    monkeypatch.setattr(onednn, "installed", lambda package: version)
    monkeypatch.delitem(sys.modules, "tensorflow")  # as before its import
    monkeypatch.setenv(VARIABLE, value or "")  # to be restored
    if not value:
        del os.environ[VARIABLE]


@pytest.mark.parametrize(
    ("flags", "version", "value", "by_itself", "used"),
    [
        ("avx avx2", "2.21.0", None, False, True),
        ("avx avx2", "2.21.0", "0", False, False),
        ("avx2 avx512f avx512_vnni", "2.21.0", None, True, True),
        ("avx2 avx512f avx512_vnni", "2.9.3", "0", True, False),
        ("avx", "2.21.0", None, False, False),
        ("asimd", "2.21.0", None, False, False),
        ("avx2", "2.6.5", None, False, False),
        ("avx2", "1.15.5", "1", False, False),  # which knows no such variable
        ("avx2", None, None, False, False),
    ],
)
def test_where_it_is_used(flags, version, value, by_itself, used, monkeypatch):
    of_a_machine(monkeypatch, flags, version, value)
    onednn.enable()
    assert (onednn.used_by_itself(), onednn.used()) == (by_itself, used)


def test_a_tensorflow_that_is_wrong_with_it_is_refused(monkeypatch):
    of_a_machine(monkeypatch, "avx2", "2.6.5", "1")
    with pytest.raises(UsageError, match="wrong convolutions; unset it"):
        onednn.enable()


@pytest.mark.parametrize(
    ("flags", "value", "refused"),
    [
        ("avx avx2", "1", True),
        ("avx avx2 avx512f", "1", False),
        ("avx avx2 avx512f avx512_vnni", None, False),
        ("avx avx2 avx512f avx512_vnni", "0", True),
        ("avx avx2 avx_ne_convert", "1", False),
        ("asimd", None, False),  # not tried
    ],
)
def test_bf16_is_refused_where_sums_would_be_rounded_to_it(flags, value, refused, monkeypatch):
    of_a_machine(monkeypatch, flags, "2.21.0", value)
    with pytest.raises(UsageError, match="^precision bf16 .* AVX-512 .*; do this$") if refused else nullcontext():
        onednn.require_bf16("do this")


@since_29
@pytest.mark.parametrize(
    ("flags", "began", "lines"),
    [("avx2", {}, 1), ("avx512_vnni", {}, 0), ("avx2", {"onednn": True}, 0), ("avx512_vnni", {"onednn": False}, 1)],
)
def test_a_run_that_began_without_it_is_told(flags, began, lines, monkeypatch):
    of_a_machine(monkeypatch, flags, tf.__version__, "1")
    monkeypatch.setitem(sys.modules, "tensorflow", tf)
    device = devices.open_device("cpu")
    assert device.rounding()["instructions"] == ("avx2" if flags == "avx2" else None)
    began = {"onednn": onednn.used_by_itself(), "threads": device.rounding()["threads"], **began}
    found = rounding_changes(began, device.rounding())
    assert len(found) == lines
    assert all("start with TF_ENABLE_ONEDNN_OPTS=0" in line for line in found)


@since_29
def test_what_is_believed_is_what_tensorflow_does():
    from tensorflow.python.util import _pywrap_util_port

    assert onednn.used() is _pywrap_util_port.IsMklEnabled()


def test_it_is_too_late_once_tensorflow_has_been_imported(monkeypatch):
    of_a_machine(monkeypatch, "avx2", "2.21.0")
    monkeypatch.setitem(sys.modules, "tensorflow", tf)
    onednn.enable()
    assert VARIABLE not in os.environ
    assert not onednn.used()


@since_29
@pytest.mark.slow
def test_a_process_that_loads_tensorflow_has_it():
    environment = {name: text for name, text in os.environ.items() if name != VARIABLE}
    code = """
from tf_seresnet import devices
devices.load_tensorflow("cpu", None)
from tensorflow.python.util import _pywrap_util_port
print(_pywrap_util_port.IsMklEnabled(), devices.open_device("cpu").rounding()["onednn"])
"""
    found = subprocess.check_output([sys.executable, "-c", code], env=environment, cwd=str(ROOT)).decode().split()
    expected = str("avx2" in processor.instructions())
    assert found == [expected, expected]
