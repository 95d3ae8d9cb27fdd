"""The mode `check-data`: whether a folder is CIFAR-10, complete and undamaged."""

from __future__ import annotations

import os

from shared import cifar10, sample
from shared.run.log import RunLog
from tf_seresnet.options import RunConfig


def check_data(config: RunConfig) -> None:
    """Log what the folder holds, file by file. Raises DataError at the first fault."""
    with RunLog(None) as log:
        for note in config.command_notes:
            log.line(note)
        path = cifar10.FOLDER if config.data_path is None else config.data_path
        if config.data_path is None and not os.path.lexists(path):
            log.line("data: no CIFAR-10 here, so the embedded sample is checked; name a folder with --data-path DIR")
            path = str(sample.cifar10_folder())
        for line in cifar10.describe(path):
            log.line(line)
