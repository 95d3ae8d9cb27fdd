"""The names of torch_npu that the program uses, read from its source so that the list is always complete."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Iterator, Optional, Set

ROOT = Path(__file__).resolve().parents[3]
HALF = ROOT / "torch_imagenet"

# The only files that use a device's module (torch.npu for an NPU), and the names by which they do.
FILES = ("devices/availability.py", "devices/device.py", "devices/npu_options.py", "distributed/affinity.py")
MODULES = ("torch.npu", "module", "self.module", "device_module")


def used_names(source: str) -> Set[str]:
    """Dotted names below torch.npu and torch_npu in one of `FILES`, as in "torch.npu.config.allow_internal_format"."""
    tree = ast.parse(source)
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found = {name for node in ast.walk(tree) if id(node) not in inner for name in _attribute(node)}
    return found | {f"torch.npu.{name}" for node in ast.walk(tree) for name in _getattr(node)}


def program_names() -> Set[str]:
    """The names that the whole program uses."""
    return {name for file in FILES for name in used_names((HALF / file).read_text(encoding="utf-8"))}


def mentions_torch_npu(source: str) -> bool:
    """Whether a file uses the package or gets a device's module itself."""
    for node in ast.walk(ast.parse(source)):
        if (_dotted(node) or "").startswith(("torch.npu", "torch.get_device_module")):
            return True
        if isinstance(node, (ast.Import, ast.ImportFrom)) and "torch_npu" in ast.unparse(node):
            return True
        if isinstance(node, ast.Call) and _imported(node):
            return True
    return False


def _attribute(node: ast.AST) -> Iterator[str]:
    if not isinstance(node, ast.Attribute):
        return
    dotted = _dotted(node) or ""
    for module in MODULES:
        if dotted.startswith(f"{module}."):
            yield f"torch.npu.{dotted[len(module) + 1 :]}"
    if isinstance(node.value, ast.Call) and _imported(node.value):
        yield f"{_imported(node.value)}.{node.attr}"


def _getattr(node: ast.AST) -> Iterator[str]:
    """getattr(device_module, "name", ...)"""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
        target, name = node.args[:2]
        if _dotted(target) in MODULES and isinstance(name, ast.Constant):
            yield name.value


def _imported(call: ast.Call) -> Optional[str]:
    """The module of importlib.import_module("torch_npu.optim")."""
    if (_dotted(call.func) or "").endswith("import_module") and isinstance(call.args[0], ast.Constant):
        name = str(call.args[0].value)
        return name if name.split(".")[0] == "torch_npu" else None
    return None


def _dotted(node: ast.AST) -> Optional[str]:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = _dotted(node.value)
        return f"{base}.{node.attr}" if base else None
    return None
