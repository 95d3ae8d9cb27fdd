"""Devices, their precisions and options: the only place of this half that names a kind of device."""
