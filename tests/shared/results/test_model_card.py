"""The model card of a run: what is in it, and what has none. The Hub's own reader: tests/torch_imagenet/weights."""

from __future__ import annotations

import json

import pytest

from shared.errors import UsageError
from shared.results.__main__ import main
from shared.results.model_card import write_card
from shared.run.folder import set_aside

RECORD = {
    "schema": 1,
    "half": "torch_imagenet",
    "mode": "finetune",
    "network": "senet154",
    "recipe": "imagenet_finetune",
    "seed": 49,
    "image_size": 224,
    "dataset": {"name": "pets | mine", "path": "/home/someone/pets", "train_images": 12000, "classes": list("abcdef")},
    "device": {"kind": "cpu", "name": "a processor", "count": 1},
    "precision": "O0",
    "batch_size": 8,
    "global_batch_size": 8,
    "epochs_completed": 2,
    "steps_completed": 3000,
    "images_trained": 24000,
    "evaluation": {"images": 1000, "loss": 0.5, "top1": 87.5, "top5": 100.0, "checkpoint": "/home/someone/run/c/last"},
    "parameters": 113042442,
    "versions": {"python": "3.11"},
    "commit": "0123456789abcdef",
    "earlier_commits": ["c0ffee", "bead"],
    "started": "2026-01-02T03:04:05+00:00",
    "seconds": 1.0,
}
CONFIG = {"command": "main.py --secret", "weights": {"name": "hf-hub:o/base@0123", "sha256": "ab"}}


@pytest.fixture
def run(tmp_path):
    """run(record, *weights) -> the record's file in a run's folder with these files"""

    def make(record, *weights):
        for name, content in (("result.json", record), ("config.json", CONFIG)):
            (tmp_path / name).write_text(json.dumps(content))
        for name in weights:
            (tmp_path / name).write_bytes(b"weights")
        return tmp_path / "result.json"

    return make


def test_the_card_says_what_was_trained_and_measured(run, tmp_path, capsys):
    path = run(RECORD, "model.pth")
    assert main(["--publish", str(tmp_path), "--model-card"]) == 0
    folder = path.parent / "model-card"
    sent = capsys.readouterr().out.splitlines()
    assert sent[1:] == [
        f"hf upload OWNER/NAME {folder} .",
        f"hf upload OWNER/NAME {tmp_path / 'model.pth'} pytorch_model.bin",
    ]
    text = (folder / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    assert front.splitlines() == [
        'license: "unknown"',
        'pipeline_tag: "image-classification"',
        "tags:",
        '  - "image-classification"',
        '  - "pytorch"',
        '  - "senet154"',
        'base_model: "o/base"',
        "metrics:",
        '  - "accuracy"',
        "model-index:",
        '  - name: "senet154"',
        "    results:",
        "      - task:",
        '          type: "image-classification"',
        '          name: "Image Classification"',
        "        dataset:",
        '          type: "pets-mine"',
        '          name: "pets | mine"',
        '          split: "validation"',
        "        metrics:",
        '          - type: "accuracy"',
        "            value: 0.875",
        '            name: "top-1 accuracy"',
        '          - type: "accuracy"',
        "            value: 1.0",
        '            name: "top-5 accuracy"',
    ]
    for line in (
        "On the 1,000 validation images of pets | mine, each counted once:",
        "| top-1 accuracy | 87.500 % |",
        "| data set | pets \\| mine |",
        "| training images | 12,000 |",
        "| classes | 6: a, b, c, d, e, f |",
        "| steps | 3000 |",
        "| code | 0123456789abcdef |",
        "| code of earlier sittings | c0ffee, bead |",
        "    python torch_imagenet/main.py predict --checkpoint hf-hub:OWNER/NAME --network senet154 --image-size 224",
    ):
        assert line in body
    everything = text + (folder / "record.json").read_text()
    assert "someone" not in everything
    assert "secret" not in everything


def test_a_card_of_the_other_half(run):
    record = dict(RECORD, half="tf_seresnet", mode="train", network="se_resnet11", depth=11, variant="port")
    record["dataset"] = dict(RECORD["dataset"], name="cifar-10")
    lines = write_card(run(record, "model.ckpt.index", "model.ckpt.data-00000-of-00001", "model.ckpt.classes.json"))
    assert [line.rsplit(" ", 1)[1] for line in lines[2:]] == [
        "model.ckpt.classes.json",
        "model.ckpt.data-00000-of-00001",
        "model.ckpt.index",
    ]
    text = (run(record).parent / "model-card" / "README.md").read_text()
    assert 'datasets:\n  - "cifar10"\n' in text
    assert "    bash eval.sh --checkpoint model/model.ckpt --depth 11 --variant port --data-path DIR" in text


def test_a_card_of_a_training_through_keras(run):
    record = dict(RECORD, half="tf_seresnet", mode="train", network="se_resnet20", depth=20, variant="paper")
    lines = write_card(run(dict(record, layers="keras"), "model.weights.h5"))
    assert [line.rsplit(" ", 1)[1] for line in lines[2:]] == ["model.weights.h5"]
    text = (run(record).parent / "model-card" / "README.md").read_text()
    assert "trained by se-pnas-kit with Keras." in text
    code = "from tf_seresnet.keras import se_resnet; se_resnet(20, 'paper', 6).load_weights('model/model.weights.h5')"
    assert f'    python -c "{code}"' in text


def test_the_best_five_of_five_classes_say_nothing(run):
    record = dict(RECORD, dataset=dict(RECORD["dataset"], classes=list("abcde")))
    write_card(run(record, "model.pth"))
    text = (run(record).parent / "model-card" / "README.md").read_text()
    assert "top-1" in text
    assert "top-5" not in text


@pytest.mark.parametrize(
    ("change", "weights", "says"),
    [
        ({"mode": "evaluate"}, ["model.pth"], "is of the mode evaluate; a model card is of a training"),
        ({}, [], "has no model.pth, the weights that a card is of; name the folder of a run"),
        ({"commit": "0123-dirty"}, ["model.pth"], "is not a commit"),
    ],
)
def test_what_has_no_card(run, change, weights, says):
    path = run(dict(RECORD, **change), *weights)
    with pytest.raises(UsageError, match=says):
        write_card(path)
    assert not (path.parent / "model-card").exists()


def test_a_card_that_may_have_been_edited_stays(run):
    path = run(RECORD, "model.pth")
    write_card(path)
    (path.parent / "model-card" / "README.md").write_text("mine")
    with pytest.raises(UsageError, match="is there already, perhaps edited"):
        write_card(path)
    assert (path.parent / "model-card" / "README.md").read_text() == "mine"


def test_a_card_goes_with_its_run_when_another_takes_the_folder(run, tmp_path):
    write_card(run(RECORD, "model.pth"))
    assert set_aside(tmp_path, "torch_imagenet", "train") == tmp_path / "previous-1"
    assert (tmp_path / "previous-1" / "model-card" / "README.md").exists()
    assert not (tmp_path / "model-card").exists()


def test_a_model_card_alone_is_refused(capsys):
    assert main(["--model-card"]) == 2
    assert "give --publish RUN --model-card" in capsys.readouterr().err
