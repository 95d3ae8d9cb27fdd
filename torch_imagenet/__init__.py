"""ImageNet: SENet154, SE-ResNet-50 and PNASNet-5-Large in PyTorch."""
