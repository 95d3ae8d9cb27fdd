"""`shared.run.provenance`: the commit, the command and the machine of a run."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from shared.run.provenance import command, commit, machine


def test_the_command_can_be_typed_again(monkeypatch):
    words = ["main.py", "--data-path", "a folder", "--recipe", "it's"]
    monkeypatch.setattr(sys, "argv", words)
    python, *rest = shlex.split(command())
    assert python == os.path.basename(sys.executable)
    assert rest == words


def test_commit_is_that_of_the_checkout_and_says_when_it_was_modified(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run(["git", *identity, *arguments], cwd=str(tmp_path), check=True, stdout=subprocess.DEVNULL)

    def found():
        code = "from shared.run.provenance import commit; print(commit())"
        output = subprocess.run([sys.executable, "-c", code], cwd=str(tmp_path), check=True, stdout=subprocess.PIPE)
        return output.stdout.decode().strip()

    root = Path(__file__).resolve().parents[3]
    shutil.copytree(str(root / "shared"), str(tmp_path / "shared"), ignore=shutil.ignore_patterns("__pycache__"))
    assert found() == "None"
    git("init", "-q")
    assert found() == "None"
    record = tmp_path / "benchmarks" / "records" / "cpu" / "row.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    git("add", "shared", "benchmarks")
    git("commit", "-q", "-m", "x")
    head = (tmp_path / ".git" / "HEAD").read_text().split()[-1]
    clean = found()
    assert clean == (tmp_path / ".git" / head).read_text().strip()
    (tmp_path / "untracked").write_text("")
    assert found() == clean
    record.write_text("[]")  # renewed, as other rows of the same program will be
    assert found() == clean
    (tmp_path / "shared" / "__init__.py").write_text("# changed\n")
    assert found() == clean + "-dirty"


def test_commit_is_not_that_of_a_project_that_merely_contains_the_package(tmp_path):
    root = Path(__file__).resolve().parents[3]
    inner = tmp_path / "site-packages"
    shutil.copytree(str(root / "shared"), str(inner / "shared"), ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "--allow-empty", "-m", "x"],
        cwd=str(tmp_path),
        check=True,
    )
    code = "from shared.run.provenance import commit; print(commit())"
    output = subprocess.run([sys.executable, "-c", code], cwd=str(inner), check=True, stdout=subprocess.PIPE)
    assert output.stdout.decode().strip() == "None"


def test_machine_and_commit_answer_here():
    assert machine().split()[-1] in ("core", "cores")
    assert commit() is None or len(commit().split("-")[0]) in (40, 64)
