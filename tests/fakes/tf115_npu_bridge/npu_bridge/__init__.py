"""A stand-in for Ascend's adapter on TensorFlow 1.15; `npu_init` says what it proves."""
