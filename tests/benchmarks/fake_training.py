"""In place of tf_seresnet/main.py: resolves the options, trains nothing, and writes the files of a run.

With FAKE_TRAINING=wait a new run waits until it is asked to stop, and leaves a checkpoint; FAKE_TRAINING=fail fails.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

from shared.recipes.cifar10 import RECIPES  # noqa: E402
from shared.results.record import build_record, write_record  # noqa: E402
from tf_seresnet.options import RECIPE_OPTIONS, RunConfig  # noqa: E402


def main() -> int:
    """What the program does with these files and exit statuses."""
    config = RunConfig.from_argv()
    recipe = RECIPES[config.recipe]().override(**config.given(RECIPE_OPTIONS))
    recipe = recipe.override(network=f"se_resnet{recipe.depth}")
    folder = Path(config.resume or config.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(
        json.dumps({"recipe": recipe.to_json(), "options": config.to_json()}), encoding="utf-8"
    )
    doing = os.environ.get("FAKE_TRAINING", "")
    if doing == "fail":
        return 2
    if doing == "wait" and config.resume is None:
        signal.signal(signal.SIGTERM, lambda number, frame: _stopped(folder))
        signal.signal(signal.SIGINT, lambda number, frame: _stopped(folder))
        (folder / "waiting").touch()
        time.sleep(60)
    modern = "modern" in recipe.name
    record = build_record(
        half="tf_seresnet",
        mode="train",
        network=recipe.network,
        recipe=recipe.name,
        dataset={"name": "cifar-10"},
        device={"kind": "cpu", "name": "a CPU", "count": 1},
        layers=config.layers or "core",
        precision=recipe.precision,
        batch_size=recipe.batch_size,
        global_batch_size=recipe.batch_size,
        epochs_completed=recipe.epochs,
        steps_completed=recipe.epochs,
        images_trained=500000,
        evaluation={"images": 10000, "loss": 0.5, "top1": 80.0 + 2 * modern + recipe.seed, "top5": 99.0},
        versions={"python": "3.11"},
        commit="c0ffee",
        earlier_commits=["bead"] if config.resume else None,
        started="2026-01-02T03:04:05",
        seconds=60.0,
        seed=recipe.seed,
    )
    write_record(folder / "result.json", record)
    return 0


def _stopped(folder: Path) -> None:
    (folder / "checkpoints" / "step-00000001").mkdir(parents=True)
    os._exit(143)


if __name__ == "__main__":
    sys.exit(main())
