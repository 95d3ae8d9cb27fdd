"""Whether this Python can run the checkout. Every Python 3 must be able to read this module and the main files."""

import importlib.util
import sys
from typing import Tuple

INSTALL_TENSORFLOW = "python -m pip install -r requirements/cpu.txt, or start with bash run_gpu.sh"
INSTALL_TORCH = (
    "python -m pip install -r requirements/torch.txt"
    " (on Linux without an NVIDIA GPU: -r requirements/torch-cpu.txt, a fifth of the size)"
)


def unfit(oldest: Tuple[int, int], install: str) -> bool:
    """Whether Python is older than `oldest`, or without NumPy, which all commands need; then an error is printed."""
    if sys.version_info[:2] < oldest:
        problem = "is Python {}.{}; use {}.{} or newer".format(*sys.version_info[:2], *oldest)
    elif importlib.util.find_spec("numpy") is None:
        problem = f"has no numpy; {install}"
    else:
        return False
    print(f"error: {sys.executable} {problem}", file=sys.stderr)
    return True
