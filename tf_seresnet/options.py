"""The command line of this half, parsed into one frozen `RunConfig`. No TensorFlow is needed to read it."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from typing import Optional, Tuple

from shared.cli import old_command
from shared.cli.arguments import Argv, Parser, common_parser, number, one_of
from shared.errors import UsageError
from shared.prediction import options as prediction
from shared.recipes.base import as_typed
from shared.recipes.cifar10 import RECIPES, CifarRecipe
from shared.system.paths import expanded
from tf_seresnet.devices import documented_recipe
from tf_seresnet.devices.base import TENSORFLOW_PACKAGES, DeviceConfig, add_options
from tf_seresnet.network import LAYERS_PER_N

# The options that override a field of the recipe.
RECIPE_OPTIONS = (
    "depth variant epochs batch_size learning_rate scheduler milestones factors warm_up_epochs momentum "
    "weight_decay precision loss_scale seed steps_per_epoch"
).split()
MODES = ("train", "evaluate", "predict", "check-data", "check-port", "summary")
MODELARTS_DATA = "/cache/cifar-10-batches-py"  # the original's default of --modelarts_data_dir


@dataclass(frozen=True)
class RunConfig(DeviceConfig):
    """The command line, parsed once: the common options, those of devices, and those of this half."""

    depth: Optional[int]
    variant: Optional[str]
    layers: Optional[str]
    steps_per_epoch: Optional[int]
    # -- Evaluation --------------------------------------------------------------------------------------------
    eval_batch_size: Optional[int]  # images per device
    test_iteration: Optional[int]  # batches per evaluation
    # -- Predictions -------------------------------------------------------------------------------------------
    images: Optional[Tuple[str, ...]]
    top_k: Optional[int]
    format: Optional[str]
    on_bad_image: Optional[str]
    # -- ModelArts ---------------------------------------------------------------------------------------------
    data_url: Optional[str]
    train_url: Optional[str]
    modelarts_data_dir: str
    modelarts_result_dir: Optional[str]

    def named_recipe(self) -> CifarRecipe:
        """--recipe, else the documented one of the device."""
        return RECIPES[self.recipe or documented_recipe(self.device)]()

    @classmethod
    def from_argv(cls, argv: Argv = None) -> RunConfig:
        """Parse a command line, by default this process's. Raises UsageError."""
        command = old_command.read(parser(), sys.argv[1:] if argv is None else argv, "tf_seresnet", MODES)
        values = {**vars(parser().parse_args(command.argv)), "command_notes": command.notes}
        if values["mode"] != "predict":
            for name in ("top_k", "format", "on_bad_image"):
                if values[name] is not None:
                    raise UsageError(f"{as_typed(name, values[name])} is for predict alone; leave it out")
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**dict(values, **lists))


def parser() -> Parser:
    """All options; those that override a field of the recipe are None unless given."""
    result = common_parser(
        "tf_seresnet/main.py", "SE-ResNet on CIFAR-10", MODES, ("se_resnet110",), tuple(RECIPES), TENSORFLOW_PACKAGES
    )
    old_command.add_option(result, "tf_seresnet")
    add = result.add_argument_group("CIFAR-10 half").add_argument
    add("--depth", type=number(int, 8, 2001), metavar="N", help="another depth: 9n+2 (port), 6n+2 (paper)")
    add("--variant", type=one_of(*LAYERS_PER_N), help="port (the original's network, default) or paper")
    layers = "core (default) or slim (tf-slim and tflearn, up to 2.12); check-port: also keras, the Keras model"
    add("--layers", type=one_of("core", "slim", "keras"), help=layers)
    add("--steps-per-epoch", "--iteration", type=number(int, 1), metavar="N", help="shorten every epoch")
    add("--eval-batch-size", type=number(int, 1), metavar="N", help="images per evaluation step (default: 1000)")
    add("--test_iteration", type=number(int, 1), metavar="N", help="the same, as the number of batches")
    add_options(result.add_argument_group("device"))
    add = result.add_argument_group("predict").add_argument
    prediction.add_options(add)
    add("--on-bad-image", type=one_of("fatal", "skip"), help="fatal (default), or skip and name it")
    # The documented flags of the original's modelart_senet.py.
    add = functools.partial(result.add_argument_group("ModelArts").add_argument, type=expanded)
    add("--data_url", metavar="URL", help="data set in object storage, or a folder")
    add("--train_url", metavar="URL", help="where the run's folder is copied to at the end")
    add("--modelarts_data_dir", metavar="DIR", default=MODELARTS_DATA, help=f"default: {MODELARTS_DATA}")
    add("--modelarts_result_dir", metavar="DIR", help="the run's folder before it is copied out")
    return result
