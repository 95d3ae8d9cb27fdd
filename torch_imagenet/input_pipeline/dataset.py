"""The data set of a run: where it is looked for, and what a record says about it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any, Dict, Optional, Sequence

from shared import imagenet, sample
from shared.class_names import Classes, Match
from shared.errors import UsageError
from shared.imagenet.dataset import ImageNet
from shared.imagenet.download_cache import is_url, shown
from shared.imagenet.split import WHOLE, Split
from shared.system.paths import check_there
from shared.text import in_utf8, of_system
from torch_imagenet.options import RunConfig, shard_cache


@dataclass(frozen=True)
class Data:
    """The data set of a run, and a line about where it came from."""

    content: ImageNet
    remark: str

    @property
    def train(self) -> Split:
        """The images to train on, of a data set that was loaded for training."""
        assert self.content.train is not None
        return self.content.train

    @property
    def classes(self) -> Classes:
        """What the labels stand for."""
        return Classes(self.content.classes, self.content.named)

    def describe(self) -> Dict[str, Any]:
        """The `dataset` part of a record."""
        content = self.content
        return {
            "name": content.name,
            "path": in_utf8(content.path),
            "train_images": len(content.train) if content.train is not None else None,
            "eval_images": len(content.val),
            "fingerprint": content.fingerprint,
            "classes": self.classes.stored(),
        }

    def labelled(self, found: Match) -> Data:
        """The validation images under the numbers and names that the network's outputs have."""
        val = replace(self.content.val, classes=found.names, labels=found.labels(self.content.val.labels))
        return replace(self, content=replace(self.content, classes=found.names, val=val))


def load_data(
    config: RunConfig,
    state: Optional[Dict[str, Any]] = None,
    need_train: bool = True,
    start: Optional[Dict[str, Any]] = None,
) -> Data:
    """In this order: --data-path, what the checkpoint's run used, ./imagenet, and where nobody has named data or
    weights the embedded sample.

    With the `state` of a run that is to be continued the training images have the order that they had in it; `start` is
    that of a run whose weights alone are taken. Raises UsageError where what is named is not there.
    """
    data = _found_data(config, state or start, ("train", "val") if need_train else ("val",))
    if state is None or not need_train:
        return data
    train = data.train.ordered(state["data"].get("order", WHOLE))
    return replace(data, content=replace(data.content, train=train))


def _found_data(config: RunConfig, state: Optional[Dict[str, Any]], splits: Sequence[str]) -> Data:
    if config.data_path is not None:
        content = imagenet.load(config.data_path, splits, shard_cache=shard_cache(config, config.data_path))
        return Data(content, f"data: {content.name} from {shown(content.path)}")
    if state is not None:
        content = _trained_on(config, state["data"], splits)
        return Data(content, f"data: {content.name} from {shown(content.path)}, where the checkpoint was trained")
    if os.path.lexists(imagenet.FOLDER):
        content = imagenet.load(imagenet.FOLDER, splits=splits)
        return Data(content, f"data: {content.name} from ./{imagenet.FOLDER}")
    if config.checkpoint is not None or config.resume is not None:
        raise UsageError(f"no data set is named, and there is no ./{imagenet.FOLDER}; name one with --data-path DIR")
    content = imagenet.load(sample.imagenet_folder(), splits=splits, name=sample.NAME)
    return Data(
        content,
        (
            f"data: no ImageNet here, so the embedded sample is used ({sample.TRAIN_IMAGES} handwritten digits to train"
            f" on, {sample.TEST_IMAGES} to test on); give the real data with --data-path DIR"
        ),
    )


def _trained_on(config: RunConfig, stored: Dict[str, Any], splits: Sequence[str]) -> ImageNet:
    """The data set that a checkpoint names. The embedded sample is made again where its folder is gone."""
    place = of_system(stored["path"])
    if sample.is_cached(place) and not os.path.lexists(place):
        place = str(sample.imagenet_folder())
    if not is_url(place):
        check_there(place)
    return imagenet.load(place, splits, stored["name"], shard_cache=shard_cache(config, place))
