"""What a run says of itself: in its files, its checkpoints, its record and its log."""
