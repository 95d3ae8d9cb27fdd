"""Start-up messages of native libraries on standard error."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from typing import Iterator

_STARTUP_MESSAGES = (
    "All log messages before absl::InitializeLog() is called",
    "oneDNN custom operations are on",
    "TensorFlow binary is optimized",
    "To enable the following instructions",
    "MLIR V1 optimization pass is not enabled",
    "Created TensorFlow Lite XNNPACK delegate",
    "oneDNN supports DT_HALF only on",  # else Eigen computes it, which is what an export's check needs
)


@contextlib.contextmanager
def startup_messages_dropped() -> Iterator[None]:
    """Inside, hold back standard error, native code's included; afterwards write all but known start-up messages."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held.read().decode("utf-8", "replace").splitlines():
                if line.strip() and not any(message in line for message in _STARTUP_MESSAGES):
                    print(line, file=sys.stderr)
