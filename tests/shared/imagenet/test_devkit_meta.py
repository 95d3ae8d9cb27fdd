"""The devkit's meta.mat: what scipy reads of it, of files that scipy and others have written; and damaged ones."""

from __future__ import annotations

import random
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import DataError
from shared.imagenet.devkit_meta import read_meta
from tests.faults.isolated import failure_of
from tests.faults.mutations import mutated

FIELDS = ("ILSVRC2012_ID", "WNID", "words", "num_children")
ROWS = [(2, "n02105855", "a, b", 0), (1, "n01751748", "größer", 0), (9, "n00001740", "", 2)]
WNIDS = {2: "n02105855", 1: "n01751748"}


def element(order, kind, content):
    """Padded to eight bytes; as MATLAB writes it, the content inside the tag where it is small."""
    if 0 < len(content) <= 4:
        return struct.pack(order + "I", len(content) << 16 | kind) + content.ljust(4, b"\0")
    return struct.pack(order + "II", kind, len(content)) + content + bytes(-len(content) % 8)


def array(order, kind, extents, name, *parts):
    flags, sizes = struct.pack(order + "II", kind, 0), struct.pack(f"{order}{len(extents)}i", *extents)
    parts = (element(order, 6, flags), element(order, 5, sizes), element(order, 1, name), *parts)
    return element(order, 14, b"".join(parts))


def value(order, one):
    if isinstance(one, str):
        coding = "utf-16-le" if order == "<" else "utf-16-be"
        return array(order, 4, (1, len(one)), b"", element(order, 4, one.encode(coding)))
    return array(order, 6, (1, 1), b"", element(order, 9, struct.pack(order + "d", one)))


def file(order="<", compressed=False, rows=ROWS, fields=FIELDS, name=b"synsets"):
    """A MAT-file as MATLAB writes it, after its format's description."""
    names = b"".join(field.encode().ljust(32, b"\0") for field in fields)
    parts = [element(order, 5, struct.pack(order + "i", 32)), element(order, 1, names)]
    parts += [value(order, one) for row in rows for one in row]
    content = array(order, 2, (len(rows), 1), name, *parts)
    if compressed:
        content = zlib.compress(content)
        content = struct.pack(order + "II", 15, len(content)) + content
    return b"MATLAB 5.0".ljust(124) + struct.pack(order + "H", 0x0100) + {"<": b"IM", ">": b"MI"}[order] + content


@pytest.fixture
def read(tmp_path):
    def written(content):
        (tmp_path / "meta.mat").write_bytes(content)
        return read_meta(str(tmp_path / "meta.mat"))

    return written


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_as_matlab_writes_it(read, tmp_path, order, compressed):
    assert read(file(order, compressed)) == WNIDS
    io = pytest.importorskip("scipy.io", reason="scipy reads the same")
    rows = io.loadmat(str(tmp_path / "meta.mat"), squeeze_me=True)["synsets"]
    assert [(int(row["ILSVRC2012_ID"]), row["WNID"], int(row["num_children"])) for row in rows] == [
        (number, wnid, children) for number, wnid, _, children in ROWS
    ]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "int32", "float32", "float64"])
def test_as_scipy_writes_it(tmp_path, kind, compressed):
    io = pytest.importorskip("scipy.io", reason="scipy writes the files")
    import numpy as np

    synsets = np.zeros((len(ROWS), 1), [(name, object) for name in FIELDS])
    for row, values in zip(synsets[:, 0], ROWS):
        for name, one in zip(FIELDS, values):
            row[name] = one if isinstance(one, str) else np.array(one, kind)
    path = str(tmp_path / "meta.mat")
    io.savemat(path, {"another": np.arange(9), "synsets": synsets}, do_compression=compressed)
    assert read_meta(path) == WNIDS


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no MAT-file of level 5"),
        (b"\x89HDF" + bytes(300), "no MAT-file of level 5"),
        (file(name=b"others"), "no struct array synsets"),
        (file(fields=("ID", *FIELDS[1:])), "its fields are not ILSVRC2012_ID, WNID, num_children"),
        (file(rows=[(1, "n1", "", 0)]), "is damaged or not the devkit's"),
        (file(rows=[(1.5, "n01751748", "", 0)]), "is damaged or not the devkit's"),
        (file(rows=[("1", "n01751748", "", 0)]), "is damaged or not the devkit's"),
        (file(rows=[(float("nan"), "n01751748", "", 0)]), "is damaged or not the devkit's"),
        (file(rows=[(1, 7, "", 0)]), "is damaged or not the devkit's"),
        (file(rows=[ROWS[0], (2, "n01751748", "", 0)]), "class 2 has two wnids"),
        (file(rows=[ROWS[2]]), "gives no wnids"),
        (file(rows=[]), "gives no wnids"),
        (file()[:-8], "it is cut"),
        (file(compressed=True)[:-9], "it is cut"),
        (file()[:128] + struct.pack("<II", 15, 8) + bytes(8), "is damaged"),
        (
            file()[:128] + struct.pack("<II", 15, 16320) + zlib.compress(bytes(2**24 + 1)).ljust(16320, b"\0"),
            "too large",
        ),
        (bytes(2**24 + 1), "it is too large"),
    ],
    ids=lambda value: f"{len(value)} bytes" if isinstance(value, bytes) else None,
)
def test_what_is_not_the_devkits_is_one_line(read, content, words):
    with pytest.raises(DataError, match=words) as error:
        read(content)
    assert str(error.value).endswith("; extract the devkit afresh")


@pytest.mark.once
@given(st.integers(0, 2**32), st.booleans())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, seed, compressed):
    content = file(compressed=compressed)
    path = tmp_path_factory.getbasetemp() / "damaged.mat"
    path.write_bytes(mutated(content, content, random.Random(seed))[0])
    assert failure_of(lambda: "" if read_meta(str(path)) else "no class is read") == ""
