"""Every documented spelling reaches its canonical option; everything else is refused in one line with the nearest."""

from __future__ import annotations

import argparse
import platform
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import schedules
from shared.cli import arguments
from shared.cli.parser import Parser
from shared.errors import UsageError
from shared.run.provenance import VERSION
from tf_seresnet.main import MODES
from tf_seresnet.options import parser

ROOT = Path(__file__).resolve().parents[3]

# destination: (every spelling, a value, the value as parsed)
SPELLINGS = {
    "recipe": (["--recipe"], "sample", "sample"),
    "network": (["--network"], "se_resnet110", "se_resnet110"),
    "data_path": (["--data-path", "--data_path", "--data", "--data_dir", "--data-dir", "-d"], "DIR", "DIR"),
    "device": (["--device"], "npu:0", "npu:0"),
    "precision": (["--precision"], "O1", "O1"),
    "num_devices": (["--num-devices", "--num_devices"], "8", 8),
    "workers": (["--workers", "--num-workers", "-j"], "4", 4),
    "epochs": (["--epochs", "--total_epochs", "--train_epochs"], "160", 160),
    "max_steps": (["--max-steps", "--max_step"], "1000", 1000),
    "batch_size": (["--batch-size", "--batch_size", "--train-batch", "-b"], "128", 128),
    "learning_rate": (["--learning-rate", "--lr", "--initial-lr", "--init_learning_rate"], "0.6", 0.6),
    "scheduler": (["--scheduler", "--lr-scheduler"], "cosine", "cosine"),
    "milestones": (["--milestones"], "1,79,119", (1, 79, 119)),
    "factors": (["--factors"], "10,1,0.1", (10.0, 1.0, 0.1)),
    "warm_up_epochs": (["--warm-up-epochs", "--warm_up_epochs", "--warmup-epochs", "--warmup", "--wp"], "5", 5),
    "momentum": (["--momentum", "--mom"], "0.9", 0.9),
    "weight_decay": (["--weight-decay", "--weight_decay", "--wd"], "4e-5", 4e-5),
    "seed": (["--seed", "--manualSeed"], "49", 49),
    "output_dir": (["--output-dir", "--output_dir"], "OUT", "OUT"),
    "resume": (["--resume"], "RUN", "RUN"),
    "config": (["--config"], "run.toml", "run.toml"),
    "checkpoint": (["--checkpoint", "--ckpt_path"], "RUN", "RUN"),
    "save_steps": (["--save-steps", "--save_steps"], "10", 10),
    "keep": (["--keep"], "5", 5),
    "print_freq": (["--print-freq", "--print_freq", "-p"], "1", 1),
    "save_trace": (["--save-trace"], "/data/step.trace", "/data/step.trace"),
    "against": (["--against"], "/data/step.trace", "/data/step.trace"),
    "peak_flops": (["--peak-flops"], "790e12", 790e12),
    "memory_bandwidth": (["--memory-bandwidth"], "4.3e12", 4.3e12),
    "depth": (["--depth"], "20", 20),
    "variant": (["--variant"], "paper", "paper"),
    "layers": (["--layers"], "slim", "slim"),
    "steps_per_epoch": (["--steps-per-epoch", "--iteration"], "391", 391),
    "eval_batch_size": (["--eval-batch-size"], "77", 77),
    "test_iteration": (["--test_iteration"], "10", 10),
    "data_url": (["--data_url"], "obs://bucket/data", "obs://bucket/data"),
    "train_url": (["--train_url"], "./output", "./output"),
    "modelarts_data_dir": (["--modelarts_data_dir"], "/cache/data", "/cache/data"),
    "modelarts_result_dir": (["--modelarts_result_dir"], "/cache/model_1p", "/cache/model_1p"),
    "loss_scale": (["--loss-scale", "--loss_scale"], "128", "128"),
    "decayed": (["--decayed"], "weights", "weights"),
    "label_smoothing": (
        ["--label-smoothing", "--label-smoothing-epsilon", "--label-smoothing-factor", "--ls"],
        "0.1",
        0.1,
    ),
    "mixup": (["--mixup"], "0.2", 0.2),
    "cutmix": (["--cutmix"], "1", 1.0),
    "drop_path": (["--drop-path"], "0.1", 0.1),
    "ema_decay": (["--ema-decay"], "0.999", 0.999),
}
EACH = [(spelling, name) for name, (spellings, _, _) in SPELLINGS.items() for spelling in spellings]
MODE_WORDS = tuple(MODES)


def parse(*words):
    return vars(parser().parse_args(list(words)))


def refusal(*words):
    """The one line with which the command line is refused."""
    with pytest.raises(UsageError) as caught:
        parser().parse_args(list(words))
    text = str(caught.value)
    assert ";" in text
    assert len(text.splitlines()) == 1
    return text


# -- spellings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spelling", "name"), EACH)
def test_a_documented_spelling_reaches_its_option(spelling, name):
    _, text, value = SPELLINGS[name]
    mode = parser().modes_of(spelling)[0]
    expected = dict(parse(mode), **{name: value})
    assert parse(mode, spelling, text) == expected
    if spelling.startswith("--"):
        assert parse(mode, f"{spelling}={text}") == expected
    else:
        assert parse(mode, spelling + text) == expected


@pytest.mark.parametrize("name", ["deterministic", "distributed", "xla"])
def test_switches(name):
    assert not parse()[name]
    assert parse("--" + name)[name] is True


def test_the_table_has_every_option_of_the_common_parser():
    common = arguments.common_parser("prog", "text", ("train",), ("one",), ("a_recipe",))
    known = {spelling for action in common._actions for spelling in action.option_strings}
    assert known - {spelling for spelling, _ in EACH} == set(
        (
            "-h --help --help-all --version --dry-run --deterministic --restrict-classes --distributed"
            " --multiprocessing-distributed --every-step --no-every-step --zero-init --no-zero-init"
        ).split()
    )


@pytest.mark.parametrize("words", [["--version"], ["train", "--version"], ["--epochs", "3", "--version"]])
def test_the_version_is_said_whatever_else_is(words, capsys):
    common = arguments.common_parser("prog", "text", ("train",), ("one",), ("a_recipe",), ("no-such-thing", "numpy"))
    with pytest.raises(SystemExit) as ended:
        common.parse_args(words)
    assert ended.value.code == 0
    said = capsys.readouterr()
    assert (said.out.count("\n"), said.err) == (1, "")
    assert said.out.startswith(f"se-pnas-kit {VERSION}, ")
    assert f"Python {platform.python_version()}" in said.out
    assert f"numpy {np.__version__}" in said.out or sys.version_info < (3, 8)
    assert "no-such-thing" not in said.out


def test_the_version_is_the_projects():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'attr = "shared.run.provenance.VERSION"' in text
    assert '\nversion = "' not in text
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)


def test_a_half_gives_its_own_recipes_and_how_often_it_logs():
    common = arguments.common_parser("prog", "text", ("train",), ("one",), ("a_recipe",), print_freq=10)
    assert common.parse_args(["--recipe", "a_recipe"]).recipe == "a_recipe"
    assert common.parse_args([]).print_freq == 10
    assert parse()["print_freq"] == 50
    with pytest.raises(UsageError, match="did you mean 'a_recipe'"):
        common.parse_args(["--recipe", "a_recip"])
    with pytest.raises(UsageError, match="choose one of a_recipe"):
        common.parse_args(["--recipe", "sample"])


def test_nothing_given_leaves_the_recipe_alone():
    given_ = {name: value for name, value in parse().items() if value not in (None, False, [], ())}
    assert set(given_) == {"mode", "device", "keep", "print_freq", "modelarts_data_dir"}


@pytest.mark.parametrize("words", [("--epochs", "3", "evaluate"), ("evaluate", "--epochs", "3")])
def test_the_mode_stands_before_or_behind_the_options(words):
    assert parse(*words)["mode"] == "evaluate"
    assert parse()["mode"] == "train"


# -- refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "wrong", "nearest"),
    [
        (["--learningrate", "0.1"], "--learningrate", "--learning-rate"),
        (["--epoch", "3"], "--epoch", "--epochs"),
        (["evaluate", "--epoch", "3"], "--epoch", "--epochs"),
        (["--bach-size=3"], "--bach-size", "--batch-size"),
        (["--data_pth", "train"], "--data_pth", "--data_path"),
        (["--epochs", "3", "--sed", "1"], "--sed", "--seed"),
        (["trian"], "'trian'", "'train'"),
        (["--recipe", "se_resnet110_gp"], "'se_resnet110_gp'", "'se_resnet110_gpu'"),
        (["--variant", "papr"], "'papr'", "'paper'"),
        (["--layers", "slimm"], "'slimm'", "'slim'"),
        (["--scheduler", "cosin"], "'cosin'", "'cosine'"),
    ],
)
def test_an_unknown_word_names_the_nearest(words, wrong, nearest):
    text = refusal(*words)
    assert wrong in text
    assert nearest in text.split(";")[1]
    assert "did you mean" in text


@pytest.mark.parametrize("word", ["--completely-different", "-x", "-x3", "--zzz=1", "--\nzzz"])
def test_an_option_like_no_other_points_to_the_help(word):
    name = " ".join(word.split("=")[0].splitlines())
    assert refusal(word, "3") == f"unknown option {name}; see tf_seresnet/main.py --help"


def _prefixes():
    known = {spelling for action in parser()._actions for spelling in action.option_strings}
    cut = {spelling[:end] for spelling in known if spelling.startswith("--") for end in range(3, len(spelling))}
    return sorted(cut - known)


@pytest.mark.parametrize("prefix", _prefixes())
def test_no_abbreviation_is_accepted(prefix):
    assert refusal(prefix, "1").startswith(f"unknown option {prefix};")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--batch-size", "0"], "whole number of at least 1"),
        (["--epochs", "1.5"], "whole number"),
        (["--epochs", "many"], "'many'"),
        (["--epochs"], "expected one argument"),
        (["--epochs", "--lr", "1"], "expected one argument"),
        (["--learning-rate", "0"], "at least"),
        (["--lr", "nan"], "'nan'"),
        (["--lr", "inf"], "'inf'"),
        (["--lr", "-0.1"], "'-0.1'"),
        (["--momentum", "1"], "below 1"),
        (["--wd", "-1"], "at least 0"),
        (["--seed", "4294967296"], "below"),
        (["--warmup", "-1"], "at least 0"),
        (["--milestones", "80,x"], "80,120"),
        (["--milestones", ""], "--milestones is empty"),
        (["--depth", "7"], "at least 8"),
        (["--depth", "1000001"], "below 2001"),  # building it would take the machine's memory
        (["--workers", "5000"], "below 1025"),
        (["--deterministic=1"], "'1'"),
        (["train", "evaluate"], "'evaluate'"),
        (["train", "--", "evaluate"], "'evaluate'"),
        (["two\nlines"], "two"),
        (["--recipe", "two\nlines"], "two"),
    ],
)
def test_a_wrong_value_says_what_fits(words, part):
    assert part in refusal(*words)


@given(st.lists(st.text(max_size=8), max_size=4))
def test_any_words_are_parsed_or_refused_in_one_line(words):
    if "-h" in words or "--help" in words or any(word.startswith("-h") for word in words):
        return
    try:
        parser().parse_args(words)
        return
    except UsageError as error:
        text = str(error)
    assert len(text.splitlines()) == 1
    assert ";" in text


# -- help and the types ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["-h", "--help", "--help-all"])
def test_help_names_every_mode_and_at_length_every_spelling(word, capsys):
    with pytest.raises(SystemExit) as caught:
        parser().parse_args([word])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert [mode for mode in MODE_WORDS if f"\n  {mode} " not in text] == []
    if word == "--help-all":
        assert [spelling for spelling, _ in EACH if spelling not in text] == []
        assert re.search(r"^  --lr +--learning-rate$", text, re.MULTILINE)
    else:
        assert "--help-all" in text
        assert len(text.splitlines()) < 25


def test_the_schedulers_are_those_that_exist():
    for kind in schedules.KINDS:
        assert parse("--scheduler", kind)["scheduler"] == kind


def test_number_accepts_its_least_and_not_its_limit():
    whole = arguments.number(int, 2, below=4)
    assert (whole("2"), whole("3")) == (2, 3)
    for text in ("1", "4", "2.0", "", "x"):
        with pytest.raises(argparse.ArgumentTypeError, match="of at least 2 and below 4"):
            whole(text)


def test_words_come_from_the_command_line_by_default(monkeypatch):
    monkeypatch.setattr("sys.argv", ["main.py", "--epoch", "3"])
    with pytest.raises(UsageError, match="unknown option --epoch; did you mean '--epochs'"):
        parser().parse_args()


@pytest.mark.parametrize(("text", "wanted"), [("0.1", (0.1,)), ("0.1,0.01", (0.1, 0.01))])
def test_a_list_of_numbers(text, wanted):
    assert arguments.numbers(text) == wanted


def test_a_list_that_is_none_says_how_to_write_it():
    with pytest.raises(argparse.ArgumentTypeError, match="write 0.1,0.01"):
        arguments.numbers("a,b")


def test_a_message_is_one_readable_line_whatever_the_words_are():
    made = Parser(prog="main.py")
    made.add_argument("--epochs", type=arguments.number(int, 1))
    for words in (["--epo\x1b[2Jchs"], ["--epochs", "a\nb"], ["\udcff\x00"], ["--" + "x" * 10**6], ["--epochs=--"]):
        with pytest.raises(UsageError) as caught:
            made.parse_args(words)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 2100


def test_two_dashes_are_no_value():
    made = Parser(prog="main.py")
    made.add_argument("--epochs", type=arguments.number(int, 1))
    with pytest.raises(UsageError, match="argument --epochs: '--' is no value"):
        made.parse_args(["--epochs=--"])
