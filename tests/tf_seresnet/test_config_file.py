"""A run that is started from its own config.json computes the same, bit for bit."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("tensorflow")

from tf_seresnet.main import main  # noqa: E402


def losses(folder):
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(event["event"], event["step"], event["loss"], event.get("learning_rate")) for event in events]


@pytest.mark.slow
@pytest.mark.once
def test_a_run_from_its_own_config_is_the_same_run(train, tmp_path):
    first = train("--max-steps", "3", "--seed", "5", "--lr", "0.03", "-p1")
    second = tmp_path / "second"
    assert main(["--config", str(first.folder), "--output-dir", str(second)]) == 0
    assert losses(second) == losses(first.folder)
    assert len(losses(second)) > 3
