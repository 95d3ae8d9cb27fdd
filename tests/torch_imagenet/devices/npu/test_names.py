"""What tests/fakes/torch_npu_names holds against the real torch_npu is what the program uses."""

from __future__ import annotations

import ast

import pytest

from tests.fakes.torch_npu_names.names import FILES, HALF, mentions_torch_npu, program_names, used_names


def test_the_names_are_found_in_every_form():
    source = (
        "torch.npu.a()\nself.module.b.c = 1\nmodule.d(torch.npu.a)\ngetattr(device_module, 'e', None)\n"
        "importlib.import_module('torch_npu.optim').F\nother.module.g\ntorch.nn.h\n"
    )
    expected = {"torch.npu.a", "torch.npu.b.c", "torch.npu.d", "torch.npu.e", "torch_npu.optim.F"}
    assert used_names(source) == expected


def test_the_program_uses_some():
    assert {
        "torch.npu.set_device",
        "torch.npu.set_compile_mode",
        "torch.npu.config.allow_internal_format",
        "torch.npu.manual_seed",
        "torch.npu.get_device_properties",
        "torch_npu.optim.NpuFusedSGD",
    } <= program_names()


@pytest.mark.parametrize(
    "source",
    [
        "torch.npu.x",
        "torch.get_device_module(d)",
        "import torch_npu",
        "from torch_npu import optim",
        "importlib.import_module('torch_npu')",
    ],
)
def test_a_mention_is_seen(source):
    assert mentions_torch_npu(source)


def test_no_other_file_uses_torch_npu():
    files = [path for path in sorted(HALF.rglob("*.py")) if str(path.relative_to(HALF)) not in FILES]
    assert len(files) > 30
    assert [path.name for path in files if mentions_torch_npu(path.read_text(encoding="utf-8"))] == []


def test_no_other_module_goes_by_these_names():
    """In `FILES`, `module` is nothing but a device's: no parameter of another type has that name."""
    for file in FILES:
        for node in ast.walk(ast.parse((HALF / file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.arg) and node.arg in ("module", "device_module"):
                assert ast.unparse(node.annotation) == "Any"
