"""check-data on shards: each is read to its end, each fault is a line, and whole images are still decoded."""

from __future__ import annotations

import pytest

from shared.errors import DataError
from shared.imagenet import check as imagenet_check
from shared.imagenet.check import check
from tests.shared.imagenet.shards.test_dataset import HOSTILE, hostile, tar_of, write_set, written
from tests.shared.imagenet.test_check import encoded

pytest.importorskip("PIL.Image", reason="images are made and read with Pillow")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "cache"))


def some_images(images=4):
    return {
        split: {
            f"{name}/{name}_{number}.JPEG": encoded() for name in ("n01440764", "n02102040") for number in range(images)
        }
        for split in ("train", "val")
    }


@pytest.fixture
def shards(tmp_path):
    written(write_set(tmp_path / "set", some_images()), tmp_path / "shards", 16_000)
    return tmp_path / "shards"


def run(root, workers=1, **options):
    """What was said, and the fault at the end or nothing."""
    said, line = [], ""
    try:
        check(root, workers, said.append, **options)
    except DataError as error:
        line = str(error)
    assert all(text.isprintable() for text in [*said, line])
    assert line.count("; ") == bool(line), "what is wrong; what to do"
    return said, line


def faults(said):
    return [text for text in said if text.startswith("fault: ")]


def test_whole_shards(shards):
    assert run(shards) == (
        [
            f"shards in {shards}",
            "train: 8 images in 2 classes, per class 4 to 4, median 4.0",
            "val: 8 images in 2 classes, per class 4 to 4, median 4.0",
            "set: complete",
        ],
        "",
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_each_damaged_shard_is_a_line_and_the_others_are_still_read(tmp_path, workers):
    images = some_images(9)
    images["val"]["n01440764/n01440764_3.JPEG"] = b"no image"
    images["val"]["n01440764/n01440764_4.JPEG"] = encoded(mode="L")
    shards = tmp_path / "shards"
    written(write_set(tmp_path / "set", images), shards, 16_000)
    flip(shards / "train-000000.tar", 600)  # inside an image
    flip(shards / "train-000001.tar", 20)  # a name
    (shards / "train-000002.tar").unlink()
    (shards / "train-000003.tar").write_bytes((shards / "train-000003.tar").read_bytes()[:-512])
    said, error = run(shards, workers)
    found = faults(said)
    assert "train-000000.tar is damaged, its SHA-256 is not the index's; " in found[0]
    assert any("train-000001.tar" in line for line in found)
    assert any("train-000002.tar (No such file or directory); " in line for line in found)
    assert any("train-000003.tar is damaged, its SHA-256" in line for line in found)
    assert any("00000003-n01440764_3.jpg: no image" in line for line in found)
    assert any(text.startswith("remark: val-") and text.endswith("n01440764_4.jpg: grey") for text in said)
    assert f"set: {len(found)} faults, the first: train-000000.tar is damaged" in error


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(bytes(content))


def test_a_shard_of_other_images_is_seen_even_with_a_fitting_sha(shards, tmp_path):
    """The index names a file whose samples are not those that it lists: only the headers tell."""
    from shared.imagenet.check import verify, _tasks  # noqa: I001, PLC2701
    from shared.imagenet.shards.dataset import load_shards

    part = load_shards(shards, ("train",)).parts["train"]
    (_, first), (_, second) = list(_tasks(part))[:2]
    swapped = verify((first[0], second[1]))
    assert "train-000000.tar does not hold what its index says (" in swapped.faults[0]
    assert not swapped.readable


def test_shards_without_an_index(tmp_path):
    members = [
        (f"{number}{end}", content)
        for number in range(4)
        for end, content in ((".jpg", encoded()), (".cls", str(number % 2).encode()))
    ]
    tar_of(tmp_path / "wds" / "train-0.tar", members)
    tar_of(tmp_path / "wds" / "val-0.tar", members)
    tar_of(tmp_path / "wds" / "val-1.tar", [("0.jpg", b""), ("0.cls", b"1")])
    said, error = run(tmp_path / "wds")
    assert said[0] == "remark: val: 1 image with a key that another shard has too"
    assert faults(said) == ["fault: val-1.tar:0.jpg: empty"]
    assert error.startswith("wds: 1 fault, the first: val-1.tar:0.jpg: empty; ")


@pytest.mark.parametrize("workers", [1, 2])
def test_hostile_shards_are_a_line_each(tmp_path, workers):
    for number, kind in enumerate(HOSTILE):
        hostile(tmp_path / "wds" / f"train-{number:02d}.tar", kind)
    tar_of(tmp_path / "wds" / "val-0.tar", [("0.jpg", encoded()), ("0.cls", b"0")])
    said, error = run(tmp_path / "wds", workers)
    assert len(said) == len(HOSTILE)
    for number, line in enumerate(said):
        assert line.startswith("fault: ")
        assert f"train-{number:02d}.tar" in line
    assert f"{len(HOSTILE)} faults, the first: train-00.tar" in error


def test_the_check_can_be_stopped(shards):
    class Stop(Exception):
        pass

    def stop():
        raise Stop

    for workers in (1, 2):
        with pytest.raises(Stop):
            run(shards, workers, pause=stop)
    (shards / "shards.json").unlink()
    with pytest.raises(Stop):
        run(shards, pause=stop)


def test_progress_is_said(shards, monkeypatch):
    monkeypatch.setattr(imagenet_check, "_PROGRESS_SECONDS", 0.0)
    said, _ = run(shards)
    assert said[-2] == "read 16 of 16 images"
