"""Predictions for images of one's own: which images are meant, and how the answers are written."""
