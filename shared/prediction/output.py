"""Predictions as text, JSON lines or CSV."""

from __future__ import annotations

import csv
import io
import json
from typing import NamedTuple, Optional, Sequence, TextIO

from shared.errors import UsageError, one_line, reason
from shared.system.signals import reader_gone

FORMATS = ("text", "json", "csv")


class Prediction(NamedTuple):
    """One of the classes that are predicted for an image; its probability is the softmax, 0 to 1."""

    label: str  # the class as the weights name it, such as a WordNet id
    name: str  # for a reader; the label where there is no other name
    output: int  # of the network, from 0
    probability: float


def heading(form: str, overlays: bool = False) -> str:
    """What stands before the first image: the names of the columns in CSV, one more where there are overlays."""
    columns = "image,rank,class,name,index,probability" + (",overlay" if overlays else "")
    return f"{columns}\n" if form == "csv" else ""


def rendered(form: str, image: str, predictions: Sequence[Prediction], overlay: Optional[str] = None) -> str:
    """The predictions for one image, the most probable first, and its overlay's path, in one of `FORMATS`.

    Text is the image and a line for each class, with percent to two decimals. JSON is one line, in ASCII: names that
    are not UTF-8 are lone surrogates. CSV (RFC 4180, but with \\n) is a row for each class. Probabilities in both have
    six digits.
    """
    if form == "json":
        answers = [
            {"class": one.label, "name": one.name, "index": one.output, "probability": _six_digits(one.probability)}
            for one in predictions
        ]
        drawn = {} if overlay is None else {"overlay": overlay}
        return json.dumps({"image": image, "predictions": answers, **drawn}) + "\n"
    if form == "csv":
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        for rank, one in enumerate(predictions, 1):
            row = [image, rank, one.label, one.name, one.output, _six_digits(one.probability)]
            writer.writerow(row if overlay is None else [*row, overlay])
        return file.getvalue()
    lines = [image]
    for one in predictions:
        more = "" if one.label in one.name else f" ({one.label})"
        lines.append(f"{100 * one.probability:8.2f} %  {one.name}{more}")
    if overlay is not None:
        lines.append(f"overlay:    {overlay}")
    return "".join(f"{one_line(line)}\n" for line in lines)


def _six_digits(value: float) -> float:
    return float(f"{value:.6g}")


def write(stream: TextIO, text: str) -> None:
    """Write to standard output, at once. Raises Stopped where its reader is gone, UsageError where the disk is full."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        raise reader_gone(stream) from None
    except OSError as error:
        reader_gone(stream)  # what is still in its buffer would fail again at Python's exit
        raise UsageError(
            f"cannot write to standard output ({reason(error)}); free space, or write to another disk"
        ) from error
