"""check-data: every image is opened; faults and remarks are told apart, named and counted."""

from __future__ import annotations

import io
import os
import shutil
import struct
import sys
import zlib
from pathlib import Path

import pytest

from shared.errors import DataError, UsageError
from shared.imagenet import check as imagenet_check
from shared.imagenet.check import check
from shared.imagenet.decode import inspect

Image = pytest.importorskip("PIL.Image", reason="images are made and read with Pillow")

REPOSITORY = Path(__file__).resolve().parents[3]
DATA = Path(os.environ.get("KIT_TEST_DATA") or REPOSITORY.parent / "shared" / "data")


def encoded(form="JPEG", mode="RGB", size=(40, 30), **options):
    file = io.BytesIO()
    Image.effect_noise(size, 60).convert(mode).save(file, form, **options)
    return file.getvalue()


def png_of(width, height):
    """The head of a PNG that says it is that large, and little more."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "set"
    for split in ("train", "val"):
        for name in ("n01440764", "n02102040"):
            (root / split / name).mkdir(parents=True)
            for number in range(3):
                (root / split / name / f"{name}_{number}.JPEG").write_bytes(encoded())
    return root


def run(root, workers=1, **options):
    """What was said, and the fault at the end or nothing."""
    said, line = [], ""
    try:
        check(root, workers, said.append, **options)
    except DataError as error:
        line = str(error)
    assert line.isprintable()
    assert line.count("; ") == bool(line), "what is wrong; what to do"
    return said, line


def test_a_whole_set(root):
    said, error = run(root)
    assert error == ""
    assert said == [
        f"folder {root}",
        "train: 6 images in 2 classes, per class 3 to 3, median 3.0",
        "val: 6 images in 2 classes, per class 3 to 3, median 3.0",
        "set: complete",
    ]
    assert run(root, name="sample-digits")[0][-1] == "sample-digits: complete"


def test_workers_say_the_same(root):
    cat = root / "train" / "n01440764"
    for number in range(100):
        (cat / f"{number}.JPEG").write_bytes(encoded(mode="L") if number % 7 else b"no image")
    alone, together = run(root, 1), run(root, 3)
    assert alone == together
    assert "15 faults" in alone[1]


FAULTS = {
    "empty": b"",
    "no image": b"<html>404 not found</html>",
    "truncated or damaged": encoded(size=(200, 200))[:-2000],
    "too many pixels": png_of(60000, 60000),
    "too many pixels, a warning of Pillow's": png_of(10000, 10000),
    "no image, but a program for a printer": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
    "truncated or damaged, a PNG": encoded("PNG", size=(200, 200))[:-5000],
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_bad_image_is_a_fault(root, kind):
    (root / "val" / "n02102040" / "bad.JPEG").write_bytes(FAULTS[kind])
    said, error = run(root)
    line = f"val/n02102040/bad.JPEG: {kind.split(',')[0]}"
    assert [text for text in said if text.startswith("fault: ")] == [text for text in said if line in text]
    assert error.startswith(f"set: 1 fault, the first: {line}")


def test_val_alone_is_checked_as_it_is_evaluated(root, tmp_path):
    shutil.rmtree(str(root / "train"))
    said, error = run(root)
    assert error == ""
    assert "remark: there is no train part, which training needs; val alone can be evaluated on" in said
    assert said[-1] == "set: complete"
    (root / "val" / "n02102040" / "bad.JPEG").write_bytes(b"")
    assert run(root)[1]
    shutil.rmtree(str(root / "val"))
    assert "holds no val/" in run(root)[1]


def test_a_link_that_leads_nowhere_is_a_fault(root):
    (root / "val" / "n02102040" / "bad.JPEG").symlink_to("nowhere")
    assert "bad.JPEG: cannot be read (No such file or directory)" in run(root)[1]


REMARKS = {
    "CMYK": encoded(mode="CMYK"),
    "grey": encoded(mode="L"),
    "neither RGB nor grey (mode RGBA)": encoded("PNG", "RGBA"),
    "neither RGB nor grey (mode P)": encoded("PNG", "P"),
    "named .JPEG without being one (PNG)": encoded("PNG"),
    "named .JPEG without being one (GIF)": encoded("GIF", "L"),
    "EXIF orientation, which is not applied (6)": encoded(
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    ),
}


@pytest.mark.parametrize("kind", REMARKS)
def test_an_unusual_image_is_a_remark(root, kind):
    (root / "val" / "n02102040" / "odd.JPEG").write_bytes(REMARKS[kind])
    said, error = run(root)
    assert error == ""
    assert f"remark: val/n02102040/odd.JPEG: {kind}" in said
    assert said[-1] == "set: complete"


def test_damaged_exif_data_harm_nothing(tmp_path):
    (tmp_path / "a.JPEG").write_bytes(encoded(exif=b"Exif\0\0MM\0*\xff\xff\xff\xff nonsense"))
    assert inspect(str(tmp_path / "a.JPEG"), "cat/a.JPEG") == []


def test_an_image_of_another_class_is_a_remark(root):
    shutil.copy(
        str(root / "train" / "n01440764" / "n01440764_0.JPEG"), str(root / "train" / "n02102040" / "n01440764_9.JPEG")
    )
    said, error = run(root)
    assert error == ""
    assert "remark: train/n02102040/n01440764_9.JPEG: named as of another class (n01440764)" in said


def test_twenty_lines_of_a_kind(root):
    for number in range(1035):
        (root / "train" / "n01440764" / f"{number:04d}.JPEG").write_bytes(b"")
    said, error = run(root)
    assert sum(text.startswith("fault: train/") for text in said) == 20
    assert said[-1] == "fault: ... and 1,015 more: empty"
    assert error.startswith("set: 1,035 faults, the first: train/n01440764/0000.JPEG: empty; ")


def test_faults_of_the_folders_are_counted_and_images_still_read(root):
    (root / "train" / "n00000001").mkdir()
    (root / "val" / "n02102040" / "bad.JPEG").write_bytes(b"")
    said, error = run(root)
    faults = [text for text in said if text.startswith("fault: ")]
    assert len(faults) == 3
    assert "n00000001" in faults[0]
    assert "has 1 class without images" in faults[0]
    assert "lacks 1 class of train/" in faults[1]
    assert "bad.JPEG: empty" in faults[2]
    assert error.startswith("set: 3 faults, the first: ")


def test_an_unsorted_val_says_what_could_be_done(root):
    for number in range(1, 4):
        (root / "val" / f"ILSVRC2012_val_{number:08d}.JPEG").write_bytes(encoded())
    said, _ = run(root)
    assert any("is not sorted (3 images outside class folders); run python" in text for text in said)


def test_files_rewritten_in_place_are_seen(root):
    assert run(root)[1] == ""
    (root / "val" / "n02102040" / "n02102040_0.JPEG").write_bytes(b"")
    assert "n02102040_0.JPEG: empty" in run(root)[1]


def test_odd_names_make_one_line(root):
    (root / "train" / "n01440764" / "two\nlines.JPEG").write_bytes(b"")
    said, _ = run(root)
    assert all(text.isprintable() for text in said)


def test_the_check_can_be_stopped(root):
    class Stop(Exception):
        pass

    def stop():
        raise Stop

    for workers in (1, 2):
        with pytest.raises(Stop):
            run(root, workers, pause=stop)


def test_progress_is_said(root, monkeypatch):
    monkeypatch.setattr(imagenet_check, "_PROGRESS_SECONDS", 0.0)
    assert "read 6 of 12 images" in run(root)[0]


def die(paths):
    os._exit(1)


def test_a_process_that_dies_is_a_fault(root, monkeypatch):
    monkeypatch.setattr(imagenet_check, "inspect_all", die)
    with pytest.raises(DataError, match="a process died near .*n01440764_0.JPEG.*; try --workers 1"):
        check(root, 2, lambda text: None)


def test_without_pillow(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UsageError, match="needs Pillow; pip install Pillow"):
        check(root, 1, lambda text: None)


def test_the_odd_files_of_imagenet(root):
    if not (DATA / "imagenet-odd").is_dir():
        pytest.skip(f"no imagenet-odd in {DATA}")
    for path in (DATA / "imagenet-odd").iterdir():
        shutil.copy(str(path), str(root / "val" / "n02102040" / path.name))
    said, error = run(root)
    told = sorted(text.split("/")[-1] for text in said if text.startswith(("fault", "remark")))
    assert told == [
        "cmyk_100x100.JPEG: CMYK",
        "cmyk_icc_500x333.JPEG: CMYK",
        "cmyk_noprofile_500x333.JPEG: CMYK",
        "exif_orientation6.JPEG: EXIF orientation, which is not applied (6)",
        "gray_n02096051_Airedale.JPEG: grey",
        "gray_n04371774_swing.JPEG: grey",
        "png_rgb_n02105855_derived.JPEG: named .JPEG without being one (PNG)",
        "png_rgba_or_rgb_named.JPEG: named .JPEG without being one (PNG)",
        "png_rgba_or_rgb_named.JPEG: neither RGB nor grey (mode RGBA)",
        "truncated_n02105855_derived.JPEG: truncated or damaged"
        " (OSError: image file is truncated (77 bytes not processed))",
    ]
    assert error.startswith("set: 1 fault, the first: val/n02102040/truncated_n02105855_derived.JPEG")
