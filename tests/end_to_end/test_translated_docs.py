"""The chapters in two languages say the same: headings, code, tables, links and numbers, section by section."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable, Dict, List

import pytest

from tests.end_to_end.test_readme import ROOT

pytestmark = pytest.mark.once
DOCS = ROOT / "docs"
TRANSLATED = sorted(path.name.replace(".zh-CN.md", "") for path in DOCS.glob("*.zh-CN.md"))
CODE = r"^```.*?^```$|(?:^    [^\n]*\n)+|`[^`\n]+`"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _both(name: str) -> List[str]:
    return [_text(DOCS / f"{name}{ending}.md") for ending in ("", ".zh-CN")]


def _sections(text: str) -> List[str]:
    """The text between headings; a line that begins with # within code is none here."""
    return re.split(r"^#+ .*$", text, flags=re.MULTILINE)


def _levels(text: str) -> List[int]:
    return [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]


def _anchors(text: str) -> Dict[str, int]:
    """The place among the headings of each anchor."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-"): at for at, title in enumerate(titles)}


def _code(section: str) -> List[str]:
    return sorted(re.findall(CODE, section, re.DOTALL | re.MULTILINE))


def _numbers(section: str) -> List[str]:
    without = re.sub(r"\]\([^)]*\)", "]", re.sub(CODE, "", section, flags=re.DOTALL | re.MULTILINE))
    return sorted(re.findall(r"\d[\d.,]*\d|\d", without))


def _rows(section: str) -> List[int]:
    return [line.count("|") for line in section.splitlines() if line.startswith("|")]


def _points(section: str) -> int:
    return len(re.findall(r"^(?:- |\d+\. )", section, re.MULTILINE))


def _paragraphs(section: str) -> int:
    return len(re.split(r"\n\s*\n", section.strip()))


def _links(section: str) -> List[str]:
    """Where the links lead: the chapter without its language, and which of its headings, counted."""
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", section):
        path, _, anchor = link.partition("#")
        plain = path.replace(".zh-CN.md", ".md")
        if anchor and path:
            anchor = str(_anchors(_text(DOCS / path))[anchor])
        found.append(plain + ("#" + anchor if path and anchor else ""))
    return sorted(found)


def _without_top(text: str, top: str) -> str:
    assert text.count(top) == 1
    return text.replace(top, "")


PARTS: List[Callable[[str], object]] = [_code, _numbers, _rows, _points, _paragraphs, _links]


def _unlike(name: str, english: str, chinese: str) -> List[str]:
    """In which parts of which sections the two differ; "levels", where their headings do."""
    english = _without_top(english, f"\nEnglish | [简体中文]({name}.zh-CN.md)\n")
    chinese = _without_top(chinese, f"\n[English]({name}.md) | 简体中文\n")
    if _levels(english) != _levels(chinese):
        return ["levels"]
    inner = [
        sorted(_anchors(text)[link] for link in re.findall(r"\]\(#([^)\s]+)\)", text)) for text in (english, chinese)
    ]
    found = ["links within"] if inner[0] != inner[1] else []
    for place, (first, second) in enumerate(zip(_sections(english), _sections(chinese))):
        found += [f"{part.__name__} of section {place}" for part in PARTS if part(first) != part(second)]
    return found


@pytest.mark.parametrize("name", TRANSLATED)
def test_both_languages_say_the_same(name):
    assert _unlike(name, *_both(name)) == []


def test_the_chapters_of_chinese_readers_are_translated():
    assert {"differences", "launchers", "npu"} <= set(TRANSLATED)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("61 个算子", "62 个算子", "_numbers"),
        ("\n## 选项\n", "\n### 选项\n", "levels"),
        ("`--npu-fused-sgd`", "`--npu-fused`", "_code"),
        ("    KIT_TEST_ENVS=torch-npu bash", "    KIT_TEST_ENVS=main bash", "_code"),
        ("[distributed.md](distributed.md)", "[distributed.md](cifar10.md)", "_links"),
        ("port-check.md#grouped-convolutions", "port-check.md#tolerance", "_links"),
        ("- **标签**", "**标签**", "_points"),
        ("| 否 |", "| 否 | |", "_rows"),
        ("但不能说明昇腾算子", "\n\n但不能说明昇腾算子", "_paragraphs"),
    ],
)
def test_a_difference_is_noticed(old, new, said):
    english, chinese = _both("npu")
    assert old in chinese
    assert [found.split(" of ")[0] for found in _unlike("npu", english, chinese.replace(old, new, 1))] == [said]


@pytest.mark.parametrize("name", TRANSLATED)
def test_a_chinese_chapter_links_to_chinese_ones(name):
    linked = re.findall(r"\]\((\w+)\.md[)#]", _text(DOCS / f"{name}.zh-CN.md").replace(f"[English]({name}.md)", ""))
    assert not set(linked) & set(TRANSLATED)
