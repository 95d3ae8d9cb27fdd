"""What tests/torch_imagenet/test_npu*.py look at, found out in a process whose `npu` is the simulated one.

    python driver.py DATA FOLDER NAME ...

runs the checks of these names on the data set DATA, below FOLDER, and writes what they return to FOLDER/facts.json.
Everything goes through torch_imagenet.main, as a user's command does. The device cannot be taken out of a process
again, which is why this is not done in the tests' own; and it must be there before the first backward pass.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest
import torch
import torch.distributed as dist
import torch_npu

from shared.run import loop
from tests.torch_imagenet.conftest import SHORT, Run
from tests.torch_imagenet.port_check.faults import FAULTS, compared
from tests.torch_imagenet.small_network import create_small
from tests.torch_imagenet.test_resume import _stop_at
from torch_imagenet.devices import device as devices
from torch_imagenet.distributed.data_parallel import with_synchronised_statistics
from torch_imagenet.main import main
from torch_imagenet.networks import spec
from torch_imagenet.run import setup as runs
from torch_imagenet.step.training_step import TrainingStep

torch.set_num_threads(1)
Facts = Dict[str, Any]
DEVICES = ("cpu", "npu:0")

# A network that draws random numbers on the device, clips, averages: everything that a step can do.
EVERYTHING = (
    "--dropout 0.3 --drop-path 0.3 --clip-norm 1 --ema-decay 0.9 --label-smoothing 0.1 --memory-format contiguous"
).split()


class Lab:
    """A folder for runs, a data set, and the small network in the place of se_resnet50."""

    def __init__(self, data: str, folder: Path) -> None:
        self.data, self.folder, self._runs = data, folder, 0

    def run(self, *options: str, mode: str = "train", real: bool = False, plain: bool = False, at: str = "") -> Run:
        """The command with these options; `plain` adds none but the output folder, which is new unless `at` names one.

        Later options win over those that are always there.
        """
        self._runs += 1
        folder = Path(at) if at else self.folder / f"run{self._runs}"
        words = list(options) if plain else [*SHORT, "--data-path", self.data, *options]
        with pytest.MonkeyPatch.context() as patch:
            if not real:
                patch.setattr(spec, "create", create_small)
            status = main([mode, *words, "--output-dir", str(folder)])
        return Run(status, folder, words)

    def pair(self, *options: str, **settings: Any) -> List[Run]:
        """The same command on both devices."""
        return [self.run(*options, "--device", device, **settings) for device in DEVICES]


def compare(first: Run, second: Run, tensors: Optional[Callable[[Run], Dict[str, torch.Tensor]]] = None) -> Facts:
    """What two runs computed: the tensors that differ, by default of the last checkpoint, and what they logged."""
    one, other = map(tensors or _tensors, (first, second))
    assert set(one) == set(other)
    return {
        "status": [first.status, second.status],
        "tensors": len(one),
        "different": [name for name in one if not torch.equal(one[name], other[name])],
        "events": [first.events(), second.events()],
        "kinds": [first.record["device"]["kind"], second.record["device"]["kind"]],
        "evaluation": [_evaluation(first), _evaluation(second)],
    }


def _tensors(run: Run) -> Dict[str, torch.Tensor]:
    state = run.training()
    found = dict(state["network"])
    found.update((f"average of {name}", value) for name, value in state.get("average", {}).items())
    for number, own in state["optimizer"]["state"].items():
        found[f"momentum {number}"] = own["momentum_buffer"]
    return found


def _evaluation(run: Run) -> Facts:
    return {name: value for name, value in run.record["evaluation"].items() if name != "checkpoint"}


# -- the same numbers as on the CPU ----------------------------------------------------------------------------


def network(name: str, lab: Lab) -> Facts:
    """The real network on both devices: trained for a step, evaluated. Checkpoints are a gigabyte: none is written."""
    with _nothing_saved():
        return _compared([lab.run(*_words(name, device), "--max-steps", "1", real=True) for device in DEVICES])


def resumed(name: str, lab: Lab) -> Facts:
    """The real network on both devices: trained for a step, stopped, resumed for another, evaluated."""
    runs = []
    for device in DEVICES:
        folder = str(_stopped(name, lab, device).folder)
        with _nothing_saved():
            runs.append(lab.run(*_words(name, device), "--resume", folder, real=True, at=folder))
    return _compared(runs)


def tuned(name: str, lab: Lab) -> Facts:
    """The real network with a new head on both devices, from a checkpoint that was trained on the device."""
    options = ["--max-steps", "1", "--num-classes", "3"]
    checkpoint = ["--checkpoint", str(_stopped(name, lab, "npu:0").folder)]
    with _nothing_saved():
        words = [[*_words(name, device), *options, *checkpoint] for device in DEVICES]
        return _compared([lab.run(*own, mode="finetune", real=True) for own in words])


@contextlib.contextmanager
def _nothing_saved() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Run, "save", lambda self, *arguments, **words: None)
        yield


def _words(name: str, device: str) -> List[str]:
    recipe = {"se_resnet50": "se_resnet50_1p", "senet154": "senet154_1p", "pnasnet5large": "pnasnet5large_1p"}[name]
    return [
        "--recipe",
        recipe,
        "--batch-size",
        "2",
        "--learning-rate",
        "1e-12",  # at random weights and two images the gradients have norms of 1e10
        "--max-steps",
        "2",
        "--precision",
        "O0",
        "--memory-format",
        "contiguous",
        "--epochs",
        "1",
        "--device",
        device,
    ]


def _stopped(name: str, lab: Lab, device: str) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        _stop_at(patch, 1)
        stopped = lab.run(*_words(name, device), real=True)
    assert stopped.status == 143, stopped.status
    return stopped


def _compared(pair: List[Run]) -> Facts:
    facts = compare(*pair, _model)
    for run in pair:
        shutil.rmtree(run.folder)
    return facts


def _model(run: Run) -> Dict[str, torch.Tensor]:
    return torch.load(run.folder / "model.pth", weights_only=True)


def level(precision: str, lab: Lab, *options: str) -> Facts:
    """A precision level in training."""
    return compare(*lab.pair(*EVERYTHING, "--precision", precision, *options))


def overflow(precision: str, lab: Lab) -> Facts:
    """A dynamic loss scale that is too large at first."""
    original = torch.amp.GradScaler.__init__

    def start(self: torch.amp.GradScaler, device: str, init_scale: float, **settings: Any) -> None:
        original(self, device, 2.0**20, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.amp.GradScaler, "__init__", start)
        return level(precision, lab, "--loss-scale", "dynamic")


def resume(lab: Lab) -> Facts:
    """Stopped in the middle of an epoch and continued, against the undisturbed run on the CPU."""
    options = [*EVERYTHING, "--precision", "O2", "--print-freq", "2"]
    whole = lab.run(*options, "--device", "cpu")
    with pytest.MonkeyPatch.context() as patch:
        _stop_at(patch, 3)
        stopped = lab.run(*options, "--device", "npu:0")
    resumed = lab.run(
        "--resume", str(stopped.folder), "--print-freq", "2", "--device", "npu:0", plain=True, at=str(stopped.folder)
    )
    return {"stopped": stopped.status, **compare(whole, resumed)}


def finetune(lab: Lab) -> Facts:
    """A new head, from a checkpoint that was trained on the other device."""
    trained = lab.run("--device", "npu:0", "--memory-format", "contiguous")
    options = [
        "--checkpoint",
        str(trained.folder),
        "--data-path",
        lab.data,
        "--batch-size",
        "4",
        "--epochs",
        "1",
        "--workers",
        "1",
        "--precision",
        "O0",
        "--memory-format",
        "contiguous",
    ]
    return compare(*lab.pair(*options, mode="finetune", plain=True))


def evaluate(lab: Lab) -> Facts:
    """Checkpoints of both devices, each evaluated on both."""
    trained = lab.pair("--memory-format", "contiguous")
    return {
        run.record["device"]["kind"]: [
            _evaluation(other)
            for other in lab.pair(
                "--checkpoint",
                str(run.folder),
                "--data-path",
                lab.data,
                "--precision",
                "O0",
                "--workers",
                "1",
                "--memory-format",
                "contiguous",
                mode="evaluate",
                plain=True,
            )
        ]
        for run in trained
    }


# -- who waits for whom ----------------------------------------------------------------------------------------


def waits(lab: Lab, *options: str) -> Facts:
    """What was counted from the beginning of each step to that of the next one, in the first epoch."""
    counts: List[Dict[str, int]] = []
    original = TrainingStep.run

    def counted(self: TrainingStep, *arguments: Any) -> torch.Tensor:
        counts.append(torch_npu.counters())
        return original(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingStep, "run", counted)
        run = lab.run(*EVERYTHING, "--device", "npu:0", *options)
    steps = list(zip(counts, counts[1:]))[:4]
    return {
        "status": run.status,
        "steps": [{name: later[name] - earlier[name] for name in later} for earlier, later in steps],
        "log": (run.folder / "train.log").read_text(),
    }


# -- what must not go unnoticed --------------------------------------------------------------------------------


def forgotten_transfer(lab: Lab) -> Facts:
    """The normalisation's constants stay on the host."""
    original = runs.Normalisation
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "Normalisation", lambda m, s, device, *rest: original(m, s, torch.device("cpu"), *rest))
        with pytest.raises(RuntimeError) as error:
            lab.run("--device", "npu:0")
    return {"error": str(error.value)}


def forgotten_seed(lab: Lab) -> Facts:
    """The device's own generator is not seeded at every step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices.Device, "seed", lambda self, value: torch.default_generator.manual_seed(value))
        return level("O0", lab)


# -- devices, modes and options --------------------------------------------------------------------------------


def indices(lab: Lab) -> Facts:
    """Which device a spelling is."""
    before = torch.npu.max_memory_allocated(1)
    statuses = {name: lab.run("--device", name, "--max-steps", "1") for name in ("npu", "npu:1", "auto")}
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        missing = lab.run("--device", "npu:7")
        layout = lab.run("--device", "npu:0", "--memory-format", "channels_last")
    return {
        "status": {name: run.status for name, run in statuses.items()},
        "device": {name: run.record["device"] for name, run in statuses.items()},
        "peak_memory": {name: run.record["peak_memory"] for name, run in statuses.items()},
        "second_used": torch.npu.max_memory_allocated(1) > before,
        "missing": [missing.status, layout.status],
        "errors": [line for line in errors.getvalue().splitlines() if line.startswith("error: ")],
    }


def measuring(lab: Lab) -> Facts:
    """The modes benchmark and profile, and the steps that they leave out."""
    steps: List[int] = []
    original = TrainingStep.run

    def counted(self: TrainingStep, *arguments: Any) -> torch.Tensor:
        steps.append(1)
        return original(self, *arguments)

    options = (
        "--network se_resnet50 --image-size 32 --batch-size 2 --device npu:0 --max-steps 2 --num-classes 5 "
        "--precision O0"
    ).split()
    facts: Facts = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingStep, "run", counted)
        for mode in ("benchmark", "profile"):
            steps.clear()
            run = lab.run(*options, mode=mode, plain=True)
            facts[mode] = {"status": run.status, "record": run.record, "steps": len(steps)}
    facts["trace"] = len(json.loads((run.folder / "output.prof").read_text())["traceEvents"])
    return facts


def settings(lab: Lab) -> Facts:
    """What the options tell torch_npu, and that the simulated one then refuses what it must."""
    ones = [torch.ones(2, device="npu:0")]
    off = lab.run("--device", "npu:0", "--max-steps", "1")
    told_off = dict(torch.npu.settings)
    on = lab.run("--device", "npu:0", "--max-steps", "1", "--npu-jit-compile", "--npu-internal-format")
    told_on = dict(torch.npu.settings)
    with pytest.raises(RuntimeError) as refused:
        torch._foreach_norm(ones)
    lab.run("--device", "npu:0", "--max-steps", "1")
    options = [json.loads((run.folder / "config.json").read_text())["options"] for run in (off, on)]
    names = ("npu_fused_sgd", "npu_jit_compile", "npu_internal_format")
    torch._foreach_norm(ones)
    return {
        "told": [told_off, told_on],
        "refused": str(refused.value).splitlines()[0],
        "config": [{name: one[name] for name in names} for one in options],
    }


def internal_format(lab: Lab, precision: str) -> Facts:
    """Where torch_npu has no operators on lists of tensors; the simulated one refuses them all."""
    options = [*EVERYTHING, "--precision", precision, "--loss-scale", "128"]
    first = lab.run(*options, "--device", "cpu")
    return compare(first, lab.run(*options, "--device", "npu:0", "--npu-internal-format"))


def npu_fused_sgd(lab: Lab, precision: str) -> Facts:
    """torch_npu's own optimizer against torch's on the CPU, also continued from a checkpoint."""
    options = [*EVERYTHING, "--precision", precision, "--decayed", "weights", "--accumulate", "2", "--batch-size", "2"]
    first = lab.run(*options, "--device", "cpu")
    second = lab.run(*options, "--device", "npu:0", "--npu-fused-sgd")
    half = lab.run(*options, "--device", "npu:0", "--npu-fused-sgd", "--max-steps", "7")
    words = ["--resume", str(half.folder), "--device", "npu:0", "--npu-fused-sgd", "--print-freq", "1"]
    resumed = lab.run(*words, plain=True, at=str(half.folder))
    return {
        "status": [first.status, second.status, half.status, resumed.status],
        "largest_difference": _difference(first, second),
        "of_the_resumed": _difference(second, resumed),
        "moved": _difference(first, lab.run(*options, "--device", "cpu", "--max-steps", "1")),
        "log": (second.folder / "train.log").read_text(),
    }


def synchronised(lab: Lab) -> Facts:
    """Batch normalisation over one rank, on the device and as torch's on the CPU; what the host waits for meanwhile."""
    dist.init_process_group("cpu:gloo,npu:hccl", store=dist.HashStore(), rank=0, world_size=1)
    image, ends = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)), []
    for kind in DEVICES:
        device = devices.open_device(kind)
        torch.manual_seed(0)
        layers = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
        if device.asynchronous:
            layers = with_synchronised_statistics(layers, device)
        layers, x = layers.to(device.torch_device), image.to(device.torch_device)
        before = torch_npu.counters()
        layers(x).square().sum().backward()
        waits = torch_npu.counters()["waits"] - before["waits"]
        ends.append([*(parameter.grad for parameter in layers.parameters()), *layers[1].buffers()])
    dist.destroy_process_group()
    return {"waits": waits, "different": max(float((one - other.cpu()).abs().max()) for one, other in zip(*ends))}


def torchs_fused_sgd(lab: Lab) -> Facts:
    """A kernel that fails, as on the Ascend 910, or is wrong: the run without it, against the CPU's."""
    options, facts = [*EVERYTHING, "--precision", "O2", "--max-steps", "3"], {}
    first = lab.run(*options, "--device", "cpu")
    for fault in ("", "fails", "values"):
        torch_npu.break_fused_sgd(fault)
        run = lab.run(*options, "--device", "npu:0")
        log = (run.folder / "train.log").read_text().splitlines()
        facts[fault] = {
            "status": run.status,
            "largest_difference": _difference(first, run),
            "notes": [line for line in log if "fused SGD" in line],
        }
    torch_npu.break_fused_sgd("")
    return facts


def port(lab: Lab) -> Facts:
    """The first check that each fault of a port fails on the device, and what a clean port fails."""
    device, facts = devices.open_device("npu:0"), {}
    for name, fault in {"clean": None, **FAULTS}.items():
        level = fault.precisions[0] if fault else "O1"
        first = compared(fault, level, device).verdict.first
        facts[name] = None if first is None else [first.stage, first.layer, first.quantity]
    return facts


def grouped(lab: Lab) -> Facts:
    """check-port where grouped convolutions are wrong or fail: the exit status, and what it says of them."""
    options, facts = ["--device", "npu:0", "--max-steps", "1"], {}
    cases = {"values": [], "forward": [], "backward": [], "dense": ["--grouped-conv", "dense"]}
    for case, more in cases.items():
        torch_npu.break_grouped_convolutions("values" if more else case)
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                status = lab.run(*options, *more, mode="check-port").status
        except SystemExit as ended:
            status = ended.code
        facts[case] = [status, [line for line in said.getvalue().splitlines() if "grouped" in line or "error" in line]]
    torch_npu.break_grouped_convolutions("")
    return facts


def _difference(first: Run, second: Run) -> float:
    one, other = _tensors(first), _tensors(second)
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


CHECKS: Dict[str, Callable[[Lab], Facts]] = {
    "se_resnet50": lambda lab: network("se_resnet50", lab),
    "senet154": lambda lab: network("senet154", lab),
    "pnasnet5large": lambda lab: network("pnasnet5large", lab),
    "resumed se_resnet50": lambda lab: resumed("se_resnet50", lab),
    "tuned se_resnet50": lambda lab: tuned("se_resnet50", lab),
    "O0": lambda lab: level("O0", lab),
    "O1": lambda lab: level("O1", lab),
    "O2": lambda lab: level("O2", lab, "--accumulate", "2", "--batch-size", "2"),
    "bf16": lambda lab: level("bf16", lab),
    "static": lambda lab: level("O2", lab, "--loss-scale", "1024"),
    "overflow O1": lambda lab: overflow("O1", lab),
    "overflow O2": lambda lab: overflow("O2", lab),
    "resume": resume,
    "finetune": finetune,
    "evaluate": evaluate,
    "waits O0": lambda lab: waits(lab, "--precision", "O0", "--print-freq", "100"),
    "waits O1": lambda lab: waits(lab, "--precision", "O1", "--print-freq", "100"),
    "waits O2": lambda lab: waits(lab, "--precision", "O2", "--print-freq", "100"),
    "waits log": lambda lab: waits(lab, "--precision", "O0", "--print-freq", "1"),
    "waits fused": lambda lab: waits(lab, "--precision", "O2", "--print-freq", "100", "--npu-fused-sgd"),
    "forgotten transfer": forgotten_transfer,
    "forgotten seed": forgotten_seed,
    "indices": indices,
    "measuring": measuring,
    "port": port,
    "grouped": grouped,
    "settings": settings,
    "internal format O0": lambda lab: internal_format(lab, "O0"),
    "internal format O2": lambda lab: internal_format(lab, "O2"),
    "synchronised": synchronised,
    "torchs_fused_sgd": torchs_fused_sgd,
    "npu_fused_sgd O0": lambda lab: npu_fused_sgd(lab, "O0"),
    "npu_fused_sgd O2": lambda lab: npu_fused_sgd(lab, "O2"),
}


def found_out(data: str, folder: Path, names: List[str]) -> Iterator[Any]:
    """The facts of these checks, and last the operators that ran on the device."""
    torch_npu.record_operators(True)
    for name in names:
        yield name, CHECKS[name](Lab(data, folder / name.replace(" ", "-")))
    yield "operators", sorted(torch_npu.recorded_operators())


if __name__ == "__main__":
    place = Path(sys.argv[2])
    (place / "facts.json").write_text(json.dumps(dict(found_out(sys.argv[1], place, sys.argv[3:]))))
