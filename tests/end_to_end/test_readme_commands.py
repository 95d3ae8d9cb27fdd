"""The commands of the READMEs as they are run: those that need no torch. The others are in tests/torch_imagenet."""

from __future__ import annotations

import shutil

import pytest

from tests.end_to_end.test_readme import READMES, ROOT, _commands_as_text, _functions
from tests.support.readme_commands import ELSEWHERE, TENSORFLOW, TORCH, run

pytestmark = pytest.mark.once


@pytest.mark.parametrize("name", READMES)
def test_every_command_is_run_by_a_test(name):
    assert sorted(set(_commands_as_text(name))) == sorted([*TENSORFLOW, *TORCH, *ELSEWHERE])
    assert [test for file, test in ELSEWHERE.values() if test not in _functions(ROOT / file)] == []


@pytest.mark.slow
def test_the_commands_do_what_they_say(tmp_path, sample_folder):
    for name in READMES:
        shutil.copy(str(ROOT / name), str(tmp_path / name))
    for command, small in TENSORFLOW.items():
        status, output = run(command, small, tmp_path, sample_folder)
        assert status == small.status, f"{command}\n{output}"
    assert (tmp_path / "page.html").is_file()
    assert all((tmp_path / name).read_bytes() == (ROOT / name).read_bytes() for name in READMES)
