"""The reference against a side in float32 NumPy: a clean step agrees, a planted fault is found at its layer."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

from shared.port_check.findings import verdict
from tf_seresnet.port_check import operations
from tf_seresnet.port_check.checks import step_checks, weight_checks

STAGES = {"forward", "loss", "backward", "statistics", "update"}


def replaced(layer, **parts):
    return lambda call: dataclasses.replace(call, **parts) if call.layer == layer else call


def first(recipe, trace):
    found = verdict(step_checks(recipe, trace)).first
    return (found.stage, found.layer, found.quantity)


@pytest.mark.parametrize("variant", ["port", "paper"])
def test_a_clean_step_agrees(variant, recipe, record):
    found = verdict(step_checks(recipe, record(variant)))
    assert found.first is None
    assert {check.stage for check in found.checks} == STAGES
    near = found.closest(1)[0]
    assert 0.1 < near.units <= 1, near  # so the bounds are of the size of the errors


def test_factors_that_a_device_rounds_and_says_so(recipe, record):
    rounds = {"convolution": "tf32", "linear": "tf32"}
    found = verdict(step_checks(recipe, record("port", products=rounds, said=rounds)))
    assert found.first is None, found.first
    assert max(check.units for check in found.checks if "convolution" in check.text) > 0.05
    silent = verdict(step_checks(recipe, record("port", products=rounds))).first
    assert (silent.stage, silent.layer, silent.quantity) == ("forward", "conv2d", "output")


@pytest.mark.parametrize("variant", ["port", "paper"])
def test_another_epsilon(variant, recipe, record):
    wrong = functools.partial(operations.batch_norm, epsilon=1e-5)
    trace = record(variant, replaced("BatchNorm_2", function=wrong))
    found = verdict(step_checks(recipe, trace))
    assert (found.first.stage, found.first.layer, found.first.quantity) == ("forward", "BatchNorm_2", "output")
    assert {check.layer for check in found.causes} == {"BatchNorm_2"}  # every other layer is right by itself
    assert "epsilon 0.001" in found.first.text


def test_a_transposed_kernel(recipe, record):
    def transposed(x, kernel, bias=None):
        return operations.conv(x, kernel.swapaxes(0, 1), bias)

    assert first(recipe, record("port", replaced("conv2d_2", function=transposed))) == ("forward", "conv2d_2", "output")


def test_a_derivative(recipe, record):
    def leaky(x):
        operation = operations.relu(x)
        return operation._replace(backward=lambda gradient: {"x": gradient * np.where(x > 0, 1, 0.01)})

    found = verdict(step_checks(recipe, record("paper", replaced("relu_2", function=leaky))))
    assert {(check.stage, check.layer, check.quantity) for check in found.causes} == {
        ("backward", "relu_2", "input gradient")
    }


def test_another_order_of_layers(recipe, record):
    trace = record("paper")
    at = next(number for number, call in enumerate(trace.calls) if call.name == "gate_1")
    trace.calls[at], trace.calls[at + 1] = trace.calls[at + 1], trace.calls[at]
    found = verdict(step_checks(recipe, trace)).first
    assert (found.layer, found.quantity) == ("gate_1", "order")
    assert found.worst == "the network has gate_1 where the side had shortcut"


def test_swapped_channels_of_the_images(recipe, record):
    trace = record("paper")
    trace.tensors["output/images/0"] = trace.tensors["output/images/0"][..., ::-1]
    found = verdict(step_checks(recipe, trace)).first
    assert (found.layer, found.quantity) == ("images", "output")
    assert found.hint == "the channels are in reverse order"


def test_weight_decay_on_kernels_alone(recipe, record):
    found = verdict(step_checks(recipe, record("port", decayed=lambda name: name.endswith("kernel"))))
    assert {check.stage for check in found.causes} == {"backward"}
    assert {check.quantity for check in found.causes} == {"gamma gradient"}  # biases and shifts begin at zero


def test_a_loss_scale_applied_twice(recipe, record):
    trace = record("port", scale=1024.0**2)
    trace.description["loss_scale"] = 1024.0
    found = verdict(step_checks(recipe, trace)).first
    assert (found.stage, found.layer, found.quantity) == ("backward", "loss", "logits gradient")
    assert found.hint == "all values are 1024 times the right ones"


@pytest.mark.parametrize("kind", ["moving_mean", "moving_variance", "BatchNorm_1/moving_mean/biased"])
def test_a_stale_average(kind, recipe, record):
    trace = record("port")
    trace.tensors[f"after/BatchNorm_1/{kind}"] = trace.tensors[f"before/BatchNorm_1/{kind}"]
    assert first(recipe, trace) == ("statistics", "BatchNorm_1", kind.rsplit("/", 1)[-1])


def test_an_update_that_is_left_out(recipe, record):
    trace = record("port")
    trace.tensors["after/conv2d_4/kernel"] = trace.tensors["before/conv2d_4/kernel"]
    assert first(recipe, trace) == ("update", "conv2d_4", "kernel")


def test_another_loss(recipe, record):
    trace = record("paper")
    trace.tensors["losses"] = trace.tensors["losses"] + 0.01
    assert first(recipe, trace) == ("loss", "", "loss")


def test_one_wrong_weight(record):
    trace = record("paper")
    expected = dict(trace.named("before"))
    assert verdict(weight_checks(expected, trace)).agrees
    wrong = expected["conv2d_1/kernel"].copy()
    wrong[0, 0, 0, 0] = np.nextafter(wrong[0, 0, 0, 0], np.float32(1))
    found = verdict(weight_checks({**expected, "conv2d_1/kernel": wrong}, trace)).first
    assert (found.stage, found.layer, found.quantity) == ("weights", "conv2d_1", "kernel")
