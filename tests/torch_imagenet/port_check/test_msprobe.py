"""msProbe's dumps: ours beside one that msProbe wrote, and its own compared with the reference."""

from __future__ import annotations

import copy
import errno
import json
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
import torch

from shared.errors import UsageError
from shared.port_check.findings import Verdict
from tests.torch_imagenet.port_check.small_dump import SmallNet, small_net, step, unpacked
from tests.torch_imagenet.port_check.test_float32_products import truncating
from torch_imagenet.options import RunConfig
from torch_imagenet.port_check import several
from torch_imagenet.port_check.msprobe import DUMP, TENSORS, DumpRecorder, check_new, write_dump
from torch_imagenet.port_check.msprobe_check import compare_dump
from torch_imagenet.port_check.msprobe_read import dump_weights, read_dump, trace_of

NAMES = [name for name, _ in SmallNet().named_modules()]


def _written(folder: Path, plant: Callable[[Any], Any] = lambda network: None) -> Path:
    network = small_net()
    plant(network)
    recorder = DumpRecorder(network)
    with recorder.recording():
        step(network)
    return write_dump(folder, recorder)


def _verdict(folder: Path) -> Verdict:
    dump = read_dump(folder, NAMES)
    network = SmallNet()
    network.load_state_dict(dump_weights(dump, network), strict=False)
    return compare_dump(network, trace_of(dump, copy.deepcopy(network).double().train())).verdict


def _entries(file: Path) -> Dict[str, Any]:
    """Every tensor of a dump.json by the name of its file."""
    found = {}

    def walk(value: Any) -> None:
        if isinstance(value, dict) and "data_name" in value:
            found[value["data_name"]] = value
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            walk(part)

    walk(json.loads(file.read_text())["data"])
    return found


def test_ours_has_what_msprobe_writes(tmp_path: Path) -> None:
    (theirs,) = (unpacked(tmp_path) / "step0").iterdir()
    ours = _written(tmp_path / "ours")
    content, golden = (json.loads((folder / DUMP).read_text()) for folder in (ours, theirs))
    assert {**content, "data": 0, "dump_data_dir": 0} == {**golden, "data": 0, "dump_data_dir": 0}
    for key, entry in golden["data"].items():
        assert set(content["data"][key]) == set(entry)
    mine, known = _entries(ours / DUMP), _entries(theirs / DUMP)
    assert len(known) == 41
    in_place = ("Module.bn.", "Module.relu.", "Module.branch.Sequential.", "Module.branch.1.")
    assert all(".backward." in name and name.startswith(in_place) for name in set(mine) - set(known))
    for name, entry in known.items():
        assert {key: mine[name][key] for key in ("type", "dtype", "shape", "requires_grad")} == {
            key: entry[key] for key in ("type", "dtype", "shape", "requires_grad")
        }
        for statistic in ("Max", "Min", "Mean", "Norm"):
            assert mine[name][statistic] == pytest.approx(entry[statistic], rel=1e-4, abs=1e-6)
        torch.testing.assert_close(torch.load(ours / TENSORS / name), torch.load(theirs / TENSORS / name))
    parents = [json.loads((folder / "construct.json").read_text()) for folder in (ours, theirs)]
    assert {key: parents[0][key] for key in parents[1] if ".forward." in key} == {
        key: parent for key, parent in parents[1].items() if ".forward." in key
    }


def test_our_statistics_are_those_of_msprobe(tmp_path: Path) -> None:
    (theirs,) = (unpacked(tmp_path, "statistics") / "step0").iterdir()
    ours = _written(tmp_path / "ours").parents[1] / "statistics" / "step0" / "proc0"
    content, golden = (json.loads((folder / DUMP).read_text()) for folder in (ours, theirs))
    assert {**content, "data": 0} == {**golden, "data": 0}
    for key, entry in golden["data"].items():
        assert _numbers(content["data"][key]) == pytest.approx(_numbers(entry), rel=1e-4, abs=1e-6)
        assert _keys(content["data"][key]) == _keys(entry)
    assert sorted(path.name for path in ours.iterdir()) == ["construct.json", "dump.json", "stack.json"]


def _numbers(value: Any) -> List[float]:
    if isinstance(value, (dict, list)):
        return [n for part in (value.values() if isinstance(value, dict) else value) for n in _numbers(part)]
    return [value] if isinstance(value, (int, float)) else []


def _keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _keys(part) for key, part in value.items()}
    return [_keys(part) for part in value] if isinstance(value, list) else type(value)


def test_a_dump_of_msprobe_agrees(tmp_path: Path) -> None:
    found = _verdict(unpacked(tmp_path))
    assert found.agrees, found.first
    compared = {(check.layer, check.quantity) for check in found.checks}
    assert compared >= {(name, "weight gradient") for name in ("conv", "bn", "branch.0", "branch.1", "fc")}
    assert ("bn", "input gradient") in compared  # which msProbe has as the gradient at the output of conv alone
    assert ("bn", "output gradient") not in compared  # which it has not


@pytest.mark.parametrize(
    ("file", "layer", "quantity"),
    [
        ("bn.BatchNorm2d.forward.0.output.0", "bn", "output"),
        ("branch.0.Conv2d.backward.0.output.0", "branch.0", "input gradient"),
        ("branch.0.Conv2d.backward.0.input.0", "branch.0", "output gradient"),
        ("conv.Conv2d.backward.0.input.0", "bn", "input gradient"),
        ("bn.BatchNorm2d.parameters_grad.0.weight", "bn", "weight gradient"),
        ("fc.Linear.parameters_grad.0.bias", "fc", "bias gradient"),
    ],
)
def test_a_wrong_value_is_found_where_it_is(file: str, layer: str, quantity: str, tmp_path: Path) -> None:
    (path,) = unpacked(tmp_path).rglob(f"Module.{file}.pt")
    torch.save(torch.load(path) * 1.001, path)
    first = _verdict(tmp_path / "tensor").first
    assert first is not None
    assert (first.layer, first.quantity) == (layer, quantity)


def test_a_wrong_layer_of_a_dump_is_found(tmp_path: Path) -> None:
    def plant(network: Any) -> None:
        network.branch[1].eps = 1e-2

    _written(tmp_path / "tensor", plant)
    found = _verdict(tmp_path / "tensor")
    assert {check.layer for check in found.causes} == {"branch.1"}
    assert found.first is not None
    assert found.first.quantity == "output"


@pytest.mark.parametrize("kind", ["tf32", "hf32"])
def test_products_in_less_than_float32_are_seen_and_a_wrong_layer_all_the_same(kind: str, tmp_path: Path) -> None:
    rank = _written(tmp_path / "tensor", lambda network: truncating(network.conv, kind))
    found = _verdict(tmp_path / "tensor")
    assert found.agrees, found.first
    path = rank / TENSORS / "Module.branch.0.Conv2d.forward.0.output.0.pt"
    torch.save(torch.load(path).flip(1), path)
    first = _verdict(tmp_path / "tensor").first
    assert first is not None
    assert first.layer == "branch.0"


def test_prefixes_of_parallel_modules_are_left_out(tmp_path: Path) -> None:
    (file,) = unpacked(tmp_path).rglob(DUMP)
    text = file.read_text()
    file.write_text(text.replace('  "Module.', '  "Module.0.module.'))
    assert "Module.0.module.conv.Conv2d.forward.0" in file.read_text()
    assert _verdict(tmp_path / "tensor").agrees


def _without(key: str) -> Callable[[Any], Any]:
    return lambda content: {**content, "data": {name: entry for name, entry in content["data"].items() if name != key}}


def _twice(content: Any) -> Any:
    again = {"Module.conv.Conv2d.forward.1": content["data"]["Module.conv.Conv2d.forward.0"]}
    return {**content, "data": {**content["data"], **again}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: [], "is not a dump of msProbe; make it with task"),
        (lambda content: {**content, "data": None}, "is not a dump of msProbe"),
        (lambda content: {**content, "task": "statistics"}, 'has task "statistics": numbers about tensors'),
        (lambda content: {**content, "framework": "mindspore"}, "a dump of mindspore"),
        (lambda content: {**content, "level": "L1", "data": {}}, 'level "L1", without modules'),
        (lambda content: {**content, "data": {"Module.x.Conv2d.forward.0": {}}}, r"another network \(x\)"),
        (_without("Module.fc.Linear.backward.0"), "no gradient at the output of fc"),
        (_without("Module.bn.BatchNorm2d.forward.0"), "has no bn.weight; give the --network that was dumped"),
        (_twice, "more than one pass through conv; dump one"),
    ],
)
def test_what_is_no_dump_of_this_step_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    (file,) = unpacked(tmp_path).rglob(DUMP)
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    with pytest.raises(UsageError, match=message):
        _verdict(tmp_path / "tensor")


@pytest.mark.parametrize("content", [None, b"", b"\xff", b"not JSON"])
def test_what_is_no_dump_at_all_is_refused(content: Any, tmp_path: Path) -> None:
    (file,) = unpacked(tmp_path).rglob(DUMP)
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(UsageError, match="has no dump.json; give the folder of a dump|is not a dump of msProbe"):
        _verdict(tmp_path / "tensor")


def test_one_dump_of_several_is_asked_for(tmp_path: Path) -> None:
    (theirs,) = (unpacked(tmp_path) / "step0").iterdir()
    theirs.rename(theirs.with_name("rank0"))
    shutil.copytree(_written(tmp_path / "ours"), tmp_path / "tensor/step0/proc0")
    with pytest.raises(UsageError, match="has 2 dumps; give one of them, as in .*proc0"):
        read_dump(tmp_path / "tensor", NAMES)
    assert read_dump(tmp_path / "tensor/step0/rank0", NAMES).file == theirs.with_name("rank0") / DUMP


@pytest.mark.parametrize("content", [None, b"no tensor"])
def test_a_tensor_that_was_not_copied_is_named(content: Any, tmp_path: Path) -> None:
    (path,) = unpacked(tmp_path).rglob("Module.fc.Linear.forward.0.output.0.pt")
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(UsageError, match=r"Module.fc.Linear.forward.0.output.0.pt .*; copy the dump"):
        _verdict(tmp_path / "tensor")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "dump", tmp_path):
        with pytest.raises(UsageError, match=r"--msprobe a new folder|a folder that can be made"):
            check_new(path)
    check_new(tmp_path / "new" / "dump")


def test_a_dump_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UsageError, match="cannot write .*dump .*; free space, or give --msprobe another folder"):
        _written(tmp_path / "dump")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["--msprobe", "dump"], ["--against", "dump.json"]])
def test_several_ranks_have_no_dump(words: List[str]) -> None:
    with pytest.raises(UsageError, match="a dump of msProbe is that of one device here; leave --distributed"):
        several.check(RunConfig.from_argv(["check-port", *words]))
