"""The names of the adapter for TensorFlow 1."""
