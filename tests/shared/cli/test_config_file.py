"""--config: what a file says is what the same words say, what is typed wins, and the rest is refused in one line."""

from __future__ import annotations

import json
import re
import sys

import pytest

from shared.errors import UsageError
from tests.shared.cli.test_modes import HALVES, words_of

TOML = """\
network = "senet154"
image-size = 64
max_steps = 2
affinity = false
milestones = [1, 2]
learning_rate = 1e-3
"""
AS_TYPED = "--network senet154 --image-size 64 --max-steps 2 --no-affinity --milestones 1,2 --lr 1e-3".split()


def read(half, *words):
    return HALVES[half].RunConfig.from_argv([str(word) for word in words])


def options(config):
    return {name: value for name, value in config.to_json().items() if name != "config"}


@pytest.fixture
def file(tmp_path):
    """file(content, name) -> the path of a new file."""

    def write(content, name="options.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write


TOGETHER = ("peak_flops", "memory_bandwidth")  # none of them is given alone


@pytest.mark.parametrize("half", HALVES)
def test_every_option_can_be_in_a_file(half, file):
    """By the name that the configuration has for it, with the value that config.json has."""
    parser, seen = HALVES[half].parser(), set()
    for action in parser.shown():
        if not action.option_strings or action.dest in ("config", "port"):
            continue
        words = words_of(half, action)
        mode = next(one for one in parser.modes_of(words[0]) if one != "export" or words[0] != "--format")
        names = TOGETHER if action.dest in TOGETHER else (action.dest,)
        words += [f"--{name.replace('_', '-')}=4e12" for name in names if name != action.dest]
        typed = read(half, mode, *words)
        path = file({"mode": mode, **{name: json.loads(json.dumps(getattr(typed, name))) for name in names}})
        assert options(read(half, "--config", path)) == options(typed)
        seen.add(action.dest)
    assert len(seen) > 35


@pytest.mark.skipif(sys.version_info < (3, 11), reason="no tomllib")
def test_toml_is_read_and_what_is_typed_wins(file):
    path = file(TOML, "options.toml")
    config = read("torch_imagenet", "--config", path)
    assert options(config) == options(read("torch_imagenet", *AS_TYPED))
    assert config.command_notes[0].startswith(f"config {path}: read as train --network=senet154 --image-size=64 ")
    for words in (["--config", path, "--lr", "3"], ["--lr=3", f"--config={path}"]):
        assert read("torch_imagenet", *words).learning_rate == 3
    assert read("torch_imagenet", "evaluate", "--config", path).mode == "evaluate"
    assert read("torch_imagenet", "-e", "--config", path).mode == "evaluate"


@pytest.mark.skipif(sys.version_info >= (3, 11), reason="has tomllib")
def test_an_older_python_says_that_it_reads_no_toml(file):
    with pytest.raises(UsageError, match="needs Python 3.11 or newer, which reads TOML; write it as JSON"):
        read("tf_seresnet", "--config", file("epochs = 3", "options.toml"))


def test_the_mode_of_the_file_is_the_default(file):
    path = file({"mode": "summary", "batch_size": 3})
    assert read("tf_seresnet", "--config", path).mode == "summary"
    assert read("tf_seresnet", "evaluate", "--config", path).mode == "evaluate"


def test_an_option_that_may_be_repeated_is_a_list(file):
    config = read("tf_seresnet", "--config", file({"npu_option": ["a=b", "c=d"]}))
    assert config.npu_option == ("a=b", "c=d")


@pytest.mark.parametrize(
    ("value", "mode"), [(True, "default"), (False, None), (None, None), ("max-autotune", "max-autotune")]
)
def test_an_option_whose_value_may_be_left_out_is_true_or_false_as_well(value, mode, file):
    assert read("torch_imagenet", "--config", file({"compile": value})).compile == mode


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"epohs": 3},
            "options.json has 'epohs', which is no option of torch_imagenet/main.py; did you mean 'epochs'?",
        ),
        (
            {"train": {"epochs": 3}},
            "which is no option of torch_imagenet/main.py; see torch_imagenet/main.py --help-all",
        ),
        ({"lr": 3}, "has 'lr', which is no option"),
        ({"config": "x"}, "has 'config', which is no option"),
        ({"images": "x"}, "has 'images', which is no option"),
        ({"epochs": "x"}, "argument --epochs.*'x' does not fit"),
        ({"epochs": True}, "has epochs = True, which does not fit; give a value of --epochs"),
        ({"affinity": 3}, "has affinity = 3, which does not fit; give true or false"),
        ({"deterministic": 0}, "has deterministic = 0, which does not fit; give true or false"),
        ({"checkpoint": {"a": 1}}, "does not fit; give a value of --checkpoint"),
        ({"output_dir": ""}, "the value of --output-dir is empty"),
        ({"mode": "trian"}, "has the mode 'trian'; did you mean 'train'?"),
        ({"top_k": 3}, "--top-k has no effect in the mode train"),
        ([], "has no options by name; write them as"),
        ("", "is no JSON .TOML ends in .toml.: Expecting value"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_what_does_not_fit_is_one_line(content, message, file):
    with pytest.raises(UsageError, match=message) as caught:
        read("torch_imagenet", "--config", file(content))
    assert ";" in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gone.json", "cannot read gone.json .No such file"),
        ("/dev/null", "/dev/null is no file; give a run's config.json, or TOML or JSON"),
        ("https://host/x.json", "is a URL"),
        ("", "the value of --config is empty"),
    ],
)
def test_a_file_that_is_none_is_one_line(path, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        read("tf_seresnet", "--config", path)


# -- config.json -----------------------------------------------------------------------------------------------


def written(half, *words, **parts):
    """config.json as a run with these words writes it."""
    return {"command": "python main.py", "recipe": {}, "options": options(read(half, *words)), **parts}


def test_a_run_starts_again_from_its_own_options(file):
    words = "--port se_resnet50 /d --amp --batch-size 8 --log-file x --output-dir runs/a --device cpu".split()
    data = {"name": "imagenette", "path": "/data/imagenette"}
    path = file(written("torch_imagenet", *words, data=data), "config.json")
    for place in (path, path.parent):
        config = read("torch_imagenet", "--config", place)
        first = options(read("torch_imagenet", *words))
        changed = {"port", "log_file", "output_dir", "data_path"}
        assert {name for name in first if first[name] != getattr(config, name)} == changed
        assert (config.output_dir, config.log_file, config.data_path) == (None, None, "/data/imagenette")


def test_the_sample_is_not_named(file):
    data = {"name": "sample-digits", "path": "/home/of/another"}
    path = file(written("tf_seresnet", "--epochs", "1", data=data))
    assert read("tf_seresnet", "--config", path).data_path is None


def test_a_resumed_run_is_refused(file, tmp_path):
    path = file(written("tf_seresnet", "--resume", "runs/a"), "config.json")
    expected = f"of a run that was resumed, .* go on with --resume {re.escape(str(tmp_path))},"
    with pytest.raises(UsageError, match=expected):
        read("tf_seresnet", "--config", path)
