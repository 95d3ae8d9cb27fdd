"""The command line of the CIFAR-10 half as one frozen object."""

from __future__ import annotations

import dataclasses

import pytest

from tf_seresnet import options
from tf_seresnet.main import MODES
from tf_seresnet.options import RunConfig, parser

pytestmark = pytest.mark.once


def test_the_config_refuses_an_assignment():
    config = RunConfig.from_argv([])
    for field in dataclasses.fields(RunConfig):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, field.name, None)


def test_the_parser_and_the_config_have_the_same_fields():
    parsed = vars(parser().parse_args([]))
    assert sorted(parsed) == sorted(field.name for field in dataclasses.fields(RunConfig))


def test_the_config_can_be_a_key():
    """So no field is a list, which could be changed in place."""
    words = ["--npu-option", "a=1", "--npu-option", "b=2", "--milestones", "1,2", "--factors", "0.1,0.01"]
    config = RunConfig.from_argv(words)
    assert config.npu_option == ("a=1", "b=2")
    assert hash(config) == hash(RunConfig.from_argv(words))


def test_every_mode_of_the_command_line_has_a_function():
    assert tuple(MODES) == options.MODES
