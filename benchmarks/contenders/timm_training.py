"""torch_imagenet/main.py with one network more, timm_seresnet50: timm's, in this program's loop.

python benchmarks/contenders/timm_training.py train --network timm_seresnet50 --recipe imagenet_finetune [options]

Batches, augmentation, schedule, optimizer and evaluation are this program's, so that a comparison is one of networks.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Optional, Sequence

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # in place of this folder

from torch_imagenet.networks.registry import NETWORKS, Spec  # noqa: E402

NAME = "timm_seresnet50"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """The exit status; see `shared.cli.entry_point`."""
    from torch_imagenet.main import main as program

    register()
    return program(argv)


def register() -> None:
    """Make the network one of the program's, for this process."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the program has it, before torch loads
    from torch_imagenet.networks import spec
    from torch_imagenet.run import log_lines

    own = spec.create

    def create(
        name: str, num_classes: int = 1000, dropout: Optional[float] = None, drop_path: float = 0.0, **settings: Any
    ) -> Any:
        """timm's network by its name here, else one of the program's."""
        if name != NAME:
            return own(name, num_classes, dropout, drop_path, **settings)
        from benchmarks.torchvision_import import import_torchvision

        import_torchvision()
        import timm

        return timm.create_model(  # whose branches begin at zero
            "seresnet50", num_classes=num_classes, drop_rate=dropout or 0.0, drop_path_rate=drop_path
        )

    NETWORKS[NAME] = Spec(head="fc")
    spec.create = create
    log_lines._FORMS[NAME] = log_lines._FORMS["se_resnet50"]


if __name__ == "__main__":
    sys.exit(main())
