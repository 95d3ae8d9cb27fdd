"""One round of each case in processes_cases.py."""

from tests.faults.short import short_form

test_nothing_is_lost = short_form("processes")
