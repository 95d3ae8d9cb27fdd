"""ImageNet: SENet154, SE-ResNet-50 and PNASNet-5-Large in PyTorch."""

from __future__ import annotations

import importlib.util
from pathlib import Path
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


def _check_shared() -> None:
    """Raise ImportError where Python finds another package of that name before the checkout's.

    Written in both halves, which import each other as little as this can import anything of ours from `shared`.
    """
    spec, own = importlib.util.find_spec("shared"), Path(__file__).resolve().parents[1] / "shared"
    found = (spec.origin or str(list(spec.submodule_search_locations or ()))) if spec else "nothing"
    if spec is None or Path(found).resolve().parent != own:
        raise ImportError(
            f"torch_imagenet needs its own package shared, {own}, and Python finds {found}; put {own.parent} first"
            " on the path, or install the wheel, se_pnas_kit, whose names do not collide (docs/package.md)"
        )


if "." not in __name__:  # in the wheel shared is below se_pnas_kit
    _check_shared()
