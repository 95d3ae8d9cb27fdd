"""The real torch_npu, on stub libraries in place of CANN's, has every name and operator that the program uses.

Runs in its own environment: KIT_TEST_ENVS=torch-npu bash tests/run.sh
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.torch_npu_names import stand_in


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    specs = [importlib.util.find_spec(name) for name in ("torch_npu", "torch")]
    if None in specs:
        pytest.skip("torch_npu is not installed; KIT_TEST_ENVS=torch-npu bash tests/run.sh installs it")
    assert not stand_in.missing_tools(), "the stand-in libraries need a C compiler and binutils"
    packages = [Path(spec.origin).parent for spec in specs]
    environment = stand_in.build(tmp_path_factory.mktemp("stand-in"), *packages)
    probe = str(Path(__file__).with_name("probe.py"))
    process = subprocess.run(
        [sys.executable, probe], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert process.returncode == 0, process.stderr[-4000:]
    return json.loads(process.stdout.splitlines()[-1])


def test_every_name_exists(facts):
    assert "torch.npu.set_compile_mode" in facts["names"]
    assert facts["missing"] == []


def test_every_operator_of_a_training_has_a_kernel(facts):
    assert facts["without_kernel"] == []


def test_hccl_is_the_backend(facts):
    assert facts["backend"] == "hccl"


def test_a_machine_without_a_device_is_one_line(facts):
    assert facts["refusal"].startswith("there is no npu device here (torch_npu sees none: look at npu-smi info")
