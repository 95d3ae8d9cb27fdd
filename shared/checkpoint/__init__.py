"""Checkpoints of either half: the folder that holds them, their names, and the state beside the tensors."""
