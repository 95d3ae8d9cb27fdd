"""PNASNet-5-Large (Liu et al., "Progressive Neural Architecture Search", arXiv 1712.00559).

The names of the weights are those of Cadene's pretrained-models.pytorch. A cell takes the outputs of the two cells
before it; the left input is the earlier one. An asterisk marks a left input twice as large as the right one. Output
shapes are [C x H x W] at 331 x 331:

    conv_0          3x3/2, no padding, BN            96 x 165 x 165
    cell_stem_0     halves                          270 x  83 x  83
    cell_stem_1 *   halves                          540 x  42 x  42
    cell_0 *, 1-3                                  1080 x  42 x  42
    cell_4          halves                         2160 x  21 x  21
    cell_5 *, 6, 7                                 2160 x  21 x  21
    cell_8          halves; the auxiliary head     4320 x  11 x  11
    cell_9 *, 10, 11                               4320 x  11 x  11
    head            ReLU, mean, dropout 0.5, linear, at any map's size
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Collection, List, Optional, Tuple, Union

import torch
from torch import nn
from torch.nn import functional

from torch_imagenet.networks.classifier import STAGES, ImageClassifier, linear_like
from torch_imagenet.networks.pnasnet_cells import EPSILON, Cell, CellStem0

CELLS = 12
REDUCTIONS = (4, 8)  # the cells that halve height and width and double the channels
AUXILIARY_AFTER = "cell_8"
OUT = 216  # channels of each of the five branches of cells 0 to 3
FEATURES = 4320
AUXILIARY_FEATURES = 768
LAYERS = ("conv_0", "cell_stem_0", "cell_stem_1", *(f"cell_{number}" for number in range(CELLS)))
# The last layer of each stage. Its feature map is its output after a ReLU, as the next cell takes it; not conv_0's.
ENDS = ("conv_0", "cell_stem_0", "cell_3", "cell_7", "cell_11")
CHANNELS = (96, 270, 1080, 2160, FEATURES)


class AuxiliaryPool(nn.Module):
    """7 x 7 average pooling with stride 2, as in the original: 11 x 11, at image size 331, becomes 3 x 3.

    A map with a side below 11 is pooled adaptively to 3 x 3, the smallest input of the convolution that follows: as two
    matrix products, because torch's adaptive pooling has no deterministic backward pass on a GPU.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] to [B, C, H', W'], both sides 3 or more."""
        if min(x.shape[2:]) < 11:
            rows, columns = (_thirds(x, side) for side in x.shape[2:])
            sums = functional.linear(functional.linear(x, columns).transpose(2, 3), rows).transpose(2, 3)
            return sums / torch.outer(rows.sum(1), columns.sum(1))
        return functional.avg_pool2d(x, 7, stride=2)


def _thirds(like: torch.Tensor, side: int) -> torch.Tensor:
    """[3, side]: ones where torch's adaptive pooling from `side` to 3 averages for the output of that row."""
    ones = like.new_zeros(3, side)
    for part in range(3):
        ones[part, part * side // 3 : -(-(part + 1) * side // 3)].fill_(1)
    return ones


class AuxiliaryHead(nn.Module):
    """The port's auxiliary classifier (Szegedy et al., arXiv 1409.4842, section 5); 2,208,488 parameters."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.ReLU(),
            AuxiliaryPool(),
            nn.Conv2d(FEATURES, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(inplace=True),
            nn.Conv2d(128, 768, 3, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(inplace=True),
        )
        self.classifier: nn.Module = nn.Linear(AUXILIARY_FEATURES, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [B, num_classes] of cell_8's output [B, 4320, H, W]."""
        return self.classifier(functional.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


class PNASNet5Large(ImageClassifier):
    """86,057,668 parameters at 1000 classes (88,266,156 with the auxiliary head), 24.9 GMAC; see the module.

    The drop-path rate of the separable branches grows linearly with the cells, from 0 in the stem to `drop_path` in the
    last cell (Zoph et al., arXiv 1707.07012, "ScheduledDropPath").
    """

    num_features = FEATURES

    def __init__(
        self, num_classes: int, dropout: float, drop_path: float, zero_pad: bool = True, auxiliary_head: bool = False
    ) -> None:
        super().__init__()
        conv = nn.Conv2d(3, 96, 3, stride=2, bias=False)
        self.conv_0 = nn.Sequential(OrderedDict([("conv", conv), ("bn", nn.BatchNorm2d(96, eps=EPSILON))]))
        self.cell_stem_0 = CellStem0(96, 54, zero_pad)
        self.cell_stem_1 = Cell(96, 270, 108, 2, halve_left=True, zero_pad=zero_pad, drop_path=0.0)
        left, right, out, halve_left = 270, 540, OUT, True
        for number in range(CELLS):
            reduces = number in REDUCTIONS
            out = 2 * out if reduces else out
            rate = drop_path * (number + 1) / CELLS
            cell = Cell(left, right, out, 2 if reduces else 1, halve_left, zero_pad, rate)
            self.add_module(f"cell_{number}", cell)
            left, right, halve_left = right, 5 * out, reduces
        self.dropout = nn.Dropout(dropout)
        self.last_linear = nn.Linear(FEATURES, num_classes)
        self.aux = AuxiliaryHead(num_classes) if auxiliary_head else None
        self.feature_info = [
            {"num_chs": channels, "reduction": 2 ** (stage + 1), "module": name}
            for stage, (name, channels) in enumerate(zip(ENDS, CHANNELS))
        ]

    def forward(self, images: torch.Tensor) -> Union[torch.Tensor, Tuple[torch.Tensor, torch.Tensor]]:
        """Logits [B, num_classes] of normalised images [B, 3, H, W], H and W from 32 on.

        In training with the auxiliary head: the pair (logits, auxiliary logits), both [B, num_classes].
        """
        x, _, auxiliary = self._run(images, STAGES - 1, (), self.aux if self.training else None)
        logits = self.forward_head(x)
        return logits if auxiliary is None else (logits, auxiliary)

    def maps(self, images: torch.Tensor, last: int, kept: Collection[int]) -> Tuple[torch.Tensor, List[torch.Tensor]]:
        """See `ImageClassifier.maps`; without the auxiliary head."""
        return self._run(images, last, kept, None)[:2]

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the classifiers of the head and of the auxiliary head; see `ImageClassifier.reset_classifier`."""
        super().reset_classifier(num_classes)
        if self.aux is not None:
            self.aux.classifier = linear_like(self, AUXILIARY_FEATURES, num_classes).train(self.training)

    def _run(
        self, images: torch.Tensor, last: int, kept: Collection[int], aux: Optional[AuxiliaryHead]
    ) -> Tuple[torch.Tensor, List[torch.Tensor], Optional[torch.Tensor]]:
        """The map of stage `last`, those of the stages in `kept`, and what `aux` gives."""
        found: List[torch.Tensor] = []
        auxiliary = None
        left = right = images
        for name in LAYERS:
            layer = getattr(self, name)
            left, right = right, layer(right) if name in ("conv_0", "cell_stem_0") else layer(left, right)
            if name == AUXILIARY_AFTER and aux is not None:
                auxiliary = aux(right)
            stage = ENDS.index(name) if name in ENDS else None
            if stage is None or (stage != last and stage not in kept):
                continue
            x = functional.relu(right) if stage else right
            found += [x] if stage in kept else []
            if stage == last:
                break
        return x, found, auxiliary
