"""The training loss: cross-entropy with label smoothing, plus that of an auxiliary head; the counts of accuracy."""

from __future__ import annotations

from typing import Tuple, Union

import torch
from torch import nn
from torch.nn import functional

Outputs = Union[torch.Tensor, Tuple[torch.Tensor, torch.Tensor]]


def uniform_epsilon(epsilon: float, form: str, num_classes: int) -> float:
    """The `label_smoothing` argument of torch's cross-entropy that is equivalent to a documented form.

    "uniform" (Szegedy et al., arXiv 1512.00567, section 7; the original on CPU and GPU) distributes epsilon over all K
    classes. "others" (the original on the NPU) distributes it over the K - 1 wrong classes, which equals "uniform" with
    epsilon * K / (K - 1).
    """
    if form == "others" and num_classes > 1:
        return min(epsilon * num_classes / (num_classes - 1), 1.0)
    return epsilon


class Loss(nn.Module):
    """loss(outputs, targets) -> the mean over the batch, a float32 scalar.

    `outputs` are logits [B, K], or the pair (logits, auxiliary logits). `targets` are class indices int64 [B] or, after
    MixUp or CutMix, probabilities float32 [B, K]. The loss is computed in float32 at every precision level.
    """

    def __init__(self, epsilon: float, auxiliary_weight: float) -> None:
        super().__init__()
        self.epsilon = epsilon  # see `uniform_epsilon`
        self.auxiliary_weight = auxiliary_weight

    def forward(self, outputs: Outputs, targets: torch.Tensor) -> torch.Tensor:
        if isinstance(outputs, torch.Tensor):
            return self._cross_entropy(outputs, targets)
        logits, auxiliary = outputs
        return self._cross_entropy(logits, targets) + self.auxiliary_weight * self._cross_entropy(auxiliary, targets)

    def _cross_entropy(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return functional.cross_entropy(wide, targets, label_smoothing=self.epsilon)


def correct_counts(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Top-1 and top-5 counts of logits [B, K] against labels int64 [B]: float32 [2], on the device.

    Of equal logits the lowest class ranks first, as in `shared.metrics`.
    """
    label_logit = logits.gather(1, labels[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    rank = ((logits > label_logit) | ((logits == label_logit) & earlier)).sum(dim=1)
    return torch.stack([(rank < 1).sum(), (rank < 5).sum()]).float()


def hard_labels(targets: torch.Tensor) -> torch.Tensor:
    """The labels int64 [B] for accuracy: of mixed targets [B, K] the class of the largest probability."""
    return targets if targets.ndim == 1 else targets.argmax(dim=1)


def main_logits(outputs: Outputs) -> torch.Tensor:
    """The logits without those of an auxiliary head."""
    return outputs if isinstance(outputs, torch.Tensor) else outputs[0]
