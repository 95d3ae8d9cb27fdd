"""The mode `predict` of both halves, without a framework: standard output has the predictions and nothing else."""

from __future__ import annotations

import contextlib
import sys
from typing import Any, Callable, Generator, Iterator, List, NamedTuple, Optional, Sequence, Tuple, TypeVar

import numpy as np

from shared.errors import DataError, UsageError
from shared.imagenet.decode import is_turned
from shared.imagenet.layout import counted, some
from shared.imagenet.split import is_image
from shared.prediction.classifier import ImageClassifier
from shared.prediction.images import Named, find_images
from shared.prediction.output import heading, rendered, write
from shared.prediction.overlays import Overlays
from shared.run.log import RunLog
from shared.system.signals import Interrupts, stop_at_once

_LOOKED_AT = 1000  # images, for EXIF data, a millisecond each

AnyClassifier = TypeVar("AnyClassifier", bound=ImageClassifier)


class Batch(NamedTuple):
    """Images that have been read, and those that could not be."""

    names: List[str]
    images: np.ndarray  # uint8 [B, S, S, 3]
    bad: Tuple[str, ...] = ()  # a text for each unreadable one


Batches = Generator[Batch, None, None]


def predict(
    config: Any,
    interrupts: Interrupts,
    opened: Callable[[List[str]], AnyClassifier],
    batches: Callable[[AnyClassifier, List[str]], Batches],
    named: Named = is_image,
) -> None:
    """Classify what the command line names. `opened` makes the classifier for these paths, `batches` reads them.

    Files in folders are read if they are `named` so. Standard error has what the log says. Raises UsageError for
    images that are missing or cannot be read, and what the two functions raise.
    """
    if not config.images:
        raise UsageError("predict needs images; name files or folders, or - for a list of them on standard input")
    form, bad, failed = config.format or "text", set(), 0
    with interrupts.forwarded(stop_at_once):  # a list on standard input may never end
        paths, notes = find_images(config.images, sys.stdin.buffer, config.on_bad_image == "skip", named)
    overlays = Overlays(config.grad_cam, paths) if config.grad_cam else None
    with RunLog(None, console=sys.stderr) as log:
        log.lines([*config.command_notes, *(f"note: {note}" for note in notes)])
        classifier = opened(paths)
        log.lines(classifier.lines)
        if overlays:
            overlays.make_folder()
        write(sys.stdout, heading(form, overlays is not None))
        done: List[str] = []
        with contextlib.closing(batches(classifier, paths)) as source:
            for batch in source:
                interrupts.raise_if_requested()
                failed += len(batch.bad)
                new = [text for text in dict.fromkeys(batch.bad) if text not in bad]
                log.lines(f"bad image left out: {text}" for text in new)
                bad.update(new)
                if batch.names:
                    answers = classifier.predict(batch.images, batch.names)
                    files: Sequence[Optional[str]] = [None] * len(answers)
                    if overlays:
                        found = classifier.maps(batch.images, [best[0].output for best in answers])
                        files = overlays.write(batch.names, batch.images, found)
                    write(sys.stdout, "".join(rendered(form, *each) for each in zip(batch.names, answers, files)))
                    done += batch.names
        log.lines(_remarks(done, failed))
        log.lines(overlays.remarks() if overlays else ())
        if not done:
            raise DataError(f"none of the images can be read ({min(bad)}); look at the lines above")


def _remarks(done: Sequence[str], failed: int) -> Iterator[str]:
    if failed:
        yield f"bad images left out: {failed:,} of {len(done) + failed:,}"
    looked = done[:_LOOKED_AT]
    turned = [path for path in looked if is_turned(path)]
    if turned:
        which = f"{len(turned)} of {counted(len(looked), 'image')} looked at ({some(turned)})"
        yield f"note: {which} to be turned by EXIF data, which is not done, as in an evaluation; turn them first"
