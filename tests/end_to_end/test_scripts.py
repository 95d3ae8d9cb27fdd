"""The shell scripts, run in a copy of the checkout with programs that only pretend to be Python and pip."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.once
TOOLS = [
    *["bash", "cat", "chmod", "dirname", "env", "find", "flock", "getconf", "grep", "ls", "mkdir", "mktemp"],
    *["mv", "readlink", "rm", "sed", "sleep", "tail", "timeout", "tr", "uname"],
]

# Pretends to be Python 3.11: `-m venv DIR` copies it there, `-m pip` obeys FAKE_PIP, main.py is echoed.
FAKE_PYTHON = r"""#!/usr/bin/env bash
set -eu
case "${1:-} ${2:-}" in
    "-c import ensurepip"*) [ "$3" = "${FAKE_VERSION:-3.11}" ] ;;
    "-c import importlib"*) [ -n "${FAKE_ADAPTER:-}" ] ;;
    "-c import hashlib"*) printf '%s ' "${FAKE_VERSION:-3.11}"; cat "$3" | tr -d '\n'; echo ;;
    "-m venv")
        echo "venv $3" >>"$FAKE_CALLS"
        mkdir -p "$3/bin"
        cat "$0" >"$3/bin/python"
        printf '#!/usr/bin/env bash\n' >"$3/bin/shellcheck"
        chmod +x "$3/bin/python" "$3/bin/shellcheck" ;;
    "-m pip")
        echo "pip ${*: -1}" >>"$FAKE_CALLS"
        echo "a line from pip"
        case ${FAKE_PIP:-works} in
            works) sleep "${FAKE_PIP_SECONDS:-0}" ;;
            fails) echo "no network to be had"; exit 1 ;;
            hangs) : >"$FAKE_CALLS.hanging"; exec sleep 60 ;;
        esac ;;
    "-m pytest") echo "module $*"; exit "${FAKE_PYTEST_STATUS:-0}" ;;
    "-m "*) echo "module $*" ; exit "${FAKE_MODULE_STATUS:-0}" ;;
    */count_tests.py\ *) echo "${FAKE_COUNTS:?no report}" ;;
    *) printf '<%s>' "$@"; echo; pwd; exit "${FAKE_STATUS:-0}" ;;
esac
"""


class Checkout:
    """A copy of the scripts in a folder with spaces; only fake Pythons are to be found."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a checkout"
        self.bin = folder / "bin"
        self.elsewhere = folder / "else where"
        self.calls = folder / "calls"
        for path in (self.root / "tests" / "support", self.root / ".ci", self.bin, self.elsewhere):
            path.mkdir(parents=True)
        for name in ("run_gpu.sh", "run_npu.sh", "eval.sh", "tests/run.sh", "tests/support/browser.sh", ".ci/run"):
            shutil.copy(str(ROOT / name), str(self.root / name))
        for name in ("scripts", "requirements"):
            shutil.copytree(str(ROOT / name), str(self.root / name))
        for tool in TOOLS:
            found = shutil.which(tool)
            if found:
                (self.bin / tool).symlink_to(found)
        self.env = {"PATH": str(self.bin), "HOME": str(folder), "FAKE_CALLS": str(self.calls), "LC_ALL": "C"}

    def add_python(self, name: str = "python3.11") -> Path:
        path = self.bin / name
        path.write_text(FAKE_PYTHON)
        path.chmod(0o755)
        return path

    def start(self, script: str, *options: str, **env: str) -> subprocess.Popen[str]:
        command = [str(self.bin / "bash"), str(self.root / script), *options]
        return subprocess.Popen(
            command,
            cwd=str(self.elsewhere),
            env={**self.env, **env},
            universal_newlines=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            # Where the tests run in the background, SIGINT is ignored from the start, and bash then cannot trap it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, script: str, *options: str, **env: str) -> Any:
        process = self.start(script, *options, **env)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def forget(self) -> None:
        self.calls.unlink()

    def main(self, *arguments: str) -> str:
        """What the fake Python prints when main.py gets these arguments, in the caller's folder."""
        words = (str(self.root / "tf_seresnet" / "main.py"), *arguments)
        return "".join("<{}>".format(word) for word in words) + "\n{}\n".format(self.elsewhere)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path.resolve())


def is_one_error(err: str) -> bool:
    last = err.rstrip("\n").splitlines()[-1]
    return last.startswith("error: ") and "; " in last and err.count("error: ") == 1


@pytest.mark.parametrize(
    ("script", "options", "arguments"),
    [
        ("run_gpu.sh", [], []),
        ("run_gpu.sh", ["--data-path", "my data"], ["--data-path", "my data"]),
        ("run_gpu.sh", ["benchmark", "--seed", "1"], ["benchmark", "--seed", "1"]),
        ("run_gpu.sh", ["--device", "cpu", ""], ["--device", "cpu", ""]),
        ("run_npu.sh", [], ["--device", "npu"]),
        ("run_npu.sh", ["summary", "--recipe", "x"], ["--device", "npu", "summary", "--recipe", "x"]),
        ("eval.sh", ["--checkpoint", "a b*"], ["evaluate", "--checkpoint", "a b*"]),
    ],
)
def test_options_reach_main_unchanged(
    checkout: Checkout, script: str, options: list[str], arguments: list[str]
) -> None:
    python = checkout.add_python("my-python")
    result = checkout.run(script, *options, PYTHON=str(python))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == checkout.main(*arguments)
    assert checkout.called() == []  # PYTHON is used as it is


@pytest.mark.parametrize("named", [False, True])
def test_eval_takes_the_python_and_the_device_of_run_npu_where_that_has_the_adapter(
    checkout: Checkout, named: bool
) -> None:
    python = checkout.add_python("my-python" if named else "python3")
    checkout.add_python()  # python3.11, which could make .venv
    env = dict({"PYTHON": str(python)} if named else {}, FAKE_ADAPTER="yes")
    result = checkout.run("eval.sh", "--seed", "1", **env)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == checkout.main("evaluate", "--device", "npu", "--seed", "1")
    assert checkout.called() == []  # no environment is made


@pytest.mark.parametrize("script", ["run_gpu.sh", "run_npu.sh", "eval.sh"])
@pytest.mark.parametrize("link", ["a link", "link to a link"])
def test_a_link_to_a_script_is_that_script(checkout: Checkout, script: str, link: str) -> None:
    (checkout.elsewhere / "a link").symlink_to(os.path.relpath(str(checkout.root / script), str(checkout.elsewhere)))
    (checkout.elsewhere / "link to a link").symlink_to("a link")
    python = checkout.add_python("my-python")
    direct = checkout.run(script, "--seed", "1", PYTHON=str(python))
    linked = checkout.run(str(checkout.elsewhere / link), "--seed", "1", PYTHON=str(python))
    assert (linked.returncode, linked.stdout, linked.stderr) == (0, direct.stdout, "")
    (checkout.bin / "readlink").unlink()
    assert checkout.run(script, "--seed", "1", PYTHON=str(python)).stdout == direct.stdout


@pytest.mark.parametrize("script", ["run_gpu.sh", "run_npu.sh", "eval.sh"])
@pytest.mark.parametrize("named", ["", "no-such-python", "echo", "/", "./nothing here"])
def test_a_python_that_cannot_be_started(checkout: Checkout, script: str, named: str) -> None:
    result = checkout.run(script, PYTHON=named)
    assert result.returncode == 2
    assert is_one_error(result.stderr)
    assert len(result.stderr.splitlines()) == 1
    assert checkout.called() == []  # an empty PYTHON does not mean another one


@pytest.mark.parametrize("script", ["run_gpu.sh", "run_npu.sh", "eval.sh"])
@pytest.mark.parametrize("status", [0, 1, 2, 130, 143])
def test_the_exit_status_of_main_passes_through(checkout: Checkout, script: str, status: int) -> None:
    python = checkout.add_python("my-python")
    assert checkout.run(script, PYTHON=str(python), FAKE_STATUS=str(status)).returncode == status


@pytest.mark.parametrize("script", ["run_gpu.sh", "run_npu.sh", "eval.sh"])
def test_a_signal_reaches_main_itself(checkout: Checkout, script: str) -> None:
    python = checkout.bin / "my-python"
    python.write_text(
        "#!/usr/bin/env bash\n[ \"$1\" != -c ] || exit 1\ntrap 'echo saved; exit 143' TERM\necho ready\n"
        "for _ in {1..600}; do sleep 0.05; done\n"
    )
    python.chmod(0o755)
    process = checkout.start(script, PYTHON=str(python))
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, out) == (143, "saved\n")


def test_the_environment_is_made_once_for_run_and_eval(checkout: Checkout) -> None:
    checkout.add_python()
    first = checkout.run("run_gpu.sh", "--seed", "1")
    assert first.returncode == 0, first.stderr
    assert first.stdout == checkout.main("--seed", "1")
    assert checkout.called() == [
        "venv {}/.venv".format(checkout.root),
        "pip {}/requirements/cpu.txt".format(checkout.root),
    ]
    assert len(first.stderr.splitlines()) == 2
    assert "a line from pip" not in first.stderr
    assert "a line from pip" in (checkout.root / ".venv" / "install.log").read_text()
    checkout.forget()
    second = checkout.run("eval.sh")
    assert (second.stdout, second.stderr) == (checkout.main("evaluate"), "")
    assert checkout.called() == []


def test_a_gpu_brings_the_gpu_requirements_and_they_stay(checkout: Checkout) -> None:
    if os.uname()[0] + os.uname()[4] != "Linuxx86_64":
        pytest.skip("TensorFlow has CUDA wheels for x86_64 Linux only")
    checkout.add_python()
    tool = checkout.bin / "nvidia-smi"
    tool.write_text("#!/usr/bin/env bash\necho 'GPU 0: a fake one (UUID: none)'\n")
    tool.chmod(0o755)
    assert checkout.run("run_gpu.sh").returncode == 0
    assert checkout.called()[-1] == "pip {}/requirements/gpu.txt".format(checkout.root)
    tool.unlink()
    checkout.forget()
    assert checkout.run("run_gpu.sh").returncode == 0
    assert checkout.called() == []


def test_other_requirements_rebuild_the_environment(checkout: Checkout) -> None:
    checkout.add_python()
    checkout.run("run_gpu.sh")
    (checkout.root / ".venv" / "left-over").write_text("")
    with (checkout.root / "requirements" / "cpu.txt").open("a") as stream:
        stream.write("another==1\n")
    checkout.forget()
    assert checkout.run("run_gpu.sh").returncode == 0
    assert [call.split()[0] for call in checkout.called()] == ["venv", "pip"]
    assert not (checkout.root / ".venv" / "left-over").exists()


def test_a_failed_install_says_why_and_is_done_again(checkout: Checkout) -> None:
    checkout.add_python()
    result = checkout.run("run_gpu.sh", FAKE_PIP="fails")
    assert (result.returncode, result.stdout) == (2, "")
    assert is_one_error(result.stderr)
    assert "no network to be had" in result.stderr
    checkout.forget()
    result = checkout.run("run_gpu.sh")
    assert result.returncode == 0
    assert [call.split()[0] for call in checkout.called()] == ["venv", "pip"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_install_stops_at_once_and_is_done_again(
    checkout: Checkout, number: signal.Signals, status: int
) -> None:
    checkout.add_python()
    process = checkout.start("run_gpu.sh", FAKE_PIP="hangs")
    wait_for(Path(str(checkout.calls) + ".hanging"))
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode == status
    checkout.forget()
    assert checkout.run("run_gpu.sh").returncode == 0  # would wait for the lock if pip lived on
    assert [call.split()[0] for call in checkout.called()] == ["venv", "pip"]


@pytest.mark.skipif(shutil.which("flock") is None, reason="without flock nothing is locked")
def test_two_at_once_install_once(checkout: Checkout) -> None:
    checkout.add_python()
    processes = [checkout.start("run_gpu.sh", FAKE_PIP_SECONDS="0.5") for _ in range(3)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert [out for out, _ in outputs] == [checkout.main()] * 3
    assert [call.split()[0] for call in checkout.called()] == ["venv", "pip"]


@pytest.mark.skipif(shutil.which("flock") is None, reason="without flock nothing is locked")
def test_the_lock_is_not_held_while_main_runs(checkout: Checkout) -> None:
    checkout.add_python()
    held = checkout.bin / "python3.11"
    training = '    */main.py*) : >"$FAKE_CALLS.main"; exec sleep 60 ;;\n'
    held.write_text(FAKE_PYTHON.replace("    *) printf", training + "    *) printf"))
    process = checkout.start("run_gpu.sh")
    try:
        wait_for(Path(str(checkout.calls) + ".main"))
        lock = str(checkout.root / ".venv" / ".lock")
        assert subprocess.call(["flock", "-n", lock, "true"]) == 0
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_an_environment_of_the_users_own_is_left_alone(checkout: Checkout) -> None:
    checkout.add_python()
    own = checkout.root / ".venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    result = checkout.run("run_gpu.sh")
    assert result.returncode == 2
    assert is_one_error(result.stderr)
    assert own.read_text() == "mine"
    assert checkout.called() == []


@pytest.mark.parametrize("version", ["3.9", "3.14"])
def test_without_a_suitable_python(checkout: Checkout, version: str) -> None:
    checkout.add_python("python3")
    result = checkout.run("run_gpu.sh", FAKE_VERSION=version)
    assert result.returncode == 2
    assert is_one_error(result.stderr)
    assert len(result.stderr.splitlines()) == 1
    assert "3.11" in result.stderr


@pytest.mark.parametrize("place", ["python3", "python3.12", "pyenv"])
def test_where_a_python_is_found(checkout: Checkout, place: str) -> None:
    broken = checkout.bin / "python3.11"  # as pyenv's shim is for a version that is not switched on
    broken.write_text("#!/usr/bin/env bash\nexit 127\n")
    broken.chmod(0o755)
    path = checkout.add_python("python3.12" if place == "pyenv" else place)
    if place == "pyenv":
        inside = Path(checkout.env["HOME"]) / ".pyenv" / "versions" / "3.12.1" / "bin" / "python"
        inside.parent.mkdir(parents=True)
        path = path.replace(inside) or inside
    result = checkout.run("run_gpu.sh", FAKE_VERSION="3.12")
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines()[0] == "making .venv with {}".format(path)


def test_an_environment_that_cannot_be_written(checkout: Checkout) -> None:
    checkout.add_python()
    (checkout.root / ".venv").write_text("")  # a file, which stops root too
    result = checkout.run("run_gpu.sh")
    assert result.returncode == 2
    assert is_one_error(result.stderr)


@pytest.mark.parametrize("already", [False, True])
def test_ascends_environment_is_loaded_where_it_is_not(checkout: Checkout, already: bool) -> None:
    toolkit = checkout.root / "Ascend" / "ascend-toolkit" / "latest"
    toolkit.mkdir(parents=True)
    script = toolkit.parent / "set_env.sh"
    script.write_text("false\nexport ASCEND_OPP_PATH=$UNSET_BEFORE/opp\necho loaded\n")
    python = checkout.add_python("my-python")
    env = {"ASCEND_OPP_PATH": "/there"} if already else {}
    env.update(PYTHON=str(python), ASCEND_TOOLKIT_HOME=str(toolkit))
    result = checkout.run("run_npu.sh", "--seed", "1", **env)
    assert result.returncode == 0, result.stderr
    assert ("loaded" in result.stdout) is not already
    assert "<--seed><1>" in result.stdout


def wait_for(path: Path) -> None:
    for _ in range(400):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError("{} never came".format(path))


class TestRunTests:
    """tests/run.sh: what it says and returns when parts fail or are missing."""

    @staticmethod
    def run(checkout: Checkout, *options: str, **env: str) -> Any:
        env.setdefault("FAKE_COUNTS", "5 passed, 0 failed, 1 skipped")
        return checkout.run("tests/run.sh", *options, **env)

    @pytest.fixture(autouse=True)
    def _python(self, checkout: Checkout) -> None:
        checkout.add_python()

    @pytest.mark.parametrize("options", [[], ["--full"]])
    def test_all_passed(self, checkout: Checkout, options: list[str]) -> None:
        result = self.run(checkout, *options, KIT_TEST_TORCH="0")
        assert result.returncode == 0, result.stderr + result.stdout
        lines = result.stdout.split("=== summary\n")[1].splitlines()
        assert "main: 5 passed, 0 failed, 1 skipped" in lines
        assert "torch: 5 passed, 0 failed, 1 skipped" in lines
        assert {"ruff: passed", "mypy: passed", "shellcheck: passed", "torch: mypy: passed"} <= set(lines)
        assert [line.split(" (")[0] for line in lines if "NOT RUN" in line] == (
            ["main, torch backend: NOT RUN", "main, browser: NOT RUN", "tf115: NOT RUN", "tf26: NOT RUN"]
            if options
            else []
        )

    def test_without_full_what_is_slow_is_left_out_and_the_end_says_so(self, checkout: Checkout) -> None:
        result = self.run(checkout)
        started = [line for line in result.stdout.splitlines() if line.startswith("module -m pytest")]
        assert [" -m not slow tests/" in line for line in started] == [True, True]
        assert result.stdout.splitlines()[-1].startswith("bash tests/run.sh --full also runs the tests marked slow")
        installed = {call.rsplit("/", 1)[1] for call in checkout.called() if call.startswith("pip")}
        assert installed == {"cpu.txt", "test.txt", "beside-torch.txt", "test-torch.txt", "test-imagenet.txt"}

    def test_full_leaves_no_test_out(self, checkout: Checkout) -> None:
        result = self.run(checkout, "--full")
        started = [line for line in result.stdout.splitlines() if line.startswith("module -m pytest")]
        assert [" -m not slow" in line for line in started] == [False, False]
        assert "--full" not in result.stdout.split("=== summary\n")[1]
        assert "main, torch backend" not in result.stdout

    def test_durations_end_with_a_table_of_the_parts(self, checkout: Checkout) -> None:
        result = self.run(checkout, "--durations")
        started = [line for line in result.stdout.splitlines() if line.startswith("module -m pytest")]
        assert all(" --durations=25 " in line for line in started)
        table = [line.split(" | ")[0] for line in result.stdout.splitlines() if line.startswith("| ")]
        assert table[0].startswith("| part, ")
        assert {"| ruff", "| main: tests", "| torch: tests"} < set(table)
        assert table[-1] == "| all"

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root installs a browser")
    @pytest.mark.parametrize("works", [True, False])
    def test_ci_installs_a_browser_or_says_that_there_is_none(self, checkout: Checkout, works: bool) -> None:
        apt, browser = checkout.bin / "apt-get", checkout.bin / "chromium"
        last = 'printf "#!/bin/sh\\n" >"$0.new"; chmod +x "$0.new"; mv "$0.new" "{}"'.format(browser)
        apt.write_text("#!{}/bash\necho a mirror is away\n{}\n".format(checkout.bin, last if works else "exit 100"))
        apt.chmod(0o755)
        result = checkout.run(".ci/run", FAKE_COUNTS="5 passed, 0 failed, 1 skipped", KIT_TEST_ENVS="main")
        assert result.returncode == 0, result.stderr + result.stdout
        said = "NO BROWSER: apt-get did not install chromium: a mirror is away\n"
        assert (said in result.stderr) == (not works)
        assert ("main, browser: NOT RUN" in result.stdout.split("=== summary\n")[1]) == (not works)

    def test_a_failed_install_is_a_failure(self, checkout: Checkout) -> None:
        result = self.run(checkout, "--full", FAKE_PIP="fails")
        assert result.returncode == 1
        assert "main: FAILED" in result.stdout
        assert "passed" not in result.stdout.split("=== summary\n")[1]

    @pytest.mark.parametrize("counts", ["", "0 passed, 0 failed, 3 skipped"])
    def test_no_report_or_no_test_is_a_failure(self, checkout: Checkout, counts: str) -> None:
        result = self.run(checkout, FAKE_COUNTS=counts, KIT_TEST_ENVS="main")
        assert result.returncode == 1

    def test_every_environment_is_installed_once(self, checkout: Checkout) -> None:
        assert self.run(checkout, "--full", KIT_TEST_TORCH="0", FAKE_PIP_SECONDS="0.2").returncode == 0
        called = [call.replace(str(checkout.root), "") for call in checkout.called()]
        assert len(called) == len(set(called))
        names = ("cpu", "test", "audit", "beside-torch", "test-torch", "test-imagenet")
        assert {"pip /requirements/{}.txt".format(name) for name in names} <= set(called)

    @pytest.mark.skipif(shutil.which("flock") is None, reason="without flock nothing is installed meanwhile")
    def test_an_interrupt_ends_what_is_installed_meanwhile_too(self, checkout: Checkout) -> None:
        process = checkout.start("tests/run.sh", "--full", FAKE_PIP="hangs")
        deadline = time.time() + 60
        while time.time() < deadline and sum("pip" in call for call in checkout.called()) < 2:
            time.sleep(0.05)
        assert {call.rsplit("/", 1)[1] for call in checkout.called() if "pip" in call} == {"cpu.txt", "audit.txt"}
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=120)
        assert process.returncode == 130
        checkout.forget()
        assert self.run(checkout, "--full").returncode == 0  # would wait for a lock if a pip lived on

    def test_a_status_of_pytest_is_a_failure_whatever_was_counted(self, checkout: Checkout) -> None:
        result = self.run(checkout, FAKE_PYTEST_STATUS="3", KIT_TEST_ENVS="main")
        assert result.returncode == 1
        assert "main: FAILED (pytest ended with status 3; 5 passed" in result.stdout

    def test_a_failed_check_is_a_failure(self, checkout: Checkout) -> None:
        result = self.run(checkout, FAKE_MODULE_STATUS="1", KIT_TEST_ENVS="main")
        assert result.returncode == 1
        assert "ruff: FAILED" in result.stdout

    def test_an_environment_asked_for_by_name_must_run(self, checkout: Checkout) -> None:
        result = self.run(checkout, KIT_TEST_ENVS="tf115")
        assert result.returncode == 1
        assert "tf115: NOT RUN" in result.stdout
        assert is_one_error(self.run(checkout, KIT_TEST_ENVS="tf99").stderr)

    @pytest.mark.parametrize(
        ("status", "asked_for", "said", "returned"),
        [
            ("0", "", "audit: passed (", 0),
            ("3", "", "audit: NOT RUN (", 0),
            ("3", "audit", "audit: NOT RUN (", 1),
            ("1", "", "audit: FAILED (", 1),
        ],
    )
    def test_an_audit_that_cannot_ask_is_loud_and_one_that_finds_something_fails(
        self, checkout: Checkout, status: str, asked_for: str, said: str, returned: int
    ) -> None:
        result = self.run(checkout, "--full", FAKE_STATUS=status, **({"KIT_TEST_ENVS": asked_for} if asked_for else {}))
        assert result.returncode == returned, result.stdout
        assert said in result.stdout.split("=== summary\n")[1]

    def test_torch_comes_on_top_when_asked_for(self, checkout: Checkout) -> None:
        result = self.run(checkout, KIT_TEST_TORCH="1", KIT_TEST_ENVS="main")
        assert result.returncode == 0
        installed = [call.rsplit("/", 1)[1] for call in checkout.called()[1:]]
        assert installed == ["cpu.txt", "test.txt", "test-torch.txt"]

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ([], " -m not slow tests/shared tests/tf_seresnet tests/end_to_end "),
            (["-k", "shared"], " -m not slow -k shared tests/shared tests/tf_seresnet tests/end_to_end "),
            (["tests"], " -m not slow tests/shared tests/tf_seresnet tests/end_to_end "),
            (["-x", "tests/shared/test_a.py::test_b"], " -m not slow -x tests/shared/test_a.py::test_b "),
        ],
    )
    def test_options_and_paths_reach_pytest(self, checkout: Checkout, options: list[str], expected: str) -> None:
        result = self.run(checkout, *options, KIT_TEST_ENVS="main")
        started = [line for line in result.stdout.splitlines() if line.startswith("module -m pytest")]
        assert len(started) == 1
        assert expected in started[0]

    def test_a_path_is_run_in_the_environment_that_it_belongs_to(self, checkout: Checkout) -> None:
        result = self.run(checkout, "tests/torch_imagenet/step/test_training_step.py", KIT_TEST_ENVS="main torch")
        started = [line for line in result.stdout.splitlines() if line.startswith("module -m pytest")]
        assert len(started) == 1
        assert " tests/torch_imagenet/step/test_training_step.py " in started[0]
        assert "main: NOT RUN (none of the paths asked for is tested there)" in result.stdout
        assert result.returncode == 0

    def test_help_names_the_variables(self, checkout: Checkout) -> None:
        result = self.run(checkout, "--help")
        assert result.returncode == 0
        assert all(name in result.stdout for name in ("KIT_TEST_BROWSER", "KIT_TEST_DATA", "KIT_TEST_ENVS"))
        assert checkout.called() == []


def test_counting_a_real_report(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(
        "import pytest\ndef test_a(): pass\ndef test_b(): pass\ndef test_c(): assert 0\n"
        "@pytest.fixture\ndef broken(): raise OSError\ndef test_d(broken): pass\n"
        "def test_e(): pytest.skip('so')\n"
    )
    report = str(tmp_path / "report.xml")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-c", os.devnull, "--junitxml", report]
    subprocess.call([*command, "--rootdir", str(tmp_path), str(tmp_path)], stdout=subprocess.DEVNULL)
    counter = str(ROOT / "tests" / "support" / "count_tests.py")
    assert subprocess.check_output([sys.executable, counter, report]) == b"2 passed, 2 failed, 1 skipped\n"
    assert subprocess.call([sys.executable, counter, report + ".no"], stderr=subprocess.DEVNULL) != 0


def test_every_checkout_has_the_scripts_line_ends(tmp_path):
    """Also one of Git for Windows, used under WSL or in a container."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("no checkout of git")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    names = subprocess.check_output(["git", "-C", str(ROOT), "ls-files", "-z"], env=environment).decode().split("\0")
    (tmp_path / "copy").mkdir()
    for name in (".gitattributes", "run_gpu.sh", "scripts/python_env.sh", "requirements/cpu.txt"):
        assert name in names
        (tmp_path / "copy" / name).parent.mkdir(exist_ok=True)
        shutil.copy(str(ROOT / name), str(tmp_path / "copy" / name))

    def git(*words):
        command = ["git", "-C", str(tmp_path / "copy"), "-c", "core.autocrlf=true", *words]
        subprocess.check_call(command, env=environment)

    git("init", "--quiet")
    git("add", "--all")
    for name in ("run_gpu.sh", "scripts/python_env.sh", "requirements/cpu.txt"):
        (tmp_path / "copy" / name).unlink()
    git("checkout", "--quiet", "--", ".")
    for name in ("run_gpu.sh", "scripts/python_env.sh", "requirements/cpu.txt"):
        assert b"\r" not in (tmp_path / "copy" / name).read_bytes(), name
