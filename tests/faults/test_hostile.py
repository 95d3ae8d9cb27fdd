"""One round of each case in cases/hostile."""

from tests.faults.pytest_cases import short_form

test_nothing_is_lost = short_form("hostile")
