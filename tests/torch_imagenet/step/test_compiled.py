"""A network is compiled once: graphs are counted, and the numbers are those of the network that is not compiled.

The quick tests count with a backend that runs each graph operator by operator, so that all numbers must be equal.
"""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch._dynamo.testing import CompileCounter  # noqa: E402
from torch._inductor import cpp_builder, exc  # noqa: E402

from shared.errors import RunEnded, UsageError  # noqa: E402
from tests.torch_imagenet.distributed.jobs import losses, record, same_bits, train, weights  # noqa: E402
from tests.torch_imagenet.distributed.test_process_group import images  # noqa: E402
from tests.torch_imagenet.small_network import SmallNetwork, training_step  # noqa: E402
from torch_imagenet.devices.device import open_device  # noqa: E402
from torch_imagenet.input_pipeline.loader import Batch  # noqa: E402
from torch_imagenet.networks import create, pnasnet, senet  # noqa: E402
from torch_imagenet.options import COMPILE_MODES  # noqa: E402
from torch_imagenet.step.compiled import Compiled, padded  # noqa: E402

CLASSES = 4
CPU = open_device("cpu")
RANDOM = ("--dropout", "0.3", "--drop-path", "0.3")


@pytest.fixture
def counted(monkeypatch):
    """The counter of the graphs that torch.compile makes in this test."""
    torch._dynamo.reset()
    counter, original = CompileCounter(), torch.compile
    original(torch.neg, backend="eager")(torch.ones(1))  # loads what the first graph needs, in seconds

    def compiled(network, dynamic, options):
        return original(network, backend=counter, dynamic=dynamic)

    monkeypatch.setattr(torch, "compile", compiled)
    yield counter
    torch._dynamo.reset()


def _batch(images=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (images, 8, 8, 3), dtype=torch.uint8, generator=generator)
    return Batch(pixels, torch.randint(0, CLASSES, (images,), generator=generator), ())


def _step(mode, **changes):
    """A step of the small network, for batches of six."""
    torch.manual_seed(0)
    network, options = SmallNetwork(CLASSES, 0.3, 0.3), ("--compile", mode) if mode else ()
    return training_step(network, CLASSES, words=options, batch_size=6, **changes)


# -- how many graphs -------------------------------------------------------------------------------------------


def test_a_training_and_its_evaluations_are_two_graphs(run_in, counted, tmp_path):
    """10 images are evaluated, four at a time; twice. An average of the weights is evaluated."""
    options = (*RANDOM, "--ema-decay", "0.9", "--accumulate", "2")
    plain = run_in(tmp_path / "plain", *options)
    assert counted.frame_count == 0
    compiled = run_in(tmp_path / "compiled", *options, "--compile")
    assert counted.frame_count == 2
    assert compiled.events("step", "epoch") == plain.events("step", "epoch")
    _same_evaluation(plain, compiled)
    assert (compiled.record["compiled"], compiled.record["compile_mode"]) == (True, "default")
    states = [json.loads((run.folder / "checkpoints/last/state.json").read_text()) for run in (plain, compiled)]
    assert [state["arithmetic"]["revision_of_the_step"] for state in states] == [3, 4]
    logs = [(run.folder / "train.log").read_text() for run in (plain, compiled)]
    assert ["without --compile is as fast" in log for log in logs] == [False, True]  # which a CPU's user should know


@pytest.mark.parametrize("size", ["3", "64"])
def test_an_evaluation_is_one_graph(size, run_in, tiny, counted, tmp_path):
    weights = run_in(tmp_path / "run", "--max-steps", "1").folder
    options = ("--checkpoint", str(weights), "--data-path", str(tiny.folder), "--eval-batch-size", size)
    runs = []
    for name, more in (("plain", ()), ("compiled", ("--compile", "reduce-overhead"))):
        run = run_in(tmp_path / name, *options, "--device", "cpu", *more, mode="evaluate", plain=True)
        assert run.status == 0
        runs.append(run)
    assert counted.frame_count == 1
    _same_evaluation(*runs)


def _same_evaluation(plain, compiled):
    """All counts are equal. A matrix product may round otherwise for a batch that is filled up."""
    one, other = plain.record["evaluation"], compiled.record["evaluation"]
    for name in ("images", "top1", "top5", "per_class_accuracy", "confusion"):
        assert one[name] == other[name], name
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-6)
    examples = [json.loads((run.folder / "examples.json").read_text()) for run in (plain, compiled)]
    for name in ("right", "wrong"):
        first, second = ([example["index"] for example in found[name]] for found in examples)
        assert first == second


def test_short_batches_and_trials_are_no_graphs(counted, monkeypatch):
    step = _step("default")
    for number, size in enumerate((4, 6, 5, 6, 1)):
        step.run([_batch(size, number)], 0.1 / (number + 1), number, number)
    assert counted.frame_count == 1

    def exhausted(images):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(step._forward, "_compiled", exhausted)
    with pytest.raises(RunEnded, match="for a batch of 6; --batch-size 3 --accumulate 2, .*fits"):
        step.run([_batch()], 0.1, 0, 0)
    assert counted.frame_count == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["se_resnet50", "senet154", "pnasnet5large"])
def test_every_network_is_one_graph_to_train_and_one_to_evaluate(name, counted, monkeypatch):
    """On a device without memory, so that nothing is computed. PNASNet has seven cells less, SENet154 38 blocks."""
    stages = senet.stages
    monkeypatch.setattr(senet, "stages", lambda block, counts, *more: stages(block, [min(n, 3) for n in counts], *more))
    ends = ("conv_0", "cell_stem_0", "cell_1", "cell_3", "cell_4")
    layers = ("conv_0", "cell_stem_0", "cell_stem_1", *(f"cell_{number}" for number in range(5)))
    for constant, value in {"CELLS": 5, "REDUCTIONS": (2, 4), "AUXILIARY_AFTER": "cell_4", "LAYERS": layers}.items():
        monkeypatch.setattr(pnasnet, constant, value)
    monkeypatch.setattr(pnasnet, "ENDS", ends)
    auxiliary = {"auxiliary_head": True} if name == "pnasnet5large" else {}
    with torch.device("meta"):
        network = create(name, num_classes=CLASSES, dropout=0.2, drop_path=0.2, **auxiliary)
        trained, evaluated = Compiled(network, "default", CPU, 4), Compiled(network, "default", CPU)
        for _ in range(2):
            network.train()
            for size in (4, 4, 3):
                trained(torch.zeros(size, 3, 64, 64))
            network.eval()
            with torch.inference_mode():
                for size in (5, 5, 2):
                    assert evaluated(torch.zeros(size, 3, 64, 64)).shape == (size, CLASSES)
    assert counted.frame_count == 2
    assert not torch._dynamo.utils.counters["graph_break"]


# -- CUDA graphs -----------------------------------------------------------------------------------------------


def test_what_cuda_graphs_need_is_done_and_changes_nothing(counted, monkeypatch):
    """A graph overwrites what it returned before: it is told where a pass begins; gradients that stay are copies."""
    marks, kept, ends = [], [], []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: marks.append(1))
    for graphs in (False, True):
        step = _step("reduce-overhead", accumulate=3)
        step._has_graphs = step._forward.has_graphs = graphs
        copy = step.weights.keep_gradients

        def keep(step=step, copy=copy):
            before = {name: one.grad for name, one in step.network.named_parameters()}
            copy()
            for name, one in step.network.named_parameters():
                assert one.grad.data_ptr() != before[name].data_ptr()
                assert torch.equal(one.grad, before[name])
            kept.append(1)

        monkeypatch.setattr(step.weights, "keep_gradients", keep)
        for number in range(2):
            step.run([_batch(seed=seed) for seed in range(3)], 0.1, 0, number)
        ends.append(step.weights.state_dict())
    assert (len(marks), len(kept)) == (6, 2)
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


def test_the_modes_are_torchs():
    offered = {"default", *torch._inductor.list_mode_options()}
    assert set(COMPILE_MODES) == offered - {"lite"}  # of torch 2.10 on, which leaves out most of the optimisations
    assert [mode for mode in COMPILE_MODES if Compiled(nn.Identity(), mode, CPU).has_graphs] == []
    device = dataclasses.replace(CPU, kind="cuda")
    graphs = [mode for mode in COMPILE_MODES if Compiled(nn.Identity(), mode, device).has_graphs]
    assert graphs == ["reduce-overhead", "max-autotune"]


# -- padding, errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 5, 6, 3), (3, 2)])
def test_padding_adds_zeros_behind(shape):
    whole = torch.ones(shape, dtype=torch.uint8)
    more = padded(whole, 5)
    assert more.shape == (5, *shape[1:])
    assert torch.equal(more[:3], whole)
    assert not more[3:].any()
    for size in (None, 2, 3):
        assert padded(whole, size) is whole


def test_without_a_compiler_it_ends_before_anything_is_written(run_in, tmp_path, monkeypatch, capsys):
    def none():
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    assert run_in(tmp_path / "run", "--compile").status == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: --compile needs a C++ compiler on a CPU, and there is none; install one, ")
    assert not (tmp_path / "run").exists()


def test_a_network_that_cannot_be_compiled_ends_with_one_line(monkeypatch):
    from torch._dynamo.exc import TorchDynamoException

    def fail(images):
        raise TorchDynamoException("CppCompileError: Python.h: No such file\n\nSet TORCHDYNAMO_VERBOSE=1")

    monkeypatch.setattr(torch, "compile", lambda network, **_: fail)
    with pytest.raises(UsageError, match=r"could not be compiled \(.*Python.h: No such file\); leave --compile"):
        Compiled(nn.Identity(), "default", CPU)(torch.zeros(1, 3, 8, 8))


# -- really compiled -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler, which torch.compile needs on a CPU")
def test_a_compiled_training_has_the_losses_of_one_that_is_not(tmp_path, monkeypatch):
    """Two ranks evaluate 15 and 16 images, eight at a time. Resumed, the run is the one that was not stopped."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    data = images(tmp_path / "data", 48, 31)
    options = (*RANDOM, "--batch-size", "8", "--epochs", "2", "--save-steps", "2", "--keep", "9")
    options += ("--num-devices", "2")
    train(tmp_path / "plain", data, *options)
    train(tmp_path / "compiled", data, *options, "--compile")
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), rel=1e-4)
    ends = [record(tmp_path / name)["evaluation"] for name in ("plain", "compiled")]
    assert (ends[0]["images"], ends[0]["top1"]) == (ends[1]["images"], ends[1]["top1"]) == (31, ends[0]["top1"])
    middle = str(tmp_path / "compiled" / "checkpoints" / "step-00000002")
    train(tmp_path / "resumed", data, *options, "--compile", "--resume", middle)
    assert same_bits(weights(tmp_path / "compiled"), weights(tmp_path / "resumed"))
