"""The old port's run goes on: ./model has its variables, and logs.txt beside it how many epochs are done.

The program saves all global variables after every epoch, weights, moving averages and momentum, without an epoch or a
step, as model/senet110.ckpt. Before that it appends the epoch to logs.txt, on an NPU without a line end:
"epoch: 45/160, train_loss: 0.1234, train_acc: 0.9876". When it is started again it takes the variables and begins again
at epoch 1; what logs.txt says last is where its learning rate stood.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

from shared.errors import UsageError
from shared.imagenet.layout import some
from shared.run import old_run
from tf_seresnet.run import checkpoints

if TYPE_CHECKING:
    from tf_seresnet.run.setup import RunSetup

LOG = "logs.txt"
_EPOCH = re.compile(r"epoch: (\d{1,6})/\d+, train_loss")
_MOMENTUM = "/Momentum"  # the name of MomentumOptimizer's slot, behind that of its variable


def state(setup: RunSetup, found: checkpoints.Found) -> Dict[str, Any]:
    """The state that goes on at the first step of the next epoch.

    Raises UsageError where the epoch is not known, the recipe ends before, or the classes are others.
    """
    log, epoch = _epochs_done(found)
    state = old_run.state_after(epoch, setup.recipe, setup.plan, str(found.prefix), f"as {log} says, ", "it")
    if not setup.classes.in_place:
        raise UsageError(
            f"a run goes on with its own classes, and the data set has others than {found.prefix}; {old_run.NEW_RUN}"
        )
    return {"old_log": str(log), **state}


def _epochs_done(found: checkpoints.Found) -> Tuple[Path, int]:
    """The log that says it, and how many. Raises UsageError where there is none."""
    folder, own = Path(found.prefix).parent, Path(found.prefix).name == checkpoints.WEIGHTS
    for log in (folder.parent / LOG, folder / LOG):
        if log.is_file() and not own:  # the final weights of a run of ours are of no old run
            epochs = _EPOCH.findall(log.read_text(encoding="utf-8", errors="replace"))
            if epochs:
                return log, int(epochs[-1])
    raise UsageError(
        f"{found.prefix} has weights but no training state, and there is no {LOG} of the old port beside its folder,"
        f" which has the epoch; {old_run.NEW_RUN}"
    )


def restore(session: Any, setup: RunSetup, found: checkpoints.Found) -> List[str]:
    """Give the network's variables and the momentum the checkpoint's values; lines for the log.

    Raises UsageError where a variable of the network is not there.
    """
    from tf_seresnet.step import variables

    with checkpoints.reading(found.prefix) as reader:
        there = set(reader.get_variable_to_shape_map())
    names = {variable.op.name for variable in variables.model_variables()}
    restored = [one for one in checkpoints.saved_variables() if one.op.name in names | there]
    checkpoints.restore(session, found, restored)
    momenta = sum(one.op.name.endswith(_MOMENTUM) for one in restored)
    kept = {one.op.name for one in restored}
    new = [one.op.name for one in checkpoints.saved_variables() if one.op.name not in kept]
    others = [name for name in new if not name.endswith(_MOMENTUM)]  # of the loss scale
    taken = ["weights", "moving averages", *([f"momentum of {momenta} variables"] if momenta else [])]
    missing = ["order of the images", "images seen (counted from here)", "best accuracy"]
    missing += ["momentum (zero here)"] if len(others) < len(new) else []
    missing += [f"{some(others)} (new here)"] if others else []
    assert setup.resumed_state is not None
    state, prefix = setup.resumed_state, str(found.prefix)
    return old_run.lines(prefix, f"as {state['old_log']} says, ", state, setup.recipe, taken, missing)
