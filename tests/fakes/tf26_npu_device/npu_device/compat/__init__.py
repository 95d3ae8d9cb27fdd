"""The fake's compatibility mode."""

enabled = False


def enable_v1():
    """Use graph sessions instead of eager execution until the process ends."""
    global enabled
    import tensorflow as tf

    tf.compat.v1.disable_v2_behavior()
    enabled = True
