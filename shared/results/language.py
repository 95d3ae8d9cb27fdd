"""The languages of the tables and the page. The code says every phrase in English; another language looks it up."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Sequence, Tuple

from shared.results import chinese, chinese_page


@dataclass(frozen=True)
class Language:
    """Calling it with an English phrase gives the phrase in this language, with its `{values}` filled in."""

    name: str  # of `--lang`
    tag: str = "en"  # BCP 47, of the page
    phrases: Mapping[str, str] = field(default_factory=dict)
    # Regular expressions, in their order, and what replaces them, for texts that other rooms have worded.
    of_settings: Sequence[Tuple[str, str]] = ()
    of_hardware: Sequence[Tuple[str, str]] = ()
    of_verdict: Sequence[Tuple[str, str]] = ()

    def __call__(self, english: str, **values: Any) -> str:
        """Without a translation the English phrase; a test holds that every phrase of the code has one."""
        return self.known(english).format(**values)

    def known(self, text: str) -> str:
        """A text of a record, such as its mode, in this language where it is one of the phrases; never a template."""
        return self.phrases.get(text, text)

    def settings(self, text: str) -> str:
        """The settings of a row: a recipe, a schedule as `Schedule.describe` words it, depth, image size, mode."""
        return _reworded(text, self.of_settings)

    def hardware(self, text: str) -> str:
        """What a row was measured on: devices, and of a CPU its instructions and cores."""
        return _reworded(text, self.of_hardware)

    def verdict(self, text: str) -> str:
        """What check-port concludes, or found in a layer; the words of a layer's own check stay English."""
        return _reworded(text, self.of_verdict)


def _reworded(text: str, patterns: Sequence[Tuple[str, str]]) -> str:
    for pattern, replacement in patterns:
        text = re.sub(pattern, replacement, text)
    return text


ENGLISH = Language("en")
LANGUAGES: Dict[str, Language] = {
    "en": ENGLISH,
    "zh": Language(
        "zh",
        "zh-CN",
        {**chinese.PHRASES, **chinese_page.PHRASES},
        chinese.SETTINGS,
        chinese.HARDWARE,
        chinese_page.VERDICT,
    ),
}
