"""Files for other runtimes: an exported program is written as .pt2 of torch.export or as ONNX, and loaded again.

Its weights alone are a file of safetensors, which timm and `--checkpoint` read.
"""

from __future__ import annotations

import importlib
import io
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Tuple

import torch

from shared.errors import UsageError
from torch_imagenet.networks.registry import NETWORKS
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.weights.files import read_metadata, read_weight_file

INPUT, OUTPUT = "images", "logits"
OPSET = 18  # what torch's exporter is written in; a later one is a conversion of it, which fewer runtimes read
NETWORK = "network."  # before the names of the network's tensors in an exported program
METADATA = "metadata.json"  # in a .pt2 file
_LARGEST = 2**31 - 2**20  # bytes of weights: a file of protocol buffers ends at 2 GiB

Forward = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Format:
    """A kind of file. `write` takes an exported program, the path and the metadata; `load` gives its forward pass."""

    title: str
    suffix: str
    packages: Tuple[str, ...]  # that it needs besides torch
    write: Callable[[torch.export.ExportedProgram, Path, Mapping[str, Any]], None]
    load: Callable[[Path], Forward]


def metadata_of(path: Path) -> Dict[str, Any]:
    """The metadata of a file of `FORMATS`. Raises what its packages do for a file that is none."""
    if path.suffix == ".onnx":
        found = _session(path).get_modelmeta().custom_metadata_map
        return {name: json.loads(value) for name, value in found.items()}
    if path.suffix == ".safetensors":
        return {name: json.loads(value) for name, value in read_metadata(path).items()}
    extra = {METADATA: ""}
    torch.export.load(str(path), extra_files=extra)
    content: Dict[str, Any] = json.loads(extra[METADATA])
    return content


def _write_torch(program: torch.export.ExportedProgram, path: Path, metadata: Mapping[str, Any]) -> None:
    content = io.BytesIO()  # torch's own writer answers a full disk with a RuntimeError
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, content, extra_files={METADATA: json.dumps(metadata)})
    path.write_bytes(content.getbuffer())


def _load_torch(path: Path) -> Forward:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.export.load(str(path)).module()

    def run(images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            logits: torch.Tensor = module(images)
        return logits

    return run


def _write_onnx(program: torch.export.ExportedProgram, path: Path, metadata: Mapping[str, Any]) -> None:
    """One file with the weights in it. Raises UsageError where they are too large for that."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    if size > _LARGEST:
        raise UsageError(f"{size / 1e9:.1f} GB of weights do not fit into an ONNX file; use --format torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: Any = torch.onnx.export(
            program, input_names=[INPUT], output_names=[OUTPUT], opset_version=OPSET, dynamo=True, verbose=False
        )
    made.model.metadata_props.update({name: json.dumps(value) for name, value in metadata.items()})
    for node in made.model.graph:
        node.metadata_props.clear()  # where in torch's graph it comes from
    made.save(str(path), external_data=False)


def _load_onnx(path: Path) -> Forward:
    session = _session(path)
    return lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])


def _session(path: Path) -> Any:
    runtime = importlib.import_module("onnxruntime")
    return runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def _write_safetensors(program: torch.export.ExportedProgram, path: Path, metadata: Mapping[str, Any]) -> None:
    from safetensors.torch import save_file

    weights = {name: value.contiguous() for name, value in program.state_dict.items()}
    state = {name[len(NETWORK) :]: value for name, value in weights.items() if name.startswith(NETWORK)}
    save_file(state, str(path), {name: json.dumps(value) for name, value in metadata.items()})


def _load_safetensors(path: Path) -> Forward:
    metadata, state = metadata_of(path), read_weight_file(path)
    head = state[f"{NETWORKS[metadata['network']].head}.weight"]
    options = {name: metadata["form"][name] for name in NETWORKS[metadata["network"]].options if name == "zero_pad"}
    network = NetworkSpec(metadata["network"], len(head), options=options).make().to(head.dtype).eval()
    network.load_state_dict(state)

    def run(images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            logits: torch.Tensor = network(images.to(head.dtype)).float()
        return logits

    return run


FORMATS: Dict[str, Format] = {
    "onnx": Format(f"ONNX opset {OPSET}", ".onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _load_onnx),
    "safetensors": Format(
        "weights alone, safetensors", ".safetensors", ("safetensors",), _write_safetensors, _load_safetensors
    ),
    "torch": Format("torch.export", ".pt2", (), _write_torch, _load_torch),
}
