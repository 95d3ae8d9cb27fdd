"""The mode `check-data`: is this ImageNet, whole and undamaged? It also sorts val/ and writes tar shards."""

from __future__ import annotations

import os

from shared import imagenet, sample
from shared.errors import UsageError
from shared.imagenet.check import check
from shared.imagenet.download_cache import shown
from shared.imagenet.shards.write import write_shards
from shared.imagenet.sort_val import sort_val
from shared.run.log import RunLog
from shared.system.signals import Interrupts
from torch_imagenet.options import RunConfig, shard_cache, workers


def check_data(config: RunConfig, interrupts: Interrupts) -> None:
    """Print what is there, each fault and remark, the verdict last. Raises DataError if there was a fault."""
    if config.sort_val is not None and config.write_shards is not None:
        raise UsageError("--sort-val and --write-shards exclude each other; sort first, then write")
    with RunLog(None) as log:
        for note in config.command_notes:
            log.line(note)
        path, name = imagenet.FOLDER if config.data_path is None else config.data_path, None
        if config.data_path is None and not os.path.lexists(path):
            if config.sort_val is not None:
                raise UsageError(f"no ./{path} to sort; name the folder that holds val/ with --data-path DIR")
            log.line("data: no ImageNet here, so the embedded sample is checked; name a folder with --data-path DIR")
            path, name = str(sample.imagenet_folder()), sample.NAME
        if config.sort_val is not None:
            sort_val(path, config.sort_val, log.line)
            return
        shards = shard_cache(config, path)
        if config.write_shards is not None:
            data, target = imagenet.load(path, None, name=name, shard_cache=shards), config.write_shards
            parts = (data.val,) if data.train is None else (data.train, data.val)
            log.line(f"shards of {data.name} from {shown(data.path)} to {target}")
            write_shards(data.name, parts, target, config.shard_size * 2**20, log.line, interrupts.raise_if_requested)
            path, shards = target, None
        check(path, workers(config), log.line, name, interrupts.raise_if_requested, shards)
