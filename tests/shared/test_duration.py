"""A length of time in words."""

from __future__ import annotations

import pytest

from shared.text import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 minutes"),
        (29, "0 minutes"),
        (61, "1 minutes"),
        (7199, "120 minutes"),
        (7200, "2.0 hours"),
        (5 * 3600, "5.0 hours"),
        (47.9 * 3600, "47.9 hours"),
        (48 * 3600, "2.0 days"),
        (3.3 * 86400, "3.3 days"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds, text):
    assert duration(seconds) == text
