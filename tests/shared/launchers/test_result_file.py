"""The ten fields against numbers worked out by hand."""

from __future__ import annotations

import json

import pytest

from shared.errors import UsageError
from shared.launchers import result_file
from shared.launchers.result_file import CONSOLE, fields, logged_losses

TEN = (
    "Network RankSize BatchSize DeviceType CaseName ActualFPS TrainingTime TrainAccuracy ActualLoss E2ETrainingTime"
).split()


def record(network="senet154", batch=128, count=8, half="torch_imagenet", **parts):
    made = {
        "half": half,
        "mode": "train",
        "network": network,
        "device": {"kind": "npu", "name": "x", "count": count},
        "batch_size": batch,
        "global_batch_size": batch * count,
        "throughput": {"images_per_second": 1522.12},
        "train": {"loss": 2.5, "top1": 60.0},
        "evaluation": {"images": 50000, "loss": 1.25, "top1": 80.048},
    }
    made.update(parts)
    return {key: value for key, value in made.items() if value is not None}


def test_the_fields_of_a_training():
    made = fields(record(), [6.9, 2.25], "acc", "aarch64", 1234.56)
    assert made == {
        "Network": "SENet154",
        "RankSize": "8",
        "BatchSize": "128",
        "DeviceType": "aarch64",
        "CaseName": "SENet154_bs128_8p_acc",
        "ActualFPS": "1522.120",
        "TrainingTime": "672.75",  # 1000 * 1024 images / 1522.12 images a second
        "TrainAccuracy": "80.048",
        "ActualLoss": "2.250000",
        "E2ETrainingTime": "1234.6",
    }
    assert list(made) == TEN


@pytest.mark.parametrize(
    ("case", "network", "batch", "count", "suffix"),
    [  # every CaseName that an original documents
        ("SENet154_bs128_1p_acc", "senet154", 128, 1, "acc"),
        ("SENet154_bs128_8p_perf", "senet154", 128, 8, "perf"),
        ("SENet154_bs128_8p_eval", "senet154", 128, 8, "eval"),
        ("SE_Resnet50_bs128_1p_acc", "se_resnet50", 128, 1, "acc"),
        ("SE_Resnet50_bs1024_8p_acc", "se_resnet50", 128, 8, "acc"),
        ("PnasNet5Large_bs32_1p_perf", "pnasnet5large", 32, 1, "perf"),
        ("PnasNet5Large_bs32_8p_acc", "pnasnet5large", 32, 8, "acc"),
    ],
)
def test_case_names(case, network, batch, count, suffix):
    assert fields(record(network, batch, count), [], suffix, "x86_64", 1.0)["CaseName"] == case


@pytest.mark.parametrize("suffix", ["acc", "perf", "RT2_perf"])
def test_case_names_of_the_cifar_half(suffix):
    made = record("se_resnet110", 128, 1, half="tf_seresnet")
    assert fields(made, [], suffix, "x86_64", 1.0)["CaseName"] == f"senet_ID0145_for_TensorFlow_bs128_1p_{suffix}"


def test_the_cifar_half_has_the_same_units():
    made = record(
        "se_resnet110",
        128,
        1,
        half="tf_seresnet",
        throughput={"images_per_second": 1280.0},
        evaluation={"images": 10000, "loss": 0.2, "top1": 94.55},
    )
    values = fields(made, [0.5], "acc", "x86_64", 3.0)
    assert (values["TrainingTime"], values["TrainAccuracy"]) == ("100.00", "94.550")  # ms and percent


def test_accumulated_batches_are_one_step():
    made = record("se_resnet50", 128, 1, global_batch_size=1024, throughput={"images_per_second": 512.0})
    values = fields(made, [1.0], "acc", "x86_64", 3.0)
    assert (values["BatchSize"], values["TrainingTime"], values["CaseName"]) == (
        "1024",
        "2000.00",
        "SE_Resnet50_bs1024_1p_acc",
    )


def test_an_evaluation_has_no_throughput_and_its_own_loss():
    made = record(mode="evaluate", throughput=None, global_batch_size=None, train=None)
    values = fields(made, [], "eval", "aarch64", 60.0)
    assert (values["ActualFPS"], values["TrainingTime"]) == ("None", "None")
    assert (values["TrainAccuracy"], values["ActualLoss"]) == ("80.048", "1.250000")
    global_batch = record("se_resnet50", mode="evaluate", throughput=None, global_batch_size=None)
    assert fields(global_batch, [], "eval", "x", 1.0)["BatchSize"] == "1024"


def test_a_run_too_short_to_be_timed_has_no_throughput_rather_than_a_wrong_one():
    values = fields(record(throughput=None), [1.0], "perf", "x86_64", 1.0)
    assert (values["ActualFPS"], values["TrainingTime"]) == ("None", "None")
    assert fields(record(), [], "perf", "x86_64", 1.0)["ActualLoss"] == "None"


def test_the_lines_on_the_console():
    assert CONSOLE.format(**fields(record(), [2.0], "acc", "x86_64", 10)).splitlines() == [
        "------------------ Final result ------------------",
        "Final Performance images/sec : 1522.120",
        "Final Train Accuracy : 80.048",
        "E2E Training Duration sec : 10.0",
    ]


def test_the_losses_are_those_of_the_logged_steps(tmp_path):
    events = [
        {"event": "step", "step": 10, "loss": 6.8, "step_loss": 6.5},
        {"event": "evaluation", "step": 10, "loss": 6.0},
        {"event": "step", "step": 20, "loss": 6.7, "step_loss": None},  # it was not a number
        {"event": "step", "step": 30, "loss": 6.6, "step_loss": 6.25},
    ]
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    assert logged_losses(path) == [6.5, 6.25]
    path.write_text("{")
    with pytest.raises(UsageError):
        logged_losses(path)
    with pytest.raises(UsageError):
        logged_losses(tmp_path / "none")


def test_every_imagenet_network_has_a_name():
    from torch_imagenet.networks.registry import NETWORKS

    assert set(result_file.NETWORKS) == set(NETWORKS)
