"""The mode check-data as it is called, and the index beside torchvision's."""

from __future__ import annotations

import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from shared import imagenet, sample
from shared.errors import DataError, UsageError
from shared.imagenet.sort_val import read_list
from shared.system.signals import Interrupts
from tests.shared.imagenet.test_sort_val import write_devkit
from torch_imagenet.check_data import check_data
from torch_imagenet.options import RunConfig

Image = pytest.importorskip("PIL.Image", reason="images are made and read with Pillow")

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DATA = Path(os.environ.get("KIT_TEST_DATA") or REPOSITORY.parent / "shared" / "data")


@pytest.fixture(autouse=True)
def _own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def config(**given):
    return replace(RunConfig.from_argv(["check-data", "--workers", "1", "--shard-cache-size", "1"]), **given)


def write_set(root):
    for split in ("train", "val"):
        for name in ("n01440764", "n02102040"):
            (root / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(str(root / split / name / "a.JPEG"))
    return root


def test_the_usual_folder_and_a_given_one(tmp_path, capsys):
    write_set(tmp_path / "here" / "imagenet")
    check_data(config(), Interrupts())
    assert capsys.readouterr().out.splitlines()[-1] == "imagenet-layout: complete"
    check_data(config(data_path=str(write_set(tmp_path / "pets")), workers=2), Interrupts())
    assert capsys.readouterr().out.splitlines()[-1] == "pets: complete"


def test_a_fault_is_the_users(tmp_path):
    root = write_set(tmp_path / "pets")
    (root / "val" / "n02102040" / "a.JPEG").write_bytes(b"")
    with pytest.raises(DataError, match="pets: 1 fault, the first: val/n02102040/a.JPEG: empty; "):
        check_data(config(data_path=str(root)), Interrupts())


@pytest.mark.slow
def test_the_embedded_sample(capsys):
    check_data(config(workers=2), Interrupts())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("data: no ImageNet here, so the embedded sample is checked; ")
    assert lines[2].startswith(f"train: {sample.TRAIN_IMAGES:,} images in 10 classes")
    assert lines[-1] == "sample-digits: complete"


def test_val_is_sorted(tmp_path, capsys):
    root = write_set(tmp_path / "pets")
    (root / "val" / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"x")
    (tmp_path / "valprep.sh").write_text("mv ILSVRC2012_val_00000001.JPEG n02102040/\n")
    check_data(config(data_path=str(root), sort_val=str(tmp_path / "valprep.sh")), Interrupts())
    assert capsys.readouterr().out == f"{root / 'val'}: 1 image moved into 1 class folder\n"
    assert imagenet.load(root).val.class_counts().tolist() == [1, 2]


@pytest.mark.parametrize("layout", ["val alone", "Tiny-ImageNet"])
def test_what_evaluation_takes_is_written_as_shards_and_checked(tmp_path, layout, capsys):
    root = write_set(tmp_path / "pets")
    for folder in list((root / "train").iterdir()):
        if layout == "val alone":
            shutil.rmtree(str(folder))
        else:
            (folder / "images").mkdir()
            (folder / "a.JPEG").rename(folder / "images" / "a.JPEG")
    if layout == "val alone":
        (root / "train").rmdir()
    check_data(config(data_path=str(root), write_shards=str(tmp_path / "shards")), Interrupts())
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "pets: complete"
    assert any("there is no train part" in line for line in lines) == (layout == "val alone")
    splits = ("val",) if layout == "val alone" else ("train", "val")
    data, kept = (imagenet.load(place, splits) for place in (tmp_path / "shards", root))
    assert data.fingerprint == kept.fingerprint
    if data.train is not None:
        assert data.train.file_name(0) == "images/a.JPEG"


def test_there_must_be_something_to_sort():
    with pytest.raises(UsageError, match="no ./imagenet to sort; name the folder"):
        check_data(config(sort_val="valprep.sh"), Interrupts())


def test_labels_and_order_are_torchvisions(tmp_path, torchvision):
    folder = torchvision.datasets.ImageFolder
    root = tmp_path / "set"
    for split in ("train", "val"):
        for name in ("n02", "N01", "ä", "10", "9", "a b"):
            (root / split / name).mkdir(parents=True)
            for file in ("b.JPEG", "B.jpg", "10.png", "9.PNG", "ö.webp", "x.jpeg", "y.gif", "z.txt", "a.tiff", "a.tif"):
                (root / split / name / file).write_bytes(b"")
    places = [root] + ([DATA / "imagenette"] if (DATA / "imagenette" / "val").is_dir() else [])
    for place in places:
        data = imagenet.load(place)
        for split in (data.train, data.val):
            theirs = folder(split.folder)
            assert list(data.classes) == theirs.classes
            ours = [(split.path(index), int(split.labels[index])) for index in range(len(split))]
            assert ours == theirs.samples


def test_the_devkit_is_read_as_torchvision_reads_it(tmp_path, torchvision, monkeypatch):
    pytest.importorskip("scipy.io", reason="scipy writes meta.mat")
    theirs = torchvision.datasets.imagenet
    kit = tmp_path / "ILSVRC2012_devkit_t12"
    write_devkit(kit / "data")
    with tarfile.open(str(tmp_path / "ILSVRC2012_devkit_t12.tar.gz"), "w:gz") as archive:
        archive.add(str(kit), kit.name)
    monkeypatch.setattr(theirs, "_verify_archive", lambda *arguments: None)  # it has not the official md5
    theirs.parse_devkit_archive(str(tmp_path))
    _, wnids = theirs.load_meta_file(str(tmp_path))
    assert list(read_list(str(kit)).values()) == list(wnids)
    assert len(wnids) == 5
