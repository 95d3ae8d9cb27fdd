"""The Chinese of the tables: every phrase of the code has a translation, with the same numbers and values."""

from __future__ import annotations

import ast
import io
import re
from pathlib import Path

import pytest

from shared import recipes
from shared.results import language
from shared.results.__main__ import main
from shared.results.columns import padded, width, wrapped
from shared.results.documented import ROWS
from shared.results.language import ENGLISH, LANGUAGES
from shared.results.rows import rows
from shared.results.tables import COLUMNS, WIDTH, render
from shared.schedules import Schedule
from tests.shared.results.test_tables import _record

pytestmark = pytest.mark.once
FOLDER = Path(language.__file__).parent
ZH = LANGUAGES["zh"]
NUMBER = r"\d[\d,.]*\d|\d"


def _numbers(text):
    return sorted(re.findall(NUMBER, text))


def _said():
    """Every literal that the code of tables and page says in a language."""
    for path in sorted(FOLDER.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            said = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "say"
            if said:
                first = node.args[0]
                choices = [first.body, first.orelse] if isinstance(first, ast.IfExp) else [first]
                yield from (choice.value for choice in choices if isinstance(choice, ast.Constant))


def test_every_phrase_of_the_code_is_translated():
    said = set(_said())
    assert len(said) > 60
    assert sorted(said - set(ZH.phrases)) == []


def test_a_translation_has_the_numbers_and_values_of_its_phrase():
    dates = {"{day} {name}", "{day} {name} {year}"}  # in which the month is a number
    assert dates < set(ZH.phrases)
    for english, translated in ZH.phrases.items():
        if english in dates:
            continue
        assert _numbers(english) == _numbers(translated), english
        values = [sorted(re.findall(r"{[^}]*}", text)) for text in (english, translated)]
        assert values[0] == values[1], english
        assert re.search("[\u4e00-\u9fff]", translated) or translated == english.capitalize(), english


def test_every_note_and_heading_is_translated():
    notes = {note for row in ROWS for note in row.footnotes}
    assert len(notes) == 12
    names = {name for text, markdown, _ in COLUMNS for name in (text, markdown)}
    kinds = {row.kind for row in rows([_record()])}
    assert sorted((notes | names | kinds) - set(ZH.phrases)) == []


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("1 x AMD EPYC 7763 with avx2, 2 cores", "1 x AMD EPYC 7763，avx2，2 核"),
        ("2 x Intel Xeon, 1 core", "2 x Intel Xeon，1 核"),
        ("8 x competitor V, torch 1.5", "8 x 竞品V, torch 1.5"),
        ("paper", "论文"),
        ("1 x Ascend 910", "1 x Ascend 910"),
    ],
)
def test_hardware(english, chinese):
    assert ZH.hardware(english) == chinese
    assert ENGLISH.hardware(english) == english


SCHEDULES = [recipes.get(name).schedule for name in recipes.names()]
SCHEDULES += [
    Schedule(kind, 0.1, 9, warm_up, (1, 4), (0.1, 1e-5)) for kind in ("piecewise", "cosine") for warm_up in (0, 2)
]


@pytest.mark.parametrize(
    "text", sorted({one.describe() for one in SCHEDULES} | {row.settings for row in ROWS if row.settings})
)
def test_settings_keep_their_numbers_and_lose_their_words(text):
    translated = ZH.settings(f"recipe, depth 11, {text}, 64 px, 3 seeds")
    assert _numbers(translated) == sorted([*_numbers(text), "11", "64", "3"])
    words = set(re.findall(r"[a-z_\d]*[a-z]{2}[a-z_\d]*", translated)) - set(recipes.names())
    assert words <= {"recipe", "floor", "cos", "pi"}
    assert "深度 11" in translated


def test_settings_that_are_names_stay():
    for text in ("imagenet_finetune", "evaluate", "my recipe from 3", "se_resnet50_1p"):
        assert ZH.settings(text) == text
    assert ZH.settings("sample, begun on other hardware or threads, 2 runs") == "sample，始于其他硬件或线程数，2 次运行"
    assert ZH.settings("imagenet_finetune, finetune, 96 px") == "imagenet_finetune，微调，96 像素"


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_the_tables_have_the_same_numbers_in_both_languages(form):
    english, translated = (render(rows([_record(depth=11)]), form, name) for name in ("en", "zh"))
    kept = [_numbers(re.sub(r"(?<=\d),(?=\d)", "", text)) for text in (english, translated)]
    assert form == "text" or kept[0] == kept[1]  # lines of text are cut at other places
    assert "竞品" in translated
    assert not re.search("[\u3000-\u9fff]", english)
    words = r"\b(documented|measured|settings|hardware|epoch|batch|document|error|paper|competitor|warm-up|from)\b"
    assert re.findall(words, translated) == []


def test_chinese_text_fits_the_terminal():
    lines = render(rows([_record(depth=11)]), "text", "zh").splitlines()
    assert max(map(width, lines)) <= WIDTH
    assert [line for line in lines if line.startswith(tuple("，。；）"))] == []


def test_wide_characters_take_two_columns():
    assert (width("ab"), width("批大小"), width("批 a")) == (2, 6, 4)
    assert (padded("批", 4), padded("批", 4, right=True)) == ("批  ", "  批")
    assert wrapped("学习率 0.1，预热", 8) == ["学习率", "0.1，预", "热"]
    assert wrapped("批大（小）号", 8, indent=" ") == ["批大", " （小）", " 号"]
    assert wrapped("批" + 9 * "x", 4) == ["批", "xxxx", "xxxx", "x"]
    assert wrapped("one two", 4) == ["one", "two"]


def test_the_command_speaks_chinese(capsys):
    assert main(["--lang", "zh"]) == 0
    assert "文档出处：SENet154" in capsys.readouterr().out
    assert main(["--lang", "zh", "--format", "markdown"]) == 0
    assert "| 来源 | 设置 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lang", "cn"], "choose one of en, zh"),
        (["--lang", "zh", "--format", "csv"], "--lang is not for csv"),
        (["--lang", "zh", "--format", "json"], "--lang is not for json"),
        (["--lang", "zh", "--update-readme", "README.md"], "leave --lang out"),
        (["--lang", "zh", "--check", "README.md"], "leave --lang out"),
        (["--lang", "zh", "--publish", "runs"], "leave --lang out"),
    ],
)
def test_a_language_that_would_have_no_effect_is_refused(arguments, said, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_a_terminal_without_chinese_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert main([]) == 0
    assert main(["--lang", "zh"]) == 2
    assert capsys.readouterr().err.startswith("error: the terminal's encoding, ascii, has no Chinese; set PYTHON")
    assert main(["--lang", "zh", "--output", str(tmp_path / "table.txt")]) == 0
    assert "文档出处" in (tmp_path / "table.txt").read_text(encoding="utf-8")
