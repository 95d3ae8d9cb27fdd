"""The old port's start files and its ./model: thin names for main.py, and a checkpoint found where it used to be."""

from __future__ import annotations

import os
import runpy
import shutil
import sys
from pathlib import Path

import pytest

tf = pytest.importorskip("tensorflow")

import tf_seresnet.main  # noqa: E402
from tf_seresnet.options import RunConfig  # noqa: E402

pytestmark = pytest.mark.once
HALF = Path(tf_seresnet.main.__file__).parent
STARTS = {
    "run_npu.py": ("train", "npu"),
    "run_gpu.py": ("train", "auto"),
    "eval.py": ("evaluate", "auto"),
    "modelart_senet.py": ("train", "npu"),
}


@pytest.mark.parametrize("name", STARTS)
def test_a_start_file_is_main_with_its_port(name, monkeypatch):
    """With the flags that the document and the program give it."""
    seen = []
    monkeypatch.setattr(tf_seresnet.main, "main", lambda argv: seen.append(list(argv)) or 7)
    monkeypatch.setattr(sys, "path", list(sys.path))
    words = ["--data_url", "a", "--train_url", "b"] if name == "modelart_senet.py" else ["--total_epochs", "3"]
    monkeypatch.setattr(sys, "argv", [str(HALF / name), *words])
    with pytest.raises(SystemExit) as raised:
        runpy.run_path(str(HALF / name), run_name="__main__")
    assert raised.value.code == 7
    config = RunConfig.from_argv(seen[0])
    assert (config.mode, config.device, config.port) == (*STARTS[name], "tf")
    assert (config.data_url, config.train_url) == (("a", "b") if "modelart" in name else (None, None))
    assert config.command_notes[0].startswith("port tf: read as ")


@pytest.mark.parametrize("name", STARTS)
def test_importing_a_start_file_starts_nothing(name, monkeypatch):
    monkeypatch.setattr(tf_seresnet.main, "main", lambda argv: pytest.fail("started"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    runpy.run_path(str(HALF / name), run_name="imported")


def test_an_evaluation_finds_the_old_ports_folder(finished, sample_folder, tmp_path, monkeypatch, capsys):
    """./model with TensorFlow's index, where there is no run; a run under ./runs comes first."""
    trained = finished()
    monkeypatch.chdir(tmp_path)
    words = "evaluate --port tf --device cpu --recipe sample --variant paper --depth 8".split()
    assert tf_seresnet.main.main([*words, "--data_path", str(sample_folder)]) == 2
    assert "no checkpoint under ./runs; train first" in capsys.readouterr().err

    os.mkdir("model")
    for path in trained.folder.glob("model.ckpt*"):
        shutil.copy(str(path), path.name.replace("model.ckpt", "model/senet110.ckpt"))
    Path("model/checkpoint").write_text('model_checkpoint_path: "senet110.ckpt"\n')
    assert tf_seresnet.main.main(words) == 2  # never on the sample instead of the data that it was trained on
    assert "no data set is named" in capsys.readouterr().err
    assert tf_seresnet.main.main([*words, "--data_path", str(sample_folder)]) == 0
    out = capsys.readouterr().out
    assert "port tf: read as evaluate --" in out
    assert "note: no checkpoint under ./runs, so the old port's ./model is used\ncheckpoint: model/senet110.ckpt" in out
    assert f"top-1 {trained.record['evaluation']['top1']:.3f} %" in out

    shutil.copytree(str(trained.folder), "runs/mine")
    assert tf_seresnet.main.main(["evaluate", "--device", "cpu", "--data-path", str(sample_folder)]) == 0
    assert "old port" not in capsys.readouterr().out
