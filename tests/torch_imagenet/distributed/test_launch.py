"""The documented launchers of this half, each to its result file: a real SE-ResNet-50 at 32 pixels, on the CPU."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from typing import Dict

import pytest

from tests.torch_imagenet.conftest import Tiny
from tests.torch_imagenet.distributed.conftest import SMALL, Checkout


def check_console(out: str, values: Dict[str, str]) -> None:
    assert out.splitlines()[-4:] == [
        "------------------ Final result ------------------",
        f"Final Performance images/sec : {values['ActualFPS']}",
        f"Final Train Accuracy : {values['TrainAccuracy']}",
        f"E2E Training Duration sec : {values['E2ETrainingTime']}",
    ]


# -- to the result file ----------------------------------------------------------------------------------------

TRAININGS = [  # launcher, devices, steps (five are not timed), CaseName
    ("train_full_1p", 1, 7, "SE_Resnet50_bs2_1p_acc"),
    ("train_performance_1p", 1, 1, "SE_Resnet50_bs2_1p_perf"),
    ("train_performance_8p", 2, 1, "SE_Resnet50_bs4_2p_perf"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "devices", "steps", "case"), TRAININGS)
def test_a_training_runs_to_its_result_file(
    checkout: Checkout, tiny: Tiny, name: str, devices: int, steps: int, case: str
) -> None:
    status, out, err = checkout.run(
        name, f"--data_path={tiny.folder}", f"--num_devices={devices}", *SMALL, "--max-steps", str(steps)
    )
    assert (status, err) == (0, "")
    values, record = checkout.fields(case), checkout.record(name)
    assert record["device"]["count"] == devices
    assert (values["RankSize"], float(values["TrainAccuracy"])) == (str(devices), record["evaluation"]["top1"])
    losses = (checkout.output / f"train_{case}_loss.txt").read_text().splitlines()
    assert len(losses) == record["steps_completed"] == steps  # SE-ResNet-50's launchers log each
    assert values["ActualLoss"] == losses[-1]
    if steps == 1:
        assert (values["ActualFPS"], values["TrainingTime"]) == ("None", "None")
    else:
        rate = record["throughput"]["images_per_second"]
        assert float(values["ActualFPS"]) == pytest.approx(rate, abs=0.001)
        assert float(values["TrainingTime"]) == pytest.approx(2000 * devices / rate, abs=0.01)
    check_console(out, values)
    log = (checkout.output / "train_0.log").read_text()
    assert out.splitlines()[:-4] == log.splitlines()  # what went to the console before the launcher's own lines


@pytest.mark.slow
def test_the_last_line_of_pnasnets_log_is_the_row_that_its_scripts_read(checkout: Checkout, tiny: Tiny) -> None:
    options = [*SMALL, "--image-size=64", "--max-steps=1"]
    status, _, err = checkout.run(
        "train_performance_1p", "--network=pnasnet5large", f"--data_path={tiny.folder}", *options
    )
    assert (status, err) == (0, "")
    columns = (checkout.output / "train_0.log").read_text().splitlines()[-1].split()
    evaluation = checkout.record("train_performance_1p")["evaluation"]
    assert [float(columns[number]) for number in (2, 4)] == pytest.approx([evaluation["loss"], evaluation["top1"]])
    assert columns[5] == "nan"  # one step is warm-up, whose rate nobody should read


@pytest.mark.slow
def test_several_machines_share_the_global_batch(checkout: Checkout, tiny: Tiny) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = [
        f"--data_path={tiny.folder}",
        "--device=cpu",
        "--image-size=32",
        "--workers=1",
        "--max-steps=1",
        "--num_devices=1",
        "--nnodes=2",
        "--batch_size=4",
        "--learning-rate=0.000001",
        "--master_addr=127.0.0.1",
        "--local_addr=127.0.0.1",
        f"--master_port={port}",
    ]
    other = checkout.start("train_performance_multinodes", *common, "--node_rank=1")
    status, out, err = checkout.run("train_performance_multinodes", *common, "--node_rank=0")
    other_out, _ = other.communicate(timeout=300)
    assert (status, err, other.returncode) == (0, "", 0)
    values = checkout.fields("SE_Resnet50_bs4_2p_perf")
    assert checkout.record("train_performance_multinodes")["batch_size"] == 2
    check_console(out, values)
    assert other_out == "note: the results are where --node_rank is 0\n"
    assert (checkout.output / "train_0_node1.log").read_text().endswith(other_out)


@pytest.mark.slow
def test_stop_continue_evaluate_and_fine_tune(checkout: Checkout, tiny: Tiny) -> None:
    """One run on two devices through three launchers, as a user would; evaluated and fine-tuned on one."""
    options = [f"--data_path={tiny.folder}", "--num_devices=2", *SMALL]
    process = checkout.start("train_full_8p", *options, "--epochs=2", "--max-steps=7", "--print-freq=1")
    events = checkout.output / "train_full_8p" / "events.jsonl"
    for _ in range(2400):
        if events.exists() and '"step": 1,' in events.read_text():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=300)
    if process.returncode:  # a fast machine may have come to the end
        assert (process.returncode, err) == (143, "")
        assert "continue exactly with --resume" in out
        assert checkout.result_files() == []
    run = checkout.output / "train_full_8p"
    status, out, err = checkout.run(
        "train_full_8p",
        f"--resume={run}",
        "--device=cpu",
        "--num_devices=2",
        "--workers=1",
        "--max-steps=7",
        "--print-freq=1",
    )
    assert (status, err) == (0, "")
    case = "SE_Resnet50_bs4_2p_acc"
    trained = checkout.fields(case)
    assert checkout.record("train_full_8p")["steps_completed"] == 7
    assert len((checkout.output / f"train_{case}_loss.txt").read_text().splitlines()) == 7  # those before the stop too
    assert len(list(checkout.output.glob("previous-*/train_0.log"))) == 1

    options[1] = "--num_devices=1"
    status, out, err = checkout.run("train_eval_8p", f"--resume={run}", *options)
    assert (status, err) == (0, "")
    evaluated = checkout.fields("SE_Resnet50_bs2_1p_eval")
    assert evaluated["TrainAccuracy"] == trained["TrainAccuracy"]
    assert (evaluated["ActualFPS"], evaluated["TrainingTime"]) == ("None", "None")
    check_console(out, evaluated)
    assert checkout.result_files() == ["SE_Resnet50_bs2_1p_eval.log"]  # the training's is in previous-2
    assert (run / "result.json").is_file()

    status, out, err = checkout.run("train_finetune_1p", f"--resume={run}", *options, "--max-steps=1")
    assert (status, err) == (0, "")
    assert checkout.fields("SE_Resnet50_bs2_1p_acc")["RankSize"] == "1"
    assert checkout.record("train_finetune_1p")["mode"] == "finetune"


# -- failures --------------------------------------------------------------------------------------------------


def one_error(err: str) -> bool:
    return err.startswith("error: ") and "; " in err and len(err.splitlines()) == 1


def left_behind(checkout: Checkout) -> None:
    """The files of an earlier success."""
    checkout.output.mkdir(parents=True)
    for name in ("SE_Resnet50_bs2_1p_acc.log", "train_SE_Resnet50_bs2_1p_acc_loss.txt", "train_0.log"):
        (checkout.output / name).write_text("earlier")


@pytest.mark.slow
def test_without_data_there_is_no_result(checkout: Checkout) -> None:
    left_behind(checkout)
    status, out, err = checkout.run("train_full_1p", "--data_path=nowhere", *SMALL)
    assert status == 2
    assert one_error(err)
    assert "nowhere does not exist" in err
    assert checkout.result_files() == []
    assert "nowhere does not exist" in (checkout.output / "train_0.log").read_text()
    assert (checkout.output / "previous-1" / "SE_Resnet50_bs2_1p_acc.log").read_text() == "earlier"
    assert "previous-1" in out


def test_a_mistyped_option_moves_nothing(checkout: Checkout) -> None:
    left_behind(checkout)
    status, out, err = checkout.run("train_full_1p", "--data_path=x", "--imagesize=64")
    assert (status, out) == (2, "")
    assert one_error(err)
    assert "did you mean '--image-size'" in err
    assert len(checkout.result_files()) == 1 + 1


@pytest.mark.slow
def test_an_unreadable_image_ends_the_training_and_leaves_no_result(checkout: Checkout, tiny: Tiny) -> None:
    broken = checkout.elsewhere / "broken"
    shutil.copytree(tiny.folder, broken)
    for path in (broken / "train").rglob("*.png"):
        path.write_bytes(b"no image")
    status, _, err = checkout.run("train_full_1p", f"--data_path={broken}", *SMALL)
    assert status == 2
    assert one_error(err)
    assert ".png" in err
    assert checkout.result_files() == []


@pytest.mark.slow
def test_a_killed_training_leaves_no_result(checkout: Checkout, tiny: Tiny) -> None:
    process = checkout.start("train_full_1p", f"--data_path={tiny.folder}", *SMALL, "--epochs=200", "--print-freq=1")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Epoch: [0][ 0/10]"):
            break
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], stdout=subprocess.PIPE, text=True)
    (main,) = map(int, children.stdout.split())
    os.kill(main, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    err = err.splitlines(True)[-1]  # before it a data worker may complain that nobody takes its batch
    assert one_error(err)
    assert "killed" in err
    assert "--resume=" in err
    assert checkout.result_files() == []


@pytest.mark.slow
def test_more_devices_than_there_are(checkout: Checkout, tiny: Tiny) -> None:
    status, _, err = checkout.run("train_full_8p", f"--data_path={tiny.folder}", "--device=cuda")
    assert status == 2
    assert one_error(err)
    assert "cuda" in err
    assert checkout.result_files() == []


def test_help_without_data(checkout: Checkout) -> None:
    status, out, err = checkout.run("train_performance_multinodes", "--help")
    assert (status, err) == (0, "")
    assert "--nnodes" in out
