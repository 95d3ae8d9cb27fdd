"""Every network through every mode, and every option set once in some run, to the last line that the run says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from shared.launchers.result_file import fields  # noqa: E402
from shared.recipes.imagenet import DEFAULTS  # noqa: E402
from shared.results.__main__ import main as results  # noqa: E402
from shared.results.rows import beside_documented  # noqa: E402
from shared.results.tables import render  # noqa: E402
from tests.torch_imagenet.small_network import SmallNetwork  # noqa: E402
from torch_imagenet.networks import create as real_network  # noqa: E402
from torch_imagenet.networks import spec  # noqa: E402
from torch_imagenet.networks.registry import NETWORKS  # noqa: E402
from torch_imagenet.options import parser  # noqa: E402

TESTS = Path(__file__).parent


class StandIn(SmallNetwork):
    """Small, with the named network's head, and its auxiliary head where `create` is asked for that."""

    def __init__(self, name, num_classes, dropout, drop_path, auxiliary_head=False, zero_pad=True):
        super().__init__(num_classes, dropout or 0.0, drop_path)
        head, self.fc = self.fc, nn.Identity()
        setattr(self, NETWORKS[name].head, head)
        self.head = NETWORKS[name].head
        self.aux = nn.ModuleDict({"classifier": nn.Linear(16, num_classes)}) if auxiliary_head else None

    def forward(self, images):
        features = super().forward(images)
        logits = getattr(self, self.head)(features) if self.head != "fc" else features
        return (logits, self.aux["classifier"](features)) if self.aux is not None and self.training else logits


def _create(name, num_classes, dropout, drop_path, **options):
    """Small where the head is not called fc; SE-ResNet-50's stand-in is that of the other tests."""
    if NETWORKS[name].head == "fc":
        return SmallNetwork(num_classes, dropout or 0.0, drop_path)
    return StandIn(name, num_classes, dropout, drop_path, **options)


@pytest.fixture
def run(run_in, tiny, tmp_path, monkeypatch):
    """run(name, mode, *options) -> the run of stand-ins in a folder of this name, which has ended with 0."""
    monkeypatch.setattr(spec, "create", _create)

    def start(name, mode, *options, data=True):
        words = ["--image-size", "32", "--batch-size", "4", "--max-steps", "2", "--device", "cpu", "--workers", "1"]
        words += ["--data-path", str(tiny.folder)] if data else []
        done = run_in(tmp_path / name, *words, *options, mode=mode, plain=True, real=True)
        assert done.status == 0, options
        return done

    return start


# -- networks --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_goes_through_every_mode(name, run, tmp_path, monkeypatch, capsys):
    trained = run("train", "train", "--network", name)
    assert re.search(rf"^measured +{name}|^measured +se_resnet50_1p", capsys.readouterr().out, re.MULTILINE)
    evaluated = run("evaluate", "evaluate", "--checkpoint", str(trained.folder))
    bare = run("bare", "evaluate", "--checkpoint", str(trained.folder / "model.pth"), "--network", name)
    tuned = run("finetune", "finetune", "--checkpoint", str(trained.folder))
    resumed = run("resumed", "train", "--resume", str(trained.folder))
    measured = run("benchmark", "benchmark", "--network", name, data=False)
    profiled = run("profile", "profile", "--network", name, data=False)
    runs = [trained, evaluated, bare, tuned, resumed, measured, profiled]
    assert {one.record["network"] for one in runs} == {name}
    assert evaluated.record["evaluation"]["top1"] == trained.record["evaluation"]["top1"]
    for one in (trained, evaluated, tuned):
        values = fields(one.record, [1.0], "acc", "x86_64", 1.0)
        assert values["TrainAccuracy"] != "None"
    for form in ("text", "markdown", "csv", "json", "html"):
        output = tmp_path / f"table.{form}"
        assert results([*(str(one.folder) for one in runs), "--format", form, "--output", str(output)]) == 0
        assert trained.record["recipe"] in output.read_text()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_finished_run_of_every_network_has_a_table(name):
    device = {"kind": "cpu", "name": "a processor", "count": 1}
    record = {"half": "torch_imagenet", "mode": "train", "network": name, "recipe": DEFAULTS[name], "device": device}
    *documented, own = beside_documented(dict(record, evaluation={"top1": 90.0}, dataset={"name": "mine"}, seconds=1.0))
    assert {row.network for row in [*documented, own]} == {name}
    assert (own.kind, own.top1, own.dataset) == ("measured", 90.0, "imagenet")
    assert render([*documented, own])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["se_resnet50_caffe"])
def test_a_network_without_a_documented_row_itself(name, run, monkeypatch):
    monkeypatch.setattr(spec, "create", real_network)
    trained = run("train", "train", "--network", name)
    assert run("evaluate", "evaluate", "--checkpoint", str(trained.folder)).record["network"] == name


@pytest.mark.slow
def test_a_compiled_network(run):
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler, which torch.compile needs on a CPU")
    compiled = run("compiled", "train", "--compile", data=True)
    assert compiled.record["compiled"] is True
    assert run("evaluate", "evaluate", "--checkpoint", str(compiled.folder), "--compile").status == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_a_summary(name, capsys):
    from torch_imagenet.main import main

    assert main(["summary", "--network", name]) == 0
    assert name in capsys.readouterr().out


# -- options ---------------------------------------------------------------------------------------------------

# mode, options; DIR is a new folder, RUN that of a finished training, TINY the data.
RUNS = {
    "network": (
        "train",
        "--network pnasnet5large --recipe pnasnet5large_1p --num-classes 3 --dropout 0.1 --drop-path"
        " 0.1 --auxiliary-weight 0.2 --no-zero-pad --normalisation none --precision O0",
    ),
    "documented spellings": (
        "train",
        "--network pnasnet5large --use_aux --zero-pad --wd-all --opt-level O0 --original-names",
    ),
    "schedule, step": ("train", "--scheduler step --period 1 --factor 0.5 --epochs 2 --max-steps 7 --nowd-bn"),
    "schedule, piecewise": ("train", "--scheduler piecewise --milestones 1 --factors 0.5 --epochs 2 --max-steps 7"),
    "schedule, exponential": ("train", "--scheduler exponential --factor 0.9 --decayed weights"),
    "schedule, cosine": ("train", "--scheduler cosine --minimum 1e-6 --warm-up-epochs 1 --epochs 2 --every-step"),
    "as documented": ("train", "--no-every-step --no-zero-init --no-trivialaugment"),
    "optimization": (
        "train",
        "--learning-rate 0.01 --momentum 0 --weight-decay 0 --clip-norm 1 --accumulate 2"
        " --ema-decay 0.9 --scale-learning-rate --seed 7",
    ),
    "regularization": (
        "train",
        "--label-smoothing 0.1 --smoothing others --steps-per-epoch 3 --freeze-body --zero-init",
    ),
    "torchvision's": ("train", "--mixup 0.2 --cutmix 1 --randaugment 2,30 --erasing 0.5"),
    "more of torchvision's": ("train", "--trivialaugment"),
    "scaled": (
        "train",
        "--amp --loss-scale dynamic --memory-format contiguous --grouped-conv dense --deterministic --no-tf32",
    ),
    "files": (
        "train",
        "--save-steps 1 --keep 1 --print-freq 1 --log-file DIR/log.txt --checkpoint RUN --decoder pillow --on-bad-image"
        " skip --eval-batch-size 3 --do-not-preserve-aspect-ratio --timeout 60",
    ),
    "resumed": ("train", "--resume RUN"),
    "limits": ("train", "--peak-flops 1e12 --memory-bandwidth 1e11 --no-affinity --nnodes 1 --local-addr 127.0.0.1"),
    "evaluation": ("train", "-e --checkpoint RUN --precision bf16"),
    "profile": ("train", "--profile"),
    "shards": ("check-data", "--write-shards DIR/shards --shard-size 1 --shard-cache DIR/cache --shard-cache-size 1"),
    "sorted": ("check-data", "--sort-val DIR/list.txt"),
}

# What a run needs several processes, a compiler or an NPU for: the file of these tests that sets it.
ELSEWHERE = {
    "--distributed": "distributed/test_process_group.py",
    "--num-devices": "distributed/test_process_group.py",
    "--nnodes": "distributed/test_faults.py",
    "--node-rank": "distributed/test_faults.py",
    "--master-addr": "distributed/test_faults.py",
    "--master-port": "distributed/test_faults.py",
    "--max-restarts": "distributed/test_faults.py",
    "--sync-bn": "distributed/test_sync_batch_norm.py",
    "--tf32": "devices/test_precision.py",
    "--npu-fused-sgd": "devices/npu/driver.py",
    "--npu-jit-compile": "devices/npu/driver.py",
    "--npu-internal-format": "devices/npu/driver.py",
    "--compile": "test_every_option.py",
    "--help-all": "../shared/cli/test_modes.py",
    "--version": "../shared/cli/test_arguments.py",
    "--restrict-classes": "test_class_names.py",
    "--top-k": "test_predict.py",
    "--grad-cam": "test_predict.py",
    "--config": "test_config_file.py",
    "--dry-run": "test_dry_run.py",
    "--port": "test_port_command.py",
    "--local-rank": "distributed/test_environment.py",
    "--save-trace": "test_check_port.py",
    "--against": "test_check_port.py",
    "--msprobe": "test_check_port.py",
    "--format": "test_export.py",
    "--output": "test_export.py",
    "--with-preprocessing": "test_export.py",
    "--with-normalisation": "test_export.py",
}


@pytest.fixture(scope="module")
def finished(run_in, tmp_path_factory):
    made = run_in(tmp_path_factory.mktemp("finished") / "run", "--max-steps", "1")
    assert made.status == 0
    return made.folder


@pytest.mark.parametrize("name", RUNS)
def test_every_option_is_set_in_some_run(name, run_in, finished, tiny, tmp_path, request):
    if name == "torchvision's":
        request.getfixturevalue("torchvision")
    mode, text = RUNS[name]
    data = tmp_path / "data"
    shutil.copytree(tiny.folder, data)
    if name == "sorted":
        _flatten(data, tmp_path / "list.txt")
    words = text.replace("DIR", str(tmp_path)).replace("RUN", str(finished)).split()
    common = ["--data-path", str(data), "--workers", "1"]
    if mode == "train":
        common += ["--image-size", "32", "--batch-size", "4", "--device", "cpu"]
        common += [] if "--max-steps" in words else ["--max-steps", "2"]
        if name in ("resumed", "evaluation"):  # what the run has been trained with stays
            common = common[: 4 if name == "resumed" else None]
    run = run_in(tmp_path / "run", *common, *words, plain=True, mode=mode)
    assert run.status == 0
    if mode == "train":
        assert (run.folder / "result.json").exists()


def _flatten(data, labels):
    """Classes with ImageNet's kind of names, val/ without folders, and the list of what belongs where."""
    lines = []
    for number, folder in enumerate(sorted((data / "train").iterdir())):
        wnid = f"n{number:08d}"
        folder.rename(folder.with_name(wnid))
        for image in sorted((data / "val" / folder.name).iterdir()):
            image.rename(data / "val" / image.name)
            lines.append(f"{image.name} {wnid}\n")
        (data / "val" / folder.name).rmdir()
    labels.write_text("".join(lines))


def test_no_option_is_set_nowhere():
    runs = " ".join(text for _, text in RUNS.values()) + " --image-size --batch-size --max-steps --device --workers"
    set_here = {*runs.split(), "--data-path", "--output-dir"}
    actions = [action for action in parser()._actions if action.option_strings]
    missing = [action.option_strings for action in actions if not set_here & set(action.option_strings)]
    for spellings in missing:
        files = [ELSEWHERE[spelling] for spelling in spellings if spelling in ELSEWHERE]
        assert files, f"{spellings} is set in no run; add it to RUNS"
        assert any(spelling in (TESTS / file).read_text() for file in files for spelling in spellings), spellings
