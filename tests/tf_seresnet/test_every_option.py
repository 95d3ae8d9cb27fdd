"""Every mode with both variants, and every option set once in some run, to the last line that the run says."""

from __future__ import annotations

from pathlib import Path

import pytest

tf = pytest.importorskip("tensorflow")

from tests.tf_seresnet.conftest import Run  # noqa: E402
from tf_seresnet.main import main  # noqa: E402
from tf_seresnet.options import parser  # noqa: E402

TESTS = Path(__file__).parent

# Options of short trainings; DIR is a new folder, RUN that of a finished training.
RUNS = {
    "schedule": "--scheduler piecewise --milestones 1 --factors 0.1 --learning-rate 0.01 --momentum 0 --weight-decay 0"
    " --seed 7 --steps-per-call 2 --workers 1 --peak-flops 1e12 --memory-bandwidth 1e11",
    "warm-up": "--scheduler cosine --warm-up-epochs 1 --network se_resnet110 --variant paper --depth 8 --layers core",
    "files": "--checkpoint RUN --save-steps 1 --keep 1 --eval-batch-size 77",
    "copied": "--train_url DIR/copy",
    "a batch of one": "--batch-size 1 --test_iteration 3 --precision O0",
    "a last batch of one": "--batch-size 747 --steps-per-epoch 3 --epochs 1",
    "modern": "--every-step --decayed weights --label-smoothing 0.1 --mixup 0.2 --cutmix 1 --mixed 0.5 --cutout 8"
    " --drop-path 0.1 --zero-init --ema-decay 0.9",
    "as documented": "--no-every-step --no-zero-init",
    "resumed": "--resume RUN",
}
QUICK = ("schedule", "a batch of one")

# What a run needs several devices, an NPU or a remote storage for: the file of these tests that sets it.
ELSEWHERE = {
    "--distributed": "devices/test_replicas.py",
    "--num-devices": "devices/test_replicas.py",
    "--deterministic": "devices/test_devices.py",
    "--loss-scale": "devices/test_devices.py",
    "--npu-option": "devices/npu/test_session_options.py",
    "--data_url": "run/test_modelarts.py",
    "--modelarts_data_dir": "run/test_modelarts.py",
    "--modelarts_result_dir": "run/test_modelarts.py",
    "--help": "test_main.py",
    "--version": "../shared/cli/test_arguments.py",
    "--restrict-classes": "test_class_names.py",
    "--config": "test_config_file.py",
    "--dry-run": "test_dry_run.py",
    "--port": "test_start_files.py",
    "--xla": "devices/test_xla.py",
    "--no-xla": "devices/test_xla.py",
    "--save-trace": "test_check_port.py",
    "--against": "test_check_port.py",
    "--output": "export/test_export.py",
    "--with-preprocessing": "export/test_export.py",
    "--top-k": "test_predict.py",
    "--grad-cam": "test_predict.py",
    "--format": "test_predict.py",
    "--on-bad-image": "test_predict.py",
}


@pytest.mark.once
@pytest.mark.parametrize("name", [one if one in QUICK else pytest.param(one, marks=pytest.mark.slow) for one in RUNS])
def test_every_option_is_set_in_some_run(name, train, finished, tmp_path):
    words = RUNS[name]
    if "RUN" in words:
        words = words.replace("RUN", str(finished().folder))
    short = "--resume" not in words
    words = words.replace("DIR", str(tmp_path)).split()
    run = train(*words, *([] if "--epochs" in words or not short else ["--max-steps", "3"]), name="other", short=short)
    assert run.status == 0
    assert run.record["evaluation"]["images"] == 299


def test_no_option_is_set_nowhere():
    common = {"--recipe", "--batch-size", "--epochs", "--print-freq", "--device", "--data-path", "--output-dir"}
    set_here = {*" ".join(RUNS.values()).split(), "--max-steps", *common}
    actions = [action for action in parser()._actions if action.option_strings]
    missing = [action.option_strings for action in actions if not set_here & set(action.option_strings)]
    for spellings in missing:
        files = [ELSEWHERE[spelling] for spelling in spellings if spelling in ELSEWHERE]
        assert files, f"{spellings} is set in no run; add it to RUNS"
        assert any(spelling in (TESTS / file).read_text(encoding="utf-8") for file in files for spelling in spellings)


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize(("variant", "depth"), [("port", "11"), ("paper", "8")])
def test_both_variants_go_through_every_mode(variant, depth, train, tmp_path, sample_folder, capsys):
    run = train("--variant", variant, "--depth", depth, "--max-steps", "1")
    words = ["--device", "cpu", "--data-path", str(sample_folder)]
    for number, checkpoint in enumerate((run.folder, run.folder / "model.ckpt")):
        folder = tmp_path / str(number)
        bare = ["--recipe", "sample", "--variant", variant, "--depth", depth] if number else []
        arguments = ["evaluate", *words, "--checkpoint", str(checkpoint), *bare, "--output-dir", str(folder)]
        evaluated = Run(main(arguments), folder)
        assert evaluated.record["evaluation"]["top1"] == run.record["evaluation"]["top1"]
        assert evaluated.record["network"] == run.record["network"] == f"se_resnet{depth}"
    capsys.readouterr()
    images = str(sample_folder / "test_batch")
    assert main(["predict", "--device", "cpu", "--checkpoint", str(run.folder), "--top-k", "1", images]) == 0
    assert capsys.readouterr().out.count("test_batch[") == 299
    assert main(["summary", "--variant", variant, "--depth", depth]) == 0
    assert main(["check-data", "--data-path", str(sample_folder)]) == 0
    assert main(["export", "--checkpoint", str(run.folder), "--output", str(tmp_path / "model.pb")]) == 0
