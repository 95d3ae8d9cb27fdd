"""Devices, precision levels and device options: the only package here that names a kind of device."""
