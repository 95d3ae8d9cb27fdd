"""What every network here is to its user: the methods that timm's users know, written once for all networks.

network.num_classes, network.num_features               # outputs of the classifier, channels of the last feature map
network.reset_classifier(10)                            # a new one, with random weights; 0: none
network.forward_features(images)                        # [B, C, H, W], as the head gets it
network.forward_intermediates(images, (1, 2, 3, 4))     # the last map, and those of four stages
network.feature_info                                    # channels and strides of the five stages

Names, arguments and the five feature maps are those of timm 1.0 (`forward_intermediates` of legacy_senet154,
legacy_seresnet50 and pnasnet5large); the pooling is always the mean, so `reset_classifier` has no global_pool. The
head is here; a network gives `maps`.
"""

from __future__ import annotations

from typing import Any, Collection, Dict, List, Sequence, Tuple, Union

import torch
from torch import nn
from torch.nn import functional

from shared.errors import UsageError

STAGES = 5  # feature maps, the second half as large as the first, and so on


def linear_like(old: nn.Module, features: int, num_classes: int) -> nn.Module:
    """A classifier of `features` channels with random weights, where `old` has its weights and in their dtype.

    Without classes it is nn.Identity.
    """
    weight = next(old.parameters())
    return nn.Linear(features, num_classes, device=weight.device, dtype=weight.dtype) if num_classes else nn.Identity()


class ImageClassifier(nn.Module):
    """The head and the feature maps of a network, whose classifier is the layer called `head`.

    `feature_info` has a dictionary for each stage: its channels "num_chs", its stride "reduction" and the "module" that
    computes it.
    """

    head = "last_linear"
    num_features: int
    feature_info: List[Dict[str, Any]]
    dropout: nn.Module

    def maps(self, images: torch.Tensor, last: int, kept: Collection[int]) -> Tuple[torch.Tensor, List[torch.Tensor]]:
        """What is computed up to stage `last`, and the feature maps of the stages in `kept`."""
        raise NotImplementedError

    @property
    def num_classes(self) -> int:
        """The outputs of the classifier; 0 without one."""
        classifier = self.get_classifier()
        return 0 if isinstance(classifier, nn.Identity) else int(classifier.out_features)  # type: ignore[arg-type]

    def get_classifier(self) -> nn.Module:
        """The last linear layer, [B, num_features] to [B, num_classes]; nn.Identity where there is none."""
        return self.get_submodule(self.head)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the classifier, drawn from torch's default generator; 0 classes: the network returns its features.

        An optimizer made before does not know the new one. Raises UsageError for a negative number.
        """
        if num_classes < 0:
            raise UsageError(f"a network cannot have {num_classes} classes; give at least 1, or 0 for no classifier")
        setattr(self, self.head, linear_like(self, self.num_features, num_classes).train(self.training))

    def forward(self, images: torch.Tensor) -> Any:
        """Logits [B, num_classes] of normalised images [B, 3, H, W], H and W from 32 on."""
        return self.forward_head(self.forward_features(images))

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """The last feature map [B, num_features, h, w] of normalised images [B, 3, H, W]; h is about H / 32."""
        return self.maps(x, STAGES - 1, ())[0]

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Logits [B, num_classes] of the last feature map; with `pre_logits` what the classifier gets, [B, C]."""
        x = self.dropout(functional.adaptive_avg_pool2d(x, 1).flatten(1))
        if pre_logits:
            return x
        logits: torch.Tensor = self.get_classifier()(x)
        return logits

    def forward_intermediates(
        self,
        x: torch.Tensor,
        indices: Union[int, Sequence[int], None] = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Union[List[torch.Tensor], Tuple[torch.Tensor, List[torch.Tensor]]]:
        """The last feature map of images x, and a list of those of the stages `indices`, in the network's order.

        `indices` are positions in `feature_info`, negative ones from its end; a number N: the last N; None: all. With
        `intermediates_only` only the list is returned; with `stop_early` nothing behind the last of these stages is
        computed, and the first result is what the next would get. `norm` changes nothing, as in timm: these networks
        have no final normalisation.

        Raises UsageError for an index out of range, or another format than "NCHW".
        """
        if output_fmt != "NCHW":
            raise UsageError(f"feature maps cannot be {output_fmt!r}; their format is 'NCHW'")
        taken = _positions(indices)
        x, maps = self.maps(x, max(taken) if stop_early else STAGES - 1, taken)
        return maps if intermediates_only else (x, maps)


def _positions(indices: Union[int, Sequence[int], None]) -> List[int]:
    chosen = range(STAGES) if indices is None else range(-indices, 0) if isinstance(indices, int) else indices
    wrong = [index for index in chosen if not -STAGES <= index < STAGES]
    if wrong or not chosen:
        raise UsageError(f"no feature maps {indices!r}; give positions from 0 to {STAGES - 1}, or how many of the last")
    return [index % STAGES for index in chosen]
