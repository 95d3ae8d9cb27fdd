"""The mode `check-data`: is this ImageNet, whole and undamaged?

With --sort-val, val/ is sorted instead; with --write-shards the images are written as tar shards, and those checked.
"""

from __future__ import annotations

import os
from typing import Any, Optional

from shared import imagenet, sample
from shared.cli.signals import Interrupts
from shared.errors import UsageError
from shared.imagenet.check import check
from shared.imagenet.download_cache import ShardCache, shown
from shared.imagenet.shards.write import write_shards
from shared.imagenet.sort_val import sort_val
from shared.run.log import RunLog
from torch_imagenet.options import shard_cache, workers


def check_data(options: Any, interrupts: Interrupts) -> None:
    """Print what is there, each fault and remark, the verdict last. Raises DataError if there was a fault."""
    if options.sort_val is not None and options.write_shards is not None:
        raise UsageError("--sort-val and --write-shards exclude each other; sort first, then write")
    with RunLog(None) as log:
        path, name = imagenet.FOLDER if options.data_path is None else options.data_path, None
        if options.data_path is None and not os.path.lexists(path):
            if options.sort_val is not None:
                raise UsageError(f"no ./{path} to sort; name the folder that holds val/ with --data-path DIR")
            log.line("data: no ImageNet here, so the embedded sample is checked; name a folder with --data-path DIR")
            path, name = str(sample.imagenet_folder()), sample.NAME
        if options.sort_val is not None:
            sort_val(path, options.sort_val, log.line)
            return
        shards = shard_cache(options, path)
        if options.write_shards is not None:
            _write_shards(options, path, name, shards, log, interrupts)
            path, shards = options.write_shards, None
        check(path, workers(options), log.line, name, interrupts.raise_if_requested, shards)


def _write_shards(
    options: Any, path: str, name: Optional[str], shards: Optional[ShardCache], log: RunLog, interrupts: Interrupts
) -> None:
    data = imagenet.load(path, None, name=name, shard_cache=shards)
    parts = (data.val,) if data.train is None else (data.train, data.val)
    log.line(f"shards of {data.name} from {shown(data.path)} to {options.write_shards}")
    write_shards(
        data.name, parts, options.write_shards, options.shard_size * 2**20, log.line, interrupts.raise_if_requested
    )
