"""The data set of a run: where it is looked for, and what a record says about it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Optional, Tuple

from shared import imagenet, sample
from shared.class_names import Classes
from shared.errors import UsageError, one_line
from shared.imagenet.dataset import ImageNet
from shared.imagenet.download_cache import is_url, shown
from shared.imagenet.split import WHOLE, Split
from shared.system.paths import check_there
from shared.text import in_utf8, of_system
from torch_imagenet.input_pipeline.jpeg_crop import JpegCropper, Unavailable, make_cropper
from torch_imagenet.options import RunConfig, shard_cache


@dataclass(frozen=True)
class Data:
    """The data set of a run, where it came from, and what decodes its images: None is Pillow."""

    content: ImageNet
    remark: str
    cropper: Optional[JpegCropper] = None
    decoder_remark: str = ""

    @property
    def lines(self) -> List[str]:
        """What the log says of it."""
        return [self.remark, *self.content.remarks, *filter(None, [self.decoder_remark])]

    @property
    def decoder(self) -> str:
        """The name of what decodes the images, as --decoder takes it."""
        return "pillow" if self.cropper is None else "crop"

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


def load_data(config: RunConfig, state: Optional[Dict[str, Any]] = None, resumed: bool = False) -> Data:
    """In this order: --data-path, what the run of the checkpoint with this `state` used, ./imagenet, and where nobody
    has named data or weights the embedded sample.

    In a run that is `resumed` the training images have the order that they had; an evaluation has val/ alone. Raises
    UsageError where what is named is not there.
    """
    name, remark = None, "data: {name} from {path}"
    if config.data_path is not None:
        path = config.data_path
    elif state is not None:
        path, name = of_system(state["data"]["path"]), state["data"]["name"]
        if sample.is_cached(path) and not os.path.lexists(path):  # its folder is gone, and is made again
            path = str(sample.imagenet_folder())
        if not is_url(path):
            check_there(path)
        remark += ", where the checkpoint was trained"
    elif os.path.lexists(imagenet.FOLDER):
        path, remark = imagenet.FOLDER, f"data: {{name}} from ./{imagenet.FOLDER}"
    elif config.checkpoint is not None or config.resume is not None:
        raise UsageError(f"no data set is named, and there is no ./{imagenet.FOLDER}; name one with --data-path DIR")
    else:
        path, name = str(sample.imagenet_folder()), sample.NAME
        remark = (
            f"data: no ImageNet here, so the embedded sample is used ({sample.TRAIN_IMAGES} handwritten digits to train"
            f" on, {sample.TEST_IMAGES} to test on); give the real data with --data-path DIR"
        )
    splits = ("val",) if config.mode == "evaluate" else ("train", "val")
    content = imagenet.load(path, splits, name, shard_cache=shard_cache(config, path))
    if state is not None and resumed and content.train is not None:
        content = replace(content, train=content.train.ordered(state["data"].get("order", WHOLE)))
    cropper, decoder_remark = _cropper(config, is_sample=sample.is_cached(path))
    return Data(content, remark.format(name=content.name, path=shown(content.path)), cropper, decoder_remark)


def _cropper(config: RunConfig, is_sample: bool) -> Tuple[Optional[JpegCropper], str]:
    """What decodes the images in the place of Pillow, and a line about it. The sample's are too small to gain by it.

    Raises UsageError where --decoder crop is given and cannot be had.
    """
    if config.decoder == "pillow" or (config.decoder is None and is_sample):
        return None, ""
    try:
        return make_cropper(), "decoder: crop, which decodes no more of a JPEG than is needed; the pixels are Pillow's"
    except Unavailable as error:
        if config.decoder is not None:
            raise UsageError(f"--decoder crop cannot be had: {error}; mend that, or leave the option out") from error
        return None, f"decoder: pillow; the faster one (--decoder crop) cannot be had: {one_line(str(error))}"
