"""Reads a run's folder with TensorBoard's own readers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, Tuple

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat import tf
from tensorboard.plugins.hparams import api_pb2, metadata

# TensorBoard imports TensorFlow at its first use: here, while tests are collected, and not in the time of a test.
getattr(tf, "io")  # noqa: B009


def read(folder: Path) -> Any:
    """`scalars` {tag: [(step, value)]} and `images` {tag: [(step, image)]}."""
    accumulator = _accumulator(folder)
    tags = accumulator.Tags()
    return SimpleNamespace(
        scalars={tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in tags["scalars"]},
        images={tag: [(event.step, event) for event in accumulator.Images(tag)] for tag in tags["images"]},
    )


def hyper_parameters(folder: Path) -> Tuple[Dict[str, Any], bool]:
    """The run's hyper-parameters and whether it has succeeded. Raises KeyError without them."""
    content = _accumulator(folder).PluginTagToContent(metadata.PLUGIN_NAME)
    started = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG])
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in started.hparams.items()}
    ended = content.get(metadata.SESSION_END_INFO_TAG)
    if ended is None:
        return values, False
    return values, metadata.parse_session_end_info_plugin_data(ended).status == api_pb2.STATUS_SUCCESS


def _accumulator(folder: Path) -> Any:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator
