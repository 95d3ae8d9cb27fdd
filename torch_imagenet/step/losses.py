"""The training loss: cross-entropy with label smoothing, plus that of an auxiliary head; the counts of accuracy."""

from __future__ import annotations

from typing import Tuple, Union

import torch
from torch.nn import functional

Outputs = Union[torch.Tensor, Tuple[torch.Tensor, torch.Tensor]]  # logits [B, K], also those of an auxiliary head


def uniform_epsilon(epsilon: float, form: str, num_classes: int) -> float:
    """The `label_smoothing` argument of torch's cross-entropy that is equivalent to a documented form.

    "uniform" (Szegedy et al., arXiv 1512.00567, section 7; the original on CPU and GPU) distributes epsilon over all K
    classes. "others" (the original on the NPU) distributes it over the K - 1 wrong classes, which equals "uniform" with
    epsilon * K / (K - 1), of few classes more than 1.
    """
    return epsilon * num_classes / (num_classes - 1) if form == "others" and num_classes > 1 else epsilon


def mean_loss(outputs: Outputs, targets: torch.Tensor, epsilon: float, auxiliary_weight: float) -> torch.Tensor:
    """The mean over the batch, a float32 scalar, computed in float32 at every precision level.

    `targets` are class indices int64 [B] or, after MixUp or CutMix, probabilities float32 [B, K]. `epsilon` is that of
    `uniform_epsilon`.
    """
    if isinstance(outputs, tuple):
        logits, auxiliary = (mean_loss(part, targets, epsilon, 0.0) for part in outputs)
        return logits + auxiliary_weight * auxiliary
    wide = outputs if outputs.dtype == torch.float64 else outputs.float()
    if epsilon <= 1.0:
        return functional.cross_entropy(wide, targets, label_smoothing=epsilon)
    # torch takes no more, and the loss is linear in it.
    certain, uniform = (functional.cross_entropy(wide, targets, label_smoothing=share) for share in (0.0, 1.0))
    return (1.0 - epsilon) * certain + epsilon * uniform


def correct_counts(outputs: Outputs, targets: torch.Tensor) -> torch.Tensor:
    """Top-1 and top-5 counts of the logits against the targets of `mean_loss`: float32 [2], on the device.

    The label of mixed targets is the class of the largest probability. Of equal logits the lowest class ranks first, as
    in `shared.metrics`. An auxiliary head does not count.
    """
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    labels = targets if targets.ndim == 1 else targets.argmax(dim=1)
    label_logit = logits.gather(1, labels[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    rank = ((logits > label_logit) | ((logits == label_logit) & earlier)).sum(dim=1)
    return torch.stack([(rank < 1).sum(), (rank < 5).sum()]).float()
