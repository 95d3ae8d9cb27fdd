"""The mode `check-data`: is this folder CIFAR-10, whole and undamaged?"""

from __future__ import annotations

import os
from typing import Any

from shared import cifar10, sample
from shared.run.log import RunLog


def check_data(options: Any) -> None:
    """Print what is there, file by file. Raises DataError at the first fault."""
    with RunLog(None) as log:
        path = cifar10.FOLDER if options.data_path is None else options.data_path
        if options.data_path is None and not os.path.lexists(path):
            log.line("data: no CIFAR-10 here, so the embedded sample is checked; name a folder with --data-path DIR")
            path = str(sample.cifar10_folder())
        for line in cifar10.describe(path):
            log.line(line)
