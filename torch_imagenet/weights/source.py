"""Finds the weights of an evaluation, a fine-tuning or a new run: a run, a checkpoint, a file of weights, its name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from torch import nn

from shared import recipes
from shared.checkpoint.folder import Found, holds_one
from shared.class_names import Classes, match, of_state
from shared.errors import UsageError
from shared.recipes.as_run import SUFFIX
from shared.recipes.base import as_typed
from shared.recipes.imagenet import DEFAULT_NETWORK, DEFAULTS
from shared.run.folder import named_weights, run_of
from shared.system.paths import HUB, is_elsewhere
from torch_imagenet.distributed.environment import continued_job
from torch_imagenet.networks.registry import NETWORKS
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.options import FORM, RunConfig
from torch_imagenet.run import checkpoints, old_run
from torch_imagenet.run.checkpoints import TRAINING
from torch_imagenet.run.old_run import OldRun
from torch_imagenet.weights.files import read_weight_file
from torch_imagenet.weights.form import Form, is_ambiguous, network_of, stored_metadata
from torch_imagenet.weights.load import head_classes, load_weights, state_dict_of
from torch_imagenet.weights.remote import WeightFile, fetched, is_repository


@dataclass(frozen=True)
class FoundWeights:
    """Weights on disk."""

    path: Path
    state: Optional[Dict[str, Any]]  # of a checkpoint; None for a file of weights alone
    notes: List[str]  # for the log
    classes: Optional[Classes]  # of the head; None where there is no head
    form: Form = Form()
    run: Optional[OldRun] = None  # of an original port, that goes on with them
    file: Optional[WeightFile] = None  # of weights alone
    image_size: Optional[int] = None  # that such a file says
    network: Optional[str] = None  # whose weights these are, where their names show it

    @property
    def name(self) -> str:
        """Where they come from, for a record: a path, or the name of `remote.fetched`."""
        return self.file.name if self.file else str(self.path)

    @property
    def sha256(self) -> Optional[str]:
        """Of the file; None for a checkpoint, whose state has those of its files."""
        return self.file.sha256 if self.file else None

    @property
    def line(self) -> str:
        """Where they come from, for the log."""
        return f"weights: {self.file.title if self.file else self.path}"

    def settle(self, config: RunConfig) -> RunConfig:
        """The configuration with what it leaves open and these weights decide: network, padding and normalisation, how
        images are resized, and the image size where a file says it.

        A file of an old port also chooses its network and, where there is one, the recipe as its program ran it. With
        such a recipe on the command line, weights that do not say what they expect are taken for those of that program.
        """
        form = self.form
        if not form.known and as_run(config):
            return config
        if config.recipe is None and form.port is not None and config.network in (None, form.port):
            recipe = (default_finetune(form.port) if config.mode == "finetune" else DEFAULTS[form.port]) + SUFFIX
            config = replace(config, network=form.port, recipe=recipe if recipe in recipes.names() else None)
        if config.recipe is None and config.network is None:
            config = replace(config, network=self.network)
        network = config.network or (recipes.get(config.recipe).network if config.recipe else DEFAULT_NETWORK)
        zero_pad = form.zero_pad if config.zero_pad is None else config.zero_pad
        size = None if self.state else self.image_size
        return replace(
            config,
            keep_aspect=config.keep_aspect and keeps_aspect(self.state),
            image_size=config.image_size or size,
            zero_pad=zero_pad if "zero_pad" in NETWORKS[network].options else config.zero_pad,
            normalisation=config.normalisation or form.normalisation,
        )

    @property
    def step(self) -> int:
        """The training step of the checkpoint; 0 without one."""
        return int(self.state["progress"]["step"]) if self.state else 0

    def load(self, network: nn.Module, new_head: bool = False, rows: Optional[Sequence[int]] = None) -> List[str]:
        """Load them into the network with `load_weights`; the lines of its report. Raises what that does."""
        weights: Any = self.path if self.state is None else checkpoints.evaluated(self.path)
        return load_weights(network, weights, new_head=new_head, rows=rows).lines()


def found_weights(config: RunConfig) -> FoundWeights:
    """The weights of --checkpoint or --resume, else of the newest run. Raises UsageError where there are none."""
    name = str(named_weights(config.checkpoint, config.resume, TRAINING))
    if is_elsewhere(name):
        file = fetched(name)
        return _in_file(config, file, read_weight_file(file.path))
    path = Path(name)
    if path.is_file() and not holds_one(path):
        return _in_file(config, WeightFile.of_path(path), read_weight_file(path))
    if is_repository(name) and not path.parent.exists():
        raise UsageError(f"no checkpoint at {path}; check the path, or write {HUB}{name} for the Hugging Face Hub's")
    found = checkpoints.find(path)
    classes, form = of_state(found.state, found.state["network"]["num_classes"]), Form.of_recipe(found.state["recipe"])
    return FoundWeights(found.folder, found.state, [*found.notes, *_form_notes(config, form)], classes, form)


def _in_file(config: RunConfig, file: WeightFile, content: Any) -> FoundWeights:
    """The weights in a file with this content."""
    form, classes = Form.of_file(content), head_classes(content, str(file.path))
    notes = [*file.notes, *_form_notes(config, form, content)]
    network = network_of(state_dict_of(content, str(file.path))[0])
    size = stored_metadata(content).get("image_size")
    size = size if isinstance(size, int) else None
    return FoundWeights(file.path, None, notes, classes, form, file=file, network=network, image_size=size)


def _form_notes(config: RunConfig, form: Form, content: Any = None) -> List[str]:
    """What the log says where the command line contradicts the weights, or where nothing says what they expect."""
    given = config.given(FORM)
    if form.known:
        return [
            f"note: {as_typed(name, value)}, and the weights were trained with {as_typed(name, getattr(form, name))}"
            for name, value in given.items()
            if value != getattr(form, name)
        ]
    if given or as_run(config) or not is_ambiguous(content):
        return []
    return [
        "note: the file does not say whether its network has zero padding and its images were normalised, so both are"
        " assumed; for weights of the old PNASNet port give --no-zero-pad --normalisation none"
    ]


def origin(config: RunConfig) -> Tuple[RunConfig, Optional[Found], Optional[FoundWeights]]:
    """Where a training run begins: the configuration with what follows, the checkpoint to resume, the weights to load.

    A process of a job that was started again resumes the job's run. With --checkpoint, network, padding, normalisation
    and image size come from the checkpoint unless the command line sets them. Raises UsageError where there is no such
    thing, and for a fine-tuning without weights.
    """
    if continued_job(config):
        config = replace(config, resume=config.output_dir, checkpoint=None)
    if config.resume is not None:
        config.check_one_checkpoint()
        path = Path(config.resume)
        if path.is_file() and not holds_one(path):
            return _resumed_file(config, path)
        found = checkpoints.find(config.resume)
        output_dir = config.output_dir or str(run_of(found.folder))
        return replace(_resumed(config, found), output_dir=output_dir), found, None
    if config.checkpoint is None:
        if config.mode == "finetune":
            raise UsageError("finetune starts from weights; name a run's folder or a file with --checkpoint PATH")
        return config, None, None
    weights = found_weights(config)
    if weights.state is not None:
        trained, recipe = weights.state["network"], weights.state["recipe"]
        if config.network not in (None, trained["name"]):
            raise UsageError(f"the checkpoint is of {trained['name']}; leave --network {config.network} out")
        config = replace(config, network=trained["name"], image_size=config.image_size or recipe["image_size"])
    config = weights.settle(config)
    if config.mode == "finetune" and config.recipe is None:
        config = replace(config, recipe=default_finetune(config.network))
    return config, None, weights


def _resumed(config: RunConfig, found: Found) -> RunConfig:
    """The configuration of the run that goes on: a fine-tuning stays one, and images are resized as they were."""
    keep_aspect = config.keep_aspect and keeps_aspect(found.state)
    return replace(config, mode=found.state["mode"], keep_aspect=keep_aspect)


def _resumed_file(config: RunConfig, path: Path) -> Tuple[RunConfig, Optional[Found], Optional[FoundWeights]]:
    """A run of which there is one file, that goes on in a folder of its own; see `origin`."""
    content = read_weight_file(path)
    found = checkpoints.of_file(path, content)
    if found is not None:
        return _resumed(config, found), found, None
    if config.mode == "finetune":
        raise UsageError(f"finetune starts a new run; name the weights with --checkpoint {path}")
    weights = replace(_in_file(config, WeightFile.of_path(path), content), run=old_run.read(path, content))
    return weights.settle(config), None, weights


def keeps_aspect(state: Optional[Mapping[str, Any]]) -> bool:
    """Whether a checkpoint's run evaluates images in their aspect ratio; one that does not say so does."""
    return state is None or state.get("keep_aspect", True) is True


def as_run(config: RunConfig) -> bool:
    """Whether the command line names a recipe as an old program ran it."""
    return config.recipe is not None and config.recipe.endswith(SUFFIX)


def default_finetune(network: Optional[str]) -> str:
    """The recipe of a fine-tuning without --recipe."""
    return "pnasnet5large_finetune" if network == "pnasnet5large" else "imagenet_finetune"


class Head(NamedTuple):
    """The head to load: a `new` one, or rows of the weights' head."""

    new: bool
    rows: Optional[Sequence[int]] = None  # one for each class of the data set; None: all
    notes: Sequence[str] = ()  # for the log


def head(found: FoundWeights, data: Classes, config: RunConfig) -> Head:
    """The head of a run that starts from these weights: the rows of the data set's classes, matched by name.

    A fine-tuning gets a new head with --num-classes, and where the weights have other classes and another number of
    them. Raises UsageError where they have other classes but as many, and in other modes where a class is missing.
    """
    finetune = config.mode == "finetune"
    if finetune and config.num_classes is not None:
        return Head(True)
    if found.classes is None:
        return Head(False)  # `load_weights` reports what is missing
    classes, outputs = len(data.names), len(found.classes.names)
    advice = "check --data-path, or give it a new head with the mode finetune"
    if finetune:
        advice = f"check --data-path and the names of the classes, or make a new head with --num-classes {classes}"
    try:
        matched = match(found.classes, data, advice)
    except UsageError:
        if finetune and classes != outputs:
            note = f"the weights' {outputs:,} classes are not the data set's {classes:,}: a new head"
            return Head(True, notes=[note])
        raise
    if found.run is not None and not matched.in_place:
        what = "some of the classes" if classes < outputs else "another order of the classes"
        raise UsageError(f"a run goes on with its own classes, and the data set has {what} of {found.path}; {advice}")
    return Head(False, None if matched.in_place else matched.outputs, matched.notes)


def load(found: FoundWeights, network: nn.Module, spec: NetworkSpec, head: Head) -> List[str]:
    """Load the weights with this head into the network; lines for the log."""
    lines = found.load(network, head.new, head.rows)
    notes = [f"note: {line}" for line in head.notes]
    return [*found.notes, f"{found.line} into {spec.name}", *lines, *notes]
