"""The training loss: cross-entropy with both documented forms of label smoothing, and the auxiliary head's share."""

from __future__ import annotations

from typing import Optional, Tuple, Union

import torch
from torch import nn
from torch.nn import functional

Outputs = Union[torch.Tensor, Tuple[torch.Tensor, torch.Tensor]]


def uniform_epsilon(epsilon: float, form: str, num_classes: int) -> float:
    """The `label_smoothing` of torch's cross-entropy that a documented form amounts to.

    "uniform" (Szegedy et al., arXiv 1512.00567, section 7; the original's form on CPU and GPU) spreads epsilon over all
    K classes; "others" (the original's form on the NPU) over the K - 1 wrong ones: the same with epsilon K / (K - 1).
    """
    if form == "others" and num_classes > 1:
        return min(epsilon * num_classes / (num_classes - 1), 1.0)
    return epsilon


class Loss(nn.Module):
    """loss(outputs, targets) -> scalar float32, the mean over the batch.

    `outputs` are logits [B, K], or a pair of the network's and the auxiliary head's. `targets` are int64 [B] or, after
    MixUp or CutMix, probabilities float32 [B, K]. Whatever the network's precision, the loss is computed in float32.
    """

    def __init__(self, epsilon: float, auxiliary_weight: float) -> None:
        super().__init__()
        self.epsilon = epsilon  # as torch's cross-entropy takes it
        self.auxiliary_weight = auxiliary_weight

    def forward(self, outputs: Outputs, targets: torch.Tensor) -> torch.Tensor:
        """See the class."""
        if isinstance(outputs, torch.Tensor):
            return self._cross_entropy(outputs, targets)
        logits, auxiliary = outputs
        return self._cross_entropy(logits, targets) + self.auxiliary_weight * self._cross_entropy(auxiliary, targets)

    def _cross_entropy(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return functional.cross_entropy(wide, targets, label_smoothing=self.epsilon)


def correct_counts(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """How many of logits [B, K] have the label int64 [B] first, and among the first five: float32 [2], on the device.

    Of equal logits the lowest class comes first, as in `shared.metrics`.
    """
    of_label = logits.gather(1, labels[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    rank = ((logits > of_label) | ((logits == of_label) & earlier)).sum(dim=1)
    return torch.stack([(rank < 1).sum(), (rank < 5).sum()]).float()


def hard_labels(targets: torch.Tensor) -> torch.Tensor:
    """The labels int64 [B] that accuracy is counted against: of mixed targets [B, K] the class with the most of it."""
    return targets if targets.ndim == 1 else targets.argmax(dim=1)


def main_logits(outputs: Outputs) -> torch.Tensor:
    """The network's own logits, without an auxiliary head's."""
    return outputs if isinstance(outputs, torch.Tensor) else outputs[0]


def smoothing_text(epsilon: float, form: str) -> Optional[str]:
    """How the log names the smoothing; None where there is none."""
    where = {"uniform": "over all classes", "others": "over the wrong classes"}[form]
    return f"label smoothing {epsilon:g} {where}" if epsilon else None
