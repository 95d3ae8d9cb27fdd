"""Launchers with hostile words and variables: bash hands them on as they are, and runs nothing that is in them."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path
from typing import Dict, List

from tests.faults.case import SHARED, Case

ROOT = Path(__file__).resolve().parents[4]
VARIABLES = tuple(
    (
        "PYTHON HOME KIT_CACHE XDG_CACHE_HOME ASCEND_DEVICE_ID ASCEND_INSTALL_PATH ASCEND_TOOLKIT_HOME "
        "ASCEND_OPP_PATH PYENV_ROOT RANK_ID RANK_SIZE JOB_ID SLURM_JOB_ID CUDA_VISIBLE_DEVICES etp_running_flag "
        "IFS CDPATH KIT_ROOT python folder"
    ).split()
)


def launchers() -> List[str]:
    """All scripts that a user starts."""
    found = [*ROOT.glob("*.sh"), *ROOT.glob("torch_imagenet/test/*.sh"), *ROOT.glob("tf_seresnet/test/*.sh")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def words(marker: Path) -> List[str]:
    """What a shell that does not quote would split, expand or run."""
    touch = f"touch '{marker}'"
    return [
        f"$({touch})",
        f"`{touch}`",
        f"; {touch}",
        f"' ; {touch} #",
        f'" ; {touch} #',
        f"| {touch}",
        f"&& {touch}",
        f"\n{touch}\n",
        f"x[$({touch})]",
        f"${{x:-$({touch})}}",
        f"<({touch})",
        f"> {marker}",
        "a  b",
        "*",
        "~",
        "\\",
        "-c",
        "--",
        "-",
        "",
        "\x07",
        "ä",
        "%s%n",
        "!!",
        "a=b",
        "x" * 20_000,
    ]


def _words_are_handed_on(folder: Path, source: random.Random) -> str:
    """As options, a word each and as --data_path=WORD: what Python is started with has them unchanged."""
    checkout, lost = _checkout(folder), ""
    for name in launchers():
        given = source.sample(words(folder / "marker"), 12)
        given = ["--checkpoint", *given, *[f"--data_path={word}" for word in given]]
        lost = lost or _started(checkout, folder, name, given, {})
    return lost


def _variables_run_nothing(folder: Path, source: random.Random) -> str:
    """In the environment: each variable that the scripts read, or use as a name of their own."""
    checkout, lost = _checkout(folder), ""
    for name in launchers():
        for _ in range(3):
            chosen = source.sample(VARIABLES, 6)
            values = {variable: source.choice(words(folder / "marker")) for variable in chosen}
            lost = lost or _started(checkout, folder, name, ["--epochs", "1"], values)
    return lost


def _checkout(folder: Path) -> Path:
    """The scripts in a folder with a space, a quote and a command in its name, and a program in the place of Python."""
    checkout = folder / "a 'check$(touch escaped)out"
    for name in [*launchers(), "scripts/python_env.sh", "scripts/ascend_env.sh", "scripts/documented_launcher.sh"]:
        target = checkout / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    program = checkout / "my python"
    program.write_text('#!/bin/bash\nprintf "%s\\0" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    (folder / "elsewhere").mkdir(exist_ok=True)
    return checkout


def _started(checkout: Path, folder: Path, name: str, given: List[str], values: Dict[str, str]) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder / "elsewhere"), "PYTHON": str(checkout / "my python")}
    environment.update(values)
    ended = subprocess.run(
        ["bash", str(checkout / name), *given],
        cwd=str(folder / "elsewhere"),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    where = f"{name} with {values or given}"[:600]
    if (folder / "marker").exists() or list(folder.rglob("escaped")):
        return f"{where} runs what is in them"
    if os.listdir(str(folder / "elsewhere")):
        return f"{where} writes {os.listdir(str(folder / 'elsewhere'))}"
    started = [os.fsdecode(word) for word in ended.stdout.split(b"\0")[:-1]]
    if ended.returncode == 0 and started[-len(given) :] != given:
        return f"{where} starts Python with {started[-len(given) :]}"[:900]
    error = ended.stderr.decode("utf-8", "replace")
    if ended.returncode not in (0, 2) or (ended.returncode == 2 and "error: " not in error):
        return f"{where}: exit status {ended.returncode}, {error[-300:]}"
    return ""


CASES = [
    Case("hostile words for all launchers", SHARED, _words_are_handed_on, rounds=10),
    Case("hostile variables for all launchers", SHARED, _variables_run_nothing, rounds=10),
]
