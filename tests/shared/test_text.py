"""Names and lists of others: one text for the same bytes, whatever the locale, and an escape where there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared import text
from shared.errors import one_line
from shared.imagenet.split import scan
from shared.results.page import escaped
from shared.system import atomic_files

ROOT = Path(__file__).resolve().parents[2]
CAFE, CAT = "caf\udce9", "猫"  # a name in Latin-1, as Python keeps it, and one in UTF-8
LOCALES = [
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "ascii"},
]


def test_what_utf8_has_no_bytes_for_is_an_escape():
    assert text.encoded(f"{CAFE} {CAT}\n") == b"caf\\udce9 \xe7\x8c\xab\n"
    assert text.printable(CAFE) == one_line(CAFE) == escaped(CAFE) == r"caf\udce9"
    assert text.printable(CAT) == one_line(CAT) == CAT
    assert one_line("a\nb") == "a?b"


def test_in_json_the_escape_is_the_name(tmp_path):
    atomic_files.write_atomic(tmp_path / "file", json.dumps([CAFE, CAT], ensure_ascii=False))
    assert json.loads((tmp_path / "file").read_text(encoding="utf-8")) == [CAFE, CAT]


def test_a_name_is_the_same_text_and_the_same_bytes():
    for name in (CAFE, CAT, "plain"):
        assert text.of_system(text.in_utf8(name)) == name
        assert text.raw(name) == os.fsencode(name)
        assert text.is_name(name)
    assert not text.is_name("\ud800")
    assert not text.is_name("a\nb")


@pytest.mark.parametrize(
    ("content", "stored"),
    [
        (b"\xef\xbb\xbfa\r\n", "a\r\n"),
        (b"\xff\xfea\0\r\0\n\0", "a\r\n"),
        (b"\xfe\xff\0a\0\r\0\n", "a\r\n"),
        (b"caf\xe9", CAFE),
        (b"\xef\xbb\xbfcaf\xe9", CAFE),
        (CAT.encode(), CAT),
        (b"", ""),
        (b"\xff\xfea", "\ufffd"),
    ],
)
def test_a_list_of_any_editor(content, stored):
    assert text.decoded(content) == stored


PROGRAM = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from shared.imagenet.dataset import indexed
from shared.imagenet.split import scan
folder = os.fsdecode(os.fsencode(sys.argv[2]))
for found in (scan(folder), indexed(folder), indexed(folder)):
    assert all(os.path.getsize(found.path(index)) == 1 for index in range(len(found)))
    print(json.dumps([found.classes, found.fingerprint, [found.name(index) for index in range(len(found))]]))
"""


@pytest.mark.parametrize("locale", LOCALES)
def test_classes_and_images_do_not_depend_on_the_locale(tmp_path, locale):
    for name in (CAFE, CAT, "zebra", "Ünal"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for image in (f"{name}.png", "b.png", "ä.png", "\udcff.png"):
            (tmp_path / "train" / name / image).write_bytes(b"x")
    here = scan(str(tmp_path / "train"))
    assert here.classes == (CAFE, "zebra", "Ünal", CAT)
    environment = dict(os.environ, KIT_CACHE=str(tmp_path / "cache"), **locale)
    command = [sys.executable, "-c", PROGRAM, str(ROOT), str(tmp_path / "train")]
    said = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout
    found = [json.loads(line) for line in said.decode("ascii").splitlines()]
    names = [here.name(index) for index in range(len(here))]
    assert found == [[list(here.classes), here.fingerprint, names]] * 3
