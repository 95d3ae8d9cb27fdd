"""Which files handle an image of the ImageNet half, against docs/architecture.md."""

from __future__ import annotations

import pytest

from scripts import trace_image
from tests.end_to_end.test_code_map import documented_way


@pytest.mark.slow
def test_the_way_of_an_image() -> None:
    """Renew it with `python scripts/trace_image.py torch_imagenet --update docs/architecture.md`."""
    assert set(trace_image.trace("torch_imagenet")) == set(documented_way("torch_imagenet"))
