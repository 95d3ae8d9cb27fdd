"""What a step leaves to TensorFlow's graph optimizer."""

from __future__ import annotations

import re

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from shared import recipes  # noqa: E402
from tf_seresnet import devices  # noqa: E402
from tf_seresnet.step.graph import NetworkSpec  # noqa: E402
from tf_seresnet.step.input_pipeline import Normalisation, TrainingInput  # noqa: E402
from tf_seresnet.step.training_step import TrainingStep  # noqa: E402


def test_batch_normalisation_can_be_fused_with_its_relu():
    """TensorFlow fuses a node only where nothing waits for it by a control edge."""
    images, labels = np.zeros((8, 32, 32, 3), np.uint8), np.arange(8, dtype=np.int32)
    recipe = recipes.get("sample").override(batch_size=8, variant="paper", depth=8, weight_decay=1e-4)
    with tf.Graph().as_default() as graph:
        batch = TrainingInput(images, labels, Normalisation((0.0,) * 3, (1.0,) * 3), recipe, devices.open_device("cpu"))
        TrainingStep(NetworkSpec(8, "paper", "core", 10), batch)
        kinds = {one.type for one in graph.get_operations()}
        waited_for = {before.type for one in graph.get_operations() for before in one.control_inputs}
    normalisations = {kind for kind in kinds if re.match("FusedBatchNorm(V[23])?$", kind)}
    assert len(normalisations) == 1
    assert waited_for
    assert not normalisations & waited_for
