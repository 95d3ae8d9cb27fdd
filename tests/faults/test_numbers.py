"""One round of each case in cases/numbers."""

from tests.faults.commands import load_framework
from tests.faults.pytest_cases import short_form

load_framework()  # here, where it is no test's time
test_nothing_is_lost = short_form("numbers")
