"""The commands of the READMEs as they are run: those of the ImageNet half."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.readme_commands import TORCH, run


@pytest.mark.slow
def test_the_commands_do_what_they_say(tmp_path: Path, tiny: Any) -> None:
    for command, small in TORCH.items():
        status, output = run(command, small, tmp_path, tiny.folder)
        assert status == small.status, f"{command}\n{output}"
