"""Dockerfile and .dockerignore, against the checkout: what is in the image, and who runs it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import List

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOME = "/opt/se-pnas-kit"  # of the checkout in the image
pytestmark = pytest.mark.once


def instructions(name: str) -> List[str]:
    """The values of every instruction of this name, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    return re.findall(rf"^{name} (.*)$", text, re.MULTILINE)


def kept() -> List[str]:
    """What .dockerignore lets into the image."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith(("#", "!"))][0] == "*"
    return [line[1:] for line in lines if line.startswith("!")]


def test_the_image_has_every_package_script_and_file_that_the_programs_read_and_nothing_that_is_private() -> None:
    assert all(any(ROOT.glob(name)) for name in kept())
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages >= {"shared", "tf_seresnet", "torch_imagenet"}
    assert set(kept()) >= {*packages, "scripts", "requirements", "results", "*.sh", "LICENSE"}
    assert not set(kept()) & {".git", "runs", "tests", "imagenet", "cifar-10-batches-py"}


def test_what_the_image_installs_and_starts_is_there() -> None:
    defaults = dict(argument.partition("=")[::2] for argument in instructions("ARG"))
    assert (ROOT / "requirements" / f"{defaults['REQUIREMENTS']}.txt").is_file()
    assert f"{HOME}/requirements/${{REQUIREMENTS}}.txt" in instructions("RUN")[0]
    version = re.match(r"python:3\.(\d+)-", defaults["BASE"])
    assert version
    assert 10 <= int(version.group(1)) <= 13  # what every requirement file admits
    (program,) = re.findall(rf'"{HOME}/([^"]+)"', instructions("CMD")[0])
    assert (ROOT / program).is_file()


def test_the_image_runs_as_a_user_who_owns_where_runs_are_written() -> None:
    (user,) = instructions("USER")
    number, group = user.split(":")
    assert int(number) > 0
    (folder,) = instructions("WORKDIR")
    assert re.search(rf"install -d -o {number} -g {group} .*{folder}\b", instructions("RUN")[0])
    assert f'"{folder}"' in instructions("VOLUME")[0]
