"""Measures the decoding rate of this machine's cores, an input of the scaling model.

    python benchmarks/scaling/inputs.py --data-path FOLDER [--images 320] [--rounds 7]
        [--output benchmarks/scaling/measured.json]

FOLDER holds one folder of images per class, like train/ of ImageNet, of the size of the training images. The rate is
that of the input pipeline in one process, from file to a batch of crops at 224 and at 331 pixels, in images per second
of processor time: the median over the rounds, the lowest and the highest.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Dict, List

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch  # noqa: E402

from benchmarks.imagenet_input import clock, default_cropper, ours  # noqa: E402
from benchmarks.timing import measure  # noqa: E402
from shared.cli.parser import Parser, number  # noqa: E402
from shared.imagenet.split import scan  # noqa: E402
from shared.run import provenance  # noqa: E402
from shared.run.log import now  # noqa: E402
from shared.system.atomic_files import write_atomic  # noqa: E402
from shared.system.paths import expanded  # noqa: E402

SIZES = (224, 331)  # pixels


def summary(values: List[float]) -> Dict[str, float]:
    """Median, lowest and highest, with four significant digits."""
    found = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--data-path", type=expanded, required=True)
    parser.add_argument("--batch-size", type=number(int, 1), default=32)
    parser.add_argument("--images", dest="round_images", type=number(int, 1), default=320, help="of a round, at least")
    parser.add_argument("--rounds", type=number(int, 1), default=7)
    parser.add_argument("--output", type=lambda text: Path(expanded(text)))
    return parser


def main() -> None:
    """Measure, print, and write the file of --output."""
    options = _parser().parse_args()
    torch.set_num_threads(1)
    split = scan(options.data_path)
    sized = {str(size): argparse.Namespace(**vars(options), image_size=size) for size in SIZES}
    load = os.getloadavg()[0]
    cropper = default_cropper()
    contenders = {size: ours(split, chosen, 0, cropper) for size, chosen in sized.items()}
    rows = measure(contenders, options.rounds, clock=clock(0))
    result = {
        "machine": provenance.machine(),
        "date": now()[:10],
        "torch": torch.__version__,
        "rounds": options.rounds,
        "decoder": "crop" if cropper else "pillow",
        "load": round(load, 1),
        "images_per_second_and_core": {row.name: summary(row.rates) for row in rows},
    }
    text = json.dumps(result, indent=2) + "\n"
    if options.output:
        write_atomic(options.output, text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
