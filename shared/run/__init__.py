"""A run of either half: its folder, log, progress, clock and resumption; no framework."""
