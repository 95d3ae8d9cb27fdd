"""Shards in both directions with the webdataset package (https://github.com/webdataset/webdataset), on real images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

wds = pytest.importorskip("webdataset")
pytest.importorskip("torch")


from shared import imagenet  # noqa: E402
from shared.imagenet.check import check  # noqa: E402
from shared.imagenet.decode import read_rgb  # noqa: E402
from shared.imagenet.extent_reader import ExtentReader  # noqa: E402
from shared.imagenet.shards.write import write_shards  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
IMAGENETTE = Path(os.environ.get("KIT_TEST_DATA") or ROOT.parent / "shared" / "data") / "imagenette"
IMAGES = 4  # of a class and split


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A few real images a class, as links."""
    root = tmp_path_factory.mktemp("set") / "some"
    if not IMAGENETTE.is_dir():
        pytest.skip(f"{IMAGENETTE} is not there; KIT_TEST_DATA names the folder of the real data")
    for split in ("train", "val"):
        for name in sorted(os.listdir(IMAGENETTE / split)):
            (root / split / name).mkdir(parents=True)
            for file in sorted(os.listdir(IMAGENETTE / split / name))[:IMAGES]:
                (root / split / name / file).symlink_to((IMAGENETTE / split / name / file).resolve())
    return root


def _contents(split):
    with ExtentReader() as reader:
        return [(reader.read(split.extent(index)), int(split.labels[index])) for index in range(len(split))]


def test_webdataset_reads_what_we_write(folder, tmp_path):
    data = imagenet.load(folder)
    write_shards("some", (data.train, data.val), tmp_path / "shards", 200_000, lambda text: None)
    for part in (data.train, data.val):
        names = sorted(str(path) for path in (tmp_path / "shards").glob(f"{part.subset}-*.tar"))
        assert len(names) > 1
        raw = {
            int(sample["__key__"].split("-")[0]): (sample["jpg"], int(sample["cls"]))
            for sample in wds.WebDataset(names, shardshuffle=False)
        }
        assert [raw[index] for index in range(len(part))] == _contents(part)
        decoded = wds.WebDataset(names, shardshuffle=False).decode("pil").to_tuple("__key__", "jpg;png", "cls")
        for key, image, label in decoded:
            index = int(key.split("-")[0])
            assert label == part.labels[index]
            assert np.array_equal(np.asarray(image), np.asarray(read_rgb(part.path(index))))


@pytest.mark.parametrize("with_json", [False, True])
def test_we_read_what_webdataset_writes(folder, tmp_path, with_json):
    """As the ImageNet shards of timm's users are: key, .jpg, .cls and mostly .json, in shards of some hundred."""
    data = imagenet.load(folder)
    (tmp_path / "wds").mkdir()
    for part in (data.train, data.val):
        pattern = str(tmp_path / "wds" / f"imagenet1k-{part.subset}-%04d.tar")
        with wds.ShardWriter(pattern, maxcount=15, verbose=0) as writer:
            for index in np.random.RandomState(0).permutation(len(part)).tolist():
                sample = {
                    "__key__": part.file_name(index).split(".")[0],
                    "jpg": Path(part.path(index)).read_bytes(),
                    "cls": int(part.labels[index]),
                }
                writer.write(dict(sample, json={"label": sample["cls"]}) if with_json else sample)
    (tmp_path / "wds" / "classes.txt").write_text("\n".join(data.classes))
    packed = imagenet.load(tmp_path / "wds")
    assert packed.classes == data.classes
    for part, other in ((data.train, packed.train), (data.val, packed.val)):
        assert len(other.shards) == 3
        assert _contents(other) == _contents(part)
        assert other.labels.tolist() == part.labels.tolist()
    said = []
    check(tmp_path / "wds", 1, said.append)
    assert said[-1] == "wds: complete"
