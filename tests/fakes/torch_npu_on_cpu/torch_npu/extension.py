"""The built extension, loaded once."""

from __future__ import annotations

from torch_npu.build import load

EXTENSION = load()
