"""The documented launchers of the CIFAR-10 half to their result files; and how all of them find Python and Ascend."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.test_scripts import Checkout as Scripts
from tests.end_to_end.test_scripts import is_one_error

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--variant=paper", "--depth=8"]  # the network is not what is tested
FIELDS = [
    *["Network", "RankSize", "BatchSize", "DeviceType", "CaseName", "ActualFPS", "TrainingTime", "TrainAccuracy"],
    *["ActualLoss", "E2ETrainingTime"],
]
LAUNCHERS = sorted(
    str(path.relative_to(ROOT))
    for half in ("torch_imagenet", "tf_seresnet")
    for path in (ROOT / half / "test").rglob("*.sh")
)


# -- the shell part, with programs that only pretend to be Python ----------------------------------------------


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    made = Scripts(tmp_path.resolve())
    for name in LAUNCHERS:
        (made.root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(ROOT / name), str(made.root / name))
    return made


def add_python(scripts: Scripts, path: Path, modules: str = "") -> Path:
    """A program that has these modules and prints what it is started with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "#!/usr/bin/env bash\n"
        'case "$1 $2" in\n'
        '    "-c import importlib"*) case " MODULES " in *" $3 "*) exit 0 ;; esac; exit 1 ;;\n'
        '    *) echo "$0"; printf "<%s>" "$@"; echo; pwd; exit 0 ;;\n'
        "esac\n".replace("MODULES", modules)
    )
    path.chmod(0o755)
    return path


def started(python: Path, scripts: Scripts, name: str, *words: str) -> str:
    half, launcher, network = name.split("/")[0], Path(name).stem, Path(name).parent.name
    words = words if network == "test" else ("--network={}".format(network), *words)
    arguments = [str(scripts.root / "scripts" / "documented_launcher.py"), half, launcher, *words]
    return "{}\n{}\n{}\n".format(python, "".join("<{}>".format(word) for word in arguments), scripts.elsewhere)


@pytest.mark.once
@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_link_to_a_launcher_is_that_launcher(scripts: Scripts, name: str) -> None:
    python = add_python(scripts, scripts.root / "python")
    link = scripts.elsewhere / "link.sh"
    link.symlink_to(scripts.root / name)
    done = scripts.run(str(link), "--data_path=x", PYTHON=str(python))
    assert (done.returncode, done.stdout) == (0, started(python, scripts, name, "--data_path=x"))


@pytest.mark.once
@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_hands_its_words_on_unchanged_from_any_folder(scripts: Scripts, name: str) -> None:
    python = add_python(scripts, scripts.bin / "my-python")
    result = scripts.run(name, "--data_path=a b", "--epochs", "", PYTHON="my-python")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == started(python, scripts, name, "--data_path=a b", "--epochs", "")


@pytest.mark.once
def test_the_python_on_the_path_with_the_framework_is_taken(scripts: Scripts) -> None:
    add_python(scripts, scripts.bin / "python3", "tensorflow")
    other = add_python(scripts, scripts.bin / "python", "torch")
    own = add_python(scripts, scripts.root / ".venv-torch" / "bin" / "python")
    name = "torch_imagenet/test/train_full_8p.sh"
    assert scripts.run(name).stdout == started(other, scripts, name)
    other.unlink()
    assert scripts.run(name).stdout == started(own, scripts, name)
    own.unlink()
    result = scripts.run(name)
    assert (result.returncode, result.stdout) == (2, "")
    assert is_one_error(result.stderr)
    assert "requirements/torch.txt" in result.stderr
    assert scripts.run(name, PYTHON="no-such").returncode == 2
    assert scripts.run(name, PYTHON="").returncode == 2


@pytest.mark.once
def test_the_cifar_half_falls_back_to_the_environment_that_run_gpu_makes(scripts: Scripts) -> None:
    scripts.add_python()  # python3.11, without a framework, able to make environments
    result = scripts.run("tf_seresnet/test/train_full_1p.sh", "--help")
    assert result.returncode == 0, result.stderr
    assert scripts.called()[0] == "venv {}/.venv".format(scripts.root)
    assert "<tf_seresnet><train_full_1p><--help>" in result.stdout


@pytest.mark.once
@pytest.mark.parametrize("flag", ["", "true"])
def test_ascends_environment_is_loaded_unless_the_platform_has_done_it(scripts: Scripts, flag: str) -> None:
    toolkit = scripts.root / "Ascend" / "ascend-toolkit" / "latest"
    toolkit.mkdir(parents=True)
    (toolkit.parent / "set_env.sh").write_text("export ASCEND_OPP_PATH=/opp\necho loaded\n")
    add_python(scripts, scripts.bin / "python3", "torch")
    name = "torch_imagenet/test/train_full_1p.sh"
    result = scripts.run(name, ASCEND_TOOLKIT_HOME=str(toolkit), etp_running_flag=flag)
    assert result.returncode == 0, result.stderr
    assert ("loaded" in result.stdout) is (flag != "true")


# -- the CIFAR-10 half -----------------------------------------------------------------------------------------


class Checkout:
    """A copy of the checkout in a folder with a space, for launchers write into theirs, and this Python."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.root, self.elsewhere, self.cache = folder / "a checkout", folder / "else where", cache
        self.elsewhere.mkdir()
        for name in ("shared", "tf_seresnet", "torch_imagenet", "scripts"):
            ignored = shutil.ignore_patterns("output", "__pycache__")
            shutil.copytree(str(ROOT / name), str(self.root / name), ignore=ignored)
        self.output = self.root / "tf_seresnet" / "test" / "output" / "0"

    def run(self, name: str, *options: str, **settings: str) -> Any:
        environment = {**os.environ, "PYTHON": sys.executable, "KIT_CACHE": str(self.cache)}
        for variable in ("ASCEND_DEVICE_ID", "etp_running_flag", "PYTHONPATH"):
            environment.pop(variable, None)
        return subprocess.run(
            ["bash", str(self.root / name), *options],
            cwd=str(self.elsewhere),
            env={**environment, **settings},
            universal_newlines=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=300,
        )

    def fields(self, case: str) -> dict[str, str]:
        lines = (self.output / "{}.log".format(case)).read_text().splitlines()
        values = dict(line.split(" = ") for line in lines)
        assert list(values) == FIELDS
        return values


@pytest.fixture
def checkout(tmp_path: Path, sample_folder: Path) -> Checkout:
    return Checkout(tmp_path.resolve(), sample_folder.parents[2])


@pytest.fixture
def small(sample_folder: Path) -> list[str]:
    pytest.importorskip("tensorflow")
    return ["--data_path={}".format(sample_folder.parent), "--batch_size=8", *SMALL]


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_a_full_training_runs_to_its_result_file(checkout: Checkout, small: list[str], devices: int) -> None:
    options = ["--device=cpu", "--total_epochs=2", "--iteration=4", "--print-freq=1", "--test_iteration=3"]
    result = checkout.run("tf_seresnet/test/train_full_1p.sh", *small, *options, "--num_devices={}".format(devices))
    assert (result.returncode, result.stderr) == (0, "")
    case = "senet_ID0145_for_TensorFlow_bs8_{}p_acc".format(devices)
    values = checkout.fields(case)
    assert (values["Network"], values["CaseName"]) == ("senet_ID0145_for_TensorFlow", case)
    assert (values["RankSize"], values["BatchSize"], values["DeviceType"]) == (str(devices), "8", platform.machine())
    milliseconds = 8000 * devices / float(values["ActualFPS"])
    assert float(values["TrainingTime"]) == pytest.approx(milliseconds, abs=0.01)
    losses = (checkout.output / "train_{}_loss.txt".format(case)).read_text().split()
    assert len(losses) == 8
    assert values["ActualLoss"] == losses[-1]
    log = (checkout.output / "train_0.log").read_text()
    assert result.stdout.startswith(log)
    assert "Final" not in log  # what the launcher itself says at the end goes to the console alone, as in the originals
    fraction = log.rpartition("test_acc: ")[2].split()[0]  # the original's reader takes this one
    assert float(values["TrainAccuracy"]) == pytest.approx(100 * float(fraction), abs=0.01)  # percent
    assert result.stdout.splitlines()[-3:] == [
        "Final Performance images/sec : {}".format(values["ActualFPS"]),
        "Final Train Accuracy : {}".format(values["TrainAccuracy"]),
        "E2E Training Duration sec : {}".format(values["E2ETrainingTime"]),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param("train_performance_1p", marks=pytest.mark.once), "train_RT2_performance_1p"]
)
def test_a_performance_run_is_ten_steps(checkout: Checkout, small: list[str], name: str) -> None:
    """On two CPU devices; the second one on an NPU, the default, where TensorFlow 1.15's adapter has its stand-in."""
    tf = pytest.importorskip("tensorflow")
    with_adapter = tf.__version__.startswith("1.15") and "RT2" in name
    settings = {"PYTHONPATH": str(ROOT / "tests" / "fakes" / "tf115_npu_bridge")} if with_adapter else {}
    device = [] if with_adapter else ["--device=cpu", "--num_devices=2"]
    result = checkout.run("tf_seresnet/test/{}.sh".format(name), *small, *device, **settings)
    assert (result.returncode, result.stderr) == (0, "")
    assert ("device: npu" in result.stdout) is with_adapter
    suffix = "RT2_perf" if "RT2" in name else "perf"
    case = "senet_ID0145_for_TensorFlow_bs8_{}p_{}".format(1 if with_adapter else 2, suffix)
    values = checkout.fields(case)
    assert float(values["ActualFPS"]) > 0
    assert len((checkout.output / "train_{}_loss.txt".format(case)).read_text().split()) == 10


@pytest.mark.once
@pytest.mark.slow
def test_a_failed_training_leaves_no_result_and_moves_the_earlier_one_aside(checkout: Checkout) -> None:
    pytest.importorskip("tensorflow")
    checkout.output.mkdir(parents=True)
    earlier = checkout.output / "senet_ID0145_for_TensorFlow_bs128_1p_acc.log"
    earlier.write_text("earlier")
    result = checkout.run("tf_seresnet/test/train_full_1p.sh", "--data_path=nowhere", "--device=cpu")
    assert result.returncode == 2
    assert is_one_error(result.stderr)
    assert not list(checkout.output.glob("*_bs*"))
    assert (checkout.output / "previous-1" / earlier.name).read_text() == "earlier"


@pytest.mark.parametrize("half", [pytest.param("torch_imagenet", marks=pytest.mark.once), "tf_seresnet"])
def test_without_a_framework_there_is_help_and_a_mistake_is_one_line(checkout: Checkout, half: str) -> None:
    script = half + "/test/train_full_1p.sh"
    helped = checkout.run(script, "-h")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert helped.stdout.startswith("usage: bash " + script)
    for options, says in ([], "--data_path=DIR"), (["--data_path=x", "--num_devces=2"], "did you mean '--num_devices'"):
        result = checkout.run(script, *options)
        assert (result.returncode, result.stdout) == (2, "")
        assert is_one_error(result.stderr)
        assert says in result.stderr
    assert not checkout.output.parent.exists()


@pytest.mark.parametrize("name", LAUNCHERS)
def test_without_its_adapter_a_launcher_does_not_go_to_another_device(checkout: Checkout, name: str) -> None:
    result = checkout.run(name, "--data_path=x", "--resume=x")
    assert (result.returncode, result.stdout) == (2, "")
    assert is_one_error(result.stderr)
    assert "--device=cuda, --device=cpu" in result.stderr
    assert not (checkout.root / name.split("/")[0] / "test" / "output").exists()
