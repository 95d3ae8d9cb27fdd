"""benchmarks/cifar10_step.py: it runs, tiny, and reports both sides; what is typed wrong is refused."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("tensorflow")
from benchmarks import cifar10_step  # noqa: E402  (needs TensorFlow)
from shared.errors import UsageError  # noqa: E402


@pytest.mark.slow
def test_it_compares_the_originals_step_with_ours(monkeypatch, capsys):
    argv = ["cifar10_step.py", "--depth=8", "--variant=paper", "--batch-size=4", "--rounds=1", "--device=cpu"]
    monkeypatch.setattr(sys, "argv", argv)
    cifar10_step.main()
    first, *rows = capsys.readouterr().out.splitlines()
    assert first.endswith("O0; depth 8, paper, batch 4, 1 rounds")
    assert [row.split("  ")[1] for row in rows] == ["original's step", "ours"]
    assert all("images/s   ratio" in row for row in rows)


def test_a_wrong_option_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["cifar10_step.py", "--rounds=0"])
    with pytest.raises(UsageError, match="--rounds"):
        cifar10_step.main()
