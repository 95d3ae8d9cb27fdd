"""benchmarks/timing.py: contenders take turns, and a ratio is that of the rates of one round."""

from __future__ import annotations

from benchmarks.timing import measure, report


def test_contenders_take_turns_and_are_compared_within_a_round():
    now, calls = [0.0], []

    def contender(name, seconds):
        def run(attempt):
            calls.append((attempt, name))
            now[0] += seconds * (1 + attempt)  # a machine that becomes slower
            return 6

        return run

    rows = measure({"slow": contender("slow", 3.0), "quick": contender("quick", 1.5)}, 2, clock=lambda: now[0])
    assert calls == [(0, "slow"), (0, "quick"), (1, "quick"), (1, "slow"), (2, "slow"), (2, "quick")]
    slow, quick = rows
    assert (slow.seconds, slow.rates, slow.ratios) == ([6.0, 9.0], [1.0, 6 / 9], [1.0, 1.0])
    assert (quick.seconds, quick.ratios) == ([3.0, 4.5], [2.0, 2.0])
    assert report(rows).splitlines()[1].split() == "quick 3750.0 ms 1.7 images/s ratio 2.000 (2.000 to 2.000)".split()
