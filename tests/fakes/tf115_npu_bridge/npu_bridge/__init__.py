"""A fake of Ascend's adapter for TensorFlow 1.15; see `npu_init` for what it proves."""
