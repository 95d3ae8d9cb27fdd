"""Which output stands for which class: by name, in any order, of some of the classes; others are refused."""

from __future__ import annotations

import hashlib
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import class_names
from shared.class_names import CIFAR10, Classes, index_map, match, read_beside, write_beside
from shared.errors import UsageError
from shared.imagenet.layout import _OFFICIAL_CLASSES

NAME = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=6)
NAMES = st.lists(NAME, min_size=1, max_size=12, unique_by=lambda name: unicodedata.normalize("NFC", name))


@given(NAMES, st.data())
def test_every_class_is_the_output_of_its_name(network, data):
    some = data.draw(st.permutations(network)).copy()
    some = some[: data.draw(st.integers(1, len(some)))]
    places = index_map(network, some, "do this")
    assert [network[place] for place in places] == some
    found = match(Classes(tuple(network)), Classes(tuple(some)), "do this")
    assert found.outputs == places
    assert list(found.names) == network
    assert bool(found.notes) == (some != network)
    assert found.in_place == (some == network)


@given(NAMES, NAMES)
def test_a_map_or_an_error_that_names_what_differs(network, data):
    known = {unicodedata.normalize("NFC", name) for name in network}
    unknown = [name for name in data if unicodedata.normalize("NFC", name) not in known]
    if not unknown:
        assert len(index_map(network, data, "do this")) == len(data)
        return
    with pytest.raises(UsageError, match="; do this$") as caught:
        index_map(network, data, "do this")
    shown = str(caught.value)
    assert f"{len(unknown)} class" in shown
    assert "".join(letter if letter.isprintable() else "?" for letter in unknown[0]) in shown


@given(NAMES, st.data())
def test_counting_by_a_match_counts_what_the_network_answered(network, data):
    """Accuracy over renumbered images is that over the images of these classes in the network's own numbers."""
    some = data.draw(st.permutations(network))[: data.draw(st.integers(1, len(network)))]
    found = match(Classes(tuple(network)), Classes(tuple(some)), "")
    labels = np.array(data.draw(st.lists(st.integers(0, len(some) - 1), max_size=20)), np.int32)
    assert [network[label] for label in found.labels(labels)] == [some[label] for label in labels]
    narrow = found.for_evaluation(True)
    assert [narrow.names[label] for label in narrow.labels(labels)] == [some[label] for label in labels]
    assert sorted(narrow.names) == sorted(some)
    if narrow.columns is not None:
        assert [network[column] for column in narrow.columns] == list(narrow.names)
        assert list(narrow.columns) == sorted(narrow.columns)


@pytest.mark.parametrize(
    ("network", "data", "said"),
    [
        (
            ["n1", "n2", "n3"],
            ["dog", "saw", "tench"],
            "the data set has 3 classes that the network does not know (dog, saw, tench), and lacks 3 classes that it"
            " knows (n1, n2, n3)",
        ),
        (
            ["01", "02", "10"],
            ["1", "10", "2"],
            "the data set has 2 classes that the network does not know (1, 2), and lacks 2 classes that it"
            " knows (01, 02)",
        ),
        (
            ["a", "b", "c"],
            ["a", "b", "stray"],
            "the data set has 1 class that the network does not know (stray), and lacks 1 class that it knows (c)",
        ),
        (["a"], ["a", "b"], "the data set has 1 class that the network does not know (b)"),
        (
            ["crane", "crane", "x"],
            ["x", "crane"],
            "classes of the network have the same name (crane); name each its own",
        ),
        (["x", "crane"], ["crane", "crane"], "classes of the data set have the same name (crane); name each its own"),
    ],
)
def test_other_names_are_refused_and_named(network, data, said):
    with pytest.raises(UsageError) as caught:
        index_map(network, data, "do this")
    assert str(caught.value).split("; ")[0] == said.split("; ")[0]


def test_the_same_list_is_the_same_whatever_is_in_it():
    assert index_map(["crane", "crane"], ["crane", "crane"], "") == (0, 1)


def test_composed_and_decomposed_letters_are_one_name():
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    found = match(Classes(("bar", composed)), Classes((decomposed, "bar")), "")
    assert found.outputs == (1, 0)
    assert found.names == ("bar", decomposed)  # as the data set's folders are spelled
    with pytest.raises(UsageError):  # where both forms are there they are two
        index_map([composed, decomposed, "bar"], ["x"], "")
    assert index_map([composed, decomposed], [decomposed], "") == (1,)


def test_names_that_are_no_unicode_are_compared_and_printed():
    assert index_map(["a", "\udcff"], ["\udcff", "a"], "") == (1, 0)
    with pytest.raises(UsageError, match=r"\(\\udcff\)"):
        index_map(["a"], ["\udcff"], "")


def test_weights_without_names_are_taken_as_they_are_and_said():
    found = match(Classes.numbered(2), Classes(("b", "a")), "")
    assert (found.outputs, found.names) == ((0, 1), ("b", "a"))
    assert "the weights have no class names" in found.notes[0]
    with pytest.raises(UsageError, match="the checkpoint has 3 classes and the data set 2"):
        match(Classes.numbered(3), Classes(("a", "b")), "")


def test_shards_without_names_are_taken_as_they_are_and_said():
    found = match(Classes(("b", "a")), Classes.numbered(2), "")
    assert (found.outputs, found.names) == ((0, 1), ("b", "a"))
    assert "the data set has no class names" in found.notes[0]


def test_numbers_of_shards_are_no_names():
    """Output 2 of a network trained on folders 0 to 11 is the class '10': label 10 of shards is another one."""
    folders = tuple(sorted(map(str, range(12))))
    assert match(Classes(folders), Classes.numbered(12), "").outputs == tuple(range(12))
    assert match(Classes(folders), Classes(tuple(map(str, range(12)))), "").outputs[10] == 2


def test_folders_that_are_numbers_are_those_of_the_outputs():
    """As those of ImageNet-V2, which sort as texts: the third folder is 10, whose images are of class 10, not 2."""
    folders = tuple(sorted(map(str, range(1000))))
    found = match(Classes.numbered(1000), Classes(folders), "")
    assert [found.outputs[folders.index(name)] for name in ("0", "2", "10", "999")] == [0, 2, 10, 999]
    assert found.names == tuple(map(str, range(1000)))
    assert found.notes == ("the weights have no class names; the data set's classes are the numbers of their outputs",)
    some = match(Classes.numbered(3), Classes(("0", "1", "10")), "")  # not those of three outputs
    assert (some.outputs, some.names) == ((0, 1, 2), ("0", "1", "10"))


def test_weights_of_imagenet_are_matched_by_wordnet_id():
    wnids = class_names.imagenet()
    data = (wnids[700], wnids[3], wnids[999])
    found = match(Classes.numbered(1000), Classes(data), "")
    assert found.outputs == (700, 3, 999)
    assert found.names == wnids
    assert "ImageNet" in found.notes[0]
    assert found.for_evaluation(True).columns == (3, 700, 999)
    with pytest.raises(UsageError, match=r"1 class that the network does not know \(stray\)"):
        match(Classes.numbered(1000), Classes((*wnids[1:], "stray")), "")
    own = tuple(f"class{number}" for number in range(1000))  # somebody's own thousand
    assert match(Classes.numbered(1000), Classes(own), "").outputs == tuple(range(1000))


def test_weights_of_cifar_10_are_matched_by_its_names():
    assert match(Classes.numbered(10), Classes(CIFAR10[::-1]), "").outputs == tuple(range(9, -1, -1))
    own = (*CIFAR10[:9], "lorry")
    assert match(Classes.numbered(10), Classes(own), "").names == own


def test_the_published_order_is_that_of_the_official_archive():
    wnids = class_names.imagenet()
    assert len(wnids) == 1000
    assert hashlib.sha256("\n".join(wnids).encode()).hexdigest() == _OFFICIAL_CLASSES


def test_what_an_evaluation_counts_by_is_said():
    few = match(Classes(("a", "b", "c")), Classes(("c", "a")), "")
    everything, restricted = few.for_evaluation(False), few.for_evaluation(True)
    assert (everything.names, everything.columns) == (("a", "b", "c"), None)
    assert "--restrict-classes" in everything.notes[-1]
    assert (restricted.names, restricted.columns, restricted.outputs) == (("a", "c"), (0, 2), (1, 0))
    assert "restricted" in restricted.notes[-1]
    whole = match(Classes(("a", "b")), Classes(("a", "b")), "")
    assert whole.for_evaluation(True) == whole.for_evaluation(False) == whole


def test_names_beside_weights(tmp_path):
    names = ("a", "\u00e9", "\udcff", "b c")
    write_beside(tmp_path / "model.ckpt", names)
    assert read_beside(tmp_path / "model.ckpt", 4) == Classes(names)
    assert read_beside(tmp_path / "model.ckpt", 3) == Classes.numbered(3)  # of other weights
    for content in (b"", b"\xff", b"{}", b"[1, 2, 3, 4]", b"[" * 100_000):
        class_names.beside(tmp_path / "model.ckpt").write_bytes(content)
        assert read_beside(tmp_path / "model.ckpt", 4) == Classes.numbered(4)
    write_beside(tmp_path / "model.ckpt", None)
    assert list(tmp_path.iterdir()) == []
