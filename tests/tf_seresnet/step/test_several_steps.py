"""Several steps of one session call against as many calls of one step: equal to the bit."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from shared import recipes  # noqa: E402
from shared.errors import UsageError  # noqa: E402
from tf_seresnet import devices  # noqa: E402
from tf_seresnet.run import checkpoints  # noqa: E402
from tf_seresnet.step.device_input import DeviceInput  # noqa: E402
from tf_seresnet.step.input_pipeline import TrainingInput  # noqa: E402
from tf_seresnet.step.spec import NetworkSpec, Normalisation  # noqa: E402
from tf_seresnet.step.training_step import TrainingStep, repeated  # noqa: E402
from tf_seresnet.step.variables import initialise  # noqa: E402

tf1 = tf.compat.v1

RATES = [0.1, 0.02, 0.05]
MODERN = {"cutout": 8, "mixup": 0.4, "cutmix": 1.0, "drop_path": 0.3, "ema_decay": 0.5, "label_smoothing": 0.1}


def test_each_step_has_its_rate_and_reads_what_the_one_before_it_wrote():
    with tf.Graph().as_default():
        tf1.get_variable_scope().set_use_resource(True)
        rates = tf1.placeholder(tf.float32, (None,))

        def step(rate):
            variable = tf1.get_variable("weight", initializer=1.0)
            before = tf.identity(variable)
            with tf.control_dependencies([before]):
                return [tf1.assign(variable, before * (1.0 + rate))], [before, rate]

        values = repeated(step, rates, 2)
        with tf1.Session() as session:
            session.run(tf1.global_variables_initializer())
            np.testing.assert_array_equal(session.run(values, {rates: [1.0, 3.0]}), [[1, 1], [2, 3]])
            np.testing.assert_array_equal(session.run(values, {rates: [0.5]}), [[8, 0.5]])
            assert session.run(tf1.global_variables()[0]) == 12


def trained(calls, most, kind=TrainingInput):
    """The results of the steps, and all variables behind them; the last batch of the epoch is short."""
    random = np.random.RandomState(0)
    images, labels = random.randint(0, 256, (20, 32, 32, 3)).astype(np.uint8), np.arange(20, dtype=np.int32) % 10
    recipe = recipes.get("sample").override(batch_size=8, depth=8, variant="paper", flip=True, **MODERN)
    with tf.Graph().as_default():
        device = devices.open_device("cpu")
        batch = kind(images, labels, Normalisation.from_images(images), recipe, device)
        step = TrainingStep(NetworkSpec(8, "paper", "core", 10), batch, most)
        with tf1.Session(config=device.session_config()) as session:
            initialise(session, seed=1)
            step.begin(session)
            batch.start_epoch(session, 0)
            results = [one for call in calls for one in step.read([step.queue(rate) for rate in call])]
            variables = {one.op.name: one for one in checkpoints.saved_variables()}
            return results, session.run(variables)


@pytest.mark.slow
def test_losses_counts_and_variables_are_those_of_single_steps():
    results, variables = trained([[rate] for rate in RATES], 1)
    results_of_calls, variables_of_calls = trained([RATES[:2], RATES[2:]], 5)
    results_on_device, variables_on_device = trained([RATES], 3, DeviceInput)
    assert all(0 <= one.data_wait < 60 for one in results_of_calls)
    assert [one._replace(data_wait=None) for one in results_of_calls] == [
        one._replace(data_wait=None) for one in results
    ]
    assert results_on_device == [one._replace(data_wait=None) for one in results]
    assert [one.images for one in results] == [8, 8, 4]
    for others in (variables_of_calls, variables_on_device):
        assert others.keys() == variables.keys()
        for name, value in variables.items():
            np.testing.assert_array_equal(others[name], value, err_msg=name)


def test_how_many_a_device_runs():
    device = devices.open_device("cpu")
    assert [device.steps_per_call(given) for given in (None, 1, 7)] == [1, 1, 7]
    device.count = 2
    assert [device.steps_per_call(given) for given in (None, 1)] == [1, 1]
    with pytest.raises(UsageError, match="--steps-per-call is for one device; leave it out"):
        device.steps_per_call(2)
