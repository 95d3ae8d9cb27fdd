"""The command line of this half, parsed into one frozen `RunConfig`. No TensorFlow is needed to read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

from shared.cli import command_line, old_command
from shared.cli.arguments import common_parser
from shared.cli.modes import DATA, NETWORK, RUNNING, TRAINING, ModeParser
from shared.cli.parser import Argv, number, one_of
from shared.prediction import options as prediction
from shared.recipes.cifar10 import RECIPES, CifarRecipe
from shared.system.paths import expanded
from tf_seresnet.devices import documented_recipe
from tf_seresnet.devices.base import TENSORFLOW_PACKAGES, DeviceConfig, add_options
from tf_seresnet.network import LAYERS_PER_N

# The options that override a field of the recipe.
RECIPE_OPTIONS = (
    "depth variant epochs batch_size learning_rate scheduler milestones factors warm_up_epochs momentum "
    "weight_decay precision loss_scale seed steps_per_epoch every_step decayed label_smoothing mixup cutmix mixed "
    "cutout drop_path zero_init ema_decay"
).split()
MODES = ("train", "evaluate", "predict", "check-data", "check-port", "summary", "export")
GRAPH_MODES = ("predict", "export")
EXPORT_FORMATS = ("savedmodel", "keras", "frozen", "tflite", "onnx")
MODELARTS_DATA = "/cache/cifar-10-batches-py"  # the original's default of --modelarts_data_dir


@dataclass(frozen=True)
class RunConfig(DeviceConfig):
    """The command line, parsed once: the common options, those of devices, and those of this half."""

    depth: Optional[int]
    variant: Optional[str]
    layers: Optional[str]
    steps_per_epoch: Optional[int]
    steps_per_call: Optional[int]
    mixed: Optional[float]
    cutout: Optional[int]
    # -- Evaluation --------------------------------------------------------------------------------------------
    eval_batch_size: Optional[int]  # images per device
    test_iteration: Optional[int]  # batches per evaluation
    # -- Predictions -------------------------------------------------------------------------------------------
    images: Optional[Tuple[str, ...]]
    top_k: Optional[int]
    grad_cam: Optional[str]
    format: Optional[str]
    on_bad_image: Optional[str]
    # -- The mode export ---------------------------------------------------------------------------------------
    output: Optional[str]
    with_preprocessing: bool
    # -- ModelArts ---------------------------------------------------------------------------------------------
    data_url: Optional[str]
    train_url: Optional[str]
    modelarts_data_dir: str
    modelarts_result_dir: Optional[str]

    @property
    def is_graphs(self) -> bool:
        """Whether the mode runs a graph whatever has trained the weights."""
        return self.mode in GRAPH_MODES

    def named_recipe(self) -> CifarRecipe:
        """--recipe, else the documented one of the device."""
        return RECIPES[self.recipe or documented_recipe(self.device)]()

    @classmethod
    def from_argv(cls, argv: Argv = None) -> RunConfig:
        """Parse a command line, by default this process's. Raises UsageError."""
        values = vars(command_line.parsed(parser(), argv, "tf_seresnet"))
        del values["argv"]  # its processes are started with this one's
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**dict(values, **lists))


def parser() -> ModeParser:
    """All options; those that override a field of the recipe are None unless given."""
    result = common_parser(
        "tf_seresnet/main.py", "SE-ResNet on CIFAR-10", MODES, ("se_resnet110",), tuple(RECIPES), TENSORFLOW_PACKAGES
    )
    result.only("--device", (*RUNNING, "summary"))  # which has its recipe
    result.only("--data-path", (*DATA, "predict", "export"))  # weights alone do not say how images are normalised
    result.only("--workers", TRAINING)  # the other modes read the data set as it is
    old_command.add_option(result, "tf_seresnet")
    add = result.options("network", NETWORK)
    add("--depth", type=number(int, 8, 2001), metavar="N", help="another depth: 9n+2 (port), 6n+2 (paper)")
    add("--variant", type=one_of(*LAYERS_PER_N), help="port (the original's network, default) or paper")
    recorded = ("train", "evaluate", "check-port")
    layers = "core (default), slim (tf-slim and tflearn, up to 2.12) or keras (Keras 3 on the backend KERAS_BACKEND)"
    graphs = dict.fromkeys(GRAPH_MODES, ("core", "slim"))
    sets = {**dict.fromkeys(recorded, ("core", "slim", "keras")), **graphs}
    add("--layers", modes=sets, type=one_of("core", "slim", "keras"), help=layers)
    add = result.options("data")
    per_step, evaluating = "images per evaluation step (default: 1000)", ("train", "evaluate")
    add("--eval-batch-size", modes=(*evaluating, "predict"), type=number(int, 1), metavar="N", help=per_step)
    batches = "the same, as the number of batches"
    add("--test_iteration", modes=evaluating, type=number(int, 1), metavar="N", help=batches)
    add = result.options("training", TRAINING)
    add("--steps-per-epoch", "--iteration", type=number(int, 1), metavar="N", help="shorten every epoch")
    together = "steps that run at once on the device, the same to the bit; fewer up to one that is logged or saved"
    add("--steps-per-call", type=number(int, 1), metavar="N", help=together)
    add("--mixed", type=number(float, 0), metavar="SHARE", help="of the images, that --mixup or --cutmix mixes")
    square = "side of the square that is cut out of each image; 0 is off"
    add("--cutout", type=number(int, 0, 33), metavar="PIXELS", help=square)
    add_options(result.options("device", RUNNING))
    add = result.options("predict", ("predict",))
    prediction.add_options(add, EXPORT_FORMATS)
    add("--on-bad-image", type=one_of("fatal", "skip"), help="fatal (default), or skip and name it")
    add = result.options("output", ("export",))
    written = "to write: FOLDER (SavedModel), FILE.keras, .pb (frozen graph), .tflite or .onnx"
    add("--output", type=expanded, metavar="FILE", help=written)
    add("--with-preprocessing", action="store_true", help="normalise inside: the file takes uint8 [B, 32, 32, 3]")
    # The documented flags of the original's modelart_senet.py.
    add = result.options("ModelArts", DATA)
    add("--data_url", type=expanded, metavar="URL", help="data set in object storage, or a folder")
    copied, before = "where the run's folder is copied to at the end", "the run's folder before it is copied out"
    local = f"default: {MODELARTS_DATA}"
    add("--modelarts_data_dir", type=expanded, metavar="DIR", default=MODELARTS_DATA, help=local)
    add("--train_url", modes=recorded, type=expanded, metavar="URL", help=copied)
    add("--modelarts_result_dir", modes=recorded, type=expanded, metavar="DIR", help=before)
    return result
