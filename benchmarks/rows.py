"""The questions, each a row: which two sides answer it, at what sizes, and what is aimed at.

Rows that share sides are a group, so that a side is set up once for all of them.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from benchmarks.contender import Options

NETWORKS = {"se_resnet50_caffe": "SE-ResNet-50", "senet154": "SENet154", "pnasnet5large": "PNASNet-5-Large"}
_AIMS = {"se_resnet50_caffe": 1.2, "senet154": 1.2, "pnasnet5large": 1.3}
# Batch and image size of a step, and of the smallest that runs.
_CPU = {"se_resnet50_caffe": (8, 128), "senet154": (4, 128), "pnasnet5large": (2, 171)}
_GPU = {"se_resnet50_caffe": (128, 224), "senet154": (64, 224), "pnasnet5large": (64, 331)}
_TINY = {"se_resnet50_caffe": (2, 32), "senet154": (2, 32), "pnasnet5large": (2, 64)}
_TIMM, _TORCH, _TENSORFLOW = ("torch", "torchvision", "timm", "PIL"), ("torch", "torchvision", "PIL"), ("tensorflow",)


OURS = {"GOMP_SPINCOUNT": "10000"}  # as torch_imagenet/main.py has it


class Side(NamedTuple):
    """A contender: `target` names its function. `data` among its options gets the folder of images."""

    target: str  # below benchmarks.contenders
    options: Options
    needs: Tuple[str, ...]  # packages
    bf16: bool = False  # only where the processor has instructions for it
    environment: Mapping[str, str] = {}  # variables that the program itself sets before it loads its framework

    @property
    def images(self) -> bool:
        """Whether it reads image files."""
        return "data" in self.options


@dataclasses.dataclass(frozen=True)
class Row:
    """A question and what is aimed at."""

    name: str
    question: str
    ours: str  # names of sides
    peer: Optional[str]
    unit: str  # of its figures: images/s, ms (of a round) or s
    aim: Optional[float] = None  # the least ratio; in the unit s: the most seconds, where there is `aim_seconds`
    aim_seconds: bool = False
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Group:
    """Rows whose sides take turns."""

    rows: Tuple[Row, ...]
    sides: Dict[str, Side]
    rounds: int
    warm_up: int = 1
    compiled: bool = False  # its set-up is the work of a compiler, on the CPU

    def only(self, names: List[str]) -> Group:
        """Without the rows that are not named, and the sides that they alone have."""
        rows = tuple(row for row in self.rows if row.name in names)
        used = {side for row in rows for side in (row.ours, row.peer)}
        return dataclasses.replace(
            self, rows=rows, sides={name: side for name, side in self.sides.items() if name in used}
        )


def groups_of(kind: str, device: str, tiny: bool = False) -> List[Group]:
    """The rows of a kind of device, for this device of it; `tiny` ones measure nothing and only show that they run."""
    if kind == "cpu":
        steps = [_step(network, device, tiny) for network in NETWORKS]
        more = [_compiled("se_resnet50_caffe", device, tiny, _CPU)]
        last = [_evaluation(device, tiny), _start_imagenet(device, tiny)]
        return [
            _input(tiny),
            *steps,
            _bf16(device, tiny),
            *more,
            *last,
            _cifar10(device, tiny),
            _keras("tensorflow", device, tiny),
            _keras("jax", device, tiny),
            _start_cifar10(device, tiny),
        ]
    steps = [_gpu_step(network, device, tiny) for network in NETWORKS]
    more = [_compiled(network, device, tiny, _GPU) for network in NETWORKS]
    return [_checks(device, tiny), *steps, _keras("jax", device, tiny, on_gpu=True), *more, _cifar10(device, tiny)]


def rows_of(groups: List[Group]) -> List[Row]:
    """All rows, in order."""
    return [row for group in groups for row in group.rows]


# -- input and evaluation ----------------------------------------------------------------------------------------------


def _input(tiny: bool) -> Group:
    def side(function: str, **options: Any) -> Side:
        sizes = {"size": 32, "batch": 2, "images": 2} if tiny else {"size": 224, "batch": 32, "images": 160}
        return Side(f"imagenet_input:{function}", {"data": "", **sizes, **options}, _TORCH)

    question = "JPEG files to batches of 224 pixels, one core"
    sides = {"ours": side("ours"), **{kind: side("torchvision", dtype=kind) for kind in ("float32", "uint8")}}
    rows = (
        Row("input-float32", question, "ours", "float32", "images/s", 2.5, note="ours makes uint8, normalised later"),
        Row("input-uint8", question, "ours", "uint8", "images/s", 2.0),
    )
    return Group(rows, sides, rounds=21)


def _evaluation(device: str, tiny: bool) -> Group:
    sizes = {"size": 32, "batch": 2, "workers": 1} if tiny else {"size": 224, "batch": 16, "workers": 2}
    options = {"data": "", "network": "se_resnet50_caffe", "precision": "O0", "device": device, **sizes}
    ours = Side("imagenet_evaluation:ours", options, _TIMM, environment=OURS)
    sides = {"ours": ours, "timm": Side("imagenet_evaluation:timm", options, _TIMM)}
    question = "evaluation of SE-ResNet-50 from files, 224 pixels, batch 16, 2 workers"
    return Group((Row("evaluation", question, "ours", "timm", "images/s", 1.5),), sides, rounds=5)


# -- steps of the ImageNet networks ------------------------------------------------------------------------------------


def _sides(network: str, device: str, sizes: Tuple[int, int], **options: Any) -> Dict[str, Side]:
    """Both sides of a step. PNASNet's precision is that of the options."""
    common = {"network": network, "device": device, "batch": sizes[0], "size": sizes[1], "precision": "O0", **options}
    return {
        "ours": Side("imagenet_step:ours", common, _TIMM, environment=OURS),
        "timm": Side("imagenet_step:timm", common, _TIMM),
    }


def _question(network: str, sizes: Tuple[int, int], more: str) -> str:
    return f"training step of {NETWORKS[network]}, batch {sizes[0]}, {sizes[1]} pixels, {more}"


def _step(network: str, device: str, tiny: bool) -> Group:
    sizes = (_TINY if tiny else _CPU)[network]
    row = Row(f"step-{network}", _question(network, sizes, "float32"), "ours", "timm", "ms", _AIMS[network])
    return Group((row,), _sides(network, device, sizes), rounds=41 if network == "se_resnet50_caffe" else 9, warm_up=4)


def _bf16(device: str, tiny: bool) -> Group:
    network = "se_resnet50_caffe"
    sizes = (_TINY if tiny else _CPU)[network]
    half = _sides(network, device, sizes, precision="bf16")
    sides = {name: side._replace(bf16=True) for name, side in half.items()}
    sides["float32"] = _sides(network, device, sizes)["ours"]
    rows = (
        Row("bf16-timm", _question(network, sizes, "bf16"), "ours", "timm", "ms", 1.2),
        Row("bf16-float32", _question(network, sizes, "bf16"), "ours", "float32", "ms", 1.9, note="beside our float32"),
    )
    return Group(rows, sides, rounds=25, warm_up=4)


def _compiled(network: str, device: str, tiny: bool, by_network: Dict[str, Tuple[int, int]]) -> Group:
    on_gpu = by_network is _GPU
    sizes = (_TINY if tiny else by_network)[network]
    more: Dict[str, Any] = {"layout": "channels_last", "precision": "bf16", "steps": 20} if on_gpu else {}
    sides = _sides(network, device, sizes, compiled=True, **more)
    question = _question(network, sizes, "both compiled, bf16" if on_gpu else "both compiled, float32")
    row = Row(f"compiled-{network}", question, "ours", "timm", "images/s" if on_gpu else "ms", 1.2)
    return Group((row,), sides, rounds=9 if on_gpu else 25, warm_up=2, compiled=True)


def _gpu_step(network: str, device: str, tiny: bool) -> Group:
    """timm's step in both layouts, ours in the one that the program takes."""
    sizes = (_TINY if tiny else _GPU)[network]
    options = {"precision": "bf16", "steps": 2 if tiny else 20}
    sides = {"ours": _sides(network, device, sizes, **options)["ours"]}
    for layout in ("channels_last", "contiguous"):
        sides[layout] = _sides(network, device, sizes, layout=layout, **options)["timm"]
    rows = tuple(
        Row(
            f"step-{network}-{layout}",
            _question(network, sizes, f"bf16, timm {layout}"),
            "ours",
            layout,
            "images/s",
            _AIMS[network],
        )
        for layout in ("channels_last", "contiguous")
    )
    return Group(rows, sides, rounds=5)


# -- the CIFAR-10 half -------------------------------------------------------------------------------------------------


def _cifar10(device: str, tiny: bool) -> Group:
    sizes = {"depth": 11, "batch": 4} if tiny else {"depth": 110, "batch": 128}
    common = {"device": device, "precision": "O0", **sizes}
    keras = (*_TENSORFLOW, "keras")
    sides = {
        "ours": Side("cifar10_step:ours", common, _TENSORFLOW),
        "original": Side("cifar10_step:original", common, _TENSORFLOW),
        "bf16": Side("cifar10_step:ours", {**common, "precision": "bf16"}, _TENSORFLOW, bf16=device == "cpu"),
        "keras": Side("cifar10_step:keras", common, keras),
    }
    of = f"training step of SE-ResNet-{sizes['depth']}, batch {sizes['batch']}"
    rows = (
        Row("cifar10-step", f"{of}, float32", "ours", "original", "ms", 1.45),
        Row("cifar10-bf16", f"{of}, bf16", "bf16", "original", "ms", 2.2, note="ours is bf16, the original float32"),
        Row("cifar10-keras", f"{of}, float32", "ours", "keras", "ms", 3.0),
    )
    return Group(rows, sides, rounds=5)


def _keras(backend: str, device: str, tiny: bool, on_gpu: bool = False) -> Group:
    """The training of --layers keras beside Keras' own loop, whose batches the host feeds."""
    whole = {"depth": 110, "batch": 128, "steps": 50} if on_gpu else {"depth": 29, "batch": 128, "steps": 1}
    sizes = {"depth": 11, "batch": 4, "steps": 2} if tiny else whole
    options = {"backend": backend, "device": device, "precision": "bf16" if on_gpu else "O0", **sizes}
    sides = {name: Side(f"keras_training:{name}", options, (backend, "keras")) for name in ("ours", "fit")}
    more = f"batch {sizes['batch']}, {'bf16' if on_gpu else 'float32'}"
    question = f"training step of --layers keras on {backend}, SE-ResNet-{sizes['depth']}, {more}"
    rows = (Row(f"keras-{backend}", question, "ours", "fit", "images/s"),)
    return Group(rows, sides, rounds=5 if on_gpu else 21, compiled=True)


# -- from the command to the second step -------------------------------------------------------------------------------


def _start_cifar10(device: str, tiny: bool) -> Group:
    sizes = {"depth": 11, "batch": 4} if tiny else {"depth": 110, "batch": 128}
    options = {"device": device, **sizes}
    sides = {
        name: Side(f"start:{side}", options, _TENSORFLOW)
        for name, side in (("ours", "cifar10"), ("original", "original"))
    }
    question = f"from the command to the second step, SE-ResNet-{sizes['depth']}, batch {sizes['batch']}"
    row = Row("start-cifar10", question, "ours", "original", "s", 20.0, aim_seconds=True)
    return Group((row,), sides, rounds=3, warm_up=0)


def _start_imagenet(device: str, tiny: bool) -> Group:
    sizes = {"batch": 2, "size": 32, "workers": 1} if tiny else {"batch": 8, "size": 128, "workers": 2}
    options = {"data": "", "network": "se_resnet50_caffe", "device": device, **sizes}
    sides = {name: Side(f"start:{side}", options, _TIMM) for name, side in (("ours", "imagenet"), ("timm", "timm"))}
    question = "from the command to the second step, SE-ResNet-50, batch 8, 128 pixels, 2 workers"
    return Group((Row("start-imagenet", question, "ours", "timm", "s", 2.0),), sides, rounds=5)


# -- checks of a GPU ---------------------------------------------------------------------------------------------------


def _checks(device: str, tiny: bool) -> Group:
    networks = ["se_resnet50"] if tiny else ["se_resnet50", "senet154", "pnasnet5large"]
    options = {"device": device, "networks": networks, "batch": 2 if tiny else 4, "size": 32 if tiny else 64}
    sides = {name: Side(f"checks:{name}", options, ("torch", "PIL")) for name in ("synchronisation", "agreement")}
    rows = (
        Row("synchronisation", "no step waits for the device, at any precision", "synchronisation", None, "check"),
        Row("agreement", "losses of three float32 steps, beside the CPU's", "agreement", None, "check"),
    )
    return Group(rows, sides, rounds=0, warm_up=0)
