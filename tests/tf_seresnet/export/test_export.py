"""The mode export: the file gives the network's logits in its own runtime, or there is no file."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
import signal
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from shared import cifar10, class_names  # noqa: E402
from shared.class_names import write_beside  # noqa: E402
from tests.tf_seresnet.golden import twenty_steps  # noqa: E402
from tf_seresnet import options as options_module  # noqa: E402
from tf_seresnet.export.formats import FORMATS  # noqa: E402
from tf_seresnet.layers.core import CoreLayers  # noqa: E402
from tf_seresnet.main import main  # noqa: E402
from tf_seresnet.network import se_resnet  # noqa: E402

tf1 = tf.compat.v1
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "trained_depth11.npz"
TF2 = int(tf.__version__.split(".")[0]) > 1
MODERN = tuple(int(part) for part in tf.__version__.split(".")[:2]) >= (2, 16)  # with Keras 3
SOME = 64  # images to recognise


@pytest.fixture(scope="session")
def digits(sample_folder):
    """The sample: handwritten digits, on whose training images the golden weights were trained."""
    return cifar10.load(sample_folder)


@pytest.fixture(scope="session")
def weights(tmp_path_factory, digits):
    """The prefix of a bare checkpoint of depth 11 that recognises digits, with its class names beside it."""
    prefix = str(tmp_path_factory.mktemp("trained") / "trained.ckpt")
    with tf.Graph().as_default(), tf1.Session() as session:
        for name, value in twenty_steps.unpack(GOLDEN).items():
            tf1.get_variable(name, initializer=tf.constant(value))
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver().save(session, prefix, write_meta_graph=False, write_state=False)
    write_beside(prefix, digits.label_names)
    return prefix


@pytest.fixture
def export(weights, sample_folder):
    """export(output, *options) -> the exit status, by default of the golden weights."""

    def start(output, *options, checkpoint=None):
        golden = ["--checkpoint", weights, "--depth", "11", "--data-path", str(sample_folder)]
        words = ["--checkpoint", str(checkpoint)] if checkpoint else golden
        return main(["export", "--output", str(output), *words, *options])

    return start


def normalised(digits, images):
    """By hand, in float64: zero mean and unit variance over the training set."""
    pixels = digits.train_images.astype(np.float64)
    return ((images - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2))).astype(np.float32)


def top1(run, images, labels):
    return 100 * (run(images).argmax(1) == labels).mean()


def own(prefix, images, depth, variant):
    """The logits of the network itself, built and restored here."""
    with tf.Graph().as_default(), tf1.Session() as session:
        logits = se_resnet(tf.constant(images), CoreLayers(), depth, variant, training=False)
        tf1.train.Saver().restore(session, str(prefix))
        return session.run(logits)


# -- the formats as their users read them --------------------------------------------------------------------------


def in_graph(path):
    made = tf1.GraphDef()
    made.ParseFromString(path.read_bytes())

    def run(images, *more):
        with tf.Graph().as_default(), tf1.Session() as session:
            tf.import_graph_def(made, name="")
            values = session.run(["logits:0", *(f"{name}:0" for name in more)], {"images:0": images})
        return values if more else values[0]

    return run


def in_saved_model(path):
    if TF2:
        loaded = tf.saved_model.load(str(path))
        return lambda images: loaded.signatures["serving_default"](images=tf.constant(images))["logits"].numpy()

    def run(images):
        with tf.Graph().as_default(), tf1.Session() as session:
            tf1.saved_model.load(session, ["serve"], str(path))
            return session.run("logits:0", {"images:0": images})

    return run


def in_tflite(path):
    interpreter = tf.lite.Interpreter(model_path=str(path))
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(images):
        interpreter.resize_tensor_input(source["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(source["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])

    return run


def in_keras(path):
    model = importlib.import_module("keras").saving.load_model(str(path))
    return lambda images: np.asarray(model(images, training=False))


def in_onnxruntime(path):
    session = importlib.import_module("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def metadata_in_archive(path):
    return json.loads(zipfile.ZipFile(str(path)).read("classifier.json").decode("ascii"))


READERS = {
    "frozen": ("m.pb", in_graph, lambda path: json.loads(in_graph(path)(np.zeros((1, 32, 32, 3)), "metadata")[1])),
    "savedmodel": ("m", in_saved_model, lambda path: json.loads((path / "assets.extra/classifier.json").read_text())),
    "tflite": ("m.tflite", in_tflite, metadata_in_archive),
    "keras": ("m.keras", in_keras, metadata_in_archive),
    "onnx": ("m.onnx", in_onnxruntime, None),
}


def reader(name):
    """The file's name, its runtime and its metadata. Skips where the format's packages are not here."""
    if name == "keras" and not MODERN:
        pytest.skip("the Keras model needs Keras 3")
    if name == "tflite" and not TF2:
        pytest.skip("TensorFlow 1.15 starts a process to convert, which takes seconds: tried by hand")
    for package in FORMATS[name].packages:
        pytest.importorskip(package)
    return READERS[name]


def onnx_metadata(path):
    found = importlib.import_module("onnx").load(str(path)).metadata_props
    return {one.key: json.loads(one.value) for one in found}


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("savedmodel", "tflite", "keras", "onnx")]


@pytest.mark.parametrize("name", ["frozen", *SLOW])
def test_a_file_has_the_networks_logits_at_any_batch_size(name, export, weights, digits, tmp_path, capsys):
    """Logits as the network's own, and digits recognised: the images are normalised as the metadata say."""
    file, load, metadata = reader(name)
    path = tmp_path / "new" / file
    assert export(path) == 0
    run, images = load(path), normalised(digits, digits.test_images)
    wanted = own(weights, images[:7], 11, "port")
    for count in (2, 7):
        assert np.abs(run(images[:count]) - wanted[:count]).max() < 1e-5 * np.abs(wanted).max()
    found = (metadata or onnx_metadata)(path)
    by_metadata = ((digits.test_images[:SOME] / 255 - found["mean"]) / found["std"]).astype(np.float32)
    assert top1(run, by_metadata, digits.test_labels[:SOME]) > 95
    assert found["classes"] == list(digits.label_names)
    assert (found["image_size"], found["normalisation"], found["precision"]) == (32, "outside", "O0")
    assert found["input"] == "images [B, 32, 32, 3], float32, RGB"
    lines = capsys.readouterr().out.splitlines()
    checked = [number for number, line in enumerate(lines) if line.startswith("checked: differs from the network by")]
    assert "at batch size 1 and 7" in lines[checked[0]]
    assert lines[checked[0] + 1].startswith(f"exported: {path} (")
    assert os.listdir(str(path.parent)) == [file]


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_weights_in_float16_and_normalisation_inside(name, export, digits, tmp_path):
    if name == "savedmodel":
        pytest.skip("a folder of the frozen graph")
    file, load, _ = reader(name)
    path, half = tmp_path / file, tmp_path / f"half-{file}"
    assert export(path) == 0
    assert export(half, "--precision", "O2", "--with-preprocessing") == 0
    assert half.stat().st_size < (0.75 if name == "keras" else 0.6) * path.stat().st_size
    assert top1(load(half), digits.test_images[:SOME], digits.test_labels[:SOME]) > 95
    found, wanted = load(half)(digits.test_images[:7]), load(path)(normalised(digits, digits.test_images[:7]))
    assert found.dtype == np.float32
    assert 0 < np.abs(found - wanted).max() < 1e-2 * np.abs(wanted).max()


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_the_papers_network_from_a_run_of_its_own(name, export, finished, digits, tmp_path):
    """With the run's statistics and class names, without its data; and with a fixed batch."""
    file, load, _ = reader(name)
    checkpoint = finished().folder / "checkpoints" / "last"
    assert export(tmp_path / file, "--with-preprocessing", "--batch-size", "3", checkpoint=checkpoint.parents[1]) == 0
    found = load(tmp_path / file)(digits.test_images[:3])
    wanted = own(checkpoint / "model.ckpt", normalised(digits, digits.test_images[:3]), 8, "paper")
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()
    if name in ("frozen", "onnx"):  # the others run another batch too, or are told of it
        with pytest.raises(Exception, match="3"):
            load(tmp_path / file)(digits.test_images[:2])


def test_a_frozen_graph_names_its_classes_and_no_folder(export, digits, tmp_path, capsys):
    assert export(tmp_path / "m.pb", "--device", "npu:0") == 0
    _, names = in_graph(tmp_path / "m.pb")(np.zeros((1, 32, 32, 3)), "class_names")
    assert [name.decode("utf-8") for name in names] == list(digits.label_names)
    content = (tmp_path / "m.pb").read_bytes()
    assert b"conv2d_3/kernel" in content
    assert str(Path(options_module.__file__).parent).encode() not in content
    lines = capsys.readouterr().out.splitlines()
    assert "note: no effect in the mode export: --device" in lines
    shape = '--input_shape="images:1,32,32,3" --out_nodes="logits:0" --soc_version=SOC_VERSION'
    assert lines[-1] == f'atc --framework=3 --model="{tmp_path / "m.pb"}" --output="{tmp_path / "m"}" {shape}'


@pytest.mark.slow
def test_a_keras_file_has_no_class_of_this_project(export, finished, tmp_path):
    reader("keras")
    for number, options in enumerate(({}, {"checkpoint": finished().folder})):
        path = tmp_path / f"{number}.keras"
        assert export(path, **options) == 0
        content = zipfile.ZipFile(str(path)).read("config.json").decode("utf-8")
        modules = set(re.findall(r'"module": "([\w.]+)"', content))
        assert {"keras", "keras.layers"} <= modules
        assert {module.split(".")[0] for module in modules} == {"keras"}


@pytest.mark.slow
def test_an_onnx_file_is_valid_and_of_the_opset_that_atc_takes(export, finished, tmp_path, capsys):
    reader("onnx")
    onnx = importlib.import_module("onnx")
    for number, options in enumerate(({}, {"checkpoint": finished().folder})):
        path = tmp_path / f"{number}.onnx"
        assert export(path, **options) == 0
        model = onnx.load(str(path))
        onnx.checker.check_model(model, full_check=True)
        assert [(one.domain, one.version) for one in model.opset_import] == [("", 15)]
        last = capsys.readouterr().out.splitlines()[-1]
        assert '--framework=5 --model="' in last
        assert ' --input_shape="images:1,32,32,3" --input_format=ND ' in last


# -- what goes wrong -----------------------------------------------------------------------------------------------


def test_a_file_that_computes_something_else_is_not_kept(export, tmp_path, monkeypatch, capsys):
    output, real = tmp_path / "out" / "m.pb", FORMATS["frozen"].load
    output.parent.mkdir()
    output.write_text("of before")
    broken = dataclasses.replace(FORMATS["frozen"], load=lambda path: lambda images: real(path)(images) + 1e-2)
    monkeypatch.setitem(FORMATS, "frozen", broken)
    assert export(output) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert "differs from the network by" in error
    assert os.listdir(str(output.parent)) == ["m.pb"]
    assert output.read_text() == "of before"


def test_a_signal_leaves_no_file(export, tmp_path, monkeypatch):
    def interrupted(*unused):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setitem(FORMATS, "frozen", dataclasses.replace(FORMATS["frozen"], load=interrupted))
    (tmp_path / "out").mkdir()
    assert export(tmp_path / "out" / "m.pb") == 130
    assert os.listdir(str(tmp_path / "out")) == []


def test_a_converter_that_refuses_is_one_line(export, tmp_path, monkeypatch, capsys):
    class ConverterError(Exception):
        pass

    class Refusing:
        def convert(self):
            raise ConverterError("a page of text")

    monkeypatch.setattr(tf.lite.TFLiteConverter, "from_saved_model", lambda folder: Refusing())
    assert export(tmp_path / "m.tflite") == 2
    assert "TensorFlow " + tf.__version__ + " does not take this network; use another" in capsys.readouterr().err
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--output DIR/m.h5", "m.h5 names no format; give --output FOLDER (savedmodel) or FILE.keras (keras) or"),
        ("--output DIR/m.pb --format onnx", "m.pb is not that of --format onnx; give --output FILE.onnx"),
        ("--output DIR/m.pb --format torch", "'torch' is not a choice"),
        ("--output DIR/m.pb --format json", "export has no --format json; choose one of "),
        ("--output DIR/m.pb --top-k 3", "--top-k has no effect in the mode export; leave it out, it is for predict"),
        ("--output DIR/m.pb --precision bf16", "export has no form bf16; give --precision O0 (float32) or O2"),
        ("--output DIR", "is a folder with other files; name a new one with --output"),
        ("--output DIR/m.pb --variant paper --depth 8", "it is of another network: check --depth and --variant"),
        ("--output DIR/m.pb --checkpoint DIR/nothing", "no checkpoint at"),
        ("--output DIR/m.pb --checkpoint DIR/file.ckpt", "cannot be read"),
        ("--output DIR/m.pb --data-path DIR/nowhere", "nowhere does not exist"),
    ],
)
def test_what_cannot_be_exported_is_one_line(options, message, export, tmp_path, capsys):
    (tmp_path / "file.ckpt.index").write_text("something else")
    words = options.replace("DIR", str(tmp_path)).split()
    assert export(tmp_path / "other", *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert len(error.splitlines()) == 1
    assert os.listdir(str(tmp_path)) == ["file.ckpt.index"]


def test_a_run_has_its_data_set_and_takes_no_other(finished, tmp_path, capsys):
    from tf_seresnet.main import main

    words = ["export", "--checkpoint", str(finished().folder), "--output", str(tmp_path / "m.pb")]
    assert main([*words, "--data-path", str(tmp_path / "nowhere")]) == 2
    assert "has its normalisation and its classes; leave --data-path out" in capsys.readouterr().err


def test_what_bare_weights_do_not_say_is_said(export, weights, tmp_path, capsys, monkeypatch):
    """Their run's statistics, without which there is no normalisation inside; and the names of their classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(class_names, "read_beside", lambda prefix, outputs: class_names.Classes.numbered(outputs))
    monkeypatch.setattr("tf_seresnet.run.checkpoints.read_beside", class_names.read_beside)
    assert main(["export", "--output", "m.pb", "--checkpoint", weights, "--depth", "11"]) == 0
    lines = capsys.readouterr().out
    assert "so the file does not say how images are normalised; --data-path DIR, the data they were" in lines
    assert "note: the weights have no class names, so the file has none" in lines
    found = READERS["frozen"][2](tmp_path / "m.pb")
    assert [found[name] for name in ("mean", "std", "classes")] == [None] * 3
    words = ["export", "--output", "n.pb", "--checkpoint", weights, "--depth", "11", "--with-preprocessing"]
    assert main(words) == 2
    assert "no data set is named, and there is no ./cifar-10-batches-py; name one" in capsys.readouterr().err
    assert os.listdir(str(tmp_path)) == ["m.pb"]


def test_a_missing_package_is_named_before_anything_is_done(export, tmp_path, monkeypatch, capsys):
    for name in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    assert export(tmp_path / "m.onnx") == 2
    captured = capsys.readouterr()
    assert "needs onnx and onnxruntime, which cannot be imported; python -m pip install onnx onnxr" in captured.err
    assert captured.out == ""


def test_the_words_of_the_command_line_are_the_formats():
    assert list(options_module.EXPORT_FORMATS) == list(FORMATS)
