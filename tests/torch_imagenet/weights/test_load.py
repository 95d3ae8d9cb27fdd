"""Weights are loaded whole or not at all, from every form they come in, and no file can run anything."""

from __future__ import annotations

import argparse
import datetime
import os
import pathlib
import pickle
import re
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from shared.errors import UsageError
from tests.torch_imagenet.small_network import SmallNetwork
from torch_imagenet.networks import NETWORKS, create
from torch_imagenet.weights.files import Inert, read_weight_file
from torch_imagenet.weights.form import network_of
from torch_imagenet.weights.load import head_classes, load_weights, with_names


class Network(nn.Module):
    """As small as can be, with names of all the kinds that matter."""

    def __init__(self, classes: int = 5, auxiliary: bool = False, head: str = "last_linear") -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.bn = nn.BatchNorm2d(4)
        self.se_module = nn.Linear(4, 4)
        self.add_module(head, nn.Linear(4, classes))
        if auxiliary:
            self.aux = nn.ModuleDict({"features": nn.Linear(4, 4), "classifier": nn.Linear(4, classes)})


def drawn(seed: int = 1, **options) -> "OrderedDict[str, torch.Tensor]":
    """A state dict in which no tensor is as `Network()` draws it."""
    torch.manual_seed(seed)
    state = Network(**options).state_dict()
    return OrderedDict((key, value + 1) for key, value in state.items())


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def refused(network, *arguments, networks=(), **options) -> str:
    """The one line of the refusal; the network must be as it was.

    The advice may name one of `networks`: building them all takes a second, and most tests are not about it.
    """
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch_imagenet.weights.load.NETWORKS", dict.fromkeys(networks))
        with pytest.raises(UsageError) as caught:
            load_weights(network, *arguments, **options)
    assert same(network.state_dict(), before)
    text = str(caught.value)
    assert "\n" not in text
    assert "; " in text
    return text


# -- forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "module.module."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "net", "state_dict_ema", "network"])
def test_every_wrapping_is_undone(prefix, wrapper):
    state = drawn()
    wrapped = {prefix + key: value for key, value in state.items()}
    content = wrapped if wrapper is None else {"epoch": 3, wrapper: wrapped, "optimizer": {"state": {}}}
    network = Network()
    report = load_weights(network, content)
    assert same(network.state_dict(), state)
    assert (report.matched, report.total, report.wrapper, report.prefix) == (11, 11, wrapper, prefix)
    assert report.left_new == report.ignored == ()
    assert "11 of 11 tensors loaded" in report.lines()[0]
    assert len(report.lines()) == 1


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("name", ["senet154", "se_resnet50_caffe"])
def test_se_module_survives_with_and_without_the_prefix(name, prefix):
    """The port removes the first "module." wherever it stands, and so makes se_fc1 of se_module.fc1."""
    with torch.device("meta"):
        network = create(name, 5)
    keys = list(network.state_dict())
    assert any("se_module.fc1" in key for key in keys)
    small = nn.Module()
    for key in ("layer1.0.se_module.fc1.weight", "layer1.0.conv1.weight"):
        assert key in keys
    small.layer1 = nn.ModuleList([nn.ModuleDict({"se_module": nn.ModuleDict({"fc1": nn.Linear(2, 2)})})])
    state = {key: value + 1 for key, value in small.state_dict().items()}
    report = load_weights(small, {prefix + key: value for key, value in state.items()})
    assert report.prefix == prefix
    assert same(small.state_dict(), state)


def test_a_prefix_that_only_some_keys_have_is_part_of_their_names():
    network = nn.ModuleDict({"module": nn.Linear(2, 2), "other": nn.Linear(2, 2)})
    state = {key: value + 1 for key, value in network.state_dict().items()}
    assert load_weights(network, state).prefix == ""
    assert same(network.state_dict(), state)


def test_a_wrapped_network_takes_plain_weights():
    state = drawn()
    network = nn.DataParallel(Network())
    load_weights(network, state)
    assert same(network.module.state_dict(), state)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(order=st.permutations(range(11)), dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float64]))
def test_order_and_dtype_do_not_matter(order, dtype):
    state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in drawn().items()}
    keys = list(state)
    network = Network()
    load_weights(network, {keys[index]: state[keys[index]] for index in order})
    for key, value in network.state_dict().items():
        assert value.dtype == (torch.float32 if state[key].is_floating_point() else torch.int64)
        assert torch.equal(value, state[key].to(value.dtype))


def test_of_two_sets_of_weights_the_trained_ones_are_taken_and_the_others_named():
    state = drawn()
    network = Network()
    report = load_weights(network, {"state_dict_ema": drawn(2), "state_dict": state})
    assert same(network.state_dict(), state)
    assert report.ignored == ("state_dict_ema",)


def test_files_from_before_the_counters_are_whole():
    state = {key: value for key, value in drawn().items() if "num_batches" not in key}
    report = load_weights(Network(), state)
    assert (report.matched, report.total, report.left_new) == (10, 11, ())
    assert any("num_batches_tracked" in line for line in report.lines())


def test_a_source_admits_its_own_forms_alone():
    state = drawn()
    wrapped = {"state_dict": {"module." + key: value for key, value in state.items()}}
    assert load_weights(Network(), state, source="cadene").matched == 11
    assert load_weights(Network(), wrapped, source="original").prefix == "module."
    assert load_weights(Network(), wrapped, source="timm").wrapper == "state_dict"
    assert "no weights found" in refused(Network(), wrapped, source="cadene")
    assert "did you mean 'cadene'" in refused(Network(), state, source="cadenne")


# -- heads -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["last_linear", "fc"])
def test_another_number_of_classes_needs_a_new_head(head):
    state = drawn(classes=7, head=head)
    text = refused(Network(head=head), state)
    assert f"{head}.weight is 7 x 4 and not 5 x 4" in text
    assert "finetune" in text

    network = Network(head=head)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    report = load_weights(network, state, new_head=True)
    assert report.left_new == (f"{head}.weight", f"{head}.bias") == report.ignored
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key] if key.startswith(head) else state[key])


def test_a_new_head_is_new_even_where_it_would_fit():
    report = load_weights(Network(), drawn(), new_head=True)
    assert (report.matched, report.left_new) == (9, ("last_linear.weight", "last_linear.bias"))


def test_an_auxiliary_head_that_only_the_file_has_is_ignored():
    network = Network()
    report = load_weights(network, drawn(auxiliary=True))
    assert report.matched == report.total == 11
    assert len(report.ignored) == 4
    assert all(key.startswith("aux.") for key in report.ignored)
    assert report.lines()[-1].endswith(", ...")


def test_an_auxiliary_head_that_only_the_network_has_stays_new():
    network = Network(auxiliary=True)
    before = network.aux["features"].weight.clone()
    report = load_weights(network, drawn())
    assert torch.equal(network.aux["features"].weight, before)
    assert (report.matched, report.total, len(report.left_new)) == (11, 15, 4)
    assert any(line.startswith("newly initialised: aux.") for line in report.lines())


def test_half_an_auxiliary_head_is_an_error():
    state = drawn(auxiliary=True)
    del state["aux.features.weight"]
    assert "1 of 15 tensors missing (aux.features.weight)" in refused(Network(auxiliary=True), state)


def test_with_a_new_head_the_auxiliary_classifier_is_new_too():
    report = load_weights(Network(3, auxiliary=True), drawn(classes=7, auxiliary=True), new_head=True)
    assert set(report.left_new) == {
        f"{head}.{part}" for head in ("last_linear", "aux.classifier") for part in ("weight", "bias")
    }


def test_a_new_head_beside_an_auxiliary_head_that_the_file_lacks():
    report = load_weights(Network(3, auxiliary=True), drawn(classes=7), new_head=True)
    assert (report.matched, report.total, len(set(report.left_new)), len(report.left_new)) == (9, 15, 6, 6)


class TensorFlowNetwork(nn.Module):
    """The one name by which PNASNet is known, and a head."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        conv = nn.ModuleDict({"conv": nn.Conv2d(2, 2, 1)})
        self.cell_stem_0 = nn.ModuleDict({"conv_1x1": conv})
        self.last_linear = nn.Linear(4, classes)


def loaded(network, weights):
    load_weights(network, weights)
    return network


def test_the_background_class_of_pnasnet_is_dropped():
    state = TensorFlowNetwork(1001).state_dict()
    network = TensorFlowNetwork(1000)
    report = load_weights(network, state)
    assert report.background_dropped
    assert any("background" in line for line in report.lines())
    assert torch.equal(network.last_linear.weight, state["last_linear.weight"][1:])
    assert torch.equal(network.last_linear.bias, state["last_linear.bias"][1:])
    assert len(state["last_linear.bias"]) == 1001  # the caller's own is as it was
    assert not load_weights(TensorFlowNetwork(1001), state).background_dropped
    named = with_names(state, [f"class {number}" for number in range(1001)])  # of a run of its own
    assert head_classes(named).names[0] == "class 0"
    assert torch.equal(loaded(TensorFlowNetwork(1001), named).last_linear.weight, state["last_linear.weight"])
    assert "1001 x 4 and not 1000 x 4" in refused(TensorFlowNetwork(1000), named)
    assert "1001 x 4 and not 1000 x 4" in refused(TensorFlowNetwork(1000), state, source="timm")
    assert "1001 x 4 and not 999 x 4" in refused(TensorFlowNetwork(999), state)
    assert "1001 x 4 and not 1000 x 4" in refused(Network(1000), drawn(classes=1001))


# -- what does not fit -----------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    missing=st.sets(st.sampled_from(["conv.weight", "bn.running_var", "se_module.bias"])),
    unknown=st.sets(st.sampled_from(["extra", "layer9.weight", "conv2.weight", "z"])),
    reshaped=st.sets(st.sampled_from(["conv.bias", "bn.weight"])),
)
def test_anything_amiss_is_refused_and_nothing_is_changed(missing, unknown, reshaped):
    state = {key: value for key, value in drawn().items() if key not in missing}
    state.update({key: torch.zeros(2) for key in unknown})
    state.update({key: torch.zeros(3, 3) for key in reshaped})
    network = Network()
    if not (missing or unknown or reshaped):
        load_weights(network, state)
        return
    text = refused(network, state)
    assert (f"{len(missing)} of 11 tensors missing" in text) == bool(missing)
    assert (f"{len(unknown)} unknown" in text) == bool(unknown)
    assert (f"{len(reshaped)} of another shape" in text) == bool(reshaped)


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(4, dtype=torch.int64),
        torch.zeros(4, dtype=torch.complex64),
        torch.zeros(4).to_sparse(),
        torch.zeros(4, device="meta"),
    ],
    ids=["integers", "complex", "sparse", "meta"],
)
def test_tensors_of_other_kinds_are_refused(value):
    assert "conv.bias" in refused(Network(), {**drawn(), "conv.bias": value})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "nothing"),
        ({"epoch": 3, "lr": 0.1}, "epoch, lr"),
        ({"state_dict": {}}, "state_dict"),
        ({"a": torch.zeros(1), "b": 2}, "a, b"),
        ([torch.zeros(1)], "a list"),
        (None, "a NoneType"),
    ],
)
def test_what_is_no_state_dict_is_refused(content, words):
    assert words in refused(Network(), content)


@pytest.mark.parametrize("made", ["se_resnet50", "se_resnet50_caffe", "pnasnet5large"])
@pytest.mark.parametrize("given", ["se_resnet50", "se_resnet50_caffe"])
def test_the_network_that_the_weights_fit_is_named(made, given):
    state = create(made, 10).state_dict()
    assert network_of(state) == made
    text = refused(create(given, 5), state, networks=NETWORKS)
    assert (f"--network {made}" in text) == (made != given)


def test_weights_of_no_network_of_ours_say_so(torchvision):
    state = torchvision.models.resnet50(num_classes=5).state_dict()
    assert network_of(state) is None
    assert "check that the file was made with this network" in refused(
        create("se_resnet50", 5), state, networks=NETWORKS
    )


# -- files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".pth", ".pt", ".pth.tar", ".rar", ""])
@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_save_of_any_age_and_ending(tmp_path, ending, zipped):
    state, network = drawn(), Network()
    path = tmp_path / f"weights{ending}"
    torch.save({"epoch": 3, "state_dict": state}, path, _use_new_zipfile_serialization=zipped)
    assert load_weights(network, str(path)).matched == 11
    assert same(network.state_dict(), state)


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / "weights.safetensors"
    state, network = drawn(), Network()
    safetensors.save_file(state, str(path))
    assert load_weights(network, path).matched == 11
    assert same(network.state_dict(), state)


def test_safetensors_are_known_by_their_beginning_too(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    path, state, network = tmp_path / "pytorch_model.bin", drawn(), Network()
    safetensors.save_file(state, str(path))
    assert load_weights(network, path).matched == 11
    assert same(network.state_dict(), state)


def test_the_weights_of_a_run_are_loaded_from_its_folder(tmp_path, run_in):
    run = run_in(tmp_path / "run", "--max-steps", "1", "--ema-decay", "0.5")
    short = "reaches back 2 steps and the run has 1, so the initial weights are still in it; lower --ema-decay"
    assert short in (run.folder / "train.log").read_text()
    for path in (run.folder, str(run.folder / "checkpoints" / "last")):
        network = SmallNetwork(3, 0.0, 0.0)
        assert load_weights(network, path).matched == len(network.state_dict())
        assert same(network.state_dict(), torch.load(run.folder / "model.pth", weights_only=True))
    assert "no checkpoint at" in refused(Network(), tmp_path)


def test_without_safetensors_it_is_said_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    assert "pip install safetensors" in refused(Network(), path)


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_the_hostile_pickle_is_one(tmp_path):
    pickle.loads(pickle.dumps(Hostile(tmp_path / "ran")))
    assert (tmp_path / "ran").is_dir()


@pytest.mark.parametrize("kind", ["zip", "old", "pickle", "wrapped"])
def test_nothing_in_a_file_is_run(tmp_path, kind):
    path, evil = tmp_path / "weights.pth", Hostile(tmp_path / "ran")
    if kind == "pickle":
        path.write_bytes(pickle.dumps(evil))
    else:
        content = {"state_dict": drawn(), "more": evil} if kind == "wrapped" else evil
        torch.save(content, path, _use_new_zipfile_serialization=kind != "old")
    text = refused(Network(), path)
    assert not (tmp_path / "ran").exists()
    assert "refused" in text
    assert "safetensors" in text
    assert "weights_only" not in text  # torch's advice to switch the protection off
    if kind != "pickle":
        assert re.search(r"it would run code|would run code of its own \(\w+\.mkdir\)", text)


def _data():
    """What trainings of others save beside their weights."""
    lists = defaultdict(list)
    lists["a"].append(1)
    return {
        "timm's options": argparse.Namespace(lr=0.1, output=pathlib.PurePosixPath("a/b"), kind=float),
        "a simple namespace": types.SimpleNamespace(a=1),
        "an accuracy": np.float64(76.1),
        "a count": np.int64(3),
        "a truth": np.bool_(True),
        "a text": np.str_("x"),
        "an array": np.zeros((2, 3)),
        "texts": np.array(["a", "b"]),
        "a random state": np.random.RandomState(0).get_state(),
        "a dtype": np.dtype("f4"),
        "lists": lists,
        "a queue": deque([1, 2]),
        "a counter of milestones": Counter([30, 60]),
        "a set": {1, frozenset([2])},
        "a time": datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
        "a path": pathlib.PureWindowsPath("a"),
        "a version": torch.__version__,
        "a range": (range(3), slice(1, 2)),
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", _data())
def test_data_beside_the_weights_is_no_code(tmp_path, name, zipped):
    state, network, path = drawn(), Network(), tmp_path / "model_best.pth.tar"
    content = {"epoch": 3, "state_dict": state, "args": _data()[name]}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert load_weights(network, path).matched == 11
    assert same(network.state_dict(), state)


def test_the_classes_that_a_file_names_are_not_called(tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    torch.save({"args": argparse.Namespace(a=1), "state_dict": drawn()}, path)
    monkeypatch.setattr(argparse, "Namespace", None)
    assert isinstance(read_weight_file(path)["args"], Inert)
    safe = torch.serialization.get_safe_globals()
    assert not any(isinstance(known, type) and issubclass(known, Inert) for known in safe)  # for other readers


def test_a_class_that_is_not_known_to_be_data_is_named(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"args": Network(), "state_dict": drawn()}, path)
    assert f"({Network.__module__}.Network)" in refused(Network(), path)


@pytest.mark.parametrize("cast", [lambda value: value.half(), lambda value: value.double(), lambda value: value[None]])
def test_counters_cast_with_the_weights_are_left_as_they_are(cast):
    """`model.half().state_dict()` leaves them; a loop over the tensors does not. Half ends at 65,504 steps."""
    state, network = drawn(), Network()
    counter = "bn.num_batches_tracked"
    report = load_weights(network, {**state, counter: cast(torch.tensor(100_000))})
    assert (report.matched, report.left_new, report.ignored) == (10, (), ())
    assert any("1 counters num_batches_tracked" in line for line in report.lines())
    assert network.state_dict()[counter] == 0
    assert load_weights(network, {**state, counter: torch.tensor(7, dtype=torch.int32)}).matched == 11
    assert network.state_dict()[counter] == 7


def test_half_weights_with_cast_counters_still_name_the_network_that_they_fit():
    state = {key: value.half() for key, value in create("se_resnet50", 10).state_dict().items()}
    text = refused(create("se_resnet50_caffe", 5), state, networks=NETWORKS)
    assert "--network se_resnet50" in text


def _texts():
    yield "empty", b""
    yield "text", b"hello world\n" * 20
    yield "page", b"<!DOCTYPE html><html><body>404</body></html>"
    yield "rar", b"Rar!\x1a\x07\x00" + b"x" * 100
    yield "zip", b"PK\x03\x04" + b"\0" * 60


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [content for _, content in _texts()], ids=[name for name, _ in _texts()])
def test_what_is_no_file_of_weights_is_refused(tmp_path, content, ending):
    path = tmp_path / f"weights{ending}"
    path.write_bytes(content)
    assert str(path) in refused(Network(), path)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(share=st.floats(0, 0.999), form=st.sampled_from(["zip", "old", "safetensors"]))
def test_a_file_that_was_cut_off_is_refused(tmp_path_factory, share, form):
    whole = _WHOLE.get(form)
    folder = tmp_path_factory.mktemp("cut")
    path = folder / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    if whole is None:
        if form == "safetensors":
            pytest.importorskip("safetensors.torch").save_file(drawn(), str(path))
        else:
            torch.save(drawn(), path, _use_new_zipfile_serialization=form == "zip")
        whole = _WHOLE[form] = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UsageError, match="damaged|not a file of plain tensors"):
        read_weight_file(path)


_WHOLE: dict = {}


def test_no_file_and_a_folder_are_refused(tmp_path):
    assert "there is no file" in refused(Network(), tmp_path / "missing.pth")
    assert "no checkpoint at" in refused(Network(), tmp_path)
