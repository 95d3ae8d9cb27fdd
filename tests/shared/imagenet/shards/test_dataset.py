"""Tar shards: what is written is the folder again, others' are listed, and what is wrong is one line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import imagenet
from shared.errors import DataError, UsageError
from shared.imagenet.extent_reader import ExtentReader
from shared.imagenet.shards import index as imagenet_shard_index
from shared.imagenet.shards import tar_scan, write
from shared.imagenet.shards.split import key_of, member_name
from shared.imagenet.shards.tar_scan import samples
from shared.imagenet.shards.write import write_shards
from shared.system import cache_dir
from shared.text import encoded


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("KIT_CACHE", str(tmp_path_factory.mktemp("cache")))


def write_set(root, files):
    """A data set with these files, {"train": {"cat/0.JPEG": b"..."}}."""
    for split, content in files.items():
        for name, data in content.items():
            (root / split / name).parent.mkdir(parents=True, exist_ok=True)
            (root / split / name).write_bytes(data)
    return root


def some_files(classes=("cat", "dog"), images=20):
    return {
        split: {
            f"{name}/{number}{name}.JPEG": encoded(f"{split} {name} {number} ") * (number + 1)
            for name in classes
            for number in range(images)
        }
        for split in ("train", "val")
    }


@pytest.fixture
def root(tmp_path):
    return write_set(tmp_path / "pets", some_files())


def written(root, target, size=30_000):
    data = imagenet.load(root)
    write_shards(data.name, (data.train, data.val), target, size, lambda text: None)
    return imagenet.load(target)


def contents(split):
    with ExtentReader(2) as reader:
        return [reader.read(split.extent(index)) for index in range(len(split))]


# -- our own -------------------------------------------------------------------------------------


def test_shards_are_the_folder_again(root, tmp_path):
    folder, shards = imagenet.load(root), written(root, tmp_path / "shards")
    assert (shards.name, shards.classes, shards.fingerprint) == (folder.name, folder.classes, folder.fingerprint)
    assert shards.path == str(tmp_path / "shards")
    for one, other in ((folder.train, shards.train), (folder.val, shards.val)):
        assert len(other.shards) > 2
        assert one.subset == other.subset
        assert other.labels.dtype == np.int32
        assert other.labels.tolist() == one.labels.tolist()
        assert [other.relative_name(index) for index in range(40)] == [one.name(index) for index in range(40)]
        assert contents(other) == contents(one)
        assert other.epoch_order(3, 5).tolist() == one.epoch_order(3, 5).tolist()
        assert other.fingerprint == one.fingerprint


def test_val_alone_is_loaded_alone(root, tmp_path):
    written(root, tmp_path / "shards")
    data = imagenet.load(tmp_path / "shards", splits=("val",))
    assert data.train is None
    assert data.fingerprint == imagenet.load(root, splits=("val",)).fingerprint


def test_plain_tar_sees_images_with_keys_and_classes(root, tmp_path):
    """The standard library as another reader: names, bytes, classes, nothing that depends on the machine."""
    data = written(root, tmp_path / "shards")
    found = {}
    for path in sorted((tmp_path / "shards").glob("train-*.tar")):
        with tarfile.open(str(path), "r:") as archive:
            members = archive.getmembers()
            assert all(m.isreg() and m.mtime == m.uid == m.gid == 0 and m.mode == 0o644 for m in members)
            for image, label in zip(members[::2], members[1::2]):
                key = key_of(image.name)
                assert image.name == key + ".jpg"
                assert label.name == key + ".cls"
                assert "." not in key
                found[int(key.split("-")[0])] = (archive.extractfile(image).read(), archive.extractfile(label).read())
    expected = zip(contents(data.train), data.train.labels.tolist())
    assert found == {index: (content, str(label).encode()) for index, (content, label) in enumerate(expected)}


def test_train_is_mixed_and_val_is_in_order(root, tmp_path):
    data = written(root, tmp_path / "shards")
    assert sorted(data.val.shard.tolist()) == data.val.shard.tolist()
    first = data.train.labels[data.train.shard == 1]
    assert set(first.tolist()) == {0, 1}


def test_the_same_images_give_the_same_bytes(root, tmp_path):
    written(root, tmp_path / "one")
    written(root, tmp_path / "two")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names[0] == "shards.json"
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_shards_of_shards_are_the_same_set(root, tmp_path):
    written(root, tmp_path / "one")
    again = written(tmp_path / "one", tmp_path / "two", 20_000)
    assert again.fingerprint == imagenet.load(root).fingerprint
    assert contents(again.train) == contents(imagenet.load(root).train)
    assert len(again.train.shards) > len(imagenet.load(tmp_path / "one").train.shards)


def test_a_split_goes_to_another_process(root, tmp_path):
    split = written(root, tmp_path / "shards").train
    assert contents(pickle.loads(pickle.dumps(split))) == contents(split)


def test_names_tell_shard_and_image(root, tmp_path):
    split = written(root, tmp_path / "shards").val
    assert split.name(0) == "val-000000.tar:00000000-0cat.jpg"
    assert split.name(-1) == f"{split.shards[-1].name}:00000039-9dog.jpg"
    assert split.full_name(0) == split.name(0)
    with pytest.raises(IndexError):
        split.name(40)


@given(
    st.integers(0, 10**7),
    st.text().map(lambda text: "x" + text.replace("/", "")),
    st.sampled_from((".JPEG", ".jpg", ".PNG", ".webp")),
)
def test_a_member_has_a_key_without_dots_and_an_extension_that_readers_know(index, stem, extension):
    name = member_name(index, stem + extension)
    assert name == key_of(name) + os.path.splitext(name)[1]
    assert name.startswith(f"{index:08d}-")
    assert os.path.splitext(name)[1] in (".jpg", ".png", ".webp")
    assert len(name.encode()) < 100
    assert tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT)[:100].rstrip(b"\0") == name.encode()


@pytest.mark.once
@given(
    st.dictionaries(
        st.text(st.characters(blacklist_characters="/\0.", blacklist_categories=("Cs",)), min_size=1, max_size=9),
        st.lists(st.binary(max_size=1500), min_size=1, max_size=5),
        min_size=1,
        max_size=3,
    ),
    st.integers(9000, 20_000),
)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_set_comes_back(tmp_path_factory, classes, size):
    base = tmp_path_factory.mktemp("any")
    files = {f"{name}/ä {number}.png": data for name, images in classes.items() for number, data in enumerate(images)}
    folder = imagenet.load(write_set(base / "set", {"train": files, "val": files}))
    shards = written(base / "set", base / "shards", size)
    assert shards.fingerprint == folder.fingerprint
    assert contents(shards.train) == contents(folder.train) == contents(shards.val)
    for shard in shards.train.shards:  # no larger than asked for, where more than one image is in it
        images = sum(shards.train.shard == shards.train.shards.index(shard))
        assert images == 1 or shard.size <= size


def test_what_is_there_is_not_overwritten(root, tmp_path):
    (tmp_path / "shards").mkdir()
    with pytest.raises(UsageError, match="is there already; name another folder with --write-shards"):
        written(root, tmp_path / "shards")


class Stop(Exception):
    pass


def test_stopped_in_the_middle_nothing_stays(root, tmp_path):
    calls = []

    def stop():
        calls.append(1)
        if len(calls) == 30:
            raise Stop

    data = imagenet.load(root)
    (tmp_path / "out").mkdir()
    with pytest.raises(Stop):
        write_shards("pets", (data.train, data.val), tmp_path / "out" / "shards", 9_000, lambda text: None, stop)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_leaves_nothing(root, tmp_path, monkeypatch):
    def full(self, *arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write.tarfile.TarFile, "addfile", full)
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match=r"cannot write .*shards \(No space left on device\); make room"):
        written(root, tmp_path / "out" / "shards")
    assert list((tmp_path / "out").iterdir()) == []


# -- a damaged set -------------------------------------------------------------------------------


def fault(path, **options):
    with pytest.raises(DataError) as caught:
        imagenet.load(path, **options)
    line = str(caught.value)
    assert line.isprintable()
    assert line.count("; ") == 1, "what is wrong; what to do"
    return line


def test_a_missing_or_shorter_shard_is_named(root, tmp_path):
    written(root, tmp_path / "shards")
    shard = tmp_path / "shards" / "train-000001.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[:-512])
    assert f"{shard} has {len(content) - 512:,} bytes in place of {len(content):,}; " in fault(tmp_path / "shards")
    shard.unlink()
    assert f"cannot read {shard} (No such file or directory); " in fault(tmp_path / "shards")


def test_a_shard_that_vanishes_meanwhile(root, tmp_path):
    split = written(root, tmp_path / "shards").train
    (tmp_path / "shards" / "train-000001.tar").unlink()
    index = int(np.flatnonzero(split.shard == 1)[0])
    with pytest.raises(DataError, match=r"cannot read .*train-000001.tar \(No such file or directory\); check"):
        ExtentReader().read(split.extent(index))


def test_a_changed_index_is_seen(root, tmp_path):
    written(root, tmp_path / "shards")
    arrays = tmp_path / "shards" / "val-index.npz"
    content = bytearray(arrays.read_bytes())
    content[100] ^= 1
    arrays.write_bytes(bytes(content))
    assert "val-index.npz is damaged, its SHA-256 is not that of shards.json; " in fault(tmp_path / "shards")


CHANGES = {
    "another format": lambda index: index.update(format="other"),
    "no classes": lambda index: index.update(classes=[]),
    "a class twice": lambda index: index.update(classes=["cat", "cat"]),
    "a name that leads out": lambda index: index["splits"]["train"]["shards"][0].update(name="../train-000000.tar"),
    "a path": lambda index: index["splits"]["val"]["index"].update(name="/etc/passwd.npz"),
    "no number": lambda index: index["splits"]["train"]["shards"][0].update(bytes="7"),
    "a negative number": lambda index: index["splits"]["train"]["shards"][0].update(images=-1),
    "no such count": lambda index: index["splits"]["train"].update(images=7),
    "no splits": lambda index: index.update(splits={}),
    "no SHA-256": lambda index: index["splits"]["train"]["shards"][0].update(sha256="x"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_damaged_shards_json_is_refused(root, tmp_path, change):
    written(root, tmp_path / "shards")
    place = tmp_path / "shards" / "shards.json"
    index = json.loads(place.read_text())
    CHANGES[change](index)
    place.write_text(json.dumps(index))
    assert "is no index of shards, or a damaged one; " in fault(tmp_path / "shards")
    place.write_bytes(b"\xff{")
    assert "is no index of shards" in fault(tmp_path / "shards")


def test_an_index_of_a_later_version_says_so(root, tmp_path):
    written(root, tmp_path / "shards")
    place = tmp_path / "shards" / "shards.json"
    place.write_text(place.read_text().replace('"version": 1', '"version": 2'))
    assert "is of version 2; use a newer version" in fault(tmp_path / "shards")


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_array_leads_out_of_its_shard(seed):
    random = np.random.RandomState(seed)
    table = imagenet_shard_index.Table(
        np.array([2, 1]),
        b"abc",
        np.array([1, 1, 1]),
        np.array([0, 1, 0], np.int32),
        np.array([512, 512, 2048]),
        np.array([10, 20, 30]),
    )
    assert imagenet_shard_index.unpack(imagenet_shard_index.pack(table), (2078, 532)).names == b"abc"
    field = ("counts", "lengths", "shard", "starts", "sizes")[random.randint(5)]
    changed = getattr(table, field).copy()
    changed[random.randint(len(changed))] += random.choice([-(2**31), -9, 9, 2**31 - 10])
    wrong = imagenet_shard_index.Table(**{**vars(table), field: changed})
    try:
        read = imagenet_shard_index.unpack(imagenet_shard_index.pack(wrong), (2078, 532))
    except ValueError:
        return
    assert (read.starts >= 0).all()
    assert (read.sizes >= 0).all()
    assert (read.starts + read.sizes <= np.array([2078, 532])[read.shard]).all()


# -- others' -------------------------------------------------------------------------------------


def add(archive, name, content=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(content))


def tar_of(path, members, form=tarfile.PAX_FORMAT):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(str(path), "w", format=form) as archive:
        for name, content in members:
            add(archive, name, content)
    return path


def plain_samples(split, first, count):
    members = []
    for number in range(first, first + count):
        members += [
            (f"{split}{number:03d}.cls", str(number % 3).encode()),
            (f"{split}{number:03d}.jpg", b"image %d" % number),
            (f"{split}{number:03d}.json", b"{}"),
        ]
    return members


NAMES = [
    "train-000000.tar val-000000.tar",
    "imagenet1k-train-0000.tar imagenet1k-validation-00.tar",
    "train/0000.tar val/0000.tar",
    "train/a.tar validation/b.tar",
    "set_train_1.tar set_val_1.tar",
]


@pytest.mark.parametrize("names", NAMES)
def test_shards_of_others_are_found_and_listed(tmp_path, names):
    root = tmp_path / "wds"
    for name, split, first in zip(names.split(), ("train", "val"), (0, 7)):
        tar_of(root / name, plain_samples(split, first, 7))
    data = imagenet.load(root)
    assert (data.name, data.classes) == ("wds", ("0", "1", "2"))
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert contents(data.train) == [b"image %d" % number for number in (0, 3, 6, 1, 4, 2, 5)]
    assert data.val.name(0) == f"{names.split()[1]}:val009.jpg"
    assert [data.train.relative_name(index) for index in (0, 3)] == ["0/train000.jpg", "1/train001.jpg"]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_folders_and_every_format(tmp_path, form):
    folder = "a" * 60 + "/" + "b" * 60
    path = tar_of(tmp_path / "train-000000.tar", [(f"{folder}/x.y.jpg", b"one"), (f"{folder}/x.cls", b" 2\n")], form)
    (sample,) = samples(str(path), "s")
    assert (sample.member, sample.label) == (f"{folder}/x.y.jpg", 2)
    assert path.read_bytes()[sample.start : sample.start + sample.size] == b"one"


def test_class_names_beside_the_shards(tmp_path):
    tar_of(tmp_path / "train-0.tar", plain_samples("t", 0, 6))
    tar_of(tmp_path / "val-0.tar", plain_samples("v", 0, 6))
    (tmp_path / "classnames.txt").write_text("tench\ngoldfish, Carassius\nshark\n")
    assert imagenet.load(tmp_path).classes == ("tench", "goldfish, Carassius", "shark")
    (tmp_path / "classnames.txt").write_text("tench\ngoldfish\n")
    assert "has images of class 2 and 2 names of classes; " in fault(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_class_names_that_an_editor_of_windows_has_saved(tmp_path, encoding):
    tar_of(tmp_path / "train-0.tar", plain_samples("t", 0, 6))
    tar_of(tmp_path / "val-0.tar", plain_samples("v", 0, 6))
    (tmp_path / "classes.txt").write_bytes("tench\r\n金鱼\r\nshark\r\n".encode(encoding))
    assert imagenet.load(tmp_path).classes == ("tench", "金鱼", "shark")


def test_an_index_and_a_class_with_a_byte_order_mark(root, tmp_path):
    fingerprint = written(root, tmp_path / "shards").fingerprint
    index = tmp_path / "shards" / "shards.json"
    index.write_bytes(b"\xef\xbb\xbf" + index.read_bytes())
    assert imagenet.load(tmp_path / "shards").fingerprint == fingerprint
    path = tar_of(tmp_path / "train-0.tar", [("a.jpg", b"one"), ("a.cls", b"\xef\xbb\xbf3\r\n")])
    assert [sample.label for sample in samples(str(path), "s")] == [3]


def test_classes_that_are_not_utf8_are_the_same_in_shards(tmp_path):
    root = write_set(tmp_path / "pets", some_files(("caf\udce9", "猫")))
    folder, shards = imagenet.load(root), written(root, tmp_path / "shards")
    assert folder.classes == shards.classes == ("caf\udce9", "猫")
    assert folder.fingerprint == shards.fingerprint


def macs(members):
    """As macOS's tar writes them: what a file system without resource forks keeps in ._NAME comes before each."""
    for name, data in members:
        folder, _, file = name.rpartition("/")
        yield (f"{folder}/._{file}" if folder else f"._{file}"), b"\0\5\x16\7" + bytes(159)
        yield name, data


@pytest.mark.parametrize("folder", ["", "./", "./train/"])
def test_shards_made_on_a_mac(tmp_path, folder):
    for name, split in (("train-000000.tar", "train"), ("val-000000.tar", "val")):
        members = [(folder + member, data) for member, data in plain_samples(split, 0, 7)]
        tar_of(tmp_path / name, [(f"{folder}.DS_Store", b"x"), *macs(members)])
        (tmp_path / f"._{name}").write_bytes(b"\0\5\x16\7")  # and beside them, once copied to another file system
    data = imagenet.load(tmp_path)
    assert contents(data.train) == [b"image %d" % number for number in (0, 3, 6, 1, 4, 2, 5)]
    assert len(data.train.shards) == 1
    (tmp_path / "part" / "train").mkdir(parents=True)
    (tmp_path / "part" / "val").mkdir()
    for split in ("train", "val"):
        for name in (f"{split}-000000.tar", f"._{split}-000000.tar"):
            (tmp_path / name).rename(tmp_path / "part" / split / name)
    assert len(imagenet.load(tmp_path / "part").train) == 7


def test_folders_that_a_system_has_made_are_no_classes(root):
    for name in ("__MACOSX", "@eaDir", ".Trashes"):
        (root / "train" / name).mkdir()
        (root / "train" / name / "._0.JPEG").write_bytes(b"x")
    (root / "train" / "cat" / "._0cat.JPEG").write_bytes(b"x")
    data = imagenet.load(root)
    assert data.classes == ("cat", "dog")
    assert data.train.left_out.folders == 3


def test_a_class_without_images_is_a_fault(tmp_path):
    tar_of(tmp_path / "train-0.tar", plain_samples("t", 0, 6))
    tar_of(tmp_path / "val-0.tar", plain_samples("v", 0, 2))
    assert f"{tmp_path}/val has 1 class without images (2); " in fault(tmp_path)


def test_a_split_that_is_not_there(tmp_path):
    tar_of(tmp_path / "val-0.tar", plain_samples("v", 0, 6))
    assert "holds no shards of train; give a folder with train-000000.tar" in fault(tmp_path)
    assert len(imagenet.load(tmp_path, splits=("val",)).val) == 6


def test_archives_of_classes_are_no_shards(tmp_path):
    for split in ("train", "val"):
        tar_of(tmp_path / split / "n01440764.tar", [("n01440764_1.JPEG", b"x")])
    assert "or extract each archive into a folder of its name" in fault(tmp_path)


def test_headers_are_read_once(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_dir, "TICK_NS", -(2**63))
    scans = []

    def counted(path, *arguments):
        scans.append(os.path.basename(path))
        return samples(path, *arguments)

    monkeypatch.setattr(tar_scan, "samples", counted)
    tar_of(tmp_path / "train-0.tar", plain_samples("t", 0, 6))
    tar_of(tmp_path / "val-0.tar", plain_samples("v", 0, 6))
    first, second = imagenet.load(tmp_path), imagenet.load(tmp_path)
    assert scans == ["train-0.tar", "val-0.tar"]
    assert first.fingerprint == second.fingerprint
    assert contents(first.train) == contents(second.train)
    tar_of(tmp_path / "val-0.tar", plain_samples("v", 0, 9))
    assert imagenet.load(tmp_path).fingerprint != first.fingerprint
    assert scans[2:] == ["val-0.tar"]


def truncated(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


def hostile(path, kind):
    path.parent.mkdir(parents=True, exist_ok=True)
    good = plain_samples("g", 0, 2)
    if kind == "no tar":
        path.write_bytes(b"<html>not found</html>" * 99)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "compressed":
        with tarfile.open(str(path), "w:gz") as archive:
            add(archive, "a.jpg", b"x")
    elif kind.startswith("cut"):
        tar_of(path, good)
        truncated(path, {"cut in a header": 700, "cut in a file": 512 * 5 + 3, "cut at a member": 512 * 4}[kind])
    elif kind == "damaged header":
        tar_of(path, good)
        content = bytearray(path.read_bytes())
        content[1024 + 150] ^= 1  # the second member's checksum
        path.write_bytes(bytes(content))
    elif kind in ("huge size", "negative size"):
        with tarfile.open(str(path), "w", format=tarfile.GNU_FORMAT) as archive:
            info = tarfile.TarInfo("a.jpg")
            info.size = 2**60 if kind == "huge size" else -1024
            archive.fileobj.write(info.tobuf(tarfile.GNU_FORMAT))
            archive.fileobj.write(bytes(1024))
    elif kind == "huge long name":
        info = tarfile.TarInfo("x")
        info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**50
        path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    else:
        members = {
            "leads out": [("../a.jpg", b"x"), ("../a.cls", b"0")],
            "absolute": [("/a.jpg", b"x"), ("/a.cls", b"0")],
            "class is no number": [("a.jpg", b"x"), ("a.cls", b"seven")],
            "negative class": [("a.jpg", b""), ("a.cls", b"-1")],
            "huge class": [("a.jpg", b""), ("a.cls", b"9" * 19)],
            "long class": [("a.jpg", b""), ("a.cls", b"1" * 10**5)],
            "no class": [("a.jpg", b"x")],
            "no image": [("a.cls", b"1")],
            "two images": [("a.jpg", b""), ("a.png", b""), ("a.cls", b"1")],
            "key twice": [("a.jpg", b""), ("a.cls", b"1"), *good, ("a.jpg", b""), ("a.cls", b"1")],
        }.get(kind, good)
        with tarfile.open(str(path), "w", format=tarfile.PAX_FORMAT) as archive:
            for name, content in members:
                add(archive, name, content)
            if kind in ("link", "symbolic link", "pipe"):
                types = {"link": tarfile.LNKTYPE, "symbolic link": tarfile.SYMTYPE, "pipe": tarfile.FIFOTYPE}
                add(archive, "z.jpg", type=types[kind], linkname="/etc/passwd")


HOSTILE = {
    "no tar": "is no plain tar archive",
    "empty": "is no plain tar archive",
    "compressed": "is no plain tar archive",
    "cut in a header": "damaged",
    "cut in a file": "damaged",
    "cut at a member": "is cut off or damaged at byte 2,048",
    "damaged header": "is cut off or damaged at byte 1,024",
    "huge size": "cut off or damaged",
    "negative size": "cut off or damaged",
    "huge long name": "",
    "leads out": "leads out of the folder",
    "absolute": "leads out of the folder",
    "link": "is a link or no plain file",
    "symbolic link": "is a link or no plain file",
    "pipe": "is a link or no plain file",
    "class is no number": "a.cls is no class index",
    "negative class": "a.cls is no class index",
    "huge class": "a.cls is no class index",
    "long class": "a.cls is no class index",
    "no class": "has 1 images and 0 .cls",
    "no image": "has 0 images and 1 .cls",
    "two images": "has 2 images and 1 .cls",
    "key twice": "the key a comes twice",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_shard_is_one_line(tmp_path, kind):
    hostile(tmp_path / "train-000000.tar", kind)
    tar_of(tmp_path / "val-000000.tar", plain_samples("v", 0, 3))
    line = fault(tmp_path)
    assert "train-000000.tar" in line
    assert HOSTILE[kind] in line
    assert len(line) < 400


@given(position=st.integers(0, 10**6), mask=st.integers(1, 255), cut=st.integers(0, 10**6))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_damaged_shard_is_listed_within_itself_or_refused(tmp_path_factory, position, mask, cut):
    base = tmp_path_factory.getbasetemp() / "flips"
    if not base.exists():
        tar_of(base / "whole.tar", plain_samples("t", 0, 4))
    content = bytearray((base / "whole.tar").read_bytes()[: 512 * 26])
    content[position % len(content)] ^= mask
    if cut % 3 == 0:
        del content[cut % len(content) :]
    (base / "damaged.tar").write_bytes(bytes(content))
    found = []
    with contextlib.suppress(DataError):
        found += samples(str(base / "damaged.tar"), "damaged.tar")
    assert all(0 <= one.start <= one.start + one.size <= len(content) for one in found)


def test_the_official_name_needs_the_official_counts(tmp_path):
    written(write_set(tmp_path / "imagenet", some_files()), tmp_path / "shards")
    assert imagenet.load(tmp_path / "shards").name == "imagenet-layout"


def test_the_path_object_will_do(root, tmp_path):
    written(root, tmp_path / "shards")
    assert imagenet.load(Path(str(tmp_path / "shards"))).name == "pets"
