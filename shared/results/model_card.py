"""A model card of a finished training: what the Hugging Face Hub shows of a repository, from the run's record.

Front matter: https://github.com/huggingface/hub-docs/blob/main/modelcard.md; accuracies there are fractions, as the
metric `accuracy` of the Hub has them, and percent everywhere else.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from shlex import quote
from typing import Any, Dict, Iterator, List, Tuple

from shared.errors import UsageError
from shared.imagenet.download_cache import digest
from shared.results.record import publishable, read_record, write_record
from shared.results.tables import title
from shared.run.folder import CARD
from shared.system.atomic_files import make_folder, write_atomic
from shared.system.paths import HUB, reading, writing
from shared.system.strict_json import json_object

_NAMES = {"tensorflow": "TensorFlow", "keras": "Keras", "pytorch": "PyTorch"}
_WEIGHTS = {"tensorflow": "model.ckpt.*", "keras": "model.weights.h5", "pytorch": "model.pth"}
_SPLIT = {"tf_seresnet": "test", "torch_imagenet": "validation"}
_ON_HUB = {"cifar-10": "cifar10", "imagenet": "imagenet-1k"}  # data sets there, by their names in a record
_ROWS = (
    ("data set", "dataset.name"),
    ("training images", "dataset.train_images"),
    ("evaluated images", "evaluation.images"),
    ("classes", "classes"),
    ("recipe", "recipe"),
    ("schedule", "schedule"),
    ("epochs", "epochs_completed"),
    ("steps", "steps_completed"),
    ("images of a step, on all devices", "global_batch_size"),
    ("precision", "precision"),
    ("seed", "seed"),
    ("image size", "image_size"),
    ("normalisation (own: the network's)", "normalisation"),
    ("parameters", "parameters"),
    ("device", "device.name"),
    ("devices", "device.count"),
    ("code", "commit"),
    ("code of earlier sittings", "earlier_commits"),
    ("started", "started"),
)


def write_card(record_path: Path) -> List[str]:
    """Write README.md and record.json into `model-card` beside the record; lines that name it and how to send it.

    Raises UsageError where this is no finished training with its weights, its code was not committed, or a card is
    there already, which may have been edited.
    """
    record, run = publishable(read_record(record_path)), record_path.parent
    if record["mode"] not in ("train", "finetune") or "evaluation" not in record:
        raise UsageError(f"{record_path} is of the mode {record['mode']}; a model card is of a training, name its run")
    weights = _WEIGHTS.get(_framework(record), "weights")
    files = sorted(run.glob(weights))
    if not files:
        what = f"{run} has no {weights}, the weights that a card is of"
        raise UsageError(f"{what}; name the folder of a run")
    folder = run / CARD
    if (folder / "README.md").exists():
        raise UsageError(f"{folder} is there already, perhaps edited; move or delete it to have a new one")
    text = _card(record, json_object(run / "config.json"), files)
    make_folder(folder)
    write_record(folder / "record.json", record, "free space, or change its permissions")
    with writing(folder / "README.md", "free space, or change its permissions"):
        write_atomic(folder / "README.md", text)
    return [
        f"{folder}: read and complete README.md, its license above all; then, to send it",
        f"hf upload OWNER/NAME {quote(str(folder))} .",
        *(f"hf upload OWNER/NAME {quote(str(file))} {_name_there(file)}" for file in files),
    ]


def _framework(record: Dict[str, Any]) -> str:
    if record.get("layers") == "keras":
        return "keras"
    return {"tf_seresnet": "tensorflow", "torch_imagenet": "pytorch"}.get(record["half"], "")


def _name_there(file: Path) -> str:
    """The name in the repository, under which `--checkpoint hf-hub:OWNER/NAME` looks for it."""
    return "pytorch_model.bin" if file.name == "model.pth" else file.name


def _card(record: Dict[str, Any], config: Dict[str, Any], files: List[Path]) -> str:
    evaluation, data, split = record["evaluation"], record["dataset"]["name"], _SPLIT[record["half"]]
    name = f"{title(record['network'])}, {title(data)}"
    framework = _NAMES[_framework(record)]
    percents = [("top-1 accuracy", evaluation["top1"])]
    several = len(record["dataset"].get("classes") or range(6)) > 5  # else the best five are all of them
    percents += [("top-5 accuracy", evaluation["top5"])] if "top5" in evaluation and several else []
    lines = ["---", *_yaml(_front_matter(record, config, percents)), "---", f"# {name}", ""]
    lines += [f"{name}: an image classifier, trained by se-pnas-kit with {framework}.", ""]
    lines += ["## Accuracy", "", f"On the {evaluation['images']:,} {split} images of {data}, each counted once:", ""]
    lines += ["| measure | value |", "|---|---:|"]
    lines += [f"| {what} | {percent:.3f} % |" for what, percent in percents]
    lines += [f"| loss | {evaluation['loss']:.4f} |", ""]
    lines += ["Not measured on any other images. It answers with one of its classes for every image, also for one that"]
    lines += ["shows none of them.", "", "## Training", "", "| what | value |", "|---|---|"]
    lines += [f"| {what} | {_cell(value)} |" for what, value in _values(record)]
    lines += ["", "`record.json` is the whole record.", "", "## Files", "", "| file | SHA-256 |", "|---|---|"]
    lines += [f"| `{_name_there(file)}` | `{_digest(file)}` |" for file in files]
    return "\n".join([*lines, "", "## Use", "", *_use(record), ""])


def _front_matter(record: Dict[str, Any], config: Dict[str, Any], percents: List[Tuple[str, float]]) -> Dict[str, Any]:
    data = record["dataset"]["name"]
    on_hub, own = _ON_HUB.get(data), re.sub(r"[^a-z0-9]+", "-", data.lower()).strip("-") or "data"
    weights = config.get("weights")
    base = weights.get("name") if isinstance(weights, dict) else None
    metrics = [{"type": "accuracy", "value": round(value / 100, 6), "name": what} for what, value in percents]
    result = {
        "task": {"type": "image-classification", "name": "Image Classification"},
        "dataset": {"type": on_hub or own, "name": data, "split": _SPLIT[record["half"]]},
        "metrics": metrics,
    }
    return {
        "license": "unknown",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", _framework(record), record["network"]],
        **({"datasets": [on_hub]} if on_hub else {}),
        **({"base_model": base[len(HUB) :].split("@")[0]} if isinstance(base, str) and base.startswith(HUB) else {}),
        "metrics": ["accuracy"],
        "model-index": [{"name": record["network"], "results": [result]}],
    }


def _values(record: Dict[str, Any]) -> Iterator[Tuple[str, Any]]:
    """What the record has of `_ROWS`."""
    flat = dict(record)
    for part in ("dataset", "evaluation", "device"):
        flat.update({f"{part}.{key}": value for key, value in record.get(part, {}).items()})
    classes = record["dataset"].get("classes")
    flat["classes"] = (
        f"{len(classes):,}: {', '.join(classes[:10])}{', ...' if classes[10:] else ''}" if classes else None
    )
    for what, key in _ROWS:
        if flat.get(key) is not None:
            yield what, ", ".join(flat[key]) if isinstance(flat[key], list) else flat[key]


def _cell(value: Any) -> str:
    text = f"{value:,}" if type(value) is int and value >= 10000 else str(value)
    return re.sub(r"([|\\`*_<>\[\]])", r"\\\1", " ".join(text.split()))


def _use(record: Dict[str, Any]) -> List[str]:
    if record["half"] == "torch_imagenet":
        size = f" --image-size {record['image_size']}" if "image_size" in record else ""
        checkpoint = f"--checkpoint hf-hub:OWNER/NAME --network {record['network']}{size}"
        return [f"    python torch_imagenet/main.py predict {checkpoint} cat.jpg"]
    load = "    hf download OWNER/NAME --local-dir model"
    if record.get("layers") == "keras":
        model = f"se_resnet({record['depth']}, {record['variant']!r}, {len(record['dataset']['classes'])})"
        code = f"from tf_seresnet.keras import se_resnet; {model}.load_weights('model/model.weights.h5')"
        return [load, f'    python -c "{code}"']
    network = "".join(f" --{name} {record[name]}" for name in ("depth", "variant") if name in record)
    return [load, f"    bash eval.sh --checkpoint model/model.ckpt{network} --data-path DIR"]


def _yaml(value: Any, indent: str = "") -> Iterator[str]:
    """The lines of an object or list in YAML, whose texts and numbers are JSON's."""
    for key, item in value.items() if isinstance(value, dict) else ((None, item) for item in value):
        head = "- " if key is None else f"{key}:"
        if not isinstance(item, (dict, list)):
            yield f"{indent}{head}{'' if key is None else ' '}{json.dumps(item, ensure_ascii=False)}"
        elif key is None:
            first, *others = _yaml(item, indent + "  ")
            yield f"{indent}- {first[len(indent) + 2 :]}"
            yield from others
        else:
            yield f"{indent}{head}"
            yield from _yaml(item, indent + "  ")


def _digest(path: Path) -> str:
    with reading(path, "check its permissions"):
        return digest(str(path))[1]
