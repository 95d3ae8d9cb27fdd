"""SE-ResNet on CIFAR-10: TensorFlow 1.x graph mode, from TensorFlow 1.15 to today's 2.x, and Keras 3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tf_seresnet.predict import Classifier


def classifier(checkpoint: str, **options: Any) -> Classifier:
    """Weights ready to classify images: classifier("runs/NAME")("cat.jpg") -> [(name, probability), ...].

    `checkpoint` and `options` are those of the command line, as in device="cpu", top_k=3. Raises UsageError where they
    are wrong. See `tf_seresnet.predict.Classifier`.
    """
    from shared.prediction.classifier import command_words
    from tf_seresnet import devices
    from tf_seresnet.options import RunConfig

    config = RunConfig.from_argv(command_words(checkpoint, options))
    devices.load_tensorflow(config.device, config.xla)
    from tf_seresnet.predict import Classifier

    return Classifier(config)
