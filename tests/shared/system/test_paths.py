"""~ is a home or an error, an empty value an error, in every path option of every command line; data that is gone."""

from __future__ import annotations

import os
import pwd

import pytest

from shared.cli.modes import ModeParser
from shared.errors import UsageError
from shared.launchers.documented import LAUNCHERS
from shared.launchers.plan import launcher_parser
from shared.results import __main__ as results
from shared.system import paths
from tf_seresnet import options as tensorflow_options
from torch_imagenet import options as torch_options

PARSERS = {
    "tf_seresnet/main.py": tensorflow_options.parser(),
    "torch_imagenet/main.py": torch_options.parser(),
    "shared.results": results._parser(),
    **{f"{half}/{name}.sh": launcher_parser(half, name) for half in LAUNCHERS for name in LAUNCHERS[half]},
}
# Each option's first spelling, of those that take a value, with what the help calls the value.
VALUES = [
    (program, action.option_strings[0], str(action.metavar), action.nargs)
    for program, parser in PARSERS.items()
    for action in parser._actions
    if action.option_strings and action.nargs != 0
]
PATHS = ("DIR", "FILE", "PATH", "LIST", "URL")


def parsed(program, *words):
    """In a mode that has the option, where the first word is one of a program with modes."""
    parser, option = PARSERS[program], words[0].split("=")[0]
    modes = parser.modes_of(option) if isinstance(parser, ModeParser) and option.startswith("--") else []
    return vars(parser.parse_args([*words, *modes[:1]]))


def test_every_command_line_is_looked_at():
    assert len(PARSERS) == 3 + 10
    assert set(
        (
            "--data-path --output-dir --resume --checkpoint --log-file --sort-val --write-shards --shard-cache "
            "--save-trace --against --msprobe --grad-cam --config "
            "--data_url --train_url --modelarts_data_dir --modelarts_result_dir --output --update-readme --check"
        ).split()
    ) == {option for _, option, kind, _ in VALUES if kind in PATHS}


@pytest.mark.parametrize(("program", "option"), [value[:2] for value in VALUES])
@pytest.mark.parametrize("empty", ["", " ", "\t\n"])
def test_an_empty_value_is_refused(program, option, empty):
    for words in ([option, empty], [f"{option}={empty}"]):
        with pytest.raises(UsageError, match=f"the value of {option} is empty; give one, or leave {option} out"):
            parsed(program, *words)


@pytest.mark.parametrize(("program", "option", "nargs"), [(*v[:2], v[3]) for v in VALUES if v[2] in PATHS])
def test_a_home_is_expanded_in_every_path(monkeypatch, program, option, nargs):
    monkeypatch.setenv("HOME", "/home of/me")
    name = PARSERS[program]._option_string_actions[option].dest
    for words in ([option, "~/x"], [f"{option}=~/x"]):
        assert parsed(program, *words)[name] == (["/home of/me/x"] if nargs else "/home of/me/x")
    with pytest.raises(UsageError, match="~nosuchuser/x begins with ~nosuchuser, .*no such user.*; write"):
        parsed(program, f"{option}=~nosuchuser/x")


def test_runs_are_paths_too(monkeypatch):
    monkeypatch.setenv("HOME", "/home")
    assert parsed("shared.results", "~/x", "y")["runs"] == ["/home/x", "y"]
    with pytest.raises(UsageError, match="the value of RUN is empty"):
        parsed("shared.results", "")


def test_images_are_paths_too_wherever_they_stand(monkeypatch):
    monkeypatch.setenv("HOME", "/home")
    words = ["--device", "cpu", "predict", "a", "--top-k", "2", "~/b", "-", "--format", "csv", "--", "-c.jpg"]
    for name in ("tf_seresnet/main.py", "torch_imagenet/main.py"):
        assert PARSERS[name].parse_args(words).images == ("a", "/home/b", "-", "-c.jpg")
        assert PARSERS[name].parse_args(["train"]).images is None


@pytest.mark.parametrize("path", ["x", "./~", "a/~/b", "/~", "https://host/~me/set", "obs://bucket/~", ""])
def test_other_paths_stay(path):
    assert paths.expanded(path) == path


@pytest.mark.parametrize("url", ["https://host/model.pth", "hf-hub:owner/name", "s3://bucket/run"])
def test_a_run_is_read_from_no_url_and_weights_by_one_half_alone(url):
    for program, option in (
        ("tf_seresnet/main.py", "--checkpoint"),
        ("tf_seresnet/main.py", "--resume"),
        ("torch_imagenet/main.py", "--resume"),
    ):
        with pytest.raises(UsageError, match=f"{url} is a (URL|name on a hub) and is not read from there; download it"):
            parsed(program, option, url)
    assert parsed("torch_imagenet/main.py", "--checkpoint", url)["checkpoint"] == url


def test_a_home_of_another_user():
    name, home = pwd.getpwuid(0).pw_name, pwd.getpwuid(0).pw_dir
    assert paths.expanded(f"~{name}/x") == os.path.join(home, "x")


@pytest.mark.parametrize("home", [None, "", "~", "relative/home"])
@pytest.mark.parametrize("path", ["~", "~/x"])
def test_no_home_no_folder(monkeypatch, home, path):
    """HOME is unset and the user id has no entry, as in a container; or HOME is no place."""

    def unknown(number):
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    if home is None:
        monkeypatch.delenv("HOME", raising=False)
    else:
        monkeypatch.setenv("HOME", home)
    with pytest.raises(UsageError, match="begins with ~, .*HOME is unset or no absolute path.*; write the whole path"):
        paths.expanded(path)


def test_data_that_is_gone_is_named(tmp_path):
    paths.check_there(str(tmp_path))
    for name in ("gone", "no\0path", "\ud800"):
        with pytest.raises(UsageError, match=", where the checkpoint was trained, is gone; say with --data-path"):
            paths.check_there(str(tmp_path / name))
