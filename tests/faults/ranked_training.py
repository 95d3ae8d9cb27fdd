"""tests/torch_imagenet/ranks_driver.py whose first rank notes what a power cut leaves of a folder.

    FAULTS_ROOT=DIR FAULTS_SHADOW=DIR python tests/faults/ranked_training.py train --distributed --num-devices 2 ...
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.faults import power_cut
from tests.torch_imagenet.small_network import create_small
from torch_imagenet import network_spec
from torch_imagenet.main import main

if __name__ == "__main__":
    network_spec.create = create_small
    if os.environ.get("RANK") == "0" and os.environ.get("FAULTS_SHADOW"):
        power_cut.record(Path(os.environ["FAULTS_ROOT"]), Path(os.environ["FAULTS_SHADOW"]))
    sys.exit(main())
