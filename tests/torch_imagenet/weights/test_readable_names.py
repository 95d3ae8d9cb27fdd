"""Names of classes for a reader: the weights' own, and those of WordNet ids that installed packages bring."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("torch")

from shared.class_names import Classes, imagenet  # noqa: E402
from torch_imagenet.weights.readable_names import named  # noqa: E402

TORCHVISION = "_A = 1\n_IMAGENET_CATEGORIES = {names!r}\n_B = open('/nowhere')\n"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """installed(package, file, text) puts a file into a package that fails where it is imported."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in [name for name in sys.modules if name.split(".")[0] in ("timm", "torchvision")]:
        monkeypatch.delitem(sys.modules, name)

    def write(package, file, text):
        path = tmp_path / package / file
        path.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('operator nms does not exist')")
        path.write_text(text)

    return write


def test_names_of_a_run_are_its_own(installed):
    assert named(Classes(("cat", "dog"))) == (("cat", "dog"), ("cat", "dog"), ())


def test_outputs_without_names_are_numbers(installed):
    labels, names, notes = named(Classes.numbered(3))
    assert labels == names == ("0", "1", "2")
    assert notes == ("the weights have no class names; a class is named by its number, from 0",)


def test_a_thousand_outputs_without_names_are_imagenets(installed):
    labels, names, notes = named(Classes.numbered(1000))
    assert labels == names == imagenet()
    assert "taken for ImageNet's classes in its order" in notes[0]
    assert "come with torchvision or timm, which are not installed" in notes[1]


def test_torchvisions_names_are_read_without_its_code(installed):
    words = [f"word {number // 2}" for number in range(1000)]
    installed("torchvision", "models/_meta.py", TORCHVISION.format(names=words))
    labels, names, notes = named(Classes((imagenet()[2], "mine", imagenet()[0], imagenet()[1])))
    assert names == ("word 1", "mine", f"word 0 ({imagenet()[0]})", f"word 0 ({imagenet()[1]})")
    assert labels[2] == imagenet()[0]
    assert notes == ()
    assert len(set(named(Classes(imagenet())).names)) == 1000


@pytest.mark.parametrize("text", ["_IMAGENET_CATEGORIES = ['one']", "_IMAGENET_CATEGORIES = f()", "def", ""])
def test_another_torchvision_is_none(installed, text):
    installed("torchvision", "models/_meta.py", text)
    installed("timm", "data/_info/imagenet_synset_to_lemma.txt", "n01440764\ttench, Tinca tinca\nn9\n")
    assert named(Classes(("n01440764", "n01443537"))).names == ("tench", "n01443537")


@pytest.mark.parametrize(("package", "name"), [("torchvision", "bald eagle"), ("timm", "bald eagle")])
def test_the_packages_that_the_tests_have(package, name, monkeypatch):
    """What is installed for the tests still has the names where they are looked for."""
    from torch_imagenet.weights import readable_names

    found = {"torchvision": readable_names._of_torchvision, "timm": readable_names._of_timm}[package]()
    if not found:
        pytest.importorskip(package)
    assert found["n01614925"] == name
    assert found["n01440764"] == "tench"
    assert set(imagenet()) <= set(found)
