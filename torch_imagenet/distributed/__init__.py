"""Distributed training: one process per device, on one machine or several."""
