"""The methods that timm's users know, on every network; their values are compared with timm's in test_agreement.py."""

from __future__ import annotations

from typing import List

import pytest
import torch
from torch import nn
from torch.nn import functional

from shared.errors import UsageError
from tests.torch_imagenet.networks.references import TIMM, drawn
from torch_imagenet.networks import NETWORKS, create

NAMES = sorted(NETWORKS)


def built(name, num_classes=5, **options):
    """Without memory for its weights."""
    with torch.device("meta"):
        return create(name, num_classes, **options)


def blank(side=64, dtype=torch.float32):
    return torch.empty(2, 3, side, side, device="meta", dtype=dtype)


@pytest.fixture(scope="module")
def networks():
    """One of each, without memory, in evaluation. Not to be changed."""
    return {name: built(name).eval() for name in NAMES}


@pytest.fixture(scope="module")
def small():
    """The cheapest one, in evaluation, with weights. Not to be changed."""
    return drawn(built("se_resnet50")).float().eval()


def called(network: nn.Module, forward) -> List[str]:
    """The layers with children that forward(network) runs."""
    names: List[str] = []
    handles = [
        layer.register_forward_hook(lambda *_, name=name: names.append(name))
        for name, layer in network.named_children()
    ]
    forward(network)
    for handle in handles:
        handle.remove()
    return names


# -- feature maps ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_maps_have_the_channels_and_strides_that_feature_info_says(networks, name):
    network, side = networks[name], 331
    x, maps = network.forward_intermediates(blank(side))
    assert [values.shape[1] for values in maps] == [info["num_chs"] for info in network.feature_info]
    assert [info["reduction"] for info in network.feature_info] == [2, 4, 8, 16, 32]
    for values, info in zip(maps, network.feature_info):
        assert values.shape[2:] == (pytest.approx(side / info["reduction"], abs=1),) * 2
    assert x is maps[-1]
    assert x.shape == (2, network.num_features, 11, 11)


@pytest.mark.parametrize("name", ["se_resnet50", "se_resnet50_caffe"])
def test_a_map_is_what_the_named_module_gives_after_its_relu(name):
    network, outputs = drawn(built(name)).float().eval(), {}
    for info in network.feature_info:
        layer = network.get_submodule(info["module"])
        layer.register_forward_hook(lambda _, inputs, output, key=info["module"]: outputs.update({key: output}))
    with torch.no_grad():
        maps = network.forward_intermediates(torch.randn(1, 3, 40, 33), intermediates_only=True)
    assert list(outputs) == [info["module"] for info in network.feature_info]
    for stage, (values, output) in enumerate(zip(maps, outputs.values())):
        assert torch.equal(values, functional.relu(output)), stage


@pytest.mark.parametrize(
    ("indices", "stages"),
    [(None, (0, 1, 2, 3, 4)), (2, (3, 4)), (5, (0, 1, 2, 3, 4)), ((0, -1), (0, 4)), ([3, 1], (1, 3)), ((-4,), (1,))],
)
def test_indices_are_timms(networks, indices, stages):
    network = networks["se_resnet50_caffe"]
    maps = network.forward_intermediates(blank(), indices, intermediates_only=True)
    assert [values.shape[1] for values in maps] == [network.feature_info[stage]["num_chs"] for stage in stages]


@pytest.mark.parametrize("name", ["se_resnet50", "pnasnet5large"])
def test_nothing_behind_the_last_map_is_computed_where_stop_early_says_so(networks, name):
    network = networks[name]
    stopped = called(network, lambda n: n.forward_intermediates(blank(), (0, 2), stop_early=True))
    complete = called(network, lambda n: n.forward_intermediates(blank(), (0, 2)))
    end = network.feature_info[2]["module"]
    assert stopped == complete[: complete.index(end) + 1] != complete


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"indices": (1, 5)}, r"no feature maps \(1, 5\); give positions from 0 to 4"),
        ({"indices": (-6,)}, "no feature maps"),
        ({"indices": 6}, "no feature maps 6; "),
        ({"indices": 0}, "no feature maps 0; "),
        ({"indices": ()}, "no feature maps"),
        ({"output_fmt": "NHWC"}, "cannot be 'NHWC'; their format is 'NCHW'"),
    ],
)
def test_what_there_is_not_is_one_line(networks, arguments, words):
    with pytest.raises(UsageError, match=words):
        networks["se_resnet50"].forward_intermediates(blank(), **arguments)


def test_the_logits_are_the_head_of_the_features(small):
    x = torch.randn(2, 3, 40, 40)
    with torch.no_grad():
        features = small.forward_features(x)
        pooled = small.forward_head(features, pre_logits=True)
        assert torch.equal(small(x), small.forward_head(features))
        assert torch.equal(small(x), small.get_classifier()(pooled))
        torch.testing.assert_close(pooled, features.mean(dim=(2, 3)))


def test_gradients_flow_from_a_map_to_the_layers_before_it_alone(small):
    maps = small.forward_intermediates(torch.randn(1, 3, 32, 32), (1,), intermediates_only=True)
    maps[0].sum().backward()
    found = {name.split(".")[0] for name, weight in small.named_parameters() if weight.grad is not None}
    small.zero_grad(set_to_none=True)
    assert found == {"conv1", "bn1", "layer1"}


# -- the classifier --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_new_classifier_changes_nothing_else(name):
    network = built(name, **dict.fromkeys(NETWORKS[name].options, True)).double()
    before = dict(network.state_dict(keep_vars=True))
    heads = (NETWORKS[name].head, NETWORKS[name].auxiliary_head or "-")
    assert network.num_classes == 5
    assert network.get_classifier() is network.get_submodule(NETWORKS[name].head)
    network.eval().reset_classifier(7)
    after = dict(network.state_dict(keep_vars=True))
    assert list(after) == list(before)
    assert {key for key in after if after[key] is not before[key]} == {key for key in after if key.startswith(heads)}
    assert network.num_classes == network.get_classifier().out_features == 7
    assert not any(module.training for module in network.modules())
    assert {(weight.dtype, weight.device.type) for weight in network.parameters()} == {(torch.float64, "meta")}
    outputs = network.train()(blank(dtype=torch.float64))
    assert [x.shape for x in (outputs if isinstance(outputs, tuple) else (outputs,))] == [(2, 7)] * (
        1 + ("-" not in heads)
    )


@pytest.mark.parametrize("name", NAMES)
def test_without_classes_the_network_returns_its_features(name):
    network = built(name).eval()
    network.reset_classifier(0)
    assert network.num_classes == 0
    assert network(blank()).shape == (2, network.num_features)
    assert not any(key.startswith(NETWORKS[name].head) for key in network.state_dict())
    network.reset_classifier(3)
    assert network(blank()).shape == (2, 3)
    with pytest.raises(UsageError, match="cannot have -1 classes; give at least 1, or 0 for"):
        network.reset_classifier(-1)
    assert network.num_classes == 3


def test_num_classes_follows_a_layer_that_the_user_has_put_there():
    network = built("se_resnet50")
    network.fc = nn.Linear(2048, 3)
    assert network.num_classes == 3
    network.fc = nn.Sequential(nn.Linear(2048, 3))
    with pytest.raises(AttributeError):
        network.num_classes  # noqa: B018


# -- what compiles and reads it --------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_maps_are_compiled_in_one_graph(small):
    x = torch.randn(2, 3, 40, 40)
    with torch.no_grad():
        expected = small.forward_intermediates(x, (1, 4))
        compiled = torch.compile(small.forward_intermediates, backend="eager", fullgraph=True)(x, (1, 4))
    for one, other in zip([compiled[0], *compiled[1]], [expected[0], *expected[1]]):
        torch.testing.assert_close(one, other)


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize("name", ["se_resnet50_caffe", "pnasnet5large"])  # senet154 is the first's code
def test_timm_reads_feature_info_and_takes_the_network_for_its_own(torchvision, name):
    timm = pytest.importorskip("timm")
    features = pytest.importorskip("timm.models._features")
    network = built(name)
    with torch.device("meta"):
        theirs = timm.create_model(TIMM[name], num_classes=5)
    assert len(network.feature_info) == len(theirs.feature_info)
    for info, other in zip(network.feature_info, theirs.feature_info):
        assert (info["num_chs"], info["reduction"]) == (other["num_chs"], other["reduction"])
    assert network.num_features == theirs.num_features
    getter = features.FeatureGetterNet(network, (1, 2, 3, 4))
    assert [values.shape[1] for values in getter(blank())] == getter.feature_info.channels()
