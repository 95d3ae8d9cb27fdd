"""Who wrote a file of weights, and what its network expects."""

from __future__ import annotations

import pytest
import torch

from tests.torch_imagenet.networks import references
from torch_imagenet.options import RunConfig
from torch_imagenet.weights.form import Form, is_ambiguous, network_of, port_of
from torch_imagenet.weights.load import with_names
from torch_imagenet.weights.source import FoundWeights

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


OURS = Form(False, "none")


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (PNASNET_FILE, Form(False, "none", "pnasnet5large")),
        (SENET_FILE, Form(port="senet154")),
        (BARE, Form(known=False)),
        ({"state_dict": BARE}, Form(known=False)),
        (with_names(BARE, None, OURS), OURS),
        ({"model": with_names(BARE, None, OURS), "epoch": 3}, OURS),
        ({"net": BARE}, Form(known=False)),
        (with_names(BARE, ["a", "b"], OURS), OURS),
        ({"arch": "pnasnet5large", "state_dict": with_names(BARE, ["a"], OURS)}, OURS),
        (with_names(BARE, ["a"]), Form(known=False)),  # of this program before it stored them
        (None, Form(known=False)),
    ],
)
def test_what_a_file_says_of_its_network(content, form):
    assert Form.of_file(content) == form


@pytest.mark.parametrize("stored", [{"zero_pad": 1, "normalisation": "none"}, {"zero_pad": False, "normalisation": []}])
def test_what_a_strangers_file_says_is_checked(stored):
    state = with_names(BARE, ["a"])
    state._metadata[""].update(stored)
    assert not Form.of_file(state).known


def test_weights_with_the_ports_auxiliary_head_and_nothing_else_are_ambiguous():
    assert is_ambiguous(BARE)
    assert is_ambiguous({"state_dict": BARE})
    assert not is_ambiguous(PNASNET_FILE)
    assert not is_ambiguous(with_names(BARE, None, OURS))
    assert not is_ambiguous({"cell_stem_0.conv_1x1.conv.weight": ONE})  # the published ones have no such head


def _settled(form, *words):
    config = FoundWeights(None, None, [], None, form).settle(RunConfig.from_argv(list(words)))
    return config.network, config.recipe, config.zero_pad, config.normalisation


OLD_PNASNET = Form(False, "none", "pnasnet5large")


@pytest.mark.parametrize(
    ("form", "words", "expected"),
    [
        (OLD_PNASNET, "", ("pnasnet5large", "pnasnet5large_1p_as_run", False, "none")),
        (OLD_PNASNET, "evaluate", ("pnasnet5large", "pnasnet5large_1p_as_run", False, "none")),
        (OLD_PNASNET, "finetune", ("pnasnet5large", "pnasnet5large_finetune_as_run", False, "none")),
        (OLD_PNASNET, "--recipe pnasnet5large_8p", (None, "pnasnet5large_8p", False, "none")),
        (OLD_PNASNET, "--zero-pad --normalisation own", ("pnasnet5large", "pnasnet5large_1p_as_run", True, "own")),
        (OLD_PNASNET, "--network senet154", ("senet154", None, None, "none")),
        (Form(known=False), "--network pnasnet5large", ("pnasnet5large", None, True, "own")),
        (Form(known=False), "--recipe pnasnet5large_8p", (None, "pnasnet5large_8p", True, "own")),
        (Form(known=False), "--network pnasnet5large --no-zero-pad", ("pnasnet5large", None, False, "own")),
        (Form(known=False), "", (None, None, None, "own")),
        (Form(known=False), "--recipe pnasnet5large_8p_as_run", (None, "pnasnet5large_8p_as_run", None, None)),
        (Form(), "--recipe pnasnet5large_8p_as_run", (None, "pnasnet5large_8p_as_run", True, "own")),  # a run's
        (Form(port="senet154"), "", ("senet154", None, None, "own")),
        (Form(port="se_resnet50"), "--network se_resnet50_caffe", ("se_resnet50_caffe", None, None, "own")),
    ],
)
def test_what_the_command_line_leaves_open_the_weights_decide(form, words, expected):
    assert _settled(form, *words.split()) == expected


@pytest.mark.parametrize("name", references.CADENE)
def test_a_network_is_known_by_the_names_in_published_files(name, monkeypatch):
    monkeypatch.setattr(references, "drawn", lambda network: network)  # the numbers do not matter
    assert network_of(references.cadene_network(name).state_dict()) == name


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("evaluate", ("senet154", None)),
        ("finetune", ("senet154", None)),
        ("evaluate --network se_resnet50", ("se_resnet50", None)),
        ("train --recipe se_resnet50_1p", (None, "se_resnet50_1p")),
    ],
)
def test_a_file_of_a_known_network_chooses_it_where_the_command_line_does_not(words, expected):
    found = FoundWeights(None, None, [], None, Form(known=False), network="senet154")
    config = found.settle(RunConfig.from_argv(words.split()))
    assert (config.network, config.recipe) == expected
