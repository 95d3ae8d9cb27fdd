"""Launchers with hostile arguments and variables: bash passes them on unchanged and executes nothing in them."""

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
    """All scripts that users start."""
    found = [*ROOT.glob("*.sh"), *ROOT.glob("torch_imagenet/test/**/*.sh"), *ROOT.glob("tf_seresnet/test/*.sh")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def hostile_arguments(marker: Path) -> List[str]:
    """Arguments that a shell without quoting would split, expand or execute."""
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


def _arguments_are_passed_on(folder: Path, rng: random.Random) -> str:
    """Python receives hostile arguments unchanged, alone and in --data_path=ARGUMENT."""
    checkout, lost = _checkout(folder), ""
    for name in launchers():
        arguments = rng.sample(hostile_arguments(folder / "marker"), 12)
        arguments = ["--checkpoint", *arguments, *[f"--data_path={argument}" for argument in arguments]]
        lost = lost or _run_launcher(checkout, folder, name, arguments, {})
    return lost


def _variables_run_nothing(folder: Path, rng: random.Random) -> str:
    """Environment variables that the scripts read or use internally have hostile values."""
    checkout, lost = _checkout(folder), ""
    for name in launchers():
        for _ in range(3):
            chosen = rng.sample(VARIABLES, 6)
            values = {variable: rng.choice(hostile_arguments(folder / "marker")) for variable in chosen}
            lost = lost or _run_launcher(checkout, folder, name, ["--epochs", "1"], values)
    return lost


def _checkout(folder: Path) -> Path:
    """The scripts in a folder whose name has a space, a quote and a command, and a program that replaces Python."""
    checkout = folder / "a 'check$(touch escaped)out"
    for name in [*launchers(), "scripts/python_env.sh", "scripts/documented_launcher.sh"]:
        target = checkout / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    program = checkout / "my python"
    program.write_text('#!/bin/bash\nprintf "%s\\0" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    (folder / "elsewhere").mkdir(exist_ok=True)
    return checkout


def _run_launcher(checkout: Path, folder: Path, name: str, arguments: List[str], values: Dict[str, str]) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder / "elsewhere"), "PYTHON": str(checkout / "my python")}
    environment.update(values)
    process = subprocess.run(
        ["bash", str(checkout / name), *arguments],
        cwd=str(folder / "elsewhere"),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    where = f"{name} with {values or arguments}"[:600]
    if (folder / "marker").exists() or list(folder.rglob("escaped")):
        return f"{where} executes a command in them"
    if os.listdir(str(folder / "elsewhere")):
        return f"{where} writes {os.listdir(str(folder / 'elsewhere'))}"
    started = [os.fsdecode(word) for word in process.stdout.split(b"\0")[:-1]]
    if process.returncode == 0 and started[-len(arguments) :] != arguments:
        return f"{where} starts Python with {started[-len(arguments) :]}"[:900]
    error = process.stderr.decode("utf-8", "replace")
    if process.returncode not in (0, 2) or (process.returncode == 2 and "error: " not in error):
        return f"{where}: exit status {process.returncode}, {error[-300:]}"
    return ""


CASES = [
    Case("hostile words for all launchers", SHARED, _arguments_are_passed_on, rounds=10),
    Case("hostile variables for all launchers", SHARED, _variables_run_nothing, rounds=10),
]
