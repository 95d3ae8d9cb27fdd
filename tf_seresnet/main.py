"""SE-ResNet on CIFAR-10: `python tf_seresnet/main.py [MODE] [options]`. Parses, picks a mode, calls it."""

import sys
from pathlib import Path
from typing import Dict, Optional, Sequence

if not __package__:
    # Run as a script from a bare checkout: the packages are found from the checkout's root, and this folder must not
    # be on the path, where its keras.py would stand before Keras itself.
    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry or ".").resolve() != here)]

from shared.cli.interpreter import INSTALL_TENSORFLOW, unfit

if unfit((3, 7), INSTALL_TENSORFLOW):
    sys.exit(2)

from shared.cli.entry_point import Mode, run
from shared.system.signals import Interrupts
from tf_seresnet import devices
from tf_seresnet.check_data import check_data
from tf_seresnet.options import RunConfig
from tf_seresnet.run import checkpoints, modelarts
from tf_seresnet.step.spec import KERAS
from tf_seresnet.summary import summary


def _on_devices(config: RunConfig, interrupts: Interrupts) -> None:
    """Run the mode in this process, or in one process per device where the device needs that."""
    if config.mode != "check-port" and checkpoints.layers_of(config) == KERAS:
        devices.load_keras(config)
        with modelarts.staged(config) as local:
            _keras_function(config.mode)(local, interrupts)
        return
    devices.load_tensorflow(config.device, config.xla)
    if devices.starts_ranks(config):
        modelarts.refuse_remote(config)
        devices.start_ranks(config, interrupts)
        return
    with devices.with_rank_named(), modelarts.staged(config) as local:
        _function(config.mode)(local, interrupts)


def _function(mode: str) -> Mode:
    """The function of a mode. What check-port alone needs is not imported when a training starts."""
    if mode == "check-port":
        from tf_seresnet.check_port import check_port

        return check_port
    from tf_seresnet import evaluation, training

    return training.train if mode == "train" else evaluation.evaluate


def _keras_function(mode: str) -> Mode:
    from tf_seresnet.keras import evaluation, training

    return training.train if mode == "train" else evaluation.evaluate


def _export(config: RunConfig, interrupts: Interrupts) -> None:
    devices.load_tensorflow("cpu", xla=False)
    from tf_seresnet.export import export

    export(config, interrupts)


def _predict(config: RunConfig, interrupts: Interrupts) -> None:
    devices.load_tensorflow(config.device, config.xla)
    from tf_seresnet.predict import predict

    predict(config, interrupts)


MODES: Dict[str, Mode] = {
    "train": _on_devices,
    "evaluate": _on_devices,
    "predict": _predict,
    "check-data": lambda config, interrupts: check_data(modelarts.with_local_data(config)),
    "check-port": _on_devices,
    "summary": lambda config, interrupts: summary(config),
    "export": _export,
}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """The exit status; see `shared.cli.entry_point`."""
    return run(lambda: RunConfig.from_argv(argv), MODES)


if __name__ == "__main__":
    sys.exit(main())
