"""TensorBoard's event files, written with TensorBoard's protocol buffers and checksums, which need no framework.

TensorBoard's own writer uses a thread, in which a full disk is a traceback on the console and, in the version for
TensorFlow 1.15, a run that hangs.
"""

from __future__ import annotations

import io
import itertools
import os
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List, Mapping, Optional, Union

import numpy as np

from shared.run.append_log import AppendedFile
from shared.system import png
from shared.text import printable

HyperParameter = Union[bool, float, str]
_HYPER_PARAMETERS = "hparams"  # the plugin's name
_BEGUN, _ENDED = "_hparams_/session_start_info", "_hparams_/session_end_info"  # its tags


class TensorBoardFile:
    """An event file in a run's folder tensorboard/."""

    _numbers = itertools.count()

    def __init__(self, file: AppendedFile, protocol: Any) -> None:
        self._file, self._protocol = file, protocol
        self.sync, self.close = file.sync, file.close

    @classmethod
    def open(cls, folder: Path, resumed_from_step: int, notes: List[str]) -> Optional[TensorBoardFile]:
        """Open a new file; None, with a note, if TensorBoard is not installed or the folder cannot be written."""
        try:
            protocol = _protocol()
        except ImportError:
            notes.append("note: no TensorBoard files are written; pip install tensorboard")
            return None
        # TensorBoard reads the files of a folder in the order of their names: by time, then by number.
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(cls._numbers)}"
        try:
            folder.mkdir(exist_ok=True)
            opened = cls(AppendedFile(folder / name, notes), protocol)
        except OSError as error:
            notes.append(f"note: no TensorBoard files are written ({folder}: {error.strerror or error})")
            return None
        opened._add(protocol.Event(wall_time=time.time(), file_version="brain.Event:2"))
        if resumed_from_step:
            # START tells TensorBoard to drop what an interrupted run wrote beyond this step.
            start = protocol.SessionLog(status=protocol.SessionLog.START)
            opened._add(protocol.Event(step=resumed_from_step + 1, session_log=start))
        return opened

    def write(self, step: int, scalars: Mapping[str, float], images: Mapping[str, np.ndarray]) -> None:
        """Write scalars and images, uint8 [height, width, 3], by tag."""
        summary = self._protocol.Summary
        values = [summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        for tag, pixels in images.items():
            image = summary.Image(
                height=pixels.shape[0], width=pixels.shape[1], colorspace=3, encoded_image_string=png.encode(pixels)
            )
            values.append(summary.Value(tag=tag, image=image))
        self._add_summary(step, values)

    def begin(self, hyper_parameters: Mapping[str, HyperParameter]) -> None:
        """Write the hyper-parameters that TensorBoard's HPARAMS tab shows for this run."""
        plugin = self._protocol.plugin
        info = plugin.SessionStartInfo(start_time_secs=time.time())
        for name, value in hyper_parameters.items():
            kind = "bool_value" if isinstance(value, bool) else "string_value" if isinstance(value, str) else ""
            setattr(info.hparams[name], kind or "number_value", printable(value) if isinstance(value, str) else value)
        self._add_session(_BEGUN, plugin.HParamsPluginData(version=0, session_start_info=info))

    def end(self) -> None:
        """Mark the run as successful in the HPARAMS tab."""
        plugin = self._protocol.plugin
        info = plugin.SessionEndInfo(status=self._protocol.SUCCESS, end_time_secs=time.time())
        self._add_session(_ENDED, plugin.HParamsPluginData(version=0, session_end_info=info))

    def _add_session(self, tag: str, content: Any) -> None:
        metadata = self._protocol.SummaryMetadata
        data = metadata.PluginData(plugin_name=_HYPER_PARAMETERS, content=content.SerializeToString())
        self._add_summary(0, [self._protocol.Summary.Value(tag=tag, metadata=metadata(plugin_data=data))])

    def _add_summary(self, step: int, values: List[Any]) -> None:
        if values:
            summary = self._protocol.Summary(value=values)
            self._add(self._protocol.Event(wall_time=time.time(), step=step, summary=summary))

    def _add(self, event: Any) -> None:
        record = io.BytesIO()
        self._protocol.RecordWriter(record).write(event.SerializeToString())
        self._file.write(record.getvalue())


def _protocol() -> Any:
    """The classes used from TensorBoard. Raises ImportError, before anything is written, if one is missing."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.plugins.hparams import plugin_data_pb2
    from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS
    from tensorboard.summary.writer.record_writer import RecordWriter

    return SimpleNamespace(
        Event=Event,
        SessionLog=SessionLog,
        Summary=Summary,
        SummaryMetadata=SummaryMetadata,
        plugin=plugin_data_pb2,
        SUCCESS=STATUS_SUCCESS,
        RecordWriter=RecordWriter,
    )
