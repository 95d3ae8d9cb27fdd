"""The mode `check-data`: is this folder ImageNet, whole and undamaged? With --sort-val, val/ is sorted instead."""

from __future__ import annotations

import os
from typing import Any

from shared import imagenet, sample
from shared.errors import UsageError
from shared.imagenet_check import check
from shared.imagenet_sort import sort_val
from shared.interrupts import Interrupts
from shared.run_log import RunLog
from torch_imagenet.options import workers


def check_data(options: Any, interrupts: Interrupts) -> None:
    """Print what is there, each fault and remark, the verdict last. Raises DataError if there was a fault."""
    with RunLog(None) as log:
        path, name = options.data_path or imagenet.FOLDER, None
        if not options.data_path and not os.path.isdir(path):
            if options.sort_val:
                raise UsageError(f"no ./{path} to sort; name the folder that holds val/ with --data-path DIR")
            log.line("data: no ImageNet here, so the embedded sample is checked; name a folder with --data-path DIR")
            path, name = str(sample.imagenet_folder()), sample.NAME
        if options.sort_val:
            sort_val(path, options.sort_val, log.line)
        else:
            check(path, workers(options), log.line, name, interrupts.raise_if_requested)
