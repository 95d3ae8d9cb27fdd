"""Bad data: files and words that were good once, mutated with a fixed seed. Never a crash, a hang, a wrong count."""

from __future__ import annotations

from tests.faults import (
    fuzz_batches,
    fuzz_checkpoints,
    fuzz_images,
    fuzz_lists,
    fuzz_shards,
    fuzz_tf_checkpoints,
    fuzz_words,
)

CASES = [
    *fuzz_images.CASES, *fuzz_batches.CASES, *fuzz_checkpoints.CASES, *fuzz_shards.CASES, *fuzz_lists.CASES,
    *fuzz_tf_checkpoints.CASES, *fuzz_words.CASES,
]  # fmt: skip
