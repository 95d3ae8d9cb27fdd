"""benchmarks/accuracy.py: what is compared, choices without test images, stops and continuations, the tables."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import signal
import statistics
import sys
import threading
import time

import numpy as np
import pytest

from benchmarks import accuracy
from benchmarks.comparisons import held_out, plan, records, table
from benchmarks.comparisons.records import Trained, in_deviations
from benchmarks.contenders.timm_training import NAME
from shared.cifar10 import dataset
from shared.errors import UsageError
from shared.recipes.base import IN_SCHEDULE
from shared.sample.dataset import cifar10_folder
from tf_seresnet import options as tf_options
from torch_imagenet import options as torch_options
from torch_imagenet.networks.registry import NETWORKS, Spec

COMPARISONS = ("cifar10", "cifar10-choice", "imagenette", "se_resnet110")
SIDES = [(name, side.name) for name in COMPARISONS for side in plan.comparison(name).sides]


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Runs the command with a program that trains nothing."""
    monkeypatch.setattr(plan, "CIFAR", "tests/benchmarks/fake_training.py")
    monkeypatch.setitem(plan._NEEDS, "tests/benchmarks/fake_training.py", ("numpy",))
    monkeypatch.setattr("benchmarks.environments._PACKAGES", ("numpy",))

    def run(*words):
        places = ["--runs", str(tmp_path / "runs"), "--records", str(tmp_path / "records")]
        return accuracy.main([*words, *places, "--python", sys.executable, "--data-path", str(tmp_path)])

    return run


def recorded(tmp_path):
    return {path.name[9:-5]: json.loads(path.read_text()) for path in (tmp_path / "records").glob("accuracy-*.json")}


# -- what is compared --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "side"), SIDES)
def test_the_program_resolves_a_sides_options_to_its_recipe(name, side, monkeypatch):
    monkeypatch.setitem(NETWORKS, NAME, Spec(head="fc"))
    chosen = plan.comparison(name).side(side)
    half = tf_options if chosen.program == plan.CIFAR else torch_options
    config = half.RunConfig.from_argv(["train", *chosen.options])
    fields = [field.name for field in dataclasses.fields(chosen.recipe)]
    given = config.given([name for name in vars(config) if name in (*fields, *IN_SCHEDULE) and name != "recipe"])
    resolved = plan.recipes.get(config.recipe).override(**given)
    if half is tf_options:
        resolved = resolved.override(network=f"se_resnet{resolved.depth}")
    elif resolved.precision == "O0":
        resolved = resolved.override(loss_scale=None)  # as run/recipe.py does
    assert resolved == chosen.recipe


def test_both_sides_see_as_many_images_in_the_same_batches():
    for name in ("cifar10", "imagenette"):
        for tiny in (False, True):
            found = {(side.recipe.epochs, side.recipe.batch_size) for side in plan.comparison(name, tiny).sides}
            assert len(found) == 1
    ours, timm = plan.comparison("imagenette").sides
    assert ours.recipe == timm.recipe.override(network=ours.recipe.network)


def test_no_option_changes_a_recipe_but_for_the_precision_of_all():
    known = {word for action in accuracy.parser()._actions for word in action.option_strings}
    theirs = {f"--{name.replace('_', '-')}" for name in tf_options.RECIPE_OPTIONS}
    assert known & theirs == {"--precision"}


def test_the_full_trainings_are_the_recipes_themselves():
    sides = plan.comparison("se_resnet110").sides
    assert [side.options for side in sides] == [
        ("--recipe=se_resnet110_gpu",),
        ("--recipe=se_resnet110_gpu", "--variant=paper"),
        ("--recipe=se_resnet110_modern",),
    ]
    assert [side.most_error for side in sides] == [5.21, 5.21, 4.5]


def test_what_is_measured_is_one_of_the_candidates():
    candidates = {side.name: side.recipe for side in plan.comparison("cifar10-choice").sides}
    assert plan.comparison("cifar10").side("modern").recipe == candidates[plan.CHOICE]
    assert len({json.dumps(recipe.to_json()) for recipe in candidates.values()}) == len(candidates)


# -- choices -----------------------------------------------------------------------------------------------------------


def test_held_out_images_are_training_images_and_the_test_file_is_never_opened(tmp_path, monkeypatch):
    source = dataset.load(cifar10_folder())
    opened = []
    read = dataset.read_batch
    monkeypatch.setattr(dataset, "read_batch", lambda path, meta: opened.append(path.name) or read(path, meta))
    found = dataset.load(held_out.write_held_out(cifar10_folder(), tmp_path / "set"))
    assert opened[:5] == list(dataset.TRAIN_FILES)
    each = len(source.train_labels) // 6
    assert (found.name, len(found.train_labels), len(found.test_labels)) == ("cifar-10-held-out", 5 * each, each)
    theirs = {image.tobytes() for image in source.train_images}
    trained, held = ({image.tobytes() for image in part} for part in (found.train_images, found.test_images))
    assert trained | held <= theirs
    known = {image.tobytes(): label for image, label in zip(source.train_images, source.train_labels)}
    assert [known[image.tobytes()] for image in found.test_images] == found.test_labels.tolist()
    assert np.bincount(found.test_labels, minlength=10).min() > 0.5 * each / 10  # of every class
    again = dataset.load(held_out.write_held_out(cifar10_folder(), tmp_path / "again"))
    assert again.fingerprint == found.fingerprint


def test_a_choice_needs_no_test_file(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for name in (*dataset.TRAIN_FILES, dataset.META_FILE):
        (folder / name).write_bytes((dataset.find(cifar10_folder()) / name).read_bytes())
    assert dataset.load(held_out.write_held_out(folder, tmp_path / "held")).name == "cifar-10-held-out"


def test_candidates_are_trained_on_the_set_that_is_written(tmp_path, start, capfd, monkeypatch):
    monkeypatch.setattr(accuracy, "_data", lambda options: ("--data-path=held-out",))
    assert start("cifar10", "--choose", "--only", "scaled") == 0
    assert list(recorded(tmp_path)) == ["cifar10-choice-scaled-0"]
    assert "--data-path=held-out" in capfd.readouterr().out


# -- trainings ---------------------------------------------------------------------------------------------------------


def test_every_training_gets_a_record_and_the_table_says_who_is_better(tmp_path, start, capfd):
    assert start("cifar10", "--seeds", "2") == 0
    found = recorded(tmp_path)
    assert sorted(found) == [f"cifar10-{side}-{seed}" for side in ("documented", "modern") for seed in range(2)]
    assert found["cifar10-modern-1"]["options"][-1] == "--seed=1"
    *_, documented, modern, last = capfd.readouterr().out.splitlines()
    assert re.match(r"documented +80\.50 ±0\.71 +19\.50 +2 +500,000 +10,000 of cifar-10 +1\.0", documented)
    assert re.match(r"modern +82\.50 ±0\.71", modern)
    assert last == (
        "modern is +2.00 points from documented, +2.8 standard deviations of a training (aim: more than 2): met"
    )


def test_what_has_its_record_is_not_trained_again(tmp_path, start, capfd):
    assert start("cifar10", "--seeds", "1") == 0
    assert capfd.readouterr().out.count("training ") > 0
    assert start("cifar10", "--seeds", "1", "--device", "cuda:0") == 0
    said = capfd.readouterr().out
    assert "training 1" not in said
    assert "2 of 2 trainings have their record in " in said
    assert "are not run again, whatever --device and --data-path are" in said


@pytest.mark.parametrize("settings", [["--layers", "keras"], ["--device", "cuda:0"]])
def test_a_folder_with_a_training_of_other_settings_is_refused(tmp_path, start, capfd, settings, monkeypatch):
    monkeypatch.setattr(accuracy, "_pythons", lambda *_: dict.fromkeys(("documented", "modern"), sys.executable))
    assert start("cifar10", "--seeds", "1", "--only", "modern") == 0
    if settings[0] == "--layers":
        assert start("cifar10", "--seeds", "1", "--only", "modern", *settings) == 2
        assert "is of --layers core and not keras; move it away" in capfd.readouterr().err
    for path in (tmp_path / "records").glob("*"):
        path.unlink()
    assert start("cifar10", "--seeds", "1", "--only", "modern", *settings) == 2
    assert f" for {' '.join(settings)}; move it away, or choose other --runs" in capfd.readouterr().err
    assert recorded(tmp_path) == {}


def test_a_record_of_another_recipe_is_no_record_of_this_one(tmp_path, start, capfd):
    assert start("cifar10", "--seeds", "1", "--only", "modern") == 0
    capfd.readouterr()
    assert start("cifar10", "--seeds", "1", "--only", "modern", "--precision", "bf16") == 2
    said = capfd.readouterr().err
    assert said.startswith("error: ")
    assert "is of another recipe than the one that is compared now; move it away" in said


def test_a_folder_with_another_training_is_refused(tmp_path, start, capfd):
    assert start("cifar10", "--seeds", "1", "--only", "modern") == 0
    for path in (tmp_path / "records").glob("*"):
        path.unlink()
    assert start("cifar10", "--seeds", "1", "--only", "modern", "--precision", "bf16") == 2
    assert "holds a training by another recipe" in capfd.readouterr().err


def test_nothing_is_begun_without_time(tmp_path, start, capfd):
    assert start("cifar10", "--seeds", "1", "--minutes", "0") == 0
    said = capfd.readouterr().out
    assert said.count("not measured; out of time\n") == 2
    assert not (tmp_path / "runs").exists()


def test_a_training_that_is_stopped_in_time_goes_on_by_the_same_command(tmp_path, start, capfd, monkeypatch):
    waiting = tmp_path / "runs" / "cifar10-modern-0" / "waiting"

    class Late:
        """A clock that reaches the deadline when the training has begun."""

        monotonic = staticmethod(lambda: 60.0 if waiting.exists() else 0.0)

    monkeypatch.setenv("FAKE_TRAINING", "wait")
    monkeypatch.setattr("benchmarks.comparisons.training.POLL", 0.01)
    monkeypatch.setattr("benchmarks.comparisons.training.time", Late)
    monkeypatch.setattr(accuracy, "time", Late)
    assert start("cifar10", "--seeds", "1", "--only", "modern", "--minutes", "1") == 0
    said = capfd.readouterr().out
    assert re.search(r"^modern .* not measured; out of time$", said, re.MULTILINE)
    assert said.endswith("out of time; the same command goes on\n")
    assert recorded(tmp_path) == {}
    assert start("cifar10", "--seeds", "1", "--only", "modern") == 0
    assert f"--resume={waiting.parent}" in capfd.readouterr().out
    assert [found.commit for found in records.read_all(tmp_path / "records")] == ["bead c0ffee"]  # of both sittings
    assert list(recorded(tmp_path)) == ["cifar10-modern-0"]


def test_ctrl_c_lets_the_training_write_its_checkpoint(tmp_path, start, capfd, monkeypatch):
    monkeypatch.setenv("FAKE_TRAINING", "wait")
    waiting = tmp_path / "runs" / "cifar10-modern-0" / "waiting"

    def interrupt():
        while not waiting.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert start("cifar10", "--seeds", "1", "--only", "modern") == 130
    thread.join()
    assert (waiting.parent / "checkpoints").is_dir()
    assert "not measured" in capfd.readouterr().out.splitlines()[-1]


def test_a_training_that_fails_ends_the_command_in_one_line(tmp_path, start, capfd, monkeypatch):
    monkeypatch.setenv("FAKE_TRAINING", "fail")
    assert start("cifar10", "--only", "documented") == 2
    said = capfd.readouterr().err
    assert said.startswith("error: the training cifar10-documented-0 ended with status 2, for the reason above; ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no comparison is named; give one of cifar10, imagenette, se_resnet110"),
        (["cifar"], "did you mean 'cifar10'?"),
        (["cifar10"], "no data set is named; give --data-path DIR"),
        (["cifar10", "--only", "moderm"], "cifar10 has no side 'moderm'; did you mean 'modern'?"),
        (["imagenette", "--choose"], "imagenette has no candidates to choose from"),
        (["imagenette", "--layers", "keras"], "--layers is of the CIFAR-10 half"),
        (["cifar10", "--learning-rate", "0.2"], "unknown option --learning-rate"),
        (["cifar10", "--data-path", "/nowhere", "--choose"], "/nowhere does not exist"),
        (["cifar10", "--choose", "--tiny", "--runs", __file__], "choose other --runs"),
    ],
)
def test_a_wrong_command_is_one_line(words, said, capfd, monkeypatch):
    monkeypatch.setattr(accuracy, "_pythons", lambda options, comparison: {})
    assert accuracy.main(words) == 2
    errors = capfd.readouterr().err
    assert errors.startswith("error: ")
    assert said in errors
    assert errors.count("\n") == 1


@pytest.mark.slow
def test_a_training_of_the_real_program(tmp_path, capfd):
    pytest.importorskip("tensorflow")
    places = ["--runs", str(tmp_path / "runs"), "--records", str(tmp_path), "--python", sys.executable]
    assert accuracy.main(["se_resnet110", "--tiny", "--only", "modern-port", *places]) == 0
    (record,) = records.read_all(tmp_path)
    assert (record.comparison, record.dataset, record.images_trained, record.tiny) == (
        "se_resnet110",
        "sample-digits",
        1495,
        True,
    )


# -- statistics and tables ---------------------------------------------------------------------------------------------


def test_a_difference_is_in_standard_deviations_of_a_training():
    one, other = [80.0, 81.0, 82.0], [84.0, 86.0, 88.0]
    pooled = math.sqrt((statistics.variance(one) + statistics.variance(other)) / 2)
    assert in_deviations(one, other) == pytest.approx(5 / pooled)
    assert in_deviations(other, one) == pytest.approx(-5 / pooled)
    assert in_deviations([80.0], other) is None
    assert in_deviations([80.0, 80.0], [81.0, 81.0]) == math.inf


def record(comparison, side, seed, top1, **changes):
    options = (*plan.comparison(comparison).side(side).options, f"--seed={seed}")
    made = Trained(
        comparison,
        side,
        seed,
        options,
        plan.comparison(comparison).dataset,
        500000,
        10000,
        10,
        top1,
        300000,
        600.0,
        950.0,
        "O0",
        "a CPU",
        "a CPU, 2 cores",
        {"python": "3.11"},
        "c" * 40,
        "2026-01-02T03:04:05",
    )
    return dataclasses.replace(made, **changes)


@pytest.mark.parametrize(
    ("comparison", "first", "last", "ending"),
    [
        ("cifar10", [80.0, 81.0], [81.4, 82.4], "+2.0 standard deviations of a training (aim: more than 2): missed"),
        ("cifar10", [80.0, 80.0], [80.0, 80.0], "+0.0 standard deviations of a training (aim: more than 2): missed"),
        (
            "cifar10",
            [80.0, 81.0],
            [81.413, 82.413],  # 1.998
            "+2.0 standard deviations of a training (aim: more than 2): missed",
        ),
        ("cifar10", [80.0, 81.0], [81.5, 82.5], "+2.1 standard deviations of a training (aim: more than 2): met"),
        (
            "imagenette",
            [60.0, 61.0],
            [59.4, 60.4],
            "-0.8 standard deviations of a training (aim: not less than -1): met",
        ),
        (
            "imagenette",
            [60.0, 61.0],
            [59.0, 60.0],
            "-1.4 standard deviations of a training (aim: not less than -1): missed",
        ),
        ("cifar10", [80.0], [82.0], "one seed says nothing about its deviation"),
        ("cifar10", [80.0], [], "not measured"),
    ],
)
def test_the_conclusion(comparison, first, last, ending):
    compared = plan.comparison(comparison)
    names = compared.sides[0].name, compared.sides[-1].name
    found = [
        record(comparison, name, seed, top1)
        for name, tops in zip(names, (first, last))
        for seed, top1 in enumerate(tops)
    ]
    assert table.text(compared, found, {}).rstrip().endswith(ending)


def test_an_error_meets_its_aim_as_it_is_shown():
    compared = plan.comparison("se_resnet110")
    for top1, verdict in ((94.79, "met"), (94.786, "met"), (94.784, "missed")):
        cells = table.cells(compared.sides[0], [record("se_resnet110", "documented-port", 0, top1)])
        assert (cells[2], cells[-1]) == (f"{100 - top1:.2f}", verdict)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"precision": "bf16"}, "another recipe"),
        ({"dataset": "sample-digits"}, "several data sets"),
        ({"layers": "keras"}, "several layer sets"),
        ({"options": ("--recipe=se_resnet110_gpu",)}, "another recipe"),
    ],
)
def test_what_cannot_be_compared_is_refused(changes, said):
    found = [record("cifar10", "documented", 0, 80.0), record("cifar10", "modern", 0, 82.0, **changes)]
    with pytest.raises(UsageError, match=said):
        table.text(plan.comparison("cifar10"), found, {})


def test_a_file_that_is_no_record_is_named(tmp_path):
    (tmp_path / "accuracy-x.json").write_text("{}")
    with pytest.raises(UsageError, match="accuracy-x.json is no record of a training"):
        records.read_all(tmp_path)


# -- the document ------------------------------------------------------------------------------------------------------


def test_the_document_is_that_of_the_records(tmp_path, monkeypatch):
    """Renew it with `python benchmarks/accuracy.py --document`."""
    text = accuracy.DOCUMENT.read_text(encoding="utf-8")
    copy = tmp_path / "README.md"
    copy.write_text(text, encoding="utf-8")
    monkeypatch.setattr(accuracy, "DOCUMENT", copy)
    assert accuracy.main(["--document"]) == 0
    assert copy.read_text(encoding="utf-8") == text
    assert text.count("cifar10-choice") or "that were held out" in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tiny": True}, "is of --tiny"),
        ({"dataset": "sample-digits"}, "is of sample-digits, not cifar-10"),
        ({"commit": ""}, "of code that was not committed"),
        ({"commit": "c0ffee-dirty"}, "of code that was not committed"),
        ({"commit": "c0ffee-dirty bead"}, "of code that was not committed"),
    ],
)
def test_the_document_takes_no_record_that_measures_nothing(changes, said, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(accuracy, "COMMITTED", tmp_path)
    records.write(record("cifar10", "modern", 0, 82.0, **changes), tmp_path / "accuracy-one.json")
    assert accuracy.main(["--document"]) == 2
    assert said in capfd.readouterr().err


def test_the_commands_of_the_documents_are_understood():
    texts = [path.read_text(encoding="utf-8") for path in (accuracy.DOCUMENT, accuracy.ROOT / "docs" / "accuracy.md")]
    commands = [words for text in texts for words in re.findall(r"python benchmarks/accuracy\.py([^#`\n|]*)", text)]
    assert len(commands) > 4
    for words in map(str.split, commands):
        options = accuracy.parser().parse_args(words)
        assert options.mode == "document" or accuracy.chosen(options)
