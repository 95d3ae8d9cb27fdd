"""1,797 real handwritten digits, stored in `digits.bin` beside this file.

Source: the test part of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak (1998), UCI Machine
Learning Repository, https://archive.ics.uci.edu/ml/datasets/Optical+Recognition+of+Handwritten+Digits, licensed
CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/); unchanged, in the order of scikit-learn's `load_digits`.
The file is zlib-compressed: the pixels of all images, one byte each, then all labels.
"""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from typing import Tuple

import numpy as np

from shared.errors import DataError
from shared.system.paths import reading

IMAGES = 1797
_FILE = Path(__file__).with_name("digits.bin")
_SHA256 = "ebdc9ff3d40ea662f807a776c2029e3a6f5eca5e57cd67e770f28bce43a16d1e"


def load() -> Tuple[np.ndarray, np.ndarray]:
    """Return uint8 [1797, 8, 8] in 0 .. 16 and int64 labels [1797] in 0 .. 9.

    Raises DataError if the file is missing or damaged.
    """
    with reading(_FILE, "install this project again"):
        stored = _FILE.read_bytes()
    if hashlib.sha256(stored).hexdigest() != _SHA256:
        raise DataError(f"{_FILE} is damaged; install this project again, or give --data-path")
    content = np.frombuffer(zlib.decompress(stored), np.uint8)
    return content[: IMAGES * 64].reshape(IMAGES, 8, 8), content[IMAGES * 64 :].astype(np.int64)
