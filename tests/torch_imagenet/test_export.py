"""The mode export: the file gives the network's logits in its own runtime, or there is no file."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from shared import class_names  # noqa: E402
from tests.torch_imagenet.small_network import create_small  # noqa: E402
from torch_imagenet import export as export_module  # noqa: E402
from torch_imagenet import options as options_module  # noqa: E402
from torch_imagenet.input_pipeline.transforms import EvalTransform  # noqa: E402
from torch_imagenet.networks import create, pnasnet  # noqa: E402
from torch_imagenet.networks.registry import NETWORKS  # noqa: E402
from torch_imagenet.weights.exported import FORMATS, metadata_of  # noqa: E402
from torch_imagenet.weights.files import read_metadata, read_weight_file  # noqa: E402
from torch_imagenet.weights.form import Form  # noqa: E402
from torch_imagenet.weights.load import head_classes, load_weights, with_names  # noqa: E402

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of torchvision's weights
NAMES = ["a cat", "a dog", "猫"]


@pytest.fixture
def weights(tmp_path):
    """A file with the weights of a small network, as training writes model.pth, and that network."""
    torch.manual_seed(1)
    network = create_small("se_resnet50", len(NAMES), 0.0, 0.0).eval()
    path = tmp_path / "model.pth"
    torch.save(with_names(network.state_dict(), NAMES), path)
    return path, network


@pytest.fixture
def export(run_in, tmp_path):
    """export(checkpoint, *options) -> the exit status."""

    def start(checkpoint, *options, real=False, size=("--image-size", "32")):
        words = ["--checkpoint", str(checkpoint), *size, *options]
        return run_in(tmp_path, *words, mode="export", plain=True, real=real).status

    return start


def pixels(count, size=32):
    return np.random.RandomState(count).randint(0, 256, (count, size, size, 3)).astype(np.uint8)


def normalised(images):
    return torch.from_numpy(((images / 255 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32))


def own(network, images):
    with torch.no_grad():
        return network(normalised(images)).numpy()


def in_torch(path):
    program = torch.export.load(str(path)).module()
    return lambda images: program(images).detach().numpy()


def in_onnxruntime(path):
    session = importlib.import_module("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images.numpy()})[0]


def test_a_file_of_torch_has_the_networks_logits_at_any_batch_size(weights, export, tmp_path, capsys):
    path, network = weights
    assert export(path, "--output", str(tmp_path / "new" / "m.pt2")) == 0
    run = in_torch(tmp_path / "new" / "m.pt2")
    for count in (1, 2, 7, 9):
        images = pixels(count)
        np.testing.assert_allclose(run(normalised(images)), own(network, images), rtol=1e-4, atol=1e-6)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("checked: differs from the network by at most ")
    assert "at batch size 1 and 7" in lines[-2]
    assert lines[-1].startswith(f"exported: {tmp_path / 'new' / 'm.pt2'} (")
    assert os.listdir(tmp_path / "new") == ["m.pt2"]


def test_the_metadata_say_what_the_file_takes(weights, export, tmp_path):
    assert export(weights[0], "--output", str(tmp_path / "m.pt2"), "--normalisation", "inception") == 0
    found = metadata_of(tmp_path / "m.pt2")
    assert found["classes"] == NAMES
    assert (found["image_size"], found["shorter_side"], found["mean"], found["std"]) == (32, 36, [0.5] * 3, [0.5] * 3)
    assert found["input"] == "images [B, 3, 32, 32], float32, RGB"
    assert found["normalisation"] == "outside"


def test_normalisation_inside_and_a_fixed_batch(weights, export, tmp_path):
    path, network = weights
    assert export(path, "--output", str(tmp_path / "m.pt2"), "--with-normalisation", "--batch-size", "3") == 0
    run, images = in_torch(tmp_path / "m.pt2"), pixels(3)
    np.testing.assert_allclose(run(torch.from_numpy(images)), own(network, images), rtol=1e-4, atol=1e-6)
    with pytest.raises(Exception, match="3"):
        run(torch.from_numpy(pixels(2)))
    assert metadata_of(tmp_path / "m.pt2")["input"] == "images [B, 32, 32, 3], uint8, RGB"


def photographs(network):
    """Pictures of two sizes, each uint8 [1, H, W, 3], and the network's logits for them by Pillow's resizing."""
    for shape in ((50, 81), (29, 31)):
        image = np.random.RandomState(1).randint(0, 256, (*shape, 3)).astype(np.uint8)
        yield image[None], own(network, EvalTransform(32)(Image.fromarray(image))[None])


@pytest.mark.slow
def test_a_file_that_takes_photographs(weights, export, tmp_path):
    path, network = weights
    assert export(path, "--output", str(tmp_path / "m.pt2"), "--with-preprocessing") == 0
    run = in_torch(tmp_path / "m.pt2")
    for image, wanted in photographs(network):
        assert np.abs(run(torch.from_numpy(image)) - wanted).max() < 3e-3 * np.abs(wanted).max()
    found = metadata_of(tmp_path / "m.pt2")
    assert found["input"] == "images [B, H, W, 3], uint8, RGB"
    assert (found["resize"], found["normalisation"]) == ("inside", "inside")


def check_rounded(path, network, dtype, atol):
    """The file's weights are of this type; it takes float32 and gives the network's logits in float32."""
    program = torch.export.load(str(path))
    assert {value.dtype for value in program.state_dict.values() if value.is_floating_point()} == {dtype}
    images = pixels(4)
    found = program.module()(normalised(images)).detach()
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), own(network, images), atol=atol)


def test_weights_in_bfloat16(weights, export, tmp_path, capsys):
    path, network = weights
    assert export(path, "--output", str(tmp_path / "m.pt2"), "--precision", "bf16") == 0
    assert "(allowed: 0.08)" in capsys.readouterr().out
    check_rounded(tmp_path / "m.pt2", network, torch.bfloat16, 5e-2)


def test_weights_in_float16_are_half_as_large_and_take_float32(weights, export, tmp_path, capsys):
    path, network = weights
    assert export(path, "--output", str(tmp_path / "m.pt2"), "--precision", "O2", "--device", "npu:0") == 0
    assert "note: no effect in the mode export: --device" in capsys.readouterr().out
    check_rounded(tmp_path / "m.pt2", network, torch.float16, 1e-2)


def test_the_file_names_no_folder_of_this_machine(weights, export, tmp_path):
    assert export(weights[0], "--output", str(tmp_path / "m.pt2")) == 0
    content = (tmp_path / "m.pt2").read_bytes()
    assert b"forward" in content or b"aten" in content  # the graph is readable text
    assert os.path.dirname(export_module.__file__).encode() not in content


def test_a_thousand_outputs_without_names_are_imagenets(export, tmp_path, capsys):
    torch.save(create_small("se_resnet50", 1000, 0.0, 0.0).state_dict(), tmp_path / "bare.pth")
    assert export(tmp_path / "bare.pth", "--output", str(tmp_path / "m.pt2")) == 0
    assert metadata_of(tmp_path / "m.pt2")["classes"] == list(class_names.imagenet())
    assert "note: the weights have no class names; their outputs are taken for ImageNet's" in capsys.readouterr().out


def test_a_file_that_computes_something_else_is_not_kept(weights, export, tmp_path, monkeypatch, capsys):
    output, real = tmp_path / "out" / "m.pt2", FORMATS["torch"].load
    output.parent.mkdir()
    output.write_text("of before")
    for wrong, said in ((lambda y: y + 1e-2, "differs from the network by"), (lambda y: y * np.nan, "differs .* inf ")):
        broken = export_module.replace(FORMATS["torch"], load=lambda path, wrong=wrong: lambda x: wrong(real(path)(x)))
        monkeypatch.setitem(FORMATS, "torch", broken)
        assert export(weights[0], "--output", str(output)) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        assert re.search(said, error)
        assert os.listdir(output.parent) == ["m.pt2"]
        assert output.read_text() == "of before"


def interrupted(*unused):
    os.kill(os.getpid(), signal.SIGINT)


def wrapped(*unused):
    """As onnxscript's passes do with any Exception."""
    try:
        interrupted()
    except Exception as error:
        raise ValueError("a pass has failed") from error


@pytest.mark.parametrize(("step", "stop"), [("load", interrupted), ("write", wrapped)])
def test_a_signal_leaves_no_file(step, stop, weights, export, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(FORMATS, "torch", export_module.replace(FORMATS["torch"], **{step: stop}))
    (tmp_path / "out").mkdir()
    assert export(weights[0], "--output", str(tmp_path / "out" / "m.pt2")) == 130
    assert os.listdir(tmp_path / "out") == []
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "",
            "export needs a file to write; name it with --output FILE.onnx (onnx) or FILE.safetensors (safetensors) or",
        ),
        ("--output DIR/m.pth", "m.pth names no format; give --output FILE.onnx (onnx) or FILE.safe"),
        (
            "--output DIR/m.pt2 --format onnx",
            "m.pt2 is not that of --format onnx; give --output FILE.onnx, or leave --format out",
        ),
        ("--output DIR/m.pt2 --format json", "export has no --format json; choose one of onnx, safetensors, torch"),
        ("--output DIR/folder.pt2", "is a folder; name a file in it with --output"),
        ("--output DIR/model.pth/m.pt2", "choose another place with --output"),
        ("--output DIR/m.pt2 --precision O1", "export has no form O1; give --precision O0"),
        ("--output DIR/m.onnx --precision bf16", "bfloat16 is a form of .pt2 alone"),
        ("--output DIR/m.pt2 --precision O7", "export has no form O7; give --precision O0"),
        ("--output DIR/m.pt2 --num-classes 4", "--num-classes 4, but the classifier has 3 classes"),
        ("--output DIR/m.pt2 --checkpoint DIR/nothing.pth", "nothing.pth"),
        ("--output DIR/m.pt2 --checkpoint DIR/head.pth", "has no classifier of these networks"),
        ("--output DIR/m.pt2 --checkpoint DIR/nan.pth", "the network's own logits are not finite"),
    ],
)
def test_what_cannot_be_exported_is_one_line(options, message, weights, export, tmp_path, capsys):
    path, network = weights
    (tmp_path / "folder.pt2").mkdir()
    torch.save({"some.weight": torch.zeros(2, 2)}, tmp_path / "head.pth")
    torch.save({name: value * np.nan for name, value in network.state_dict().items()}, tmp_path / "nan.pth")
    assert export(path, *options.replace("DIR", str(tmp_path)).split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "m.pt2").exists()


def test_a_missing_package_is_named_before_anything_is_done(weights, export, tmp_path, monkeypatch, capsys):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    assert export(weights[0], "--output", str(tmp_path / "m.onnx")) == 2
    said = "needs onnx and onnxscript and onnxruntime, which cannot be imported; python -m pip install onnx onnxscript"
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_the_words_of_the_command_line_are_the_formats():
    assert set(options_module.EXPORT_FORMATS) == set(FORMATS)


@pytest.mark.parametrize("precision", ["O0", "O2"])
def test_the_weights_alone_come_back_with_their_names_and_form(weights, export, tmp_path, precision):
    library = pytest.importorskip("safetensors.torch")
    path, network = weights
    output, options = tmp_path / "m.safetensors", ["--precision", precision, "--normalisation", "inception"]
    assert export(path, "--output", str(output), *options) == 0
    state, dtype = library.load_file(str(output)), torch.float16 if precision == "O2" else torch.float32
    assert state.keys() == network.state_dict().keys()
    for name, value in network.state_dict().items():
        assert torch.equal(state[name], value.to(dtype) if value.is_floating_point() else value)
    content = read_weight_file(output)
    assert head_classes(content).names == tuple(NAMES)
    assert Form.of_file(content) == Form(True, "inception")
    assert export(output, "--output", str(tmp_path / "again.pt2")) == 0
    found = metadata_of(tmp_path / "again.pt2")
    assert (found["classes"], found["mean"]) == (NAMES, [0.5] * 3)


def test_the_weights_alone_know_their_image_size(weights, export, tmp_path):
    pytest.importorskip("safetensors")
    assert export(weights[0], "--output", str(tmp_path / "m.safetensors"), "--image-size", "48") == 0
    assert export(tmp_path / "m.safetensors", "--output", str(tmp_path / "again.safetensors"), size=()) == 0
    assert read_metadata(tmp_path / "again.safetensors")["image_size"] == "48"


@pytest.mark.parametrize("options", ["--batch-size 8", "--grouped-conv dense"])
def test_weights_alone_have_no_program(options, weights, export, tmp_path, capsys):
    assert export(weights[0], "--output", str(tmp_path / "m.safetensors"), *options.split()) == 2
    assert f"has no program, which {options.split()[0]} is of; leave it out" in capsys.readouterr().err
    assert not (tmp_path / "m.safetensors").exists()


def test_weights_alone_have_no_preprocessing(weights, export, tmp_path, capsys):
    assert export(weights[0], "--output", str(tmp_path / "m.safetensors"), "--with-preprocessing") == 2
    assert "has no preprocessing; leave --with-preprocessing out" in capsys.readouterr().err
    assert not (tmp_path / "m.safetensors").exists()


@pytest.mark.parametrize(
    "metadata", [{}, {"format": "pt"}, {"classes": "[", "form": "{}"}, {"classes": "1", "form": "3"}]
)
def test_the_metadata_of_others_are_not_taken_for_ours(tmp_path, metadata):
    library = pytest.importorskip("safetensors.torch")
    library.save_file({"fc.weight": torch.zeros(2, 3)}, str(tmp_path / "m.safetensors"), metadata)
    content = read_weight_file(tmp_path / "m.safetensors")
    assert Form.of_file(content) == Form(known=False)
    assert not head_classes(content).named


def _onnxruntime():
    for name in FORMATS["onnx"].packages:
        pytest.importorskip(name)
    return in_onnxruntime


@pytest.mark.slow
def test_onnx_in_its_own_runtime(weights, export, tmp_path, capsys):
    runtime, onnx = _onnxruntime(), importlib.import_module("onnx")
    path, network = weights
    output = tmp_path / "m.onnx"
    assert export(path, "--output", str(output)) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    stem, shape = json.dumps(str(tmp_path / "m")), '--input_shape="images:1,3,32,32"'
    wanted = f'atc --framework=5 --model="{output}" --output={stem} {shape} --soc_version=SOC_VERSION'
    assert last == wanted
    for count in (1, 7):
        images = pixels(count)
        np.testing.assert_allclose(runtime(output)(normalised(images)), own(network, images), rtol=1e-4, atol=1e-6)
    model = onnx.load(str(output))
    onnx.checker.check_model(model, full_check=True)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 18)]
    assert not any(node.metadata_props for node in model.graph.node)
    assert metadata_of(output)["classes"] == NAMES

    assert export(path, "--output", str(output), "--with-preprocessing", "--precision", "O2") == 0
    for image, wanted in photographs(network):
        np.testing.assert_allclose(runtime(output)(torch.from_numpy(image)), wanted, atol=1e-2)
    types = {one.data_type for one in onnx.load(str(output)).graph.initializer if len(one.dims) == 4}
    assert types == {onnx.TensorProto.FLOAT16}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["se_resnet50", "pnasnet5large"])
def test_the_networks_themselves(name, export, tmp_path, monkeypatch):
    """SENet154, which takes long, has no layers that these and the small network's grouped one have not.

    Nor have the seven cells that are left out of PNASNet: the time grows with them, and not with the images' size.
    """
    runtime = _onnxruntime()
    ends = ("conv_0", "cell_stem_0", "cell_1", "cell_3", "cell_4")
    layers = ("conv_0", "cell_stem_0", "cell_stem_1", *(f"cell_{number}" for number in range(5)))
    for constant, value in {"CELLS": 5, "REDUCTIONS": (2, 4), "AUXILIARY_AFTER": "cell_4", "LAYERS": layers}.items():
        monkeypatch.setattr(pnasnet, constant, value)
    monkeypatch.setattr(pnasnet, "ENDS", ends)
    torch.manual_seed(0)
    options = {"auxiliary_head": True} if "auxiliary_head" in NETWORKS[name].options else {}
    network = create(name, 5, **options).eval()
    torch.save(network.state_dict(), tmp_path / "model.pth")
    output, options = tmp_path / "m.onnx", ("--network", name, "--normalisation", "imagenet")
    assert export(tmp_path / "model.pth", "--output", str(output), *options, real=True) == 0
    again = create(name, 5)
    load_weights(again, tmp_path / "model.pth")
    images = pixels(2)
    found, wanted = runtime(output)(normalised(images)), own(again.eval(), images)
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()
