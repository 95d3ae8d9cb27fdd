"""A run of either half: its folder, log, events, progress, clock and reproducibility; no framework."""
