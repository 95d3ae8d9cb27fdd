"""The start file of PNASNet's old port: `python torch_imagenet/imagenet_fast.py --data DIR`."""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # instead of this folder

from torch_imagenet.main import main

if __name__ == "__main__":
    sys.exit(main(["--port", "pnasnet5large", *sys.argv[1:]]))
