"""TensorBoard's event files, written with TensorBoard's protocol buffers and checksums, which need no framework.

TensorBoard's own writer uses a thread, in which a full disk is a traceback, or in an old version a run that hangs.
"""

from __future__ import annotations

import io
import itertools
import os
import socket
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Union

import numpy as np

from shared.run.append_log import AppendedFile
from shared.system import png
from shared.text import printable

_SIDE = 320  # pixels at least; a thousand classes have one pixel a cell
_RIGHT, _WRONG = np.array([37, 99, 235]), np.array([226, 87, 43])  # the page's accent and its counterpart
_NUMBERS = itertools.count()  # of the files of this process


class TensorBoardFile(AppendedFile):
    """A new event file in a run's folder tensorboard/.

    Raises ImportError, before anything is written, if TensorBoard is not installed, OSError if it cannot be opened.
    """

    def __init__(self, folder: Path, resumed_from_step: int, notes: List[str]) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary, self._writer = event_pb2, summary_pb2, RecordWriter
        self._plugin, self._success = plugin_data_pb2, api_pb2.STATUS_SUCCESS
        folder.mkdir(exist_ok=True)
        # TensorBoard reads the files of a folder in the order of their names: by time, then by number.
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_NUMBERS)}"
        super().__init__(folder / name, notes)
        self._add(wall_time=time.time(), file_version="brain.Event:2")
        if resumed_from_step:
            # START tells TensorBoard to drop what an interrupted run wrote beyond this step.
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._add(step=resumed_from_step + 1, session_log=start)

    def add(self, step: int, scalars: Mapping[str, float], images: Mapping[str, np.ndarray]) -> None:
        """Write scalars and images, uint8 [height, width, 3], by tag."""
        summary = self._summary.Summary
        values = [summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        for tag, pixels in images.items():
            height, width, _ = pixels.shape
            image = summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png.encode(pixels))
            values.append(summary.Value(tag=tag, image=image))
        if values:
            self._add(wall_time=time.time(), step=step, summary=summary(value=values))

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Write the settings of the run, which TensorBoard's HPARAMS tab shows."""
        info = self._plugin.SessionStartInfo(start_time_secs=time.time())
        for name, value in _flat(settings).items():
            kind = "bool_value" if isinstance(value, bool) else "string_value" if isinstance(value, str) else ""
            setattr(info.hparams[name], kind or "number_value", printable(value) if isinstance(value, str) else value)
        self._add_session(session_start_info=info)

    def end(self) -> None:
        """Mark the run as successful in the HPARAMS tab."""
        info = self._plugin.SessionEndInfo(status=self._success, end_time_secs=time.time())
        self._add_session(session_end_info=info)

    def _add_session(self, **info: Any) -> None:
        """Write what the HPARAMS plugin reads under the tag `_hparams_/session_start_info` or `..._end_info`."""
        (name,), summary = info, self._summary
        content = self._plugin.HParamsPluginData(version=0, **info).SerializeToString()
        plugin_data = summary.SummaryMetadata.PluginData(plugin_name="hparams", content=content)
        metadata = summary.SummaryMetadata(plugin_data=plugin_data)
        value = summary.Summary.Value(tag=f"_hparams_/{name}", metadata=metadata)
        self._add(wall_time=time.time(), step=0, summary=summary.Summary(value=[value]))

    def _add(self, **content: Any) -> None:
        """Write an event."""
        record = io.BytesIO()
        self._writer(record).write(self._event.Event(**content).SerializeToString())
        self.write(record.getvalue())


def _flat(values: Mapping[str, Any], prefix: str = "") -> Dict[str, Union[bool, float, str]]:
    """Numbers, truths and texts; a nested name is schedule.base, a list a text; what is not set is left out."""
    flat: Dict[str, Union[bool, float, str]] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        elif isinstance(value, (list, tuple)):
            flat[prefix + name] = " ".join(map(str, value))
        elif value is not None:
            flat[prefix + name] = value
    return flat


def confusion_picture(confusion: np.ndarray) -> np.ndarray:
    """Pixels uint8 [S, S, 3] of counts int64 [K, K], row = label, column = answer, from the top left.

    The darker a cell, the larger its share of the label's images; blue on the diagonal, orange elsewhere.
    """
    classes = len(confusion)
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    colour = np.where(np.eye(classes, dtype=bool)[:, :, None], _RIGHT, _WRONG)
    cells = np.rint(255 - share[:, :, None] * (255 - colour)).astype(np.uint8)
    size = -(-_SIDE // classes)
    return cells.repeat(size, axis=0).repeat(size, axis=1)
