"""Faults done to real runs and real files on purpose: nothing may be lost, nothing may be let in.

`bash tests/faults/run.sh` runs the long form of all of it; pytest runs one short round of most.
"""
