"""The names of TensorFlow 1's adapter."""
