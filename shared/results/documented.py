"""The result tables of the four originals, row by row, as data.

Every accuracy and throughput is a document's own number; `None` means that the document does not give it. Batch sizes,
image counts and footnotes come from the originals' scripts and say how a number was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Tuple


@dataclass(frozen=True)
class Documented:
    """One row of an original's table. Accuracies in percent, times as named, counts in images."""

    network: str
    dataset: str
    hardware: str
    devices: Optional[int] = None
    batch_size: Optional[int] = None  # over all devices
    epochs: Optional[int] = None
    schedule: Optional[str] = None  # learning rate; E is the epoch, counted from 0
    precision: Optional[str] = None
    source: str = ""  # title of the document
    footnotes: Tuple[str, ...] = ()
    top1: Optional[float] = None
    top5: Optional[float] = None
    images_per_second: Optional[float] = None
    step_ms: Optional[float] = None
    hours: Optional[float] = None
    images_evaluated: Optional[int] = None  # behind the accuracy, as the original's code counts
    framework: Optional[str] = None
    recipe: Optional[str] = None  # the recipe of this project that repeats the row


_SENET154_NOTES = (
    "Accuracy from one device's share, 6,250 of the 50,000 validation images: the original never adds up "
    "its ranks. Batch size from its scripts.",
)
_STEPPED_NOTE = "The original's published code cannot run a step schedule: period and factor are swapped."
_SENET154_LATER_NOTE = "A later edition of the document has one row only: cosine, 80.564 / 94.428 at 1022.92 images/s."
_SE_RESNET50_NOTES = (
    "Accuracy from 49,664 of the 50,000 validation images: the last 80 are dropped and the meters skip the "
    "first two batches. Batch size and schedule from the original's scripts.",
    "An older edition of the document gives 319.265 (1 NPU) and 4126.888 images/s (8 NPU).",
)
_COMPETITOR_NOTES = ("The document lists the row of a competitor's device (竞品V) and leaves its numbers blank.",)
_PNASNET_NOTES = (
    "Accuracy from 49,920 of the 50,000 validation images: the last 80 are dropped. The original trains "
    "without input normalisation; its label smoothing and drop-path have no effect. Batch size and schedule "
    "from its scripts.",
)
_PNASNET_SHORT_NOTES = ("One epoch cut off after 1,000 steps: a throughput, not an accuracy.",)
_CIFAR_NOTE = (
    "Top-1 is 100 minus the documented error; the original normalises test images with the test set's own "
    "statistics. Its ms/step is that of one single step and includes a second forward pass."
)
_CIFAR_GPU_NOTE = (
    "Batch size and epochs are the document's. The original's GPU script has others (64 images x 782 steps "
    "x 90 epochs, rate lowered at epochs 50 and 70); which of the two was measured is not stated."
)
_CIFAR_NPU_NOTE = "About 8 hours, device not stated; 160 x 391 steps of 91 ms account for 1.6 of them."
_CIFAR_PAPER_NOTE = (
    "Another network: the paper's SE-ResNet-110 has 54 basic blocks with one gate each (1.74 M parameters), "
    "the port's has bottlenecks with a gate after every convolution (3,504,422 parameters)."
)

_STEP = "0.6*0.1^floor(E/30)"
_COSINE = "0.3*(1+cos(E*pi/120))"
_SENET154_RECIPES = {  # by schedule
    _STEP: "senet154_step",
    "1*0.45^floor(E/10)": "senet154_step45",
    "0.6*0.93^E": "senet154_exponential",
    _COSINE: "senet154_cosine",
}
_CIFAR_SCHEDULE = "0.01, then 0.1 from epoch 2, 0.01 from 80, 0.001 from 120"


def _senet154(hardware: str, schedule: str, images_per_second: float, top1: float, top5: float) -> Documented:
    return Documented(
        "senet154",
        "imagenet",
        hardware,
        8,
        1024,
        120,
        schedule,
        "O2",
        "SENet154",
        _SENET154_NOTES
        + (() if schedule == _COSINE else (_STEPPED_NOTE,))
        + ((_SENET154_LATER_NOTE,) if hardware == "NPU" else ()),
        top1=top1,
        top5=top5,
        images_evaluated=6250,
        images_per_second=images_per_second,
        recipe=_SENET154_RECIPES[schedule],
    )


def _se_resnet50(hardware: str, devices: int, epochs: int, framework: str, **measured: Any) -> Documented:
    return Documented(
        "se_resnet50",
        "imagenet",
        hardware,
        devices,
        128 * devices,
        epochs,
        f"cosine from {0.6 if devices == 8 else 0.1}, 5 epochs warm-up",
        "O2" if measured else None,
        "SE-ResNet-50 for PyTorch",
        _SE_RESNET50_NOTES if measured else _COMPETITOR_NOTES,
        framework=framework,
        images_evaluated=49664 if "top1" in measured else None,
        recipe=f"se_resnet50_{devices}p",
        **measured,
    )


def _pnasnet(framework: str, devices: int, epochs: int, images_per_second: float, **measured: Any) -> Documented:
    return Documented(
        "pnasnet5large",
        "imagenet",
        "NPU",
        devices,
        32 * devices,
        epochs,
        "cosine from 0.4",
        "O2",
        "PnasNet5Large",
        _PNASNET_NOTES if measured else _PNASNET_SHORT_NOTES,
        images_per_second=images_per_second,
        framework=framework,
        images_evaluated=49920 if measured else None,
        recipe=f"pnasnet5large_{devices}p",
        **measured,
    )


def _cifar(hardware: str, error: float, footnotes: Tuple[str, ...], **trained: Any) -> Documented:
    if trained:
        trained.update(devices=1, batch_size=128, epochs=160, schedule=_CIFAR_SCHEDULE, images_evaluated=10000)
    top1 = round(100 - error, 2)
    source = "SENet-Tensorflow"
    return Documented("se_resnet110", "cifar-10", hardware, source=source, footnotes=footnotes, top1=top1, **trained)


ROWS: Tuple[Documented, ...] = (
    _cifar("paper", 5.21, (_CIFAR_PAPER_NOTE,)),
    _cifar("V100", 5.21, (_CIFAR_NOTE, _CIFAR_GPU_NOTE), step_ms=141.0, recipe="se_resnet110_gpu"),
    _cifar(
        "Ascend 910",
        5.45,
        (_CIFAR_NOTE, _CIFAR_NPU_NOTE),
        step_ms=91.0,
        hours=8.0,
        precision="mixed",
        recipe="se_resnet110_npu",
    ),
    _senet154("GPU", _STEP, 955.433, 79.130, 94.058),
    _senet154("GPU", "1*0.45^floor(E/10)", 954.725, 78.341, 93.945),
    _senet154("GPU", "0.6*0.93^E", 949.309, 78.100, 94.010),
    _senet154("GPU", _COSINE, 951.374, 80.161, 94.879),
    _senet154("NPU", _STEP, 1524.537, 78.599, 93.849),
    _senet154("NPU", _COSINE, 1522.120, 80.048, 94.799),
    _se_resnet50("competitor V", 1, 1, "torch 1.5"),
    _se_resnet50("competitor V", 8, 100, "torch 1.5"),
    _se_resnet50("NPU", 1, 1, "torch 1.8", images_per_second=747.41),
    _se_resnet50("NPU", 8, 100, "torch 1.8", images_per_second=5306.66, top1=77.521),
    _pnasnet("torch 1.5", 1, 1, 45.0),
    _pnasnet("torch 1.5", 8, 90, 353.0, top1=78.842),
    _pnasnet("torch 1.8", 1, 1, 69.0),
    _pnasnet("torch 1.8", 8, 90, 353.0, top1=79.625),
)
