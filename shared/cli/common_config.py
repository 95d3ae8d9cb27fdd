"""The options of `common_parser` as a frozen object, which the `RunConfig` of each half extends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence, Tuple

from shared.errors import UsageError
from shared.roofline import Accelerator


@dataclass(frozen=True)
class CommonConfig:
    """What the command line says, by the parser's names. None: not given, and the recipe or a default decides."""

    mode: str
    # -- What to run -------------------------------------------------------------------------------------------
    recipe: Optional[str]
    network: Optional[str]
    data_path: Optional[str]
    device: str
    precision: Optional[str]
    deterministic: bool
    workers: Optional[int]
    restrict_classes: bool
    distributed: bool
    num_devices: Optional[int]
    # -- Training: each overrides a field of the recipe --------------------------------------------------------
    epochs: Optional[int]
    max_steps: Optional[int]
    batch_size: Optional[int]  # images per device
    learning_rate: Optional[float]
    scheduler: Optional[str]
    milestones: Optional[Tuple[int, ...]]
    factors: Optional[Tuple[float, ...]]
    warm_up_epochs: Optional[int]
    momentum: Optional[float]
    weight_decay: Optional[float]
    seed: Optional[int]
    # -- Files and reports -------------------------------------------------------------------------------------
    output_dir: Optional[str]
    resume: Optional[str]
    checkpoint: Optional[str]
    save_steps: Optional[int]
    keep: int  # numbered checkpoints
    print_freq: int  # steps per log line
    # -- The limits of the device ------------------------------------------------------------------------------
    peak_flops: Optional[float]
    memory_bandwidth: Optional[float]

    @property
    def accelerator(self) -> Optional[Accelerator]:
        """The limits of the device for the roofline of a step; None where they are not given."""
        if self.peak_flops and self.memory_bandwidth:
            return Accelerator(self.peak_flops, self.memory_bandwidth)
        return None

    def given(self, names: Sequence[str]) -> Dict[str, Any]:
        """Those of these options that are given, by name."""
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def check_one_checkpoint(self) -> None:
        """Raise UsageError where both --resume and --checkpoint are given."""
        if self.resume is not None and self.checkpoint is not None:
            raise UsageError(
                "--resume and --checkpoint exclude each other; --resume continues a run, --checkpoint starts one"
            )

    def to_json(self) -> Dict[str, Any]:
        """What was given or has a default, by name, for config.json."""
        return {name: value for name, value in sorted(vars(self).items()) if value is not None}
