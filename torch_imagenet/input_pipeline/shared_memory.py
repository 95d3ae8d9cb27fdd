"""Workers pass their batches through shared memory, of which a container has little: how much a run needs of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, List

from torch_imagenet.options import workers

if TYPE_CHECKING:
    from torch_imagenet.run.setup import RunSetup

FOLDER = "/dev/shm"  # where Linux has it
_AHEAD = 2  # batches that torch's DataLoader lets a worker make before they are asked for; its default


def needed(workers: int, steps: int, batch_size: int, image_size: int) -> int:
    """The most bytes that batches of uint8 images take at a time: those made ahead, and two that are read."""
    return (min(_AHEAD * workers, steps) + 2) * batch_size * image_size**2 * 3


def notes(setup: RunSetup, folder: str = FOLDER) -> List[str]:
    """A line where the ranks of this machine need more than is free; none where that cannot be known."""
    if setup.data is None:
        return []
    try:
        status = os.statvfs(folder)
    except OSError:
        return []
    ranks, size, processes = setup.ranks.local_size, setup.recipe.image_size, workers(setup.config)
    parts = [(len(setup.data.content.val), setup.eval_batch_size)]
    if setup.data.content.train is not None:
        parts.append((len(setup.data.content.train), setup.recipe.batch_size))
    rank = max(needed(processes, -(-images // (setup.ranks.size * batch)), batch, size) for images, batch in parts)
    free = status.f_bavail * status.f_frsize
    if rank * ranks <= free:
        return []
    each = f"{rank / 2**20:.0f} MiB" if ranks == 1 else f"{ranks} x {rank / 2**20:.0f} MiB"
    return [
        f"batches may take {each} of shared memory, and {folder} has {free / 2**20:.0f} MiB free; raise its limit"
        " (docker run --shm-size), or use fewer --workers or a smaller --batch-size"
    ]
