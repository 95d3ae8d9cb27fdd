"""A run that is started from its own config.json computes the same, bit for bit."""

from __future__ import annotations

import json

from torch_imagenet.main import main
from torch_imagenet.networks import spec as network_spec


def losses(folder):
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [(event["event"], event["step"], event["loss"], event.get("learning_rate")) for event in events]


def test_a_run_from_its_own_config_is_the_same_run(run_in, tmp_path, monkeypatch):
    from tests.torch_imagenet.conftest import create_small

    options = "--seed 5 --lr 0.03 --clip-norm 1 --mom 0.8 --no-affinity --do-not-preserve-aspect-ratio -p1".split()
    first = run_in(tmp_path / "first", *options, "--max-steps", "3")
    monkeypatch.setattr(network_spec, "create", create_small)
    words = ["--config", str(first.folder), "--output-dir", str(tmp_path / "second")]
    assert (first.status, main(words)) == (0, 0)
    assert losses(tmp_path / "second") == losses(first.folder)
    assert len(losses(first.folder)) == 4
    one, two = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("first", "second"))
    given = two["options"].pop("config")
    assert given == str(first.folder)
    changed = {name for name, value in one["options"].items() if two["options"].get(name) != value}
    assert changed == {"output_dir"}
    assert {name for name in one if one[name] != two[name]} == {"options"}
