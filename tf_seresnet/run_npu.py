"""The old port's start file for an Ascend NPU: `python tf_seresnet/run_npu.py --data_path DIR`."""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # instead of this folder

from tf_seresnet.main import main

if __name__ == "__main__":
    sys.exit(main(["--port", "tf", "--device", "npu", *sys.argv[1:]]))
