"""The Ascend NPU: adapter, session options, ranks over HCCL."""
