"""CIFAR-10 in its official Python format, read without running any code that a pickle names."""

from __future__ import annotations

from shared.cifar10.dataset import FOLDER, OFFICIAL_NAME, UNNAMED, Cifar10, channel_statistics, describe, load

__all__ = ["FOLDER", "OFFICIAL_NAME", "UNNAMED", "Cifar10", "channel_statistics", "describe", "load"]
