"""What `create` makes: sizes, names, options, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from shared.errors import UsageError
from torch_imagenet.networks import NETWORKS, create
from torch_imagenet.networks.registry import mean_and_std

ROOT = Path(__file__).resolve().parents[3]

SIZES = [
    ("senet154", {}, 115_088_984, 1144),
    ("se_resnet50_caffe", {}, 28_088_024, 384),
    ("se_resnet50", {}, 28_071_976, 352),
    ("pnasnet5large", {}, 86_057_668, 1380),
    ("pnasnet5large", {"zero_pad": False}, 86_057_668, 1380),
    ("pnasnet5large", {"auxiliary_head": True}, 88_266_156, 1394),
]


def built(name, num_classes=1000, **options):
    """Without memory for its weights."""
    with torch.device("meta"):
        return create(name, num_classes, **options)


@pytest.mark.parametrize(("name", "options", "parameters", "keys"), SIZES)
def test_the_documented_sizes(name, options, parameters, keys):
    network = built(name, **options)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert len(network.state_dict()) == keys


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_drop_path_and_dropout_change_no_name(name):
    plain = built(name)
    assert list(built(name, dropout=0.1, drop_path=0.3).state_dict()) == list(plain.state_dict())
    assert plain.dropout.p == NETWORKS[name].dropout
    assert built(name, dropout=0.0).dropout.p == 0


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_head_has_the_classes(name):
    spec = NETWORKS[name]
    network = built(name, 7, **dict.fromkeys(spec.options, True))
    heads = [spec.head] + ([spec.auxiliary_head] if spec.auxiliary_head else [])
    for head in heads:
        assert network.get_submodule(head).out_features == 7
    assert network(torch.empty(2, 3, 64, 64, device="meta"))[0].shape[-1] == 7


def test_the_names_of_the_ports_own_parts():
    keys = built("se_resnet50").state_dict()
    assert {"conv1.weight", "layer1.0.se.fc.0.weight", "layer4.2.se.fc.2.weight", "fc.bias"} <= set(keys)
    assert keys["layer1.0.se.fc.0.weight"].shape == (16, 256)
    state = built("pnasnet5large", auxiliary_head=True).state_dict()
    auxiliary = {key: tuple(value.shape) for key, value in state.items() if key.startswith("aux.") and value.ndim}
    norms = {
        f"aux.features.{number}.{part}": (width,)
        for number, width in ((3, 128), (6, 768))
        for part in ("weight", "bias", "running_mean", "running_var")
    }
    assert auxiliary == {
        "aux.features.2.weight": (128, 4320, 1, 1),
        "aux.features.5.weight": (768, 128, 3, 3),
        "aux.classifier.weight": (1000, 768),
        "aux.classifier.bias": (1000,),
        **norms,
    }


def test_the_normalisation_is_the_documented_one():
    assert mean_and_std("senet154") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert mean_and_std("se_resnet50") == mean_and_std("se_resnet50_caffe") == mean_and_std("senet154")
    assert mean_and_std("pnasnet5large") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert {name: spec.image_size for name, spec in NETWORKS.items()} == {
        "senet154": 224,
        "se_resnet50": 224,
        "se_resnet50_caffe": 224,
        "pnasnet5large": 331,
    }


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("senet145",), {}, ["'senet145'", "'senet154'"]),
        (("inception",), {}, ["choose one of senet154, se_resnet50"]),
        (("senet154",), {"zero_pad": False}, ["no option 'zero_pad'", "leave it out"]),
        (("pnasnet5large",), {"zeropad": False}, ["no option 'zeropad'", "'zero_pad'"]),
        (("senet154", 0), {}, ["0 classes"]),
        (("senet154",), {"dropout": 1.0}, ["dropout rate", "1.0"]),
        (("senet154",), {"drop_path": -0.1}, ["drop path rate", "-0.1"]),
        (("senet154",), {"drop_path": float("nan")}, ["drop path rate", "nan"]),
    ],
)
def test_what_does_not_exist_is_refused_in_one_line(arguments, options, words):
    with pytest.raises(UsageError) as caught:
        create(*arguments, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert "; " in text
    for word in words:
        assert word in text


def test_the_facts_are_known_without_torch():
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from torch_imagenet.networks import NETWORKS, create\n"
        "from shared.errors import UsageError\n"
        "try: create('senet145')\n"
        "except UsageError: print(len(NETWORKS))\n"
    )
    output = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, cwd=str(ROOT)).stdout
    assert output.split() == [b"4"]
