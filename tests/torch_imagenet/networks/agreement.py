"""Where our networks must be those of others: what is measured of a network of theirs, and of ours.

What theirs give is kept in golden/agreement.json; `python tests/torch_imagenet/golden/renew.py` renews it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import numpy as np
import torch
from torch import nn

from tests.torch_imagenet.networks.references import (
    CLASSES,
    TIMM,
    cadene_network,
    drawn,
    gated_resnet50,
    in_the_port,
    port_pnasnet,
    timm_network,
)
from torch_imagenet.networks import create

FILE = Path(__file__).resolve().parents[1] / "golden" / "agreement.json"
# Relative, in float64. Training multiplies rounding errors: 1e-14 in the images becomes 1e-10 in SENet154's losses and
# 4e-9 in its gradients (1e-13 and 3e-12 in the others'), and another processor's sums differ by less than that.
TOLERANCES = {"losses": 1e-8, "gradients": 1e-6, "statistics": 1e-8}
LOGITS = 1e-10
# Cadene's PNASNet pads the input of cell_4 alone, which is right where that side is even and the others odd, as from
# 43 and 331 pixels. timm pads as TensorFlow does, at any size.
CADENE_SIZE = {"senet154": 65, "se_resnet50_caffe": 97, "pnasnet5large": 43}
FULL = {"senet154": 224, "se_resnet50_caffe": 224, "pnasnet5large": 331}
# Batch, side, learning rate: such that rounding errors stay small while the loss falls.
STEPS = {"senet154": (2, 40, 5e-6), "se_resnet50_caffe": (4, 40, 2e-4), "pnasnet5large": (2, 43, 1e-6)}
Measured = Dict[str, List[float]]


class Case(NamedTuple):
    """`theirs` and `ours` make the network with equal weights; `measure` gives the numbers that must be equal."""

    theirs: Callable[[], nn.Module]
    ours: Callable[[], nn.Module]
    measure: Callable[[nn.Module], Measured]
    dear: bool = False  # more than two seconds of a processor


def ours(name: str, **options: Any) -> nn.Module:
    """Our network, `drawn`."""
    with torch.device("meta"):
        network = create(name, CLASSES, dropout=0.0, **options)
    return drawn(network)


def images(*shape: int) -> torch.Tensor:
    """Normal noise [*shape] float64, as normalised images are."""
    return torch.from_numpy(np.random.RandomState(3).standard_normal(shape))


def logits(*sides: Tuple[int, int], batch: int = 2) -> Callable[[nn.Module], Measured]:
    """The network's output in evaluation at these heights and widths."""

    def measure(network: nn.Module) -> Measured:
        with torch.no_grad():
            network.eval()
            found = {f"{h} x {w}": network(images(batch, 3, h, w)).flatten().tolist() for h, w in sides}
        assert all(0.01 < np.std(values) < 1e4 for values in found.values())
        return found

    return measure


def logits_and_maps(network: nn.Module) -> Measured:
    """The output in evaluation at two sizes, and of each stage's feature map the norm and some of its values."""
    found = logits((64, 96))(network)
    x = images(2, 3, 75, 47)
    with torch.no_grad():
        x, maps = (
            network.forward_intermediates(x) if hasattr(network, "forward_intermediates") else hooked_maps(network, x)
        )
        found["75 x 47"] = (network.forward_head(x) if x.ndim == 4 else x).flatten().tolist()
    for stage, values in enumerate(maps):
        found[f"map {stage}"] = [values.norm().item(), *values.flatten()[:: values.numel() // 16].tolist()]
    return found


def hooked_maps(network: nn.Module, x: torch.Tensor) -> Tuple[torch.Tensor, List[torch.Tensor]]:
    """The logits and the five feature maps of a ResNet of torchvision's."""
    maps: List[torch.Tensor] = []
    layers = (network.maxpool, network.layer1, network.layer2, network.layer3, network.layer4)
    handles = [layers[0].register_forward_pre_hook(lambda _, inputs: maps.append(inputs[0]))]
    handles += [layer.register_forward_hook(lambda *found: maps.append(found[-1])) for layer in layers[1:]]
    output = network(x)
    for handle in handles:
        handle.remove()
    return output, maps


def three_steps(batch: int, side: int, rate: float) -> Callable[[nn.Module], Measured]:
    """SGD with the ports' momentum, weight decay and label smoothing, on one batch; dropout must be 0.

    The losses; then the norms of what the momentum has gathered for each weight, which are of all three gradients,
    and of each statistic of the batch normalisations. Ten steps would show nothing that these do not.
    """

    def measure(network: nn.Module) -> Measured:
        network.train()
        x, labels = images(batch, 3, side, side), torch.arange(batch) % CLASSES
        criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
        optimizer = torch.optim.SGD(network.parameters(), rate, momentum=0.9, weight_decay=1e-4, fused=True)
        losses = []
        for _ in range(3):
            optimizer.zero_grad()
            loss = criterion(network(x), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert abs(losses[-1] - losses[0]) > 0.1  # it learns; otherwise nothing is compared
        gathered = {in_the_port(n): optimizer.state[p]["momentum_buffer"] for n, p in network.named_parameters()}
        statistics = {n: value for n, value in network.named_buffers() if value.is_floating_point()}
        return {
            "losses": losses,
            "gradients": [gathered[name].norm().item() for name in sorted(gathered)],
            "statistics": [statistics[name].norm().item() for name in sorted(statistics)],
        }

    return measure


def names(network: nn.Module) -> str:
    """A digest of all tensors' names and shapes, in their order."""
    lines = [f"{name} {tuple(value.shape)}" for name, value in network.state_dict().items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _cases() -> Dict[str, Case]:
    cases = {}
    for name in sorted(TIMM):
        big, full, own = name != "se_resnet50_caffe", (FULL[name], FULL[name]), (CADENE_SIZE[name], CADENE_SIZE[name])
        cases.update(
            {
                f"{name}: timm's logits and feature maps": Case(
                    lambda name=name: timm_network(name),
                    lambda name=name: ours(name),
                    logits_and_maps,
                    name == "pnasnet5large",
                ),
                f"{name}: three steps of timm's": Case(
                    lambda name=name: timm_network(name), lambda name=name: ours(name), three_steps(*STEPS[name]), big
                ),
                f"{name}: Cadene's logits": Case(
                    lambda name=name: cadene_network(name), lambda name=name: ours(name), logits(own)
                ),
                f"{name}: Cadene's logits at the documented size with its own head": Case(
                    lambda name=name: cadene_network(name, any_size=False),
                    lambda name=name: ours(name),
                    logits(full, batch=1),
                    True,
                ),
            }
        )
    cases["pnasnet5large: the port's logits, without the zero padding"] = Case(
        port_pnasnet, lambda: ours("pnasnet5large", zero_pad=False), logits((43, 43), (64, 64))
    )
    cases["se_resnet50: a gated ResNet-50's logits and feature maps"] = Case(
        gated_resnet50, lambda: ours("se_resnet50"), logits_and_maps
    )
    cases["se_resnet50: three steps of a gated ResNet-50"] = Case(
        gated_resnet50, lambda: ours("se_resnet50"), three_steps(4, 40, 2e-4)
    )
    return cases


CASES = _cases()


def golden() -> Dict[str, Any]:
    """What `theirs` gave, by case; under "names", the digests of timm's names by network."""
    return dict(json.loads(FILE.read_text()))


def renew() -> None:
    """Write the file, from the libraries that are installed."""
    found: Dict[str, Any] = {"names": {name: names(timm_network(name)) for name in sorted(TIMM)}}
    found.update((name, case.measure(case.theirs())) for name, case in CASES.items())
    write(found)


def write(found: Dict[str, Any]) -> None:
    """A line for each list, so that a difference can be read."""
    cases = []
    for name, content in found.items():
        lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
        cases.append(f" {json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n }")
    FILE.write_text("{\n" + ",\n".join(cases) + "\n}\n")


def apart(one: Measured, other: Measured) -> float:
    """The largest distance relative to the second, in tolerances: up to 1 the two are equal. Logits are vectors."""
    assert one.keys() == other.keys()
    found = []
    for kind, values in other.items():
        a, b = np.array(one[kind]), np.array(values)
        assert a.shape == b.shape, kind
        if kind in TOLERANCES:
            found.append((np.abs(a - b) / np.abs(b)).max() / TOLERANCES[kind])
        else:
            found.append(np.linalg.norm(a - b) / np.linalg.norm(b) / LOGITS)
    return float(max(found))
