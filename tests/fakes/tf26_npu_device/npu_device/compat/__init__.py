"""The compatibility mode of the stand-in."""

enabled = False


def enable_v1():
    """Graph sessions instead of eager execution, from here to the end of the process."""
    global enabled
    import tensorflow as tf

    tf.compat.v1.disable_v2_behavior()
    enabled = True
