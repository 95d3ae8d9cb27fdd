"""A process that is started again goes on with its own job's run, and with nobody else's."""

from __future__ import annotations

import json

import pytest

from torch_imagenet.distributed.restart import continued_job, job_name
from torch_imagenet.options import RunConfig

NAMES = ("KIT_JOB", "TORCHELASTIC_RUN_ID", "SLURM_STEP_ID", "SLURM_JOB_ID", "SLURM_RESTART_COUNT")


@pytest.fixture
def environment(monkeypatch):
    def set_to(**values):
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_to


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, None),
        ({"TORCHELASTIC_RUN_ID": "none"}, None),
        ({"TORCHELASTIC_RUN_ID": "17"}, "17"),
        ({"KIT_JOB": "mine", "TORCHELASTIC_RUN_ID": "17"}, "mine"),
        ({"SLURM_STEP_ID": "0", "SLURM_JOB_ID": "4"}, "slurm-4"),
        ({"SLURM_JOB_ID": "4"}, None),
    ],
)
def test_the_name_of_the_job(environment, values, name):
    environment(**values)
    assert job_name() == name


@pytest.mark.parametrize(
    ("first", "second", "goes_on"),
    [
        ({"KIT_JOB": "a"}, {"KIT_JOB": "a"}, True),
        ({"KIT_JOB": "a"}, {"KIT_JOB": "b"}, False),
        ({}, {"KIT_JOB": "a"}, False),
        ({"KIT_JOB": "a"}, {}, False),
        ({"SLURM_STEP_ID": "0", "SLURM_JOB_ID": "4"}, {"SLURM_STEP_ID": "1", "SLURM_JOB_ID": "4"}, False),
        (
            {"SLURM_STEP_ID": "0", "SLURM_JOB_ID": "4"},
            {"SLURM_STEP_ID": "0", "SLURM_JOB_ID": "4", "SLURM_RESTART_COUNT": "1"},
            True,
        ),
    ],
)
def test_which_run_is_gone_on_with(environment, tmp_path, first, second, goes_on):
    config = RunConfig.from_argv(["--output-dir", str(tmp_path)])
    environment(**first)
    (tmp_path / "config.json").write_text(json.dumps({"job": job_name()}))
    environment(**second)
    assert not continued_job(config)  # there is no checkpoint yet
    (tmp_path / "checkpoints" / "last").mkdir(parents=True)
    assert continued_job(config) is goes_on


def test_a_folder_without_a_readable_config_is_a_new_run(environment, tmp_path):
    environment(KIT_JOB="a")
    (tmp_path / "checkpoints" / "last").mkdir(parents=True)
    assert not continued_job(RunConfig.from_argv(["--output-dir", str(tmp_path)]))
    (tmp_path / "config.json").write_text("[")
    assert not continued_job(RunConfig.from_argv(["--output-dir", str(tmp_path)]))
    assert not continued_job(RunConfig.from_argv([]))
