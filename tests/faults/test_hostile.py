"""One round of each quick case in cases/hostile."""

from tests.faults.pytest_cases import quick_test

test_nothing_is_lost = quick_test("hostile")
