"""A training of several ranks, like tests/torch_imagenet/distributed/driver.py, whose rank 0 records its fsyncs.

    FAULTS_ROOT=DIR FAULTS_SHADOW=DIR python tests/faults/ranked_training.py train --distributed --num-devices 2 ...

FAULTS_MEMORY=1,4: rank 1 runs out of memory in the forward pass of more than four images.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.faults import power_cut
from tests.faults.commands import memory_for
from tests.torch_imagenet.small_network import create_small
from torch_imagenet.main import main
from torch_imagenet.networks import spec

if __name__ == "__main__":
    spec.create = create_small
    if os.environ.get("RANK") == "0" and os.environ.get("FAULTS_SHADOW"):
        power_cut.record(Path(os.environ["FAULTS_ROOT"]), Path(os.environ["FAULTS_SHADOW"]))
    short, _, images = os.environ.get("FAULTS_MEMORY", "").partition(",")
    with memory_for(int(images)) if short and os.environ.get("RANK") == short else contextlib.nullcontext():
        status = main()
    sys.exit(status)
