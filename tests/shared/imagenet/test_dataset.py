"""The ImageNet layout: what is there is indexed exactly, what is wrong is one line."""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import imagenet
from shared.errors import DataError
from shared.imagenet import layout
from shared.imagenet.decode import FORMATS
from shared.imagenet.sort_val import sort_val

REPOSITORY = Path(__file__).resolve().parents[3]
DATA = Path(os.environ.get("KIT_TEST_DATA") or REPOSITORY.parent / "shared" / "data")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("KIT_CACHE", str(tmp_path_factory.mktemp("cache")))


def write_set(root, classes=("cat", "dog"), images=2):
    for split in ("train", "val"):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for number in range(images):
                (root / split / name / f"{number}.JPEG").write_bytes(b"x" * (number + 1))
    return root


@pytest.fixture
def root(tmp_path):
    return write_set(tmp_path / "pets")


def names(split):
    return [split.name(index) for index in range(len(split))]


# -- what is indexed -----------------------------------------------------------------------------


def test_indexes_classes_labels_and_names(root):
    data = imagenet.load(root)
    assert (data.name, data.path, data.classes, data.remarks) == ("pets", str(root), ("cat", "dog"), ())
    for split, folder in ((data.train, "train"), (data.val, "val")):
        assert split.folder == str(root / folder)
        assert split.labels.dtype == np.int32
        assert split.labels.tolist() == [0, 0, 1, 1]
        assert names(split) == ["cat/0.JPEG", "cat/1.JPEG", "dog/0.JPEG", "dog/1.JPEG"]
        assert split.path(3) == str(root / folder / "dog" / "1.JPEG")
        assert split.path(-4) == split.path(0)
        assert split.class_counts().dtype == np.int64
        assert split.class_counts().tolist() == [2, 2]
        with pytest.raises(IndexError):
            split.name(4)


def test_a_split_goes_to_another_process(root):
    split = imagenet.load(root).val
    assert names(pickle.loads(pickle.dumps(split))) == names(split)


def test_val_alone(root):
    both = imagenet.load(root)
    (root / "train").rename(root / "elsewhere")
    data = imagenet.load(root, splits=("val",))
    assert data.train is None
    assert (data.classes, names(data.val)) == (both.classes, names(both.val))
    assert data.fingerprint != both.fingerprint


def test_a_name_can_be_given(root):
    assert imagenet.load(root, name="sample-digits").name == "sample-digits"


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("imagenet", "imagenet-layout"),
        ("ImageNet", "imagenet-layout"),
        ("two words", "imagenet-layout"),
        ("imagenette2-320", "imagenette2-320"),
    ],
)
def test_a_set_is_named_by_its_folder_but_never_imagenet(tmp_path, folder, name):
    assert imagenet.load(write_set(tmp_path / folder)).name == name


@pytest.mark.parametrize("name", ["imagenet", "ImageNet", "ILSVRC2012"])
def test_the_parent_will_do(tmp_path, name):
    root = write_set(tmp_path / name)
    assert imagenet.load(tmp_path).path == imagenet.load(root).path == str(root)


def test_home_is_understood(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root))
    assert imagenet.load("~").path == str(root)


def test_links_are_followed_and_loops_do_not_hang(root, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (root / "train" / "cat").rename(elsewhere)
    (root / "train" / "cat").symlink_to(elsewhere)
    (root / "train" / "dog" / "loop.JPEG").symlink_to("loop.JPEG")
    (root / "train" / "dog" / "gone.JPEG").symlink_to("nowhere")
    (root / "train" / "dog" / "up").symlink_to(root)
    (root / "train" / "circle").symlink_to("circle")
    data = imagenet.load(root)
    assert names(data.train)[:2] == ["cat/0.JPEG", "cat/1.JPEG"]
    assert names(data.train)[2:] == ["dog/0.JPEG", "dog/1.JPEG", "dog/gone.JPEG", "dog/loop.JPEG"]
    assert len(data.remarks) == 2


def test_what_is_left_out_is_counted(root):
    before = imagenet.load(root)
    cat = root / "train" / "cat"
    for name in ("notes.txt", ".hidden.JPEG", "Thumbs.db"):
        (cat / name).write_bytes(b"x")
    os.mkfifo(str(cat / "pipe.JPEG"))
    (cat / "deeper.JPEG").mkdir()
    (root / "train" / ".cache").mkdir()
    (root / "train" / "preview.png").write_bytes(b"x")
    (root / "val" / "README").write_bytes(b"x")
    after = imagenet.load(root)
    assert after.fingerprint == before.fingerprint
    assert after.remarks == (
        "train/: 4 files left out, hidden or no image by name",
        "train/: 2 folders left out, hidden or inside a class folder",
        "train/: 1 image left out, in no class folder",
        "val/: 1 file left out, hidden or no image by name",
    )


def test_an_empty_file_is_an_image(root):
    (root / "val" / "cat" / "empty.JPEG").write_bytes(b"")
    assert "cat/empty.JPEG" in names(imagenet.load(root).val)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "val" / "dog" / "1.JPEG").write_bytes(b"longer"),
        lambda root: (root / "val" / "dog" / "1.JPEG").rename(root / "val" / "dog" / "2.JPEG"),
        lambda root: (root / "train" / "dog" / "1.JPEG").rename(root / "train" / "cat" / "2.JPEG"),
        lambda root: (root / "train" / "dog" / "1.JPEG").unlink(),
    ],
)
def test_the_fingerprint_depends_on_names_and_sizes(root, change):
    before = imagenet.load(root).fingerprint
    change(root)
    assert imagenet.load(root).fingerprint != before


def test_the_fingerprint_is_what_it_was(root):
    """Records hold fingerprints: the way they are made must not change. Made here from its definition."""
    splits = ""
    for split in ("train", "val"):
        files = sorted((root / split).glob("*/*"))
        lines = b"".join(f"{path.parent.name}/{path.name}\0{path.stat().st_size}\n".encode() for path in files)
        splits += f"{split} {hashlib.sha256(lines).hexdigest()}\n"
    assert imagenet.load(root).fingerprint == hashlib.sha256(splits.encode()).hexdigest()


LETTERS = st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",))
STEMS = st.text(LETTERS, min_size=1, max_size=12)
FILES = st.tuples(STEMS, st.sampled_from((*FORMATS, ".JPEG", ".Png", ".txt", ".gif", "", ".jpg~"))).map("".join)
CLASSES = st.dictionaries(STEMS, st.sets(FILES, max_size=5), min_size=1, max_size=4)


@pytest.mark.once
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems forbid and change some names")
@given(tree=CLASSES, odd=st.binary(min_size=1, max_size=4).map(lambda raw: b"\xff" + raw.translate(None, b"/\0")))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_index_is_that_of_a_plain_walk(tmp_path_factory, tree, odd):
    root = tmp_path_factory.mktemp("tree")
    tree = {name: files for name, files in tree.items() if not name.startswith(".")} or {"cat": set()}
    for split in ("train", "val"):
        for name, files in tree.items():
            (root / split / name).mkdir(parents=True)
            for file in files - {".", ".."} | {"first.JPEG", os.fsdecode(odd + b".png")}:
                (root / split / name / file).write_bytes(b"")
    data = imagenet.load(root)
    expected = []
    for label, name in enumerate(sorted(os.listdir(str(root / "val")))):
        for file in sorted(os.listdir(str(root / "val" / name))):
            if file.lower().endswith(tuple(FORMATS)) and not file.startswith("."):
                expected.append((f"{name}/{file}", label))
    assert list(data.classes) == sorted(tree)
    for split in (data.train, data.val):
        assert list(zip(names(split), split.labels.tolist())) == expected
        assert all(os.path.isfile(split.path(index)) for index in range(len(split)))


# -- what is wrong -------------------------------------------------------------------------------


def fault(path, **options):
    with pytest.raises(DataError) as caught:
        imagenet.load(path, **options)
    line = str(caught.value)
    assert line.isprintable()
    assert line.count("; ") == 1, "what is wrong; what to do"
    assert len(line) < 600
    return line


def test_what_is_not_there(root, tmp_path):
    assert "does not exist; " in fault(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"x")
    assert "is not a folder; " in fault(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty'} holds no train/; " in fault(tmp_path / "empty")
    assert "holds no val/; " in fault(tmp_path / "empty", splits=("val",))
    assert f"{root / 'val'} is one of the two parts; give the folder that holds both, {root}" in fault(root / "val")
    (root / "val").rename(root / "validation")
    assert "holds no val/ but validation/; " in fault(root)
    (root / "val").write_bytes(b"x")
    assert f"{root / 'val'} is not a folder; " in fault(root)


def test_packed_archives_are_to_be_extracted(root, tmp_path):
    archive = tmp_path / "ILSVRC2012_img_train.tar"
    archive.write_bytes(b"x")
    for path in (tmp_path, archive):
        assert f"{archive} is still packed; extract it" in fault(path)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "n01440764.tar").write_bytes(b"x")
    (root / "val").rename(tmp_path / "val")
    assert "or extract each archive into a folder of its name" in fault(tmp_path)


@pytest.mark.parametrize("name", ["pets.zip", "Pets.tar.gz", "train-000000.tar"])
def test_any_archive_is_called_one(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    assert f"{tmp_path / name} is still packed; extract it" in fault(tmp_path / name)


def test_classes_of_one_split_alone_are_named(root):
    for number in range(5):
        (root / "train" / f"bird{number}").mkdir()
        (root / "train" / f"bird{number}" / "a.png").write_bytes(b"x")
    assert f"{root / 'val'} lacks 5 classes of train/ (bird0, bird1, bird2, ...); " in fault(root)
    (root / "train").rename(root / "t")
    (root / "val").rename(root / "train")
    (root / "t").rename(root / "val")
    assert f"{root / 'train'} lacks 5 classes of val/ (bird0, bird1, bird2, ...); " in fault(root)


@pytest.mark.parametrize(
    ("one", "other"), [("B\xe4r", "Ba\u0308r"), ("Owl", "owl"), ("owl ", "owl"), ("\uff4fwl", "owl")]
)
def test_names_that_look_alike_are_shown_as_they_differ(root, one, other):
    for split, name in (("train", one), ("val", other)):
        (root / split / name).mkdir()
        (root / split / name / "a.png").write_bytes(b"x")
    line = fault(root)
    assert f"{root / 'val'} has 1 class of train/ under names that look alike and are spelt otherwise" in line
    assert f"({ascii(one)} and {ascii(other)}); rename" in line
    (root / "train" / one).rename(root / "train" / other)
    assert imagenet.load(root).remarks == ()
    for split in ("train", "val"):
        (root / split / one).mkdir()
        (root / split / one / "a.png").write_bytes(b"x")
    remark = f"{split}/: two classes have names that look alike ({ascii(sorted([one, other])[0])} and "
    assert any(line.startswith(remark) for line in imagenet.load(root).remarks)


def test_a_split_under_another_name_is_named(root):
    (root / "val").rename(root / "valid")
    assert f"{root} holds no val/ but valid/; if that is the same, give it the name val" in fault(root)


def _deeper(root, split, folder):
    for path in list((root / split).iterdir()):
        (root / split / folder).mkdir(exist_ok=True)
        path.rename(root / split / folder / path.name)


def test_images_a_folder_deeper_are_told_from_no_images(root):
    _deeper(root, "train", "train")
    line = fault(root)
    assert f"{root / 'train'} has 1 class without images (train); move what lies deeper into train/CLASS/ and" in line


@pytest.fixture
def tiny_imagenet(root):
    """As it is unpacked: train/CLASS/images, boxes beside it; val/images and the list of their classes."""
    lines = []
    for split in ("train", "val"):
        for wnid, folder in zip(("n01443537", "n01629819"), ("cat", "dog")):
            (root / split / folder).rename(root / split / wnid)
            images = sorted((root / split / wnid).glob("*.JPEG"))
            place = root / "val" / "images" if split == "val" else root / split / wnid / "images"
            place.mkdir(exist_ok=True)
            for number, path in enumerate(images):
                path.rename(place / f"{wnid}_{number}.JPEG")
                lines.append(f"{wnid}_{number}.JPEG\t{wnid}\t0\t32\t44\t62\n")
            if split == "val":
                (root / split / wnid).rmdir()
            else:
                (root / split / wnid / f"{wnid}_boxes.txt").write_text("0.JPEG\t0\t0\t62\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    return root


def test_tiny_imagenet_as_it_is_unpacked(tiny_imagenet):
    annotations = tiny_imagenet / "val" / "val_annotations.txt"
    line = fault(tiny_imagenet)
    assert line == fault(tiny_imagenet, splits=("val",))
    assert f"{tiny_imagenet / 'val'} is Tiny-ImageNet's as it is unpacked, all classes in images/; run python " in line
    assert f"check-data --data-path {tiny_imagenet} --sort-val {annotations}" in line
    said = []
    sort_val(tiny_imagenet, str(annotations), said.append)
    assert "moved into 2 class folders" in said[0]
    data = imagenet.load(tiny_imagenet)
    assert data.classes == ("n01443537", "n01629819")
    assert data.train.name(0) == "n01443537/images/n01443537_0.JPEG"
    assert data.val.name(0) == "n01443537/n01443537_0.JPEG"
    assert os.path.isfile(data.train.path(0))
    assert data.remarks == (
        "train/: 2 files left out, hidden or no image by name",
        "val/: 1 file left out, hidden or no image by name",
    )


def test_empty_classes_and_splits(root):
    for path in (root / "val" / "cat").iterdir():
        path.rename(path.with_suffix(".txt"))
    assert f"{root / 'val'} has 1 class without images (cat); " in fault(root)
    for path in list((root / "train").rglob("*.JPEG")):
        path.unlink()
    (root / "train" / "cat").rmdir()
    (root / "train" / "dog").rmdir()
    assert f"{root / 'train'} holds no class folders; " in fault(root)


def test_an_unsorted_val_is_to_be_sorted(root):
    (root / "val" / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"x")
    (root / "val" / "ILSVRC2012_val_00000002.JPEG").write_bytes(b"x")
    line = fault(root)
    assert f"{root / 'val'} is not sorted (2 images outside class folders); " in line
    assert f"python torch_imagenet/main.py check-data --data-path {root} --sort-val LIST" in line


def test_a_flat_split(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "some.jpg").write_bytes(b"x")
    assert f"{tmp_path / 'val'} is not sorted (1 image outside" in fault(tmp_path, splits=("val",))
    assert f"{tmp_path / 'train'} has 1 image outside class folders; " in fault(tmp_path)


def test_an_odd_name_still_makes_one_line(root):
    (root / "train" / "two\nlines\x1b").mkdir()
    assert "two?lines?" in fault(root)


@pytest.mark.parametrize("place", ["train", "val/dog"])
def test_an_unreadable_folder_is_named(root, monkeypatch, place):
    real = os.scandir

    def guarded(path):
        if str(path) == str(root / place):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert f"cannot read {root / place} (Permission denied); " in fault(root)


# -- real data -----------------------------------------------------------------------------------


def test_the_official_classes_and_counts_are_the_official_set():
    path = DATA / "imagenet-1000-wnids.txt"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    wnids = tuple(sorted(path.read_text().split()))

    def split(name, images, classes=wnids):
        labels = np.arange(images, dtype=np.int32) % len(classes)
        return imagenet.Split(f"/data/{name}", classes, labels, b"", np.zeros(1, np.int64), None, "")

    val = split("val", 50000)
    assert layout.is_official([split("train", 1281167), val])
    assert layout.is_official([val])
    assert not layout.is_official([split("train", 1281166), val])
    assert not layout.is_official([split("val", 50000, ("n00000000",) + wnids[1:])])
    assert not layout.is_official([split("val", 50000, wnids[1:])])


def test_real_images():
    if not (DATA / "imagenette" / "val").is_dir():
        pytest.skip(f"no imagenette in {DATA}")
    data = imagenet.load(DATA / "imagenette")
    assert (len(data.train), len(data.val), len(data.classes)) == (3200, 1000, 10)
    assert data.name == "imagenette"
    assert data.val.class_counts().tolist() == [100] * 10
