"""Images from disk to batches: workers, transforms, and what happens to a bad image or a dead worker."""
