"""The old port's start file of an evaluation: `python tf_seresnet/eval.py --data_path DIR`."""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # instead of this folder

from tf_seresnet.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", "--port", "tf", *sys.argv[1:]]))
