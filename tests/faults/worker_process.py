"""A worker process with a loaded framework: one line of JSON per request and per reply."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Worker:
    """`python -m MODULE HALF`, running until this process ends."""

    def __init__(self, module: str, half: str) -> None:
        settings = dict(os.environ, OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE", TF_CPP_MIN_LOG_LEVEL="3")
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, half],
            cwd=str(ROOT),
            env=settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            universal_newlines=True,
            start_new_session=True,
        )
        atexit.register(self._end)

    def request(self, request: Any) -> Any:
        """Send a request and return the reply."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def _end(self) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait()
