"""What SE-ResNet costs, counted without a framework, against the reference and against the graph itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tf_seresnet.layers.counting import network_cost
from tf_seresnet.main import main

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
# Depth 110, by enumeration outside of this project: multiply-adds in G, activations in M, parameters in M.
REFERENCE = {"port": (0.384, 2.49, 3.50), "paper": (0.253, 1.06, 1.74)}


@pytest.mark.parametrize("variant", REFERENCE)
def test_agrees_with_the_reference_to_one_percent(variant):
    cost = network_cost(110, variant)
    found = (cost.multiply_adds / 1e9, cost.activations / 1e6, cost.parameters / 1e6)
    assert found == pytest.approx(REFERENCE[variant], rel=0.01)


@pytest.mark.parametrize(("depth", "variant"), [(11, "port"), (20, "port"), (8, "paper")])
def test_counts_what_the_graph_computes(depth, variant):
    tf = pytest.importorskip("tensorflow")
    from tf_seresnet.layers.core import CoreLayers
    from tf_seresnet.network import se_resnet
    from tf_seresnet.step.graph import NetworkSpec

    spec = NetworkSpec(depth, variant, "core", 10)
    with tf.Graph().as_default() as graph:
        images = tf.compat.v1.placeholder(tf.float32, [1, 32, 32, 3])
        se_resnet(images, CoreLayers(), spec.depth, spec.variant, spec.num_classes, training=False)
        trained = tf.compat.v1.trainable_variables()
        parameters = sum(variable.shape.num_elements() for variable in trained)
        multiply_adds = activations = 0
        for operation in graph.get_operations():
            if operation.type in ("Conv2D", "MatMul"):
                output = operation.outputs[0].shape.num_elements()
                weights = operation.inputs[1].shape.as_list()
                products = weights[0] if len(weights) == 2 else weights[0] * weights[1] * weights[2]
                activations += output
                multiply_adds += output * products
    cost = network_cost(depth, variant)
    assert (cost.parameters, cost.multiply_adds, cost.activations) == (parameters, multiply_adds, activations)


def test_the_mode_prints_it(capsys):
    limits = ["--peak-flops", "790e12", "--memory-bandwidth", "4.3e12", "--precision", "bf16"]
    assert main(["summary", *limits]) == 0
    out = capsys.readouterr().out
    assert "parameters: 3,504,422" in out
    assert "multiply-adds: 383.6 M" in out
    assert "1.043 ms" in out  # the reference: 1.04 ms a step of 128 with everything fused


@pytest.mark.parametrize("one", ["--peak-flops", "--memory-bandwidth"])
@pytest.mark.parametrize("mode", ["summary", "train"])
def test_one_limit_of_the_device_is_refused(mode, one, capsys):
    assert main([mode, one, "1e12"]) == 2
    line = "error: a roofline needs both --peak-flops and --memory-bandwidth; give both, or neither"
    assert capsys.readouterr().err.splitlines() == [line]


def test_a_network_that_does_not_exist_is_one_line(capsys):
    assert main(["summary", "--depth", "12"]) == 2
    assert capsys.readouterr().err.startswith("error: depth 12 does not exist")


def test_it_needs_no_tensorflow():
    program = (
        "import sys; from tf_seresnet.main import main; main(['summary']);"
        "import json; print(json.dumps('tensorflow' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=str(ROOT), stdout=subprocess.PIPE, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) is False


def test_the_log_says_which_share_of_the_floor_is_reached(train, capsys):
    run = train("--peak-flops", "1e12", "--memory-bandwidth", "1e11", "--steps-per-epoch", "7", "--epochs", "1")
    assert run.status == 0
    assert " % of the median step's " in (run.folder / "train.log").read_text()
