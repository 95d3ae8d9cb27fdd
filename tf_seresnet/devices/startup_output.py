"""What native libraries write to standard error while they start."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from typing import Iterator

_CHATTER = (
    "All log messages before absl::InitializeLog() is called",
    "oneDNN custom operations are on",
    "TensorFlow binary is optimized",
    "To enable the following instructions",
    "MLIR V1 optimization pass is not enabled",
)


@contextlib.contextmanager
def native_chatter_dropped() -> Iterator[None]:
    """Hold back what native code writes to standard error, known start-up messages apart; show the rest afterwards."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held.read().decode("utf-8", "replace").splitlines():
                if line.strip() and not any(known in line for known in _CHATTER):
                    print(line, file=sys.stderr)
