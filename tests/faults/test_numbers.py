"""One round of each quick case in cases/numbers."""

from tests.faults.commands import load_framework
from tests.faults.pytest_cases import quick_test

load_framework()  # here, so that it does not count as a test's time
test_nothing_is_lost = quick_test("numbers")
