"""config.json of a run: everything that decided what the run does, as it was resolved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

from shared.recipes.base import Recipe
from shared.run import provenance
from shared.system.atomic_files import write_atomic


def write_config(folder: Path, recipe: Recipe, identity: Dict[str, Any], **parts: Any) -> None:
    """Write config.json into the run's folder. Raises OSError.

    `identity` follows the command, as the job of a restarted process does. `parts` are, in this order, network,
    options, device, global_batch_size, data and versions, each as it is to be read again.
    """
    versions = parts.pop("versions")
    content = {
        "command": provenance.command(),
        **identity,
        "commit": provenance.commit(),
        "recipe": recipe.to_json(),
        "learning_rate": recipe.schedule.describe(),
        **parts,
        "machine": provenance.machine(),
        "versions": versions,
    }
    write_atomic(folder / "config.json", json.dumps(content, indent=2) + "\n")
