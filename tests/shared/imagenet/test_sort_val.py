"""A flat val/ is sorted as valprep.sh would, or nothing is moved at all."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from shared import imagenet
from shared.errors import DataError
from shared.imagenet.sort_val import sort_val

WNIDS = ["n01751748", "n09193705", "n02105855", "n01751748", "n02105855"]
NAMES = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 6)]
SORTED = sorted(f"{wnid}/{name}" for wnid, name in zip(WNIDS, NAMES))
SCRIPT = "".join(
    ["#!/bin/bash\n", *(f"mkdir -p {wnid}\n" for wnid in sorted(set(WNIDS)))]
    + [f"mv {name} {wnid}/\n" for name, wnid in zip(NAMES, WNIDS)]
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("KIT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "data"
    (root / "val").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        (root / "val" / name).write_bytes(b"x" * number)
    for wnid in WNIDS:
        (root / "train" / wnid).mkdir(parents=True, exist_ok=True)
        (root / "train" / wnid / "a.JPEG").write_bytes(b"x")
    return root


@pytest.fixture
def listed(tmp_path):
    def write(text):
        (tmp_path / "list.txt").write_text(text)
        return str(tmp_path / "list.txt")

    return write


def there(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())


def run(root, path):
    said = []
    sort_val(root, path, said.append)
    return said


def fault(root, path):
    before = there(root)
    with pytest.raises(DataError) as caught:
        run(root, path)
    assert there(root) == before, "nothing is moved"
    line = str(caught.value)
    assert line.isprintable()
    assert line.count("; ") == 1, "what is wrong; what to do"
    return line


@pytest.mark.parametrize(
    "text",
    [
        SCRIPT,
        SCRIPT.replace("\n", "\r\n"),
        "".join(f"{name} {wnid}\n" for name, wnid in zip(NAMES, WNIDS)),
        "# a comment\n\n" + "".join(f"{name},{wnid}\n" for name, wnid in zip(NAMES, WNIDS)),
        "".join(f"{name}\t{wnid}\n" for name, wnid in zip(NAMES, WNIDS)),
        "ImageId,PredictionString\n"
        + "".join(f"{name[:-5]},{wnid} 85 1 499 272 {wnid} 1 2 3 4 \n" for name, wnid in zip(NAMES, WNIDS)),
    ],
)
def test_every_form_of_the_list_sorts(root, listed, text):
    assert run(root, listed(text)) == [f"{root / 'val'}: 5 images moved into 3 class folders"]
    assert there(root / "val") == SORTED
    assert (root / "val" / WNIDS[4] / NAMES[4]).read_bytes() == b"xxxx"
    assert len(imagenet.load(root).val) == 5


def test_it_does_what_the_script_does(root, listed, tmp_path):
    other = tmp_path / "by-script"
    other.mkdir()
    for name in NAMES:
        (other / name).write_bytes(b"x")
    subprocess.run(["sh", listed(SCRIPT)], cwd=str(other), check=True)
    run(root, listed(SCRIPT))
    assert there(root / "val") == there(other)


def test_an_interrupted_run_is_finished(root, listed, monkeypatch):
    path, real, moved = listed(SCRIPT), os.rename, []

    def rename(source, target):
        if len(moved) == 2:
            raise OSError(5, "Input/output error")
        moved.append(source)
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(DataError, match=r"cannot move .*Input/output error.*; mend that and run it again"):
        run(root, path)
    monkeypatch.setattr(os, "rename", real)
    with pytest.raises(DataError, match="3 images outside class folders"):
        imagenet.load(root)
    assert run(root, path) == [f"{root / 'val'}: 3 images moved into 2 class folders"]
    assert there(root / "val") == SORTED
    assert "sorted already" in run(root, path)[0]


def test_train_may_be_missing(root, listed):
    for path in (root / "train").rglob("*.JPEG"):
        path.unlink()
    for path in list((root / "train").iterdir()):
        path.rmdir()
    (root / "train").rmdir()
    run(root, listed(SCRIPT))
    assert there(root / "val") == SORTED


def test_a_missing_image_is_said(root, listed):
    (root / "val" / NAMES[1]).unlink()
    said = run(root, listed(SCRIPT))
    assert "4 images moved into 2 class folders" in said[0]
    assert said[1].startswith("note: 1 image of ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SCRIPT.replace(f"mv {NAMES[2]}", "# "), f"has no class for 1 image in .*{NAMES[2]}"),
        (SCRIPT.replace("n09193705", "n00000001"), r"has 1 class that .*train has not \(n00000001\)"),
        (f"{NAMES[0]} ../n01751748\n", "line 1 gives no image and wnid"),
        (f"{NAMES[0]} n0175174\n", "line 1 gives no image and wnid"),
        (f"{NAMES[0]} n01751748/..\n", "line 1 gives no image and wnid"),
        (f"\n{NAMES[0]} n01751748 n09193705\n", "line 2 gives no image and wnid"),
        (f"{NAMES[0]}\n", "line 1 gives no image and wnid"),
        (f"mv -f {NAMES[0]} n01751748/\n", "line 1 gives no image and wnid"),
        (f"../{NAMES[0]} n01751748\n", "is no plain file name"),
        (f"{NAMES[0]} n01751748\n{NAMES[0]} n09193705\n", "line 2: .* is given two classes"),
        ("", "is empty"),
        (",\n", "line 1 gives no image and wnid"),
        ("\x00\x01\x1b", "gives no image and wnid"),
    ],
)
def test_a_wrong_list_moves_nothing(root, listed, text, said):
    assert re.search(said, fault(root, listed(text)))


def test_no_list_and_a_huge_one(root, tmp_path):
    assert "cannot read" in fault(root, str(tmp_path / "nowhere"))
    assert "(Is a directory); give valprep.sh" in fault(root, str(tmp_path))
    with open(str(tmp_path / "huge"), "wb") as file:
        file.truncate(2**40)
    assert "too large" in fault(root, str(tmp_path / "huge"))


def test_what_is_in_the_way_stays(root, listed):
    path = listed(SCRIPT)
    (root / "val" / "n09193705").write_bytes(b"x")
    assert "n09193705 is in the way" in fault(root, path)
    (root / "val" / "n09193705").unlink()
    (root / "val" / "n09193705").mkdir()
    (root / "val" / "n09193705" / NAMES[1]).write_bytes(b"another")
    assert f"{NAMES[1]} is there already; " in fault(root, path)
    assert (root / "val" / "n09193705" / NAMES[1]).read_bytes() == b"another"


def test_a_relative_link_would_break(root, listed):
    (root / "val" / NAMES[0]).rename(root / "real.JPEG")
    (root / "val" / NAMES[0]).symlink_to("../real.JPEG")
    assert "is a relative link" in fault(root, listed(SCRIPT))
    (root / "val" / NAMES[0]).unlink()
    (root / "val" / NAMES[0]).symlink_to(root / "real.JPEG")
    run(root, listed(SCRIPT))
    assert (root / "val" / WNIDS[0] / NAMES[0]).is_file()


# -- the devkit ----------------------------------------------------------------------------------


def write_devkit(folder):
    """As MATLAB wrote it: a struct array, the classes first, the inner nodes of WordNet behind them."""
    io = pytest.importorskip("scipy.io", reason="scipy writes meta.mat")
    import numpy as np

    folder.mkdir(parents=True)
    fields = "ILSVRC2012_ID WNID words gloss num_children children wordnet_height num_train_images"
    synsets = np.zeros((4, 1), [(name, object) for name in fields.split()])
    rows = [(1, "n02105855", 0), (2, "n01751748", 0), (3, "n09193705", 0), (4, "n00001740", 3)]
    for row, (number, wnid, children) in zip(synsets[:, 0], rows):
        row["ILSVRC2012_ID"], row["WNID"], row["num_children"] = number, wnid, children
        row["words"] = row["gloss"] = "some, words"
        row["children"], row["wordnet_height"], row["num_train_images"] = [1, 2, 3][:children], 0, 1300
    io.savemat(str(folder / "meta.mat"), {"synsets": synsets})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("2\n3\n1\n2\n1\n")
    return folder


@pytest.mark.parametrize("given", ["", "data", "data/ILSVRC2012_validation_ground_truth.txt"])
def test_the_devkit_sorts(root, tmp_path, given):
    write_devkit(tmp_path / "kit" / "data")
    run(root, str(tmp_path / "kit" / given))
    assert there(root / "val") == SORTED


def test_a_wrong_devkit(root, tmp_path):
    data = write_devkit(tmp_path / "kit")
    truth, meta = data / "ILSVRC2012_validation_ground_truth.txt", data / "meta.mat"
    truth.write_text("2\n3\n1\n2\n4\n")
    assert "gives the class 4, which meta.mat does not have" in fault(root, str(data))
    truth.write_text("2\n3\n1\n2\n1\n")
    whole = meta.read_bytes()
    for content in (b"", b"not MATLAB's", whole[:200]):
        meta.write_bytes(content)
        assert "meta.mat" in fault(root, str(data))
    meta.unlink()
    assert "cannot read" in fault(root, str(data))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("form", ["mv", "pairs", "kaggle"])
def test_a_list_that_an_editor_of_windows_has_saved(root, tmp_path, encoding, end, form):
    lines = {
        "mv": [f"mv {name} {wnid}/" for name, wnid in zip(NAMES, WNIDS)],
        "pairs": [f"{name}\t{wnid}" for name, wnid in zip(NAMES, WNIDS)],
        "kaggle": ["ImageId,PredictionString", *(f"{name[:-5]},{wnid} 1 2 3 4 " for name, wnid in zip(NAMES, WNIDS))],
    }[form]
    (tmp_path / "list.csv").write_bytes((end.join(lines) + end).encode(encoding))
    run(root, str(tmp_path / "list.csv"))
    assert there(root / "val") == SORTED
