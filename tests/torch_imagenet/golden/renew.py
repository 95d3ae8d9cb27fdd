"""Write the golden files of this half anew: `python tests/torch_imagenet/golden/renew.py`, in two minutes.

agreement.json is what timm's, Cadene's and torchvision's networks give (requirements/test-imagenet.txt),
twenty_steps.json what this version of the program does. Look at the difference before you commit it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.torch_imagenet.golden import twenty_steps
from tests.torch_imagenet.networks import agreement

if __name__ == "__main__":
    agreement.renew()
    twenty_steps.renew()
