"""The rows of the results tables, and those of the four originals' documents as data.

Every accuracy and throughput is a document's own number, with its digits; `None` means that the document does not give
it. What was read from the originals' programs instead, which are of a later date, a footnote says.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Dict, Optional, Tuple, Type, TypeVar

D = TypeVar("D", bound="Documented")


class Documented(float):
    """A number of a document, from its text: `str` gives that text, so that no digit is added or lost."""

    text: str

    def __new__(cls: Type[D], text: str) -> D:
        number: D = super().__new__(cls, text)
        number.text = text
        return number

    def __str__(self) -> str:
        return self.text


class Expected(Documented):
    """A range that is expected; as a number its middle."""

    def __new__(cls, least: float, most: float, digits: int = 1) -> Expected:
        number = super().__new__(cls, str(round((least + most) / 2, digits + 1)))
        number.text = f"{least:.{digits}f} \u2013 {most:.{digits}f}"  # where a narrow column may break it
        return number


@dataclass(frozen=True)
class Row:
    """One row of a table; None is unknown. Accuracies in percent, times as named, counts in images."""

    network: str
    dataset: str
    kind: str  # documented, measured, expected or not measured
    settings: Optional[str] = None
    hardware: Optional[str] = None
    precision: Optional[str] = None
    batch_size: Optional[int] = None  # over all devices
    epochs: Optional[int] = None
    steps: Optional[int] = None
    top1: Optional[float] = None
    top1_std: Optional[float] = None
    error: Optional[float] = None  # 100 - top1, on CIFAR-10, whose document gives this
    top5: Optional[float] = None
    top5_std: Optional[float] = None
    images_per_second: Optional[float] = None
    step_ms: Optional[float] = None
    hours: Optional[float] = None
    images_evaluated: Optional[int] = None  # behind the accuracy, as the original's code counts
    runs: Optional[int] = None
    source: Optional[str] = None  # title of the document, or measured commit
    footnotes: Tuple[str, ...] = ()
    recipe: Optional[str] = None  # of this project, that repeats a documented row or is expected to; in no table


_CIFAR = "SENet-Tensorflow"  # the title of the document
# What a footnote begins with, where it is not of the document.
_LATER = "Read from a later state of the original's program, not from its document: "
_SENET154_NOTES: Tuple[str, ...] = (
    "In the document: that label smoothing is required, and a loss scale of 128. "
    + _LATER
    + "the batch size, and that an accuracy is of one device's share, 6,250 of the 50,000 validation images, because "
    "the ranks are never added up. As that program ran: senet154_cosine_as_run, senet154_step_as_run.",
)
_STEPPED_NOTE = _LATER + "it cannot run a step schedule, because period and factor are swapped."
_SENET154_LATER_NOTE = "A later edition of the document has one row only: cosine, 80.564 / 94.428 at 1022.920 images/s."
_SE_RESNET50_NOTES = (
    _LATER + "the batch size, the schedule, and that an accuracy is of 49,664 of the 50,000 validation images, because "
    "the last 80 are dropped and the meters skip the first two batches.",
    "An older edition of the document gives 319.265 (1 NPU) and 4126.888 images/s (8 NPU).",
)
_COMPETITOR_NOTES = ("The document lists the row of a competitor's device and leaves its numbers blank.",)
_PNASNET_NOTES = (
    "In the document: the rate of 0.4 (0.32 on a GPU) and no zero padding. "
    + _LATER
    + "the batch size, the cosine, that an accuracy is of 49,920 of the 50,000 validation images, because the "
    "last 80 are dropped, that inputs are not normalised, and that label smoothing and drop-path have no effect. As "
    "that program ran: pnasnet5large_8p_as_run.",
)
_PNASNET_SHORT_NOTES = ("In the document: one epoch of 1,000 steps. It is a throughput, not an accuracy.",)
_CIFAR_NOTE = (
    "In the document: the error (top-1 is 100 minus it), ms/step, batch size and epochs. "
    + _LATER
    + "the test images are normalised with the test set's own statistics; a step's ms are of one single step "
    "and include a second forward pass."
)
_CIFAR_GPU_NOTES = (
    _CIFAR_NOTE,
    _LATER + "its GPU script has 64 images x 782 steps x 90 epochs, with the rate lowered at epochs 50 and 70; whether "
    "this or what the document says was measured is not stated.",
)
_CIFAR_NPU_NOTES = (
    _CIFAR_NOTE,
    "In the document: about 8 hours, device not stated; 160 x 391 steps of 91 ms account for 1.6 of them.",
)
EXPECTED_NOTE = (
    "Expected by the recipe, from what others have published (its text has the sources); nobody has measured it."
)
_PAPER_NOTES = (
    "In the document: the error. Read from the paper and the original's program: this is another network. The paper's "
    "SE-ResNet-110 has 54 basic blocks with one gate each (1.74 M parameters), the port's has bottlenecks with a gate "
    "after every convolution (3,504,422 parameters).",
)


def _row(
    network: str, source: str, recipe: str, schedule: str, hardware: str, notes: Tuple[str, ...], **values: Any
) -> Row:
    """`schedule` is the learning rate, in which E is the epoch, counted from 0."""
    dataset = "cifar-10" if network == "se_resnet110" else "imagenet"
    values.update(settings=f"{recipe}: {schedule}", hardware=hardware, source=source, footnotes=notes, recipe=recipe)
    return Row(network, dataset, "documented", **values)


def _error(text: str) -> Dict[str, Any]:
    """A documented error, and top-1 with as many digits."""
    return {"top1": Documented(str(100 - Decimal(text))), "error": Documented(text)}


def _cifar(recipe: str, hardware: str, error: str, notes: Tuple[str, ...], **values: Any) -> Row:
    schedule = "0.01, then 0.1 from epoch 2, 0.01 from 80, 0.001 from 120"
    values.update(_error(error), images_evaluated=10000, batch_size=128, epochs=160)
    return _row("se_resnet110", _CIFAR, recipe, schedule, hardware, notes, **values)


def _senet154(recipe: str, schedule: str, hardware: str, *texts: str) -> Row:
    """`texts`: images per second, top-1 and top-5."""
    rate, top1, top5 = map(Documented, texts)
    notes = _SENET154_NOTES + (() if recipe == "senet154_cosine" else (_STEPPED_NOTE,))
    notes += (_SENET154_LATER_NOTE,) if hardware == "NPU" else ()
    measured = {"images_per_second": rate, "top1": top1, "top5": top5, "images_evaluated": 6250}
    trained = {"precision": "O2", "batch_size": 1024, "epochs": 120}
    return _row("senet154", "SENet154", recipe, schedule, f"8 x {hardware}", notes, **trained, **measured)


def _se_resnet50(devices: int, hardware: str, **measured: Any) -> Row:
    schedule = f"cosine from {0.6 if devices == 8 else 0.1}, 5 epochs warm-up"
    recipe, hardware = f"se_resnet50_{devices}p", f"{devices} x {hardware}"
    notes = _SE_RESNET50_NOTES if measured else _COMPETITOR_NOTES
    measured.update(batch_size=128 * devices, epochs=100 if devices == 8 else 1)
    return _row("se_resnet50", "SE-ResNet-50 for PyTorch", recipe, schedule, hardware, notes, **measured)


def _pnasnet(devices: int, framework: str, rate: str, **measured: Any) -> Row:
    recipe, hardware = f"pnasnet5large_{devices}p", f"{devices} x NPU, {framework}"
    notes = _PNASNET_NOTES if measured else _PNASNET_SHORT_NOTES
    measured.update(
        images_per_second=Documented(rate), precision="O2", batch_size=32 * devices, epochs=90 if devices == 8 else 1
    )
    return _row("pnasnet5large", "PnasNet5Large", recipe, "cosine from 0.4", hardware, notes, **measured)


_NPU_TIMES = {"step_ms": Documented("91"), "hours": Documented("8")}
_STEP, _COSINE = "0.6*0.1^floor(E/30)", "0.3*(1+cos(E*pi/120))"

ROWS: Tuple[Row, ...] = (
    Row(
        "se_resnet110",
        "cifar-10",
        "documented",
        hardware="paper",
        source=_CIFAR,
        footnotes=_PAPER_NOTES,
        **_error("5.21"),
    ),
    _cifar("se_resnet110_gpu", "1 x V100", "5.21", _CIFAR_GPU_NOTES, step_ms=Documented("141")),
    _cifar("se_resnet110_npu", "1 x Ascend 910", "5.45", _CIFAR_NPU_NOTES, precision="mixed", **_NPU_TIMES),
    _senet154("senet154_step", _STEP, "GPU", "955.433", "79.130", "94.058"),
    _senet154("senet154_step45", "1*0.45^floor(E/10)", "GPU", "954.725", "78.341", "93.945"),
    _senet154("senet154_exponential", "0.6*0.93^E", "GPU", "949.309", "78.100", "94.010"),
    _senet154("senet154_cosine", _COSINE, "GPU", "951.374", "80.161", "94.879"),
    _senet154("senet154_step", _STEP, "NPU", "1524.537", "78.599", "93.849"),
    _senet154("senet154_cosine", _COSINE, "NPU", "1522.120", "80.048", "94.799"),
    _se_resnet50(1, "competitor V, torch 1.5"),
    _se_resnet50(8, "competitor V, torch 1.5"),
    _se_resnet50(1, "NPU, torch 1.8", images_per_second=Documented("747.41"), precision="O2"),
    _se_resnet50(
        8,
        "NPU, torch 1.8",
        images_per_second=Documented("5306.66"),
        precision="O2",
        top1=Documented("77.521"),
        images_evaluated=49664,
    ),
    _pnasnet(1, "torch 1.5", "45"),
    _pnasnet(8, "torch 1.5", "353", top1=Documented("78.842"), images_evaluated=49920),
    _pnasnet(1, "torch 1.8", "69"),
    _pnasnet(8, "torch 1.8", "353", top1=Documented("79.625"), images_evaluated=49920),
)
