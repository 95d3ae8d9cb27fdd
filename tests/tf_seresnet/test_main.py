"""The command line of the CIFAR-10 half: mistakes end in one line, exit status 2 and nothing written."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from tf_seresnet import main as command

MISTAKES = [
    (["--dpeth", "11"], "unknown option --dpeth; did you mean '--depth'?"),
    (["--depth", "12"], "use 11 or 20"),
    (["--depth", "11", "--variant", "paper"], "use 8 or 14"),
    (["--variant", "prot"], "did you mean 'port'?"),
    (["--recipe", "se_resnet110_cpu"], "did you mean"),
    (["--network", "senet154"], "se_resnet110"),
    (["--layers", "kears"], "did you mean 'keras'?"),
    (["predict", "--layers", "keras", "cat.jpg"], "predict has no --layers keras"),
    (["--data-path", "nowhere"], "nowhere does not exist"),
    (["--device", "warp"], "unknown device 'warp'"),
    (["--device", "cpu:1"], "unknown device 'cpu:1'"),
    (["--checkpoint", "nothing"], "no checkpoint at nothing"),
    (["--resume", "nothing"], "no checkpoint at nothing"),
    (["--precision", "O2"], "use --precision O1, bf16 or O0"),
    (["--batch-size", "0"], "'0' does not fit"),
    (["--batch-size", "many"], "'many' does not fit"),
    (["--learning-rate", "nan"], "'nan' does not fit"),
    (["--milestones", "1,x"], "write 80,120"),
    (["--epochs", "-3"], "'-3' does not fit"),
    (["--device", "cpu", "--npu-option", "jit_compile=false"], "--npu-option is for --device npu"),
    (["--data_url", "obs://bucket/cifar"], "moxing is not importable"),
    (["nonsense"], "'nonsense' is not a choice"),
    (["evaluate"], "no checkpoint under ./runs"),
    (["export"], "export needs a file to write; name it with --output FOLDER (savedmodel) or FILE.keras (keras)"),
    (["export", "--output", "model.keras"], "no checkpoint under ./runs"),
    (["--output-dir", "/dev/null/out"], "/dev/null/out"),
]


def test_every_module_is_imported():
    """Also under Python 3.7, where a syntax or a name of a library may be missing. The Keras model wants 3.9."""
    pytest.importorskip("tensorflow")
    package = Path(command.__file__).resolve().parent
    for path in sorted(package.rglob("*.py")):
        name = ".".join(path.relative_to(package.parent).with_suffix("").parts).replace(".__init__", "")
        if "keras" not in name:
            importlib.import_module(name)


@pytest.mark.once
@pytest.mark.parametrize(("options", "says"), MISTAKES, ids=[" ".join(options) for options, _ in MISTAKES])
def test_a_mistake_is_one_line_exit_2_and_no_file(options, says, tmp_path, monkeypatch, capsys, sample_folder):
    pytest.importorskip("tensorflow")
    monkeypatch.setenv("KIT_CACHE", str(sample_folder.parents[2]))
    monkeypatch.chdir(tmp_path)
    assert command.main(options) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert error.startswith("error: ")
    assert ";" in error
    assert says in error
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.once
def test_help_names_every_mode_and_recipe(capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(["--help-all"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for word in (*command.MODES, "se_resnet110_npu", "--data_url", "--npu-option"):
        assert word in text
