"""Who wrote a file of weights, and what its network expects."""

from __future__ import annotations

import pytest
import torch

from torch_imagenet.weights.form import port_of

ONE = torch.zeros(1)
SENET = {"module.layer0.conv1.weight": ONE}
SE_RESNET = {"module.layer1.0.se.fc.0.weight": ONE}
PNASNET = {"module.cell_stem_0.conv_1x1.conv.weight": ONE, "module.aux.classifier.weight": ONE}
BARE = {key[len("module.") :]: value for key, value in PNASNET.items()}
# As the three programs write them.
SENET_FILE = {"net": SENET, "optimizer": {}}
SE_RESNET_FILE = {"epoch": 4, "arch": "resnext101_32x8d", "state_dict": SE_RESNET, "best_acc1": ONE, "optimizer": {}}
PNASNET_FILE = {"epoch": 90, "state_dict": PNASNET, "acc": 79.6, "best_acc": 79.6, "optimizer": {}}


@pytest.mark.parametrize(
    ("content", "port"),
    [
        (SENET_FILE, "senet154"),
        (SE_RESNET_FILE, "se_resnet50"),
        (dict(SE_RESNET_FILE, amp={}), "se_resnet50"),
        (PNASNET_FILE, "pnasnet5large"),
        (dict(PNASNET_FILE, state_dict=BARE), "pnasnet5large"),  # trained without DDP
        (PNASNET, "pnasnet5large"),  # the state dict alone
        (BARE, None),  # this program writes such a file too
        (SENET, None),
        (dict(SE_RESNET_FILE, arch="se_resnet50"), None),  # --original-names
        ({**SE_RESNET_FILE, "arch": "pnasnet5large", "state_dict": PNASNET}, None),
        ({"arch": "pnasnet5large", "state_dict": PNASNET, "epoch": 1, "metric": 80.0}, None),  # timm's
        (dict(PNASNET_FILE, state_dict=SENET), None),
        (dict(SENET_FILE, net=ONE), None),
        ({}, None),
        (7, None),
        ({"arch": ["a list"], "net": SENET, "optimizer": 0}, "senet154"),
    ],
)
def test_the_program_that_wrote_a_file(content, port):
    assert port_of(content) == port
