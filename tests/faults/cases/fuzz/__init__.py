"""Fuzzing: valid files and command lines, mutated with a fixed seed. Never a crash, a hang or a wrong count."""

from __future__ import annotations

from tests.faults.cases.fuzz import checkpoints, cifar_batches, command_line, images, shards, tf_checkpoints, val_lists

CASES = [
    *images.CASES,
    *cifar_batches.CASES,
    *checkpoints.CASES,
    *shards.CASES,
    *val_lists.CASES,
    *tf_checkpoints.CASES,
    *command_line.CASES,
]
