"""The scaling model's document and command line: every table is the tool's, every input has an origin."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("torch")

from benchmarks.scaling import __main__, tables  # noqa: E402
from benchmarks.scaling import inputs as scaling_inputs
from benchmarks.scaling.cluster import Cluster, cluster, measured  # noqa: E402
from shared.errors import UsageError  # noqa: E402
from torch_imagenet import options as torch_options  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "scaling.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_documents_tables_are_the_tools():
    """Renew them with `python benchmarks/scaling/__main__.py --markdown docs/scaling.md`."""
    assert tables.renewed(TEXT) == TEXT
    assert sorted(re.findall(r"<!-- (.*):begin -->", TEXT)) == sorted(tables.blocks())


def test_every_input_has_an_origin():
    sources = {field.name: field.metadata.get("source", "") for field in dataclasses.fields(Cluster)}
    assert sources.pop("decode_rate") == ""  # which is measured
    assert all(source.startswith(("documented: ", "assumed: ")) for source in sources.values())
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", measured()["date"])
    rates = measured()["images_per_second_and_core"]
    assert cluster(224, {}).decode_rate == rates["224"]["median"]
    assert cluster(300, {}).decode_rate == cluster(331, {}).decode_rate == rates["331"]["median"]


def test_every_command_and_option_of_the_document_exists():
    parsers = (__main__._parser(), scaling_inputs._parser(), torch_options.parser())
    known = {option for made in parsers for option in made._option_string_actions}
    code = re.findall(r"`([^`\n]+)`|^    (.*)$", TEXT, re.MULTILINE)
    named = re.findall(r"(?<![\w-])--[a-z][\w-]*", "\n".join(span + line for span, line in code))
    assert len(named) > 20
    assert sorted(set(named) - known) == []
    commands = [shlex.split(line) for _, line in code if line.startswith("python benchmarks/scaling/__main__.py ")]
    assert len(commands) == 2
    for command in commands:
        __main__._parser().parse_args(command[2:])


def test_links_and_files_of_the_document_exist():
    for link in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (DOCUMENT.parent / link).is_file(), link
    for path in re.findall(r"`((?:benchmarks|tests)/[\w/.]+)`", TEXT):
        assert (ROOT / path).is_file(), path


# -- the command line ------------------------------------------------------------------------------------------


def printed(capsys, *arguments):
    __main__.main(list(arguments))
    return capsys.readouterr().out


def test_own_numbers_take_the_place_of_the_defaults(capsys):
    words = "--network senet154 --step-ms 100 --batch-size 64 --devices 1,4 --decode-rate 100 --cores-per-device 4"
    text = printed(capsys, *words.split(), *"--spread 0 --shard-gb-s 1000 --node-us 0".split())
    assert text.startswith("senet154, 64 images in 100.0 ms on one device by itself\n")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[:5] for row in rows[2:]] == [["1", "64", "64", "400", "0.62"], ["4", "64", "256", "1,600", "0.62"]]
    assert rows[2][-1] == rows[3][-1] == "decoding"  # 64 images of 4 cores of 100 a second


def test_a_global_batch_is_shared_and_a_large_one_starred(capsys):
    text = printed(capsys, "--network", "se_resnet50", "--devices", "128", "--global-batch", "8192")
    assert re.search(r"\| +128 \| +64 \| +8,192 \|", text)
    assert "16,384*" in printed(capsys, "--network", "se_resnet50", "--devices", "128")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--network", "senet145"], "did you mean 'senet154'"),
        (["--rates", "ascend91"], "did you mean 'ascend910'"),
        (["--precision", "O3", "--network", "senet154"], "unknown precision"),
        (["--cores-per-device", "0"], "at least 1"),
        (["--network-gbit", "0"], "at least"),
        (["--netwrk", "senet154"], "--netw"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        __main__.main(arguments)


def test_a_documents_tables_are_renewed_in_place(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- documented:begin -->\nold\n<!-- documented:end -->\nafter\n")
    __main__.main(["--markdown", str(path)])
    text = path.read_text()
    assert text.startswith("before\n<!-- documented:begin -->\n\n| network ")
    assert text.endswith("<!-- documented:end -->\nafter\n")
    assert "old" not in text
