"""What the tests of the ImageNet half share: torchvision, also where its wheel does not fit the installed torch."""

from __future__ import annotations

import glob
import importlib
import importlib.util
import sys
from types import ModuleType
from typing import List

import pytest

pytest.importorskip("torch")

_kept: List[object] = []  # a torch.library.Library undoes its definitions when it is collected


def import_torchvision() -> ModuleType:
    """torchvision; skips where it is not installed.

    Beside a torch for CPU the wheel for CUDA cannot load its compiled operators and does not import for want of two
    names. They are declared here; transforms, networks and timm never call them.
    """
    import torch

    if "torchvision" not in sys.modules:
        spec = importlib.util.find_spec("torchvision")
        if spec is None or not spec.submodule_search_locations:
            pytest.skip("torchvision is not installed")
        try:
            for library in glob.glob(spec.submodule_search_locations[0] + "/_C*.so"):
                torch.ops.load_library(library)
        except OSError:
            library = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _kept.append(library)
    return importlib.import_module("torchvision")


@pytest.fixture(scope="session")
def torchvision() -> ModuleType:
    """See `import_torchvision`."""
    return import_torchvision()
