"""The mode predict and `classifier` against evaluation, and against the Keras model with the same weights."""

from __future__ import annotations

import csv
import io
import json
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")

from shared.errors import UsageError  # noqa: E402
from tests.tf_seresnet.keras.test_keras import _keras_3  # noqa: E402
from tf_seresnet import classifier  # noqa: E402
from tf_seresnet.main import main  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
BARE = ("--variant", "paper", "--depth", "8")  # which weights alone do not say


@pytest.fixture
def trained(_trained_once):
    return _trained_once()


@pytest.fixture
def predict(trained, capsys):
    """predict(*words) -> exit status, standard output, standard error."""

    def start(*words, checkpoint=trained.folder):
        capsys.readouterr()
        status = main(["predict", "--checkpoint", str(checkpoint), "--device", "cpu", *map(str, words)])
        return (status, *capsys.readouterr())

    return start


@pytest.fixture(scope="module")
def digits(sample_folder):
    """The test images of the sample, uint8 [N, 32, 32, 3], and their labels."""
    content = pickle.loads((sample_folder / "test_batch").read_bytes(), encoding="latin1")
    return content["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), content["labels"]


@pytest.fixture
def photos(digits, tmp_path):
    """A folder of the first five test images as PNG."""
    (tmp_path / "photos").mkdir()
    for number in range(5):
        Image.fromarray(digits[0][number]).save(str(tmp_path / "photos" / f"{number}.png"))
    return tmp_path / "photos"


def answers(output):
    return [json.loads(line) for line in output.splitlines()]


def shares(answer):
    return {best["class"]: best["probability"] for best in answer["predictions"]}


# -- the mode --------------------------------------------------------------------------------------------------


def test_the_predictions_have_the_accuracy_that_evaluate_reports(predict, trained, sample_folder, digits, tmp_path):
    words = ["--device", "cpu", "--data-path", str(sample_folder), "--checkpoint", str(trained.folder)]
    assert main(["evaluate", *words, "--output-dir", str(tmp_path / "evaluation")]) == 0
    record = json.loads((tmp_path / "evaluation" / "result.json").read_text())["evaluation"]
    path = sample_folder / "test_batch"
    status, output, error = predict(path, "--format", "json", "--batch-size", "50")
    assert status == 0
    found, labels = answers(output), digits[1]
    assert [one["image"] for one in found] == [f"{path}[{number}]" for number in range(299)]
    ranks = [[best["index"] for best in one["predictions"]] for one in found]
    top1 = 100 * sum(label == best[0] for label, best in zip(labels, ranks)) / 299
    top5 = 100 * sum(label in best for label, best in zip(labels, ranks)) / 299
    assert (top1, top5) == pytest.approx((record["top1"], record["top5"]))
    assert 0 < top1 < 100
    assert "weights: " in error
    assert "network: se_resnet8, variant paper, layers core, 75,952 trainable parameters, images of 32 x 32" in error


@pytest.mark.skipif(not _keras_3(), reason="needs Keras 3")
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_probabilities_are_those_of_the_keras_model(predict, trained, photos, digits):
    from tf_seresnet.keras import load_checkpoint, se_resnet

    model = se_resnet(depth=8, variant="paper", num_classes=10)
    load_checkpoint(model, trained.folder)
    state = json.loads((trained.folder / "checkpoints" / "last" / "state.json").read_text())["normalisation"]
    images = (digits[0][:5] - np.array(state["mean"])) / np.array(state["std"])
    powers = np.exp(np.asarray(model(images.astype(np.float32), training=False), np.float64))
    wanted = powers / powers.sum(axis=1, keepdims=True)
    status, output, _ = predict(photos, "--format", "csv", "--top-k", "10")
    assert status == 0
    rows = list(csv.DictReader(io.StringIO(output)))
    assert [row["image"] for row in rows[::10]] == [str(photos / f"{number}.png") for number in range(5)]
    found = np.array([float(row["probability"]) for row in rows]).reshape(5, 10)
    order = np.array([int(row["index"]) for row in rows]).reshape(5, 10)
    np.testing.assert_allclose(found, np.take_along_axis(wanted, order, axis=1), rtol=1e-4)
    assert (np.diff(found) <= 0).all()


@pytest.mark.parametrize("batch", [1, 4])
def test_images_are_answered_in_their_order_at_any_batch_size(batch, predict, photos, sample_folder):
    """And an image of 32 x 32 pixels is used as it is, from whatever file; one of another size is resized."""
    image = Image.open(str(photos / "0.png"))
    double = np.asarray(image).repeat(2, axis=0).repeat(2, axis=1)
    wide = Image.fromarray(np.pad(np.asarray(image), [(0, 0), (9, 9), (0, 0)], "edge"))
    wide.save(str(photos / "wide.bmp"))
    Image.fromarray(double).resize((32, 32), Image.BILINEAR).save(str(photos / "x.png"))
    Image.fromarray(double).save(str(photos / "y.png"))
    status, output, _ = predict(photos, "--format", "json", "--batch-size", batch)
    assert status == 0
    found = answers(output)
    assert [Path(one["image"]).name for one in found] == [*(f"{n}.png" for n in range(5)), "wide.bmp", "x.png", "y.png"]
    given = dict(shares(found[0]))
    assert shares(found[5]) == pytest.approx(given, rel=1e-4)
    assert shares(found[7]) == pytest.approx(shares(found[6]), rel=1e-4)
    assert shares(found[7]) != pytest.approx(given, rel=1e-4)


def test_a_folder_of_batches_and_a_list(predict, sample_folder, photos, tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    for name in ("test_batch", "batches.meta"):
        shutil.copy(str(sample_folder / name), str(tmp_path / "set" / name))
    path = photos / "3.png"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{path}\n".encode())))
    status, output, error = predict(tmp_path / "set", "-", "--top-k", "1", "--format", "json")
    assert status == 0
    found = answers(output)
    assert len(found) == 300
    assert found[299]["image"] == str(path)
    assert shares(found[299]) == pytest.approx(shares(found[3]), rel=1e-4)
    assert "note: 1 file in " in error
    assert "batches.meta" in error


def test_a_bad_image_is_fatal_or_left_out_and_named(predict, photos, tmp_path):
    good, bad, broken = photos / "0.png", tmp_path / "bad.png", tmp_path / "test_batch"
    bad.write_bytes(b"no image")
    broken.write_bytes(pickle.dumps({"data": np.zeros((2, 99), np.uint8)}, protocol=2))
    for path in (bad, broken):
        status, output, error = predict(good, path)
        assert (status, output) == (2, "")
        assert error.count(str(path)) == 1
        assert "--on-bad-image skip" in error
    words = ("--on-bad-image", "skip", "--format", "json")
    status, output, error = predict(bad, good, tmp_path / "gone.png", broken, *words)
    assert status == 0
    assert [one["image"] for one in answers(output)] == [str(good)]
    assert "bad images left out: 3 of 4" in error
    status, output, error = predict(bad, *words)
    assert (status, output) == (2, "")
    assert "error: none of the images can be read" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "predict needs images; name files or folders"),
        (["gone.jpg"], "there is no file gone.jpg"),
        (["--data-path", "x", "0.png"], "--data-path x is not for predict"),
        (["--output-dir", "x", "0.png"], "--output-dir has no effect in the mode predict"),
        (["--train_url", "x", "0.png"], "--train_url has no effect in the mode predict"),
        (["--num-devices", "2", "0.png"], "--num-devices has no effect in the mode predict"),
        (["--depth", "11", "0.png"], "--depth 11 and the checkpoint is of depth 8; leave --depth out"),
        (["--format", "onnx", "0.png"], "choose one of text, json, csv"),
    ],
)
def test_a_mistake_is_one_line(predict, photos, monkeypatch, words, message):
    monkeypatch.chdir(photos)
    status, output, error = predict(*words)
    assert (status, output) == (2, "")
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("words", [["--top-k", "3"], ["--format", "csv"], ["--on-bad-image", "skip"], ["cat.jpg"]])
def test_only_predict_takes_images_and_its_options(words, capsys):
    assert main(["evaluate", "--device", "cpu", *words]) == 2
    assert words[0] in capsys.readouterr().err


def test_without_pillow_batches_are_read(predict, photos, sample_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    status, output, error = predict(photos / "0.png")
    assert (status, output) == (2, "")
    assert error == "error: reading images needs Pillow; pip install Pillow\n"
    assert predict(sample_folder / "test_batch", "--top-k", "1")[0] == 0


def test_overlays_beside_the_predictions(predict, trained, photos, sample_folder, tmp_path):
    status, output, _ = predict(photos, "--format", "json", "--grad-cam", tmp_path / "maps")
    assert status == 0
    assert [one["overlay"] for one in answers(output)] == [
        str(tmp_path / "maps" / f"{number}.png") for number in range(5)
    ]
    found = classifier(str(trained.folder), device="cpu").grad_cam(str(photos / "3.png"))
    assert found.name == answers(output)[3]["predictions"][0]["name"]
    assert (found.shares.shape, float(found.shares.max())) == ((32, 32), 1.0)
    pixels = np.asarray(Image.open(str(tmp_path / "maps" / "3.png"))).astype(int)
    assert np.abs(pixels - np.asarray(found.overlay)).max() <= 1  # of a batch of five, and alone
    status, output, error = predict(sample_folder / "test_batch", "--grad-cam", tmp_path / "others")
    assert (status, output) == (2, "")
    assert "--grad-cam draws over image files, and" in error


# -- weights alone ---------------------------------------------------------------------------------------------


def test_weights_alone_are_normalised_by_the_data_set_that_is_named(
    predict, trained, photos, sample_folder, monkeypatch
):
    monkeypatch.chdir(photos)
    weights = trained.folder / "model.ckpt"
    status, output, error = predict("0.png", *BARE, checkpoint=weights)
    assert (status, output) == (2, "")
    assert "has weights alone, and not how images were normalised; name the folder of its run, or" in error
    words = ("0.png", "--format", "json")
    status, output, error = predict(*words, *BARE, "--data-path", sample_folder, checkpoint=weights)
    assert status == 0
    assert "note: images are normalised as the training images of this data set" in error
    assert output == predict(*words)[1]


def test_weights_that_give_no_numbers_are_no_answer(predict, trained, photos, sample_folder, tmp_path):
    values = {name: value for name, value in trained.weights().items() if not name.endswith("/Momentum")}
    head = next(name for name, value in values.items() if value.shape == (64, 10))
    values[head][0, 3] = np.nan
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        saved = {name: tf.compat.v1.get_variable(name, initializer=value) for name, value in values.items()}
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver(saved).save(session, str(tmp_path / "nan.ckpt"), write_meta_graph=False)
    words = (photos / "1.png", *BARE, "--data-path", sample_folder)
    status, output, error = predict(*words, checkpoint=tmp_path / "nan.ckpt")
    assert (status, output) == (2, "")
    assert "1.png are not all finite, first in dense_6" in error


# -- classifier ------------------------------------------------------------------------------------------------


def test_the_package_imports_nothing():
    program = "import sys, tf_seresnet; sys.exit('tensorflow' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=str(ROOT), check=False, timeout=60).returncode == 0


def test_a_classifier_answers_as_the_mode_does(predict, trained, photos, tmp_path, monkeypatch):
    paths = sorted(photos.iterdir())
    wanted = [shares(one) for one in answers(predict(*paths, "--format", "json")[1])]
    monkeypatch.chdir(trained.folder.parent)
    classify = classifier("run", device="cpu", batch_size=3)
    monkeypatch.chdir(tmp_path)
    assert [dict(found) for found in classify(paths)] == [pytest.approx(each, rel=1e-4) for each in wanted]
    assert classify(str(paths[0])) == classify(paths[0]) == classify([Image.open(str(paths[0]))])[0]
    assert classify([]) == []
    grey = Image.open(str(paths[0])).convert("L")
    assert classify(grey) == classify(grey.convert("RGB"))


def test_threads_share_a_classifier(trained, photos):
    paths = sorted(photos.iterdir())
    classify = classifier(trained.folder, device="cpu", top_k=1)
    found = {}

    def work(number):
        found[number] = [classify(path) for path in paths], classify(paths)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = [classify(path) for path in paths]
    assert [each for each, _ in found.values()] == [wanted] * 4
    assert all([best[0][0] for best in several] == [best[0][0] for best in wanted] for _, several in found.values())


def test_a_classifier_lives_beside_eager_tensorflow(trained, photos):
    if not tf.executing_eagerly():
        pytest.skip("TensorFlow 1.x builds graphs alone")
    classify = classifier(trained.folder, device="cpu", top_k=1)
    before = classify(photos / "0.png")
    assert float(tf.constant(2.0) * 3) == 6
    assert classify(photos / "0.png") == before


@pytest.mark.parametrize(
    ("image", "message"),
    [("gone.jpg", "gone.jpg cannot be read"), (3, "int is no image; give a path"), (b"x", "bytes is no image")],
)
def test_what_is_no_image_is_an_error(trained, image, message):
    with pytest.raises(UsageError, match=message):
        classifier(trained.folder, device="cpu")(image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devize": "cpu"}, "unknown option --devize"),
        ({"top_k": 0}, "'0' does not fit"),
        ({"num_devices": 2}, "--num-devices has no effect"),
    ],
)
def test_a_wrong_option_is_the_command_lines_error(trained, options, message):
    with pytest.raises(UsageError, match=message):
        classifier(trained.folder, **options)
