"""The mode predict and `classifier` against evaluation, and against a forward pass in plain torch."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from shared import sample  # noqa: E402
from shared.errors import UsageError  # noqa: E402
from tests.torch_imagenet.small_network import SmallNetwork, create_small  # noqa: E402
from torch_imagenet import classifier  # noqa: E402
from torch_imagenet.main import main  # noqa: E402
from torch_imagenet.networks import spec as network_spec  # noqa: E402
from torch_imagenet.networks.registry import NORMALISATIONS  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def trained(run_in, tmp_path_factory):
    return run_in(tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(network_spec, "create", create_small)


@pytest.fixture
def predict(trained, capsys):
    """predict(*words) -> exit status, standard output, standard error."""

    def start(*words, checkpoint=trained.folder):
        capsys.readouterr()
        status = main(["predict", "--checkpoint", str(checkpoint), "--device", "cpu", "--workers", "1", *words])
        return (status, *capsys.readouterr())

    return start


def answers(output):
    return [json.loads(line) for line in output.splitlines()]


def pixels(image):
    """float32 [1, 3, 32, 32] of an image of 32 x 32 pixels, by hand."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in NORMALISATIONS["imagenet"])
    values = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(32, 32, 3).permute(2, 0, 1)
    return ((values.float() / 255 - mean) / std)[None]


# -- the mode --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_predictions_on_the_sample_have_the_accuracy_that_evaluate_reports(run_in, predict, tmp_path, capsys):
    data = sample.imagenet_folder(tmp_path / "cache")
    words = "--image-size 32 --batch-size 64 --max-steps 12 --device cpu --workers 1 --data-path".split()
    run = run_in(tmp_path / "run", *words, str(data), plain=True)
    words = ["--checkpoint", str(run.folder), "--data-path", str(data), "--workers", "1", "--device", "cpu"]
    record = run_in(tmp_path / "evaluation", *words, plain=True, mode="evaluate").record["evaluation"]
    status, output, _ = predict(str(data / "val"), "--format", "json", "--batch-size", "50", checkpoint=run.folder)
    assert status == 0
    found = answers(output)
    assert len(found) == sample.TEST_IMAGES == record["images"]
    labels = [Path(one["image"]).parent.name for one in found]
    ranks = [[best["class"] for best in one["predictions"]] for one in found]
    top1 = 100 * sum(label == best[0] for label, best in zip(labels, ranks)) / len(found)
    top5 = 100 * sum(label in best for label, best in zip(labels, ranks)) / len(found)
    assert (top1, top5) == pytest.approx((record["top1"], record["top5"]))
    assert 12 < top1 < 100  # neither chance nor certainty


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_every_image_is_answered_in_its_order_at_any_batch_size(batch, predict, trained, tiny):
    status, output, error = predict(str(tiny.folder / "val"), "--format", "json", "--batch-size", str(batch))
    assert status == 0
    found = answers(output)
    assert [one["image"] for one in found] == sorted(map(str, (tiny.folder / "val").rglob("*.png")))
    right = [one["predictions"][0]["class"] == Path(one["image"]).parent.name for one in found]
    assert 100 * sum(right) / len(right) == trained.record["evaluation"]["top1"]
    assert all(len(one["predictions"]) == tiny.classes for one in found)  # five are asked for
    assert "weights: " in error
    assert "32 x 32 pixels" in error


@pytest.mark.parametrize("file", ["", "model.pth"])
def test_the_probabilities_are_those_of_plain_torch(file, predict, trained, tmp_path):
    random = torch.Generator().manual_seed(1)
    path = tmp_path / "one.png"
    # Of the size to which images are resized before the crop, so that nothing is resized.
    image = Image.frombytes("RGB", (36, 36), bytes(torch.randint(256, (36 * 36 * 3,), generator=random).tolist()))
    image.save(path)
    network = SmallNetwork(3, 0.0, 0.0)
    network.load_state_dict(torch.load(trained.folder / "model.pth", weights_only=True))
    with torch.no_grad():
        wanted = torch.softmax(network.eval()(pixels(image.crop((2, 2, 34, 34)))), 1)[0].sort(descending=True)
    words = ["--image-size", "32", "--top-k", "2"] if file else ["--top-k", "2"]
    status, output, _ = predict(str(path), "--format", "csv", *words, checkpoint=trained.folder / file)
    assert status == 0
    rows = list(csv.DictReader(io.StringIO(output)))
    assert [row["class"] for row in rows] == [f"class{index}" for index in wanted.indices[:2].tolist()]
    assert [float(row["probability"]) for row in rows] == pytest.approx(wanted.values[:2].tolist(), rel=1e-4)


def test_a_bad_image_is_fatal_or_left_out_and_named(predict, tiny, tmp_path):
    good = str(tiny.folder / "val" / "class0" / "image00.png")
    bad, gone = tmp_path / "bad.png", str(tmp_path / "gone.png")
    bad.write_bytes(b"no image")
    status, output, error = predict(good, str(bad))
    assert (status, output) == (2, "")
    assert error.count(str(bad)) == 1
    assert "--on-bad-image skip" in error
    status, output, error = predict(good, str(bad), gone, "--on-bad-image", "skip", "--format", "json")
    assert status == 0
    assert [one["image"] for one in answers(output)] == [good]
    assert error.count(str(bad)) == error.count(gone) == 1
    assert "bad images left out: 2 of 3" in error
    status, output, error = predict(str(bad), "--on-bad-image", "skip")
    assert (status, output) == (2, "")
    assert "error: none of the images can be read" in error


def test_a_photograph_that_is_to_be_turned_is_named(predict, tiny, tmp_path):
    upright = Image.open(tiny.folder / "val" / "class0" / "image00.png")
    exif = upright.getexif()
    for orientation in (1, 6):
        exif[0x0112] = orientation
        upright.save(tmp_path / f"turned{orientation}.jpg", exif=exif)
    status, output, error = predict(str(tmp_path))
    assert status == 0
    assert f"note: 1 of 2 images looked at ({tmp_path / 'turned6.jpg'}) to be turned by EXIF data" in error


def test_a_list_on_standard_input(predict, tiny, monkeypatch):
    path = tiny.folder / "val" / "class1" / "image01.png"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{path}\n{path}\n".encode())))
    status, output, _ = predict("-", "--top-k", "1")
    assert status == 0
    assert [line for line in output.splitlines() if "%" not in line] == [str(path)] * 2
    assert output.count("class1\n") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "predict needs images; name files or folders"),
        (["gone.jpg"], "there is no file gone.jpg"),
        (["--data-path", "x", "y"], "--data-path has no effect in the mode predict; leave it out, it is for train"),
        (["--output-dir", "x", "y"], "--output-dir has no effect in the mode predict"),
        (
            ["--num-devices", "2", "y"],
            "--num-devices has no effect in the mode predict; leave it out, it is for train, evaluate, ",
        ),
        (["https://host/cat.jpg"], "is a URL and is not read from there"),
        (["--format", "onnx", "sub"], "predict has no --format onnx; choose one of text, json, csv"),
        (["", "y"], "the name of an image is empty"),
    ],
)
def test_a_mistake_is_one_line(predict, words, message):
    status, output, error = predict(*words)
    assert (status, output) == (2, "")
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_only_predict_takes_images(capsys):
    assert main(["benchmark", "--device", "cpu", "cat.jpg"]) == 2
    assert "unexpected word 'cat.jpg'" in capsys.readouterr().err
    assert main(["evaluate", "--device", "cpu", "--grad-cam", "x"]) == 2
    assert "--grad-cam has no effect in the mode evaluate" in capsys.readouterr().err


def test_weights_that_give_no_numbers_are_no_answer(predict, trained, tiny, tmp_path):
    weights = torch.load(trained.folder / "model.pth", weights_only=True)
    weights["fc.weight"][1] = float("nan")
    torch.save(weights, tmp_path / "nan.pth")
    status, output, error = predict(str(tiny.folder / "val"), checkpoint=tmp_path / "nan.pth")
    assert (status, output) == (2, "")
    assert "image00.png are not all finite, first in fc" in error


# -- where the network looks -----------------------------------------------------------------------------------


def test_overlays_beside_the_predictions(predict, trained, tiny, tmp_path):
    first, second = tiny.folder / "val" / "class0" / "image00.png", tmp_path / "image00.png"
    shutil.copy(tiny.folder / "val" / "class1" / "image01.png", second)
    plain = answers(predict(str(first), str(second), "--format", "json")[1])
    status, output, error = predict(str(first), str(second), "--format", "json", "--grad-cam", str(tmp_path / "maps"))
    assert status == 0
    files = [tmp_path / "maps" / name for name in ("image00.png", "image00-2.png")]
    assert answers(output) == [{**one, "overlay": str(file)} for one, file in zip(plain, files)]
    assert sorted((tmp_path / "maps").iterdir()) == sorted(files)
    assert "show nothing" not in error
    classify = classifier(trained.folder, device="cpu")
    found = classify.grad_cam(second)
    assert found.name == plain[1]["predictions"][0]["name"]
    assert (found.shares.shape, found.shares.dtype, found.shares.max()) == ((32, 32), "float32", 1)
    pixels = np.asarray(Image.open(files[1])).astype(int)
    assert np.abs(pixels - np.asarray(found.overlay)).max() <= 1  # of a batch of two, and alone
    other = classify.grad_cam(second, plain[1]["predictions"][2]["name"])
    assert not np.array_equal(other.shares, found.shares)
    with pytest.raises(UsageError, match="the network has no class 'clas1'; did you mean 'class1'"):
        classify.grad_cam(second, "clas1")


def test_an_overlay_that_shows_nothing_is_named(predict, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(
        SmallNetwork, "forward_features", lambda network, images: images.new_ones(len(images), 16, 1, 1)
    )
    image = str(tiny.folder / "val" / "class0" / "image00.png")
    status, _, error = predict(image, "--grad-cam", str(tmp_path / "maps"))
    assert status == 0
    assert f"note: the overlays of 1 image show nothing ({image}): " in error


def test_no_overlay_replaces_a_file(predict, tiny, tmp_path):
    image = tiny.folder / "val" / "class0" / "image00.png"
    before = image.read_bytes()
    status, output, error = predict(str(image), "--grad-cam", str(image.parent))
    assert (status, output) == (2, "")
    assert error == f"error: {image} exists and is not replaced; name another folder with --grad-cam\n"
    assert image.read_bytes() == before


# -- classifier ------------------------------------------------------------------------------------------------


def test_the_package_imports_nothing():
    program = "import sys, torch_imagenet; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, timeout=60).returncode == 0


def test_a_classifier_answers_as_the_mode_does(predict, trained, tiny, tmp_path, monkeypatch):
    paths = sorted((tiny.folder / "val").rglob("*.png"))
    wanted = [
        [(best["name"], best["probability"]) for best in one["predictions"]]
        for one in answers(predict(*map(str, paths), "--format", "json")[1])
    ]
    monkeypatch.chdir(trained.folder.parent)
    classify = classifier("run", device="cpu", batch_size=3)
    monkeypatch.chdir(tmp_path)
    for found, answer in zip(classify(paths), wanted):
        assert [name for name, _ in found] == [name for name, _ in answer]
        assert [share for _, share in found] == pytest.approx([share for _, share in answer], rel=1e-4)
    assert classify(str(paths[0])) == classify(paths[0]) == classify([Image.open(paths[0])])[0]
    assert classify([]) == []
    grey = Image.open(paths[0]).convert("L")
    assert classify(grey) == classify(grey.convert("RGB"))


def test_a_classifier_leaves_the_random_numbers_of_its_program(trained):
    before = torch.get_rng_state()
    classifier(trained.folder, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("shared", [True, False])
def test_threads_answer_as_one_after_the_other(shared, trained, tiny):
    """Of one classifier, and of one for each, which are made at once too."""

    def made():
        return classifier(trained.folder, device="cpu", top_k=1)

    paths, one, found = sorted((tiny.folder / "val").rglob("*.png")), made(), {}

    def answered(classify):
        return [(classify(path), classify.grad_cam(path).shares.tobytes()) for path in paths]

    def work(number):
        found[number] = answered(one if shared else made())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(4), answered(one))


@pytest.mark.parametrize(
    ("image", "message"),
    [("gone.jpg", "gone.jpg cannot be read"), (3, "int is no image; give a path"), (b"x", "bytes is no image")],
)
def test_what_is_no_image_is_an_error(trained, image, message):
    with pytest.raises(UsageError, match=message):
        classifier(trained.folder, device="cpu")(image)


@pytest.mark.parametrize(
    ("options", "message"), [({"devize": "cpu"}, "unknown option --devize"), ({"top_k": 0}, "'0' does not fit")]
)
def test_a_wrong_option_is_the_command_lines_error(trained, options, message):
    with pytest.raises(UsageError, match=message):
        classifier(trained.folder, **options)
