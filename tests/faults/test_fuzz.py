"""One round of each quick case in cases/fuzz."""

from tests.faults.pytest_cases import quick_test

test_nothing_is_lost = quick_test("fuzz")
