"""The requirement files: hashes behind every pin of the default set-ups, and what is made of pip-audit's findings."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements"
pytestmark = pytest.mark.once


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, str(ROOT / "scripts" / (name + ".py")))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


pins, audit = load("pin_hashes"), load("audit")
LINE = re.compile(r'[a-z][a-z0-9._-]*==[0-9][0-9a-z.]*(\+cpu)?(; [a-z_]+ [<>=!]+ "[^"]*".*| ?; \(.*)?$')


def text(name: str) -> str:
    return (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", pins.PINNED)
def test_every_pin_has_hashes_in_the_form_that_the_script_writes(name: str) -> None:
    plain, hashes = pins.without_hashes(text(name)), pins.hashes_in(text(name))
    lines = [line for line in plain.splitlines() if not line.startswith(("#", "-r ", pins.INDEX))]
    assert lines
    assert [line for line in lines if not LINE.match(line)] == []
    assert {pins.pin_of(line) for line in lines} == set(hashes)
    assert all(hashes.values())
    assert pins.with_hashes(plain, hashes) == text(name)


def test_one_version_has_the_same_hashes_in_all_files() -> None:
    known: dict = {}
    for name in pins.PINNED:
        for pin, hashes in pins.hashes_in(text(name)).items():
            assert known.setdefault(pin, hashes) == hashes, (name, pin)
    owners: dict = {}
    for pin, hashes in known.items():
        for one in hashes:
            assert owners.setdefault(one, pin) == pin


def test_the_plain_files_agree_with_those_that_have_hashes() -> None:
    """What is installed on top of one of them must not move its pins."""
    ours = (("cpu", "test"), ("gpu", "test"), ("beside-torch", "test-torch"), ("torch", "test-torch"))
    for base, more in (*ours, ("torch", "test-imagenet")):
        fixed = dict(pins.hashes_in(text(base)))
        versions: dict = {}
        for name, version in fixed:
            versions.setdefault(name, set()).add(version)
        for line in text(more).splitlines():
            name, version = pins.pin_of(line)
            assert not name or version in versions.get(name, {version}), line


def test_torchvision_belongs_to_the_default_set_up_in_the_version_of_its_torch() -> None:
    """torch 2.N and torchvision 0.(N + 15) belong together: the table in the README of pytorch/vision."""
    versions = {name: version.split(".") for name, version in pins.hashes_in(text("torch"))}
    assert versions["torchvision"][0] == "0"
    assert int(versions["torchvision"][1]) == int(versions["torch"][1]) + 15
    assert f"torchvision=={'.'.join(versions['torchvision'])}\n" in text("test-imagenet")


def test_the_set_up_without_cuda_is_that_with_cuda_in_other_builds() -> None:
    """Also what makes an audit of torch.txt one of torch-cpu.txt: no vulnerability service knows a local version."""
    versions, ours = (dict(list(pins.hashes_in(text(name)))) for name in ("torch", "torch-cpu"))
    assert ours == {name: f"{versions[name]}+cpu" for name in ("torch", "torchvision")}
    lines = text("torch-cpu").splitlines()
    assert "-r beside-torch.txt" in lines
    assert f"{pins.INDEX}https://download.pytorch.org/whl/cpu" in lines
    assert not set(sum(pins.hashes_in(text("torch-cpu")).values(), [])) & set(
        sum(pins.hashes_in(text("torch")).values(), [])
    )


@pytest.mark.parametrize("index", ["", "--extra-index-url https://example.org/simple\n"])
def test_hashes_are_replaced_and_nothing_else(index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    before = f'# why\n{index}-r other.txt\nSome_Name==1.0; python_version < "3.11" \\\n    --hash={one}\nplain==2\n'
    said = (
        f"plain==2 \\\n    --hash={other} \\\n    --hash={one}\n"
        f"some-name==1.0 ; python_full_version < '3.11' \\\n    --hash={other}\n"
    )

    def run(command: Any, input: str, **options: Any) -> Any:
        assert input == index + 'Some_Name==1.0; python_version < "3.11"\nplain==2\n'
        return subprocess.CompletedProcess(command, 0, said, "")

    monkeypatch.setattr(subprocess, "run", run)
    after = pins.with_hashes(pins.without_hashes(before), pins.look_up(before))
    assert after == (
        f'# why\n{index}-r other.txt\nSome_Name==1.0; python_version < "3.11" \\\n    --hash={other}\n'
        f"plain==2 \\\n    --hash={one} \\\n    --hash={other}\n"
    )
    with pytest.raises(KeyError):
        pins.with_hashes("unknown==1\n", pins.look_up(before))


def test_the_shell_strips_hashes_as_the_script_does() -> None:
    for name in pins.PINNED:
        command = f'. "{ROOT}/scripts/python_env.sh"; pins_of "{REQUIREMENTS}/{name}.txt"'
        assert subprocess.check_output(["bash", "-c", command], universal_newlines=True) == pins.without_hashes(
            text(name)
        )


# -- pip-audit -------------------------------------------------------------------------------------------------

FINDING = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.0"], "description": "long"}
GOOD = {"name": "good", "version": "1.0", "vulns": []}
BAD = {"name": "bad", "version": "1.0", "vulns": [FINDING]}
SKIPPED = {"name": "hidden", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("dependencies", "accepted", "status", "said"),
    [
        ([GOOD], "", audit.CLEAN, "1 packages looked up, 0 findings, 0 accepted"),
        ([GOOD, BAD, BAD], "", audit.FOUND, "bad 1.0: PYSEC-1, CVE-1; fixed in 2.0"),
        (
            [GOOD, BAD],
            "CVE-1 bad 2026-11-25 never reached",
            audit.CLEAN,
            "bad 1.0: PYSEC-1, CVE-1; accepted since 2026-11-25: never reached",
        ),
        ([GOOD, BAD], "CVE-1 good 2026-11-25 of another package", audit.FOUND, "2 packages looked up, 1 findings"),
        ([GOOD, SKIPPED], "", audit.FOUND, "hidden could not be looked up"),
        ([SKIPPED, SKIPPED], "", audit.UNKNOWN, "the service knows none of the 1 packages, so nothing is known"),
        ([], "", audit.UNKNOWN, "nothing is known"),
    ],
)
def test_what_is_made_of_the_findings(dependencies: list, accepted: str, status: int, said: str) -> None:
    lines, found = audit.judged(dependencies, audit.accepted_in(accepted))
    assert found == status
    assert said in "\n".join(lines)


@pytest.mark.parametrize(
    ("error", "status"),
    [("ERROR: Could not connect to PyPI's vulnerability feed", 3), ("ERROR: invalid requirement", 1), ("", 1)],
)
def test_a_service_that_cannot_be_asked_is_not_a_failure_and_anything_else_is(
    monkeypatch: pytest.MonkeyPatch, error: str, status: int
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", error))
    assert audit.audit([REQUIREMENTS / "cpu.txt"])[1] == status


def test_what_is_accepted_has_package_date_and_reason() -> None:
    for reason in audit.accepted_in(text("accepted")).values():
        assert re.match(r"\d{4}-\d\d-\d\d: \S", reason)
    with pytest.raises(ValueError, match="not enough values"):
        audit.accepted_in("PYSEC-1 bad 2026-11-25")
