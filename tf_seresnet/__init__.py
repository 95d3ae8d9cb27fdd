"""SE-ResNet on CIFAR-10: TensorFlow 1.x graph mode, from TensorFlow 1.15 to today's 2.x, and Keras 3."""

from __future__ import annotations

import importlib.util
from pathlib import Path
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
    from tf_seresnet.options import RunConfig, parser

    config = RunConfig.from_argv(command_words(parser(), checkpoint, options))
    devices.load_tensorflow(config.device, config.xla)
    from tf_seresnet.predict import Classifier

    return Classifier(config)


def _check_shared() -> None:
    """Raise ImportError where Python finds another package of that name before the checkout's.

    Written in both halves, which import each other as little as this can import anything of ours from `shared`.
    """
    spec, own = importlib.util.find_spec("shared"), Path(__file__).resolve().parents[1] / "shared"
    found = (spec.origin or str(list(spec.submodule_search_locations or ()))) if spec else "nothing"
    if spec is None or Path(found).resolve().parent != own:
        raise ImportError(
            f"tf_seresnet needs its own package shared, {own}, and Python finds {found}; put {own.parent} first"
            " on the path, or install the wheel, se_pnas_kit, whose names do not collide (docs/package.md)"
        )


if "." not in __name__:  # in the wheel shared is below se_pnas_kit
    _check_shared()
