"""The text of a PDF printed by Chromium, for tests that need no PDF library."""

from __future__ import annotations

import re
import zlib
from typing import Dict, List


def texts(pdf: bytes) -> List[str]:
    """The text of each page in drawing order, without separators. Unknown glyphs become U+FFFD."""
    objects = {int(number): body for number, body in re.findall(rb"(?s)\n(\d+) 0 obj\n(.*?)\nendobj", pdf)}
    pages = [body for body in objects.values() if re.search(rb"/Type /Page\b", body)]
    return [_page_text(page, objects) for page in pages]


def _page_text(page: bytes, objects: Dict[int, bytes]) -> str:
    fonts = {name: _letters(objects[int(number)], objects) for name, number in re.findall(rb"/(F\d+) (\d+) 0 R", page)}
    drawn, letters = [], {}
    for name, glyphs in re.findall(rb"/(F\d+) \S+ Tf|<([0-9A-Fa-f]+)>", _stream(_number(b"Contents", page), objects)):
        if name:
            letters = fonts[name]
        drawn += [letters.get(int(glyphs[start : start + 4], 16), "\ufffd") for start in range(0, len(glyphs), 4)]
    return "".join(drawn)


def _letters(font: bytes, objects: Dict[int, bytes]) -> Dict[int, str]:
    """The text of each glyph of a font. Chromium's glyph numbers have four hexadecimal digits."""
    table = _stream(_number(b"ToUnicode", font), objects)
    letters = {}
    for block in re.findall(rb"(?s)beginbfchar(.*?)endbfchar", table):
        for glyph, text in re.findall(rb"<(\w+)> <(\w+)>", block):
            letters[int(glyph, 16)] = bytes.fromhex(text.decode()).decode("utf-16-be")
    for block in re.findall(rb"(?s)beginbfrange(.*?)endbfrange", table):
        for first, last, text in re.findall(rb"<(\w+)> <(\w+)> <(\w+)>", block):
            for glyph in range(int(first, 16), int(last, 16) + 1):
                letters[glyph] = chr(int(text, 16) + glyph - int(first, 16))
    return letters


def _number(key: bytes, body: bytes) -> int:
    return int(re.search(rb"/" + key + rb" (\d+) 0 R", body).group(1))


def _stream(number: int, objects: Dict[int, bytes]) -> bytes:
    return zlib.decompress(objects[number].partition(b"stream\n")[2])
