"""ImageNet: SENet154, SE-ResNet-50 and PNASNet-5-Large in PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch_imagenet.predict import Classifier


def classifier(checkpoint: str, **options: Any) -> Classifier:
    """Weights ready to classify images: classifier("runs/NAME")("cat.jpg") -> [(name, probability), ...].

    `checkpoint` and `options` are those of the command line, as in network="senet154", device="cpu", top_k=3. Raises
    UsageError where they are wrong. See `torch_imagenet.predict.Classifier`.
    """
    from torch_imagenet.predict import Classifier

    return Classifier.from_options(checkpoint, **options)
