"""SE-ResNet on CIFAR-10: TensorFlow 1.x graph mode, from TensorFlow 1.15 to today's 2.x, and Keras 3."""
