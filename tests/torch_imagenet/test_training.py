"""Short trainings: files, lines, records, mistakes; and the trainer against a loop written out in plain torch."""

from __future__ import annotations

import json
import re

import pytest

torch = pytest.importorskip("torch")

from tests.support.run_files import check_examples, check_tensorboard  # noqa: E402
from tests.torch_imagenet.small_network import SmallNetwork  # noqa: E402


@pytest.fixture(scope="module")
def trained(run_in, tmp_path_factory):
    run = run_in(tmp_path_factory.mktemp("trained") / "run", "--original-names")
    assert run.status == 0
    return run


def test_the_files_of_a_run(trained):
    names = {path.name for path in trained.folder.iterdir()}
    assert names >= set(
        (
            "config.json train.log events.jsonl checkpoints result.json model.pth checkpoint.pth.tar model_best.pth.tar"
        ).split()
    )
    assert not [name for name in names if name.startswith(".")]
    assert (trained.folder / "checkpoints" / "last").resolve().name == "step-00000010"


def test_the_record(trained, tiny):
    record = trained.record
    assert (record["half"], record["mode"], record["network"]) == ("torch_imagenet", "train", "se_resnet50")
    assert record["steps_completed"] == 10
    assert record["images_trained"] == 40
    assert record["dataset"]["train_images"] == tiny.train_images
    assert record["evaluation"]["images"] == tiny.val_images
    assert record["parameters"] == sum(p.numel() for p in SmallNetwork(tiny.classes, 0.0, 0.0).parameters())
    assert len(record["evaluation"]["per_class_accuracy"]) == tiny.classes
    assert record["image_size"] == 32
    check_tensorboard(trained.folder, record)
    check_examples(trained.folder, record, (32, 32))


def test_the_documented_lines(trained):
    text = (trained.folder / "train.log").read_text()
    assert "\nEpoch: [0][0/5]\tTime " in text  # in the warm-up too
    assert "FPS@all " in text
    assert "\n=> Epoch[0] Setting lr: 0.0500\n" in text
    assert "output: " in text


def test_a_note_where_the_cpu_has_bfloat16_instructions(trained):
    text = (trained.folder / "train.log").read_text()
    has = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    assert ("note: this CPU has bfloat16 instructions: --precision bf16 trains about 1.5 times" in text) == has


def test_the_weights_are_in_torchs_usual_form(trained, tiny):
    from torch_imagenet.weights.load import load_weights

    state = torch.load(trained.folder / "model.pth", weights_only=True)
    SmallNetwork(tiny.classes, 0.0, 0.0).load_state_dict(state)
    best = torch.load(trained.folder / "model_best.pth.tar", weights_only=True)
    assert set(best) == {"epoch", "arch", "state_dict", "best_acc1", "optimizer", "run"}
    assert best["arch"] == "se_resnet50"
    assert load_weights(SmallNetwork(tiny.classes, 0.0, 0.0), trained.folder / "model_best.pth.tar")


def test_the_trainer_is_the_loop_that_one_would_write(tiny, run_in, tmp_path):
    """Ten steps written out with torch.optim.SGD and cross_entropy on the pipeline's own batches: the same weights."""
    from shared import imagenet
    from torch_imagenet.input_pipeline.loader import Loading, TrainingInput
    from torch_imagenet.input_pipeline.transforms import TrainTransform

    run = run_in(tmp_path / "run", "--label-smoothing", "0.1", "--memory-format", "contiguous")
    torch.manual_seed(run.recipe["seed"])
    network = SmallNetwork(tiny.classes, 0.0, 0.0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    transform = TrainTransform(32, crop_scale=tuple(run.recipe["crop_scale"]), flip=run.recipe["flip"])
    losses = []
    with TrainingInput(imagenet.load(tiny.folder).train, transform, 4, run.recipe["seed"], Loading(0)) as batches:
        for epoch in range(2):
            optimizer.param_groups[0]["lr"] = (0.05, 0.1)[epoch]  # one epoch of warm-up, then the cosine's top
            for batch in batches.epoch(epoch):
                images = (batch.images.permute(0, 3, 1, 2).float() / 255 - mean) / deviation
                loss = torch.nn.functional.cross_entropy(network(images), batch.labels, label_smoothing=0.1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(float(loss.detach()))
    assert [event["step_loss"] for event in run.events("step")] == pytest.approx(losses, rel=1e-4)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(run.training()["network"][name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("precision", ["O1", "O2", "bf16", "bf16_weights"])
def test_every_precision_trains(precision, run_in, tmp_path):
    run = run_in(tmp_path / "run", "--precision", precision, "--epochs", "1")
    assert run.status == 0
    assert run.record["precision"] == precision
    assert "has bfloat16 instructions" not in (run.folder / "train.log").read_text()
    assert all(torch.isfinite(value).all() for value in run.training()["network"].values())


def test_accumulated_batches_are_one_batch(run_in, tmp_path):
    """Without batch statistics in between (the body is frozen), two batches of two are one of four."""
    options = ["--freeze-body", "--epochs", "1", "--steps-per-epoch", "3", "--memory-format", "contiguous"]
    one = run_in(tmp_path / "one", *options, "--batch-size", "4")
    two = run_in(tmp_path / "two", *options, "--batch-size", "2", "--accumulate", "2")
    for name, value in one.training()["network"].items():
        torch.testing.assert_close(value, two.training()["network"][name], rtol=1e-4, atol=1e-6)


def test_a_frozen_body_stays_as_it_was(run_in, tmp_path):
    first = run_in(tmp_path / "first")
    run = run_in(tmp_path / "run", "--freeze-body", "--checkpoint", str(first.folder), "--epochs", "1")
    before, after = first.training()["network"], run.training()["network"]
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"fc.weight", "fc.bias"}


def test_the_dropout_before_the_head_trains_with_it_where_the_body_is_frozen(run_in, tmp_path):
    options = ["--freeze-body", "--epochs", "1", "--print-freq", "1"]
    plain, dropped = (run_in(tmp_path / rate, *options, "--dropout", rate) for rate in ("0", "0.5"))
    weight = "fc.weight"
    assert not torch.equal(plain.training()["network"][weight], dropped.training()["network"][weight])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--print-freq", "5"], r"error: the loss is (nan|inf) at step 3 \(\S+ first, \d+ tensors in all\); "),
        (["--save-steps", "1"], r"error: a weight is not a number after step 2 \(\S+ first, \d+ tensors in all\); "),
    ],
)
def test_what_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(options, message, run_in, tmp_path, capsys):
    first = ["--save-steps", "1", "--max-steps", "1"]
    good = run_in(tmp_path / "good", *first)
    run = run_in(tmp_path / "run", "--learning-rate", "1e18", *options, "--checkpoint", str(good.folder))
    assert run.status == 2
    assert re.search(message, capsys.readouterr().err)
    if "--save-steps" not in options:
        assert not list((run.folder / "checkpoints").glob("step-*"))
        return
    assert not (run.folder / "result.json").exists()
    assert all(torch.isfinite(value).all() for value in run.training()["network"].values())


def test_nothing_waits_for_the_device_between_log_steps(run_in, tmp_path, monkeypatch):
    """Every way from a tensor to a Python number is counted: one read at each log step, none in between."""
    reads = []
    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "numpy"):
        original = getattr(torch.Tensor, name)

        def counted(self, *arguments, _original=original, _name=name, **words):
            reads.append(_name)
            return _original(self, *arguments, **words)

        monkeypatch.setattr(torch.Tensor, name, counted)
    from shared.run.loop import Run
    from torch_imagenet.step.training_step import TrainingStep

    windows, first = [], []
    original_read, original_run = Run.read, TrainingStep.run

    def run(self, *arguments):
        if not first:  # torch's loader has asked its own generator for a seed
            reads.clear()
        first.append(1)
        return original_run(self, *arguments)

    def read(self, *arguments):
        windows.append((len(self._pending), list(reads)))
        original_read(self, *arguments)

    monkeypatch.setattr(TrainingStep, "run", run)
    monkeypatch.setattr(Run, "read", read)
    options = ["--precision", "O2", "--print-freq", "5", "--epochs", "1", "--clip-norm", "1", "--ema-decay", "0.9"]
    assert run_in(tmp_path / "run", *options).status == 0
    assert windows[0] == (5, [])
    assert reads.count("tolist") >= 1  # the counting works


def test_the_run_is_small_where_it_is_told_to_be(run_in, tmp_path):
    run = run_in(tmp_path / "run", "--max-steps", "3")
    assert run.record["steps_completed"] == 3
    assert run.record["evaluation"]["images"] > 0


def test_a_second_run_in_the_same_folder_moves_the_first_aside(run_in, tmp_path):
    run = run_in(tmp_path / "run", "--max-steps", "1")
    first = json.loads((run.folder / "result.json").read_text())
    run_in(tmp_path / "run", "--max-steps", "1")
    assert json.loads((run.folder / "previous-1" / "result.json").read_text()) == first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num-classes", "1000"], "--num-classes 1000, but the data set has"),
        (["--batch-size", "1000"], "is larger than the training set"),
        (["--auxiliary-weight", "0.4"], "has no auxiliary head"),
        (["--no-zero-pad"], "--no-zero-pad is PNASNet's"),
        (["--zero-pad"], "--zero-pad is PNASNet's"),
        (["--network", "senet"], "did you mean 'senet154'"),
        (["--device", "cuda:0"], "there is no cuda"),
        (["--device", "npu:0"], "torch_npu does not load"),
        (["--device", "cpuu"], "unknown device 'cpuu'"),
        (["--checkpoint", "nowhere"], "nowhere"),
        (["--resume", "nowhere"], "nowhere"),
        (["--learning-rat", "1"], "did you mean '--learning-rate'"),
        (["--precision", "O3"], "unknown precision"),
        (["--recipe", "senet154_cosine", "--network", "se_resnet50"], "leave --network"),
        (["--output-dir", "/proc/nowhere"], "cannot write"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(options, message, run_in, tmp_path, capsys):
    if "cuda:0" in options and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    run = run_in(tmp_path / "run", *options)
    assert run.status == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert message in lines[-1]
    assert "; " in lines[-1]
