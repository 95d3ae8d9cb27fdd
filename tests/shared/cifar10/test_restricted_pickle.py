"""The reader of the CIFAR-10 pickles reads what people have, and of anything else executes nothing."""

from __future__ import annotations

import os
import pickle
import struct
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.cifar10 import restricted_pickle
from tests.support import python2_pickle

PIXELS = (np.arange(2 * 3072) * 7 % 256).astype(np.uint8).reshape(2, 3072)
LABELS = [3, 9]
BATCH = {"batch_label": "a batch", "labels": LABELS, "data": PIXELS, "filenames": ["a.png", "b.png"]}
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
UINT8 = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def in_dictionary(value: bytes) -> bytes:
    """The pickle of {'data': value}, where `value` is given as instructions."""
    return b"\x80\x02}U\x04data" + value + b"s."


class Calls:
    """What a hostile pickle is made of."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class HostileDict(dict):
    """Looks like a batch, and acts when it is unpickled."""

    def __reduce__(self):
        return (os.mkdir, (self["marker"],))


# -- what is read --------------------------------------------------------------------------------


def assert_is_batch(values):
    assert sorted(values) == ["batch_label", "data", "filenames", "labels"]
    assert values["labels"] == LABELS
    assert values["data"].dtype == np.uint8
    np.testing.assert_array_equal(values["data"], PIXELS)


def test_reads_python_2_files():
    values = restricted_pickle.loads(python2_pickle.dumps(BATCH))
    assert_is_batch(values)
    assert values["filenames"] == [b"a.png", b"b.png"]


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("keys", [str, str.encode])
def test_reads_copies_made_by_python_3(protocol, keys):
    content = pickle.dumps({keys(key): value for key, value in BATCH.items()}, protocol)
    assert_is_batch(restricted_pickle.loads(content))


@pytest.mark.parametrize("package", [b"numpy.core", b"numpy._core"])
def test_reads_copies_made_under_numpy_1_and_2(package):
    content = pickle.dumps(BATCH, 2)
    content = content.replace(b"numpy._core.multi", b"numpy.core.multi").replace(b"numpy.core", package)
    assert package in content
    assert_is_batch(restricted_pickle.loads(content))


@pytest.mark.parametrize("module", [b"numpy.core.numeric", b"numpy._core.numeric"])
def test_reads_protocol_5_whatever_the_interpreter(module):
    """Python 3.7 cannot read this with its own unpickler."""
    state = b"(K\x03\x8c\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    name = b"\x8c" + bytes([len(module)]) + module + b"\x8c\x0b_frombuffer\x93"
    dtype = b"\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02u1\x89\x88\x87R" + state
    array = name + b"(\x96" + struct.pack("<Q", 6) + b"abcdef" + dtype + b"K\x02K\x03\x86\x8c\x01CtR"
    body = b"}\x8c\x04data" + array + b"s."
    values = restricted_pickle.loads(b"\x80\x05\x95" + struct.pack("<Q", len(body)) + body)
    assert values["data"].tolist() == [[97, 98, 99], [100, 101, 102]]


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", "<u4", "<i8", ">i8"])
def test_reads_numpys_whole_numbers_and_texts(protocol, dtype):
    """What `list(array)` leaves, and an array in the place of a list."""
    numbers, texts = np.array([3, 120], dtype), np.array(["frog", "B\xe4r"])
    values = restricted_pickle.loads(
        pickle.dumps({"a": list(numbers), "b": numbers, "c": list(texts), "d": texts}, protocol)
    )
    assert values["a"] == [3, 120]
    assert {type(value) for value in values["a"]} == {int}
    assert values["b"].tolist() == [3, 120]
    assert values["c"] == values["d"].tolist() == ["frog", "B\xe4r"]


@pytest.mark.parametrize(
    "value", [np.float64(1), np.bool_(True), np.array([None], object), np.datetime64("2026-01-01"), np.bytes_(b"x")]
)
def test_numpys_other_types_are_refused(value):
    assert "it holds an array of" in refusal(pickle.dumps({"a": value}, 2))


@given(
    labels=st.lists(st.integers(0, 2**31 - 1), max_size=2100),
    names=st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300), max_size=30),
    rows=st.integers(1, 300),
)
@settings(max_examples=50, deadline=None)
def test_the_writer_is_read_alike_by_this_reader_and_by_pickle(labels, names, rows):
    content = python2_pickle.dumps({"labels": labels, "filenames": names, "data": np.ones((rows, 5), np.uint8)})
    ours, theirs = restricted_pickle.loads(content), pickle.loads(content, encoding="bytes")
    assert ours["labels"] == theirs[b"labels"] == labels
    assert ours["filenames"] == theirs[b"filenames"] == [name.encode() for name in names]
    np.testing.assert_array_equal(ours["data"], theirs[b"data"])


@pytest.mark.parametrize("value", [1.5, b"bytes", [1.5], np.zeros((1, 2), np.float32), np.zeros(3, np.uint8)])
def test_the_writer_refuses_other_types(value):
    with pytest.raises(TypeError, match="cannot write"):
        python2_pickle.dumps({"value": value})


def test_the_arrays_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        restricted_pickle.loads(python2_pickle.dumps(BATCH))["data"][0, 0] = 1


# -- what is refused -----------------------------------------------------------------------------


def refusal(content):
    with pytest.raises(restricted_pickle.Refused) as caught:
        restricted_pickle.loads(content)
    message = str(caught.value)
    assert message
    assert message.isprintable(), "one line, fit for a terminal"
    assert len(message) < 250
    return message


def hostile(marker):
    """Objects that make the folder `marker` when they are unpickled."""
    make = Calls(os.mkdir, marker)
    by_eval = Calls(eval, f"__import__('os').mkdir({marker!r})")
    return {
        "reduce": make,
        "os.system": Calls(os.system, f"mkdir {marker}"),
        "eval": by_eval,
        "exec": Calls(exec, f"import os; os.mkdir({marker!r})"),
        "in a value": {"data": make},
        "in the labels": {"data": PIXELS, "labels": [1, make]},
        "deep": {"data": [[({"x": [by_eval]},)]]},
        "in an array": {"data": np.array([make], object)},
        "in an array of arrays": {"data": np.array([[PIXELS, by_eval]], object)},
        "a batch of a hostile class": HostileDict(BATCH, marker=marker),
    }


@pytest.mark.parametrize("protocol", range(0, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", sorted(hostile("")))
def test_nothing_is_executed(tmp_path, name, protocol):
    marker = tmp_path / "executed"
    content = pickle.dumps(hostile(str(marker))[name], protocol)
    refusal(content)
    assert not marker.exists()
    pickle.loads(content)
    assert marker.exists(), "the usual unpickler would have executed it: the test has teeth"


def test_no_module_is_imported(tmp_path, monkeypatch):
    (tmp_path / "never_imported.py").write_text("raise SystemError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    message = refusal(in_dictionary(b"cnever_imported\nfunction\n"))
    assert "never_imported.function" in message
    assert "never_imported" not in sys.modules


@pytest.mark.parametrize(
    "name",
    [
        b"os\nsystem",
        b"builtins\neval",
        b"__builtin__\neval",
        b"numpy\nload",
        b"numpy\nndarray.tofile",
        b"numpy.core.multiarray\nfromfile",
        b"numpy\nfrombuffer",
        b"_codecs\ndecode",
        b"copyreg\n_reconstructor",
        b"shared.cifar10.restricted_pickle\nloads",
        b"\x1b[2J\nred",
    ],
)
def test_every_other_name_is_refused(name):
    assert "asks for" in refusal(in_dictionary(b"c" + name + b"\n"))


@pytest.mark.parametrize(
    ("instructions", "said"),
    [
        (b"ios\nsystem\n", "0x69"),  # INST
        (b"(cnumpy\ndtype\no", "0x6f"),  # OBJ
        (b"cnumpy\ndtype\n)\x81", "0x81"),  # NEWOBJ
        (b"cnumpy\ndtype\n)}\x92", "0x92"),  # NEWOBJ_EX
        (b"\x82\x01", "0x82"),  # EXT1
        (b"Pname\n", "0x50"),  # PERSID
        (b"K\x01Q", "0x51"),  # BINPERSID
        (b"L123L\n", "0x4c"),  # LONG: quadratic in its digits
        (b"I123\n", "0x49"),  # INT: the same
        (b"\x8b\xff\xff\xff\x7f", "0x8b"),  # LONG4
        (b"\x97", "0x97"),  # NEXT_BUFFER
        (b"cnumpy\nndarray\nK\x01\x85R", "damaged"),  # numpy.ndarray(1)
        (b"cnumpy\nndarray\n}U\x01xK\x01sb", "changes what is no array"),
        (b"c_codecs\nencode\nNU\x01x\x86b", "changes what is no array"),
        (b"K\x01)R", "damaged"),
        (b"]}b", "changes what is no array"),
        (b"U\x01xK\x01a", "damaged"),
        (b"]K\x01K\x02s", "not a name"),
        (b"}]K\x02s", "not a name"),  # a list as a key
        (b"}K\x01K\x02s", "not a name"),
        (b"(K\x01K\x02\x93", "damaged"),  # STACK_GLOBAL of numbers
        (b"h\x63", "damaged"),
        (b"X\x02\x00\x00\x00\xff\xff", "damaged"),  # not UTF-8
        (b"c_codecs\nencode\nX\x02\x00\x00\x00\xc4\x80X\x06\x00\x00\x00latin1\x86R", "damaged"),
        (b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R", "encodes"),
        (ARRAY, "damaged"),
        (b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R", "'O8'"),
        (b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R", "'f4'"),
        (ARRAY + b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R\x89U\x02abtb", "damaged"),
        (ARRAY + b"(K\x01K\x02\x85K\x07\x89U\x02abtb", "damaged"),
        (ARRAY + b"(K\x01K\x02\x85" + UINT8 + b"\x88U\x02abtb", "column by column"),
        (ARRAY + b"(K\x01K\x03\x85" + UINT8 + b"\x89U\x02abtb", "damaged"),
        (ARRAY + b"(K\x01K\x00\x85" + UINT8 + b"\x89U\x00tb", "empty"),
        (ARRAY + b"(K\x01J\xff\xff\xff\xffJ\xfe\xff\xff\xff\x86" + UINT8 + b"\x89U\x02abtb", "empty or damaged"),
        (ARRAY + b"(K\x01J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86" + UINT8 + b"\x89U\x02abtb", "damaged"),
        (ARRAY + b"(K\x01K\x02\x85" + UINT8 + b"\x89]tb", "damaged"),
        (UINT8.replace(b"U\x01|", b"U\x01>"), "element type"),
        (UINT8.replace(b"|NNN", b"|N}N"), "element type"),
    ],
)
def test_refuses_what_plain_data_does_not_need(instructions, said):
    assert said in refusal(in_dictionary(instructions))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x09}.",
        b"\x80\x02K\x01.",
        b"\x80\x02].",
        b".",
        b"\x1f\x8b gzip",
        b"<html>",
        b"\x80\x02}.garbage",
        b"\x80\x02(((((",
        b"\x80\x02ttt",
        b"\x80\x02eeu",
        b"\x80\x02K\x01\x87.",
        b"\x80\x02}u.",
        pickle.dumps(BATCH, 0),
        pickle.dumps(BATCH, 1),
        b"\x80\x02}(U\x01aK\x01X\x01\x00\x00\x00aK\x02u.",
    ],
)
def test_refuses_what_is_not_a_dictionary(content):
    refusal(content)


def test_a_frame_hides_no_opcode():
    """A frame that ends within an opcode makes the standard unpickler skip what is left of it."""
    shown = b"\x8c\x04data" + b"C\x30" + b"c" * 0x30 + b"s."
    for size in range(len(shown) + 1):
        content = b"\x80\x04}\x95" + struct.pack("<Q", size) + shown
        assert restricted_pickle.loads(content) == {"data": b"c" * 0x30}


def test_every_truncation_is_refused():
    copies = [pickle.dumps(BATCH, protocol) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)]
    for content in [python2_pickle.dumps(BATCH)] + copies:
        size = len(content)
        for end in set(range(300)) | set(range(0, size, 97)) | set(range(size - 60, size)):
            refusal(content[:end])


# -- what costs little ---------------------------------------------------------------------------


def encode_bomb():
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"q\x01X\x06\x00\x00\x00latin1q\x02"
    return b"\x80\x02c_codecs\nencode\nq\x00" + text + b"h\x00h\x01h\x02\x86R" * 20_000 + b"."


BOMBS = {
    "memo index": b"\x80\x02}r\xff\xff\xff\xffK\x01.",  # the usual reader takes 64 GiB
    "memo indices": b"\x80\x02}" + b"".join(struct.pack("<cI", b"r", 2**32 - n) for n in range(1, 9)) + b"N.",
    "string length": b"\x80\x02T\xff\xff\xff\x7f.",
    "negative string length": b"\x80\x02T\xff\xff\xff\xff.",
    "bytes length": b"\x80\x03B\xff\xff\xff\xff.",
    "bytearray length": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "text length": b"\x80\x02X\xff\xff\xff\xff.",
    "frame length": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff.",
    "encoding again and again": encode_bomb(),
    "deep lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "deep tuples": b"\x80\x02)" + b"\x85" * 100_000 + b".",
    "deep key": b"\x80\x02})" + b"\x85" * 100_000 + b"K\x01s.",
    "deep arguments": b"\x80\x02cnumpy\ndtype\n)" + b"\x85" * 100_000 + b"R.",
    "deep tuples in memo as a key": b"\x80\x02})q\x00" + b"h\x00\x85q\x00" * 100_000 + b"K\x01s.",
    "a list in itself": b"\x80\x02]q\x00h\x00ah\x00a.",
    "doubling lists": b"\x80\x02]q\x00" + b"".join(b"(h%ch%ce]q%c" % (n, n, n + 1) for n in range(99)) + b".",
    "too many instructions": b"\x80\x02" + b"N" * (restricted_pickle.MAX_OPCODES + 10) + b".",
}


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_bombs_fizzle(name):
    tracemalloc.start()
    try:
        refusal(BOMBS[name])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6


# -- whatever comes ------------------------------------------------------------------------------


def dictionary_or_refusal(content):
    values, message = {}, ""
    try:
        values = restricted_pickle.loads(content)
    except restricted_pickle.Refused as error:
        message = str(error)
    assert message.isprintable()
    assert type(values) is dict
    assert all(type(key) is str for key in values)
    arrays = [value for value in values.values() if isinstance(value, np.ndarray)]
    assert all(array.dtype == np.uint8 and array.size for array in arrays)


@pytest.mark.once
@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_random_instructions_give_a_dictionary_or_a_refusal(instructions):
    for content in (instructions, b"\x80\x02" + instructions + b".", in_dictionary(instructions)):
        dictionary_or_refusal(content)


FRAGMENTS = st.sampled_from(
    [
        b"(",
        b")",
        b"N",
        b"\x88",
        b"\x89",
        b"K\x01",
        b"K\x02",
        b"K\x00",
        b"]",
        b"}",
        b"a",
        b"e",
        b"s",
        b"u",
        b"t",
        b"\x85",
        b"\x86",
        b"\x87",
        b"q\x00",
        b"q\x01",
        b"h\x00",
        b"h\x01",
        b"\x94",
        b"R",
        b"b",
        b"\x93",
        b"U\x02ab",
        b"U\x01b",
        b"U\x02u1",
        b"\x8c\x01|",
        b"X\x01\x00\x00\x00c",
        b"X\x06\x00\x00\x00latin1",
        b"c_codecs\nencode\n",
        b"cnumpy\ndtype\n",
        b"cnumpy\nndarray\n",
        ARRAY,
        UINT8,
        b"cnumpy.core.multiarray\n_reconstruct\n",
        b"cnumpy.core.numeric\n_frombuffer\n",
    ]
)


@pytest.mark.once
@given(st.lists(FRAGMENTS, max_size=40))
@settings(max_examples=500, deadline=None)
def test_shuffled_instructions_give_a_dictionary_or_a_refusal(fragments):
    dictionary_or_refusal(in_dictionary(b"".join(fragments)))
