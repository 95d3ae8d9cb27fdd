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
from types import SimpleNamespace
from typing import Any, Dict, List, Mapping, Optional, Union

import numpy as np

from shared.errors import reason
from shared.run.append_log import AppendedFile
from shared.system import png
from shared.text import printable

_SIDE = 320  # pixels at least; a thousand classes have one pixel a cell
_RIGHT, _WRONG = np.array([37, 99, 235]), np.array([226, 87, 43])  # the page's accent and its counterpart
_NUMBERS = itertools.count()  # of the files of this process


class TensorBoardFile:
    """An event file in a run's folder tensorboard/."""

    def __init__(self, file: AppendedFile, protocol: Any) -> None:
        self._file, self._protocol = file, protocol
        self.sync, self.close = file.sync, file.close

    @classmethod
    def open(cls, folder: Path, resumed_from_step: int, notes: List[str]) -> Optional[TensorBoardFile]:
        """Open a new file; None, with a note, if TensorBoard is not installed or the folder cannot be written."""
        # TensorBoard reads the files of a folder in the order of their names: by time, then by number.
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_NUMBERS)}"
        try:
            protocol = _protocol()
            folder.mkdir(exist_ok=True)
            opened = cls(AppendedFile(folder / name, notes), protocol)
        except ImportError:
            notes.append("note: no TensorBoard files are written; pip install tensorboard")
            return None
        except OSError as error:
            notes.append(f"note: no TensorBoard files are written ({folder}: {reason(error)})")
            return None
        opened._add(wall_time=time.time(), file_version="brain.Event:2")
        if resumed_from_step:
            # START tells TensorBoard to drop what an interrupted run wrote beyond this step.
            start = protocol.event.SessionLog(status=protocol.event.SessionLog.START)
            opened._add(step=resumed_from_step + 1, session_log=start)
        return opened

    def write(self, step: int, scalars: Mapping[str, float], images: Mapping[str, np.ndarray]) -> None:
        """Write scalars and images, uint8 [height, width, 3], by tag."""
        summary = self._protocol.summary.Summary
        values = [summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        for tag, pixels in images.items():
            height, width, _ = pixels.shape
            image = summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png.encode(pixels))
            values.append(summary.Value(tag=tag, image=image))
        if values:
            self._add(wall_time=time.time(), step=step, summary=summary(value=values))

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Write the settings of the run, which TensorBoard's HPARAMS tab shows."""
        info = self._protocol.plugin.SessionStartInfo(start_time_secs=time.time())
        for name, value in _flat(settings).items():
            kind = "bool_value" if isinstance(value, bool) else "string_value" if isinstance(value, str) else ""
            setattr(info.hparams[name], kind or "number_value", printable(value) if isinstance(value, str) else value)
        self._add_session(session_start_info=info)

    def end(self) -> None:
        """Mark the run as successful in the HPARAMS tab."""
        protocol = self._protocol
        info = protocol.plugin.SessionEndInfo(status=protocol.api.STATUS_SUCCESS, end_time_secs=time.time())
        self._add_session(session_end_info=info)

    def _add_session(self, **info: Any) -> None:
        """Write what the HPARAMS plugin reads under the tag `_hparams_/session_start_info` or `..._end_info`."""
        (name,), summary = info, self._protocol.summary
        content = self._protocol.plugin.HParamsPluginData(version=0, **info).SerializeToString()
        plugin_data = summary.SummaryMetadata.PluginData(plugin_name="hparams", content=content)
        metadata = summary.SummaryMetadata(plugin_data=plugin_data)
        value = summary.Summary.Value(tag=f"_hparams_/{name}", metadata=metadata)
        self._add(wall_time=time.time(), step=0, summary=summary.Summary(value=[value]))

    def _add(self, **content: Any) -> None:
        """Write an event."""
        record = io.BytesIO()
        self._protocol.RecordWriter(record).write(self._protocol.event.Event(**content).SerializeToString())
        self._file.write(record.getvalue())


def _protocol() -> Any:
    """The modules used from TensorBoard. Raises ImportError, before anything is written, if one is missing."""
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
    from tensorboard.summary.writer.record_writer import RecordWriter

    modules = {"event": event_pb2, "summary": summary_pb2, "api": api_pb2, "plugin": plugin_data_pb2}
    return SimpleNamespace(RecordWriter=RecordWriter, **modules)


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
