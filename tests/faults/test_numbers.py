"""One round of each case in numbers_cases.py."""

from tests.faults.commands import load_framework
from tests.faults.short import short_form

load_framework()  # here, where it is no test's time
test_nothing_is_lost = short_form("numbers")
