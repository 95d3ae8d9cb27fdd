"""The comparison of an exported file with its network, and what is printed for an Ascend NPU."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple

import numpy as np

from shared.errors import UsageError

# By precision, the largest difference of a logit from the network's in float32, relative to the largest logit. float16
# rounds to 11 bits; bfloat16 to 8, so that its differences are eight times as large.
TOLERANCES = {"O0": 1e-5, "O2": 1e-2, "bf16": 8e-2}
_FORMS = {"O0": "float32", "O2": "weights in float16", "bf16": "weights in bfloat16"}

Forward = Callable[[np.ndarray], np.ndarray]  # a batch of images to logits [images, classes]


def precision_of(given: Optional[str], forms: Sequence[str] = ("O0", "O2")) -> str:
    """float32 (O0) unless --precision says otherwise: what a run was trained in does not matter to another runtime."""
    level = given or "O0"
    if level not in forms:
        choices = " or ".join(f"{form} ({_FORMS[form]})" for form in forms)
        raise UsageError(f"export has no form {level}; give --precision {choices}")
    return level


def batches(batch_size: Optional[int], side: int) -> List[np.ndarray]:
    """Random images uint8 [N, side, side, 3] to compare with, always the same: batches of 1 and 7, or of the size."""
    random = np.random.RandomState(0)
    return [
        random.randint(0, 256, (count, side, side, 3)).astype(np.uint8)
        for count in ((batch_size,) if batch_size else (1, 7))
    ]


def check_finite(logits: Sequence[np.ndarray]) -> None:
    """Raise UsageError where the network itself has no result."""
    if not all(np.isfinite(batch).all() for batch in logits):
        raise UsageError("the network's own logits are not finite; check the weights with the mode evaluate")


def compared(
    forward: Forward, inputs: Sequence[np.ndarray], own: Sequence[np.ndarray], level: str, least: float = 0.0
) -> str:
    """A line with the largest difference of a file's logits from the network's `own` of the same batches.

    Raises UsageError beyond what the precision `level` allows, and `least` if that is more, relative to the largest
    logit.
    """
    largest, allowed = 0.0, max(TOLERANCES[level], least)
    for images, wanted in zip(inputs, own):
        found = forward(images)
        if found.shape != wanted.shape:
            raise UsageError(
                f"the exported file gives {list(found.shape)} for {list(wanted.shape)}; nothing is written"
            )
        off = float(np.abs(found - wanted).max() / max(float(np.abs(wanted).max()), 1e-30))
        largest = max(largest, off if math.isfinite(off) else math.inf)
    text = f"of the largest logit at batch size {' and '.join(str(len(images)) for images in inputs)}"
    if largest > allowed:
        what = f"the exported file differs from the network by {largest:.1e} {text}, allowed is {allowed:g}"
        raise UsageError(f"{what}; nothing is written, try another --format, or another release of its packages")
    return f"checked: differs from the network by at most {largest:.1e} {text} (allowed: {allowed:g})"


def atc_lines(output: Path, framework: int, shape: Sequence[int], more: str = "") -> Tuple[str, ...]:
    """The line that converts the file for an Ascend NPU, and what it leaves open.

    `framework` is atc's number of the file's kind, `shape` that of the input `images`, `more` further options.
    """
    model, stem = json.dumps(str(output)), json.dumps(str(output.with_suffix("")))
    sizes = f'--input_shape="images:{",".join(map(str, shape))}"'
    return (
        "for Ascend, SOC_VERSION being Ascend and the chip's name that npu-smi info shows, as in Ascend910B3:",
        f"atc --framework={framework} --model={model} --output={stem} {sizes} {more}--soc_version=SOC_VERSION",
    )
