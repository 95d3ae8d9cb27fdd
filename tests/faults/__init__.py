"""Fault injection into real runs and real files: nothing may be lost, nothing hostile may be accepted.

`bash tests/faults/run.sh` runs every case with all its rounds; pytest runs one round of most cases.
"""
