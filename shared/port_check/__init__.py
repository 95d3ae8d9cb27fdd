"""Comparing two runs of the same training step, layer by layer; no framework is needed here."""
