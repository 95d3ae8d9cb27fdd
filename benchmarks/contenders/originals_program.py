"""The original's CIFAR-10 program as far as its second step: python originals_program.py DEPTH BATCH DEVICE."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])  # in place of this folder

from benchmarks.contenders.cifar10_step import originals_loop  # noqa: E402


def main() -> None:
    """Build the graph, then two steps."""
    depth, batch, device = sys.argv[1:]
    step, _ = originals_loop({"depth": int(depth), "batch": int(batch), "device": device})
    for number in range(2):
        step(number)
        sys.stdout.write(f"step {number + 1}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
