"""Every option of both halves in every mode: in the mode's help, or refused, or accepted with a note and why."""

from __future__ import annotations

import re

import pytest

from shared.cli.modes import MODES
from shared.errors import UsageError
from tf_seresnet import options as tensorflow_options
from torch_imagenet import options as torch_options

HALVES = {"tf_seresnet": tensorflow_options, "torch_imagenet": torch_options}
CASES = [(half, mode) for half, options in HALVES.items() for mode in options.MODES]
# Values that the options' types accept.
VALUES = {
    **{"--recipe": {"tf_seresnet": "sample", "torch_imagenet": "imagenet_sample"}, "--scheduler": "step"},
    **{"--network": {"tf_seresnet": "se_resnet110", "torch_imagenet": "senet154"}, "--variant": "port"},
    **{"--layers": "core", "--port": {"tf_seresnet": "tf", "torch_imagenet": "senet154"}, "--on-bad-image": "skip"},
    **{"--normalisation": "none", "--smoothing": "uniform", "--decayed": "all", "--memory-format": "contiguous"},
    **{"--grouped-conv": "split", "--format": "json", "--momentum": "0.5", "--dropout": "0.5", "--drop-path": "0.5"},
    **{"--label-smoothing": "0.5", "--ema-decay": "0.5", "--image-size": "64", "--depth": "11", "--compile": "default"},
    "--decoder": "pillow",
}


def shown(half, mode, capsys):
    """The options in the help of a mode."""
    with pytest.raises(SystemExit) as ended:
        HALVES[half].parser().parse_args([mode, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 120
    return re.findall(r"^  (--[\w-]+)", text, re.MULTILINE)


def words_of(half, action):
    """The option as one types it, by its first long spelling."""
    name = next(name for name in action.option_strings if name.startswith("--"))
    if action.nargs == 0:
        return [name]
    value = VALUES.get(name, "3")
    return [name, value[half] if isinstance(value, dict) else value]


def read(parser, *words):
    """The notes, and the message where the command line is refused."""
    try:
        return parser.parse_args(list(words)).command_notes, ""
    except UsageError as error:
        return (), str(error)


def options_of(parser):
    return [action for action in parser._actions if action.option_strings and action.dest not in ("help", "version")]


@pytest.mark.parametrize(("half", "mode"), CASES)
def test_an_option_is_in_the_help_of_a_mode_or_has_no_effect_there(half, mode, capsys):
    in_help = shown(half, mode, capsys)
    assert len(in_help) == len(set(in_help))
    parser, seen = HALVES[half].parser(), []
    for action in options_of(parser):
        name, *value = words_of(half, action)
        notes, error = read(parser, mode, name, *value)
        means = parser._means[name]
        seen += [name] if name in in_help else []
        if error:
            others = set(HALVES[half].MODES) - {mode}
            of_another = name == "--format" and f"{mode} has no --format json" in error
            pattern = f"{name} has no effect in the mode {mode}; leave it out, it is for (.*)"
            assert of_another or set(re.fullmatch(pattern, error).group(1).split(", ")) <= others
            assert of_another or name not in in_help
        elif name not in in_help and means == name:  # the options of a training where its command evaluates
            assert notes == (f"note: no effect in the mode {mode}: {name}",)
            assert name == "--device" or (
                mode in ("evaluate", "benchmark", "profile", "check-port") and "train" in parser.modes_of(name)
            )
        elif means.split()[0] in in_help or means in MODES:
            assert notes == ()
    assert set(seen) | {"--format"} >= set(in_help)


@pytest.mark.parametrize("half", HALVES)
def test_an_option_and_its_other_spellings_have_an_effect_in_the_same_modes(half):
    parser = HALVES[half].parser()
    for spelling, means in parser._means.items():
        if means not in MODES:
            assert parser.modes_of(spelling) == parser.modes_of(means.split()[0]), spelling


@pytest.mark.parametrize("half", HALVES)
def test_without_a_mode_help_lists_them_and_at_length_every_spelling(half, capsys):
    parser = HALVES[half].parser()
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    short = capsys.readouterr().out
    assert [mode for mode in HALVES[half].MODES if f"  {MODES[mode]}\n" not in short] == []
    assert short == parser.format_help()
    with pytest.raises(SystemExit):
        parser.parse_args(["train", "--help-all"])
    whole = capsys.readouterr().out
    table = dict(re.findall(r"^  (-\S+)  +(\S.*)$", whole.split("\nother spellings")[1], re.MULTILINE))
    assert table["--lr"] == "--learning-rate"
    for spelling in (spelling for action in options_of(parser) for spelling in action.option_strings):
        assert (spelling in table) != (re.search(rf"^  {spelling}( |$)", whole.split("\nother")[0], re.M) is not None)


@pytest.mark.parametrize(
    ("words", "mode"),
    [
        ("evaluate --lr 3 --help", "evaluate"),
        ("-h predict", "predict"),
        ("-e -h", "evaluate"),
        ("x -h export", "export"),
    ],
)
def test_help_is_of_the_mode_wherever_it_stands(words, mode, capsys):
    with pytest.raises(SystemExit) as ended:
        torch_options.parser().parse_args(words.split())
    assert ended.value.code == 0
    assert f"\n{mode}: {MODES[mode]}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "mode", "value"),
    [
        ("--compile", "train", "default"),
        ("--compile benchmark", "benchmark", "default"),
        ("--compile --batch-size 4", "train", "default"),
        ("--compile reduce-overhead benchmark", "benchmark", "reduce-overhead"),
        ("--compile=max-autotune --workers 2", "train", "max-autotune"),
        ("--compile max-autotune --compile", "train", "default"),
        ("predict --compile cat.jpg", "predict", "default"),
        ("predict --compile reduce-overhead cat.jpg", "predict", "reduce-overhead"),
        ("predict -- --compile", "predict", None),
        ("--port se_resnet50 --compile .", "train", "default"),
        ("--batch-size 4", "train", None),
    ],
)
def test_a_value_may_be_left_out(words, mode, value):
    config = torch_options.RunConfig.from_argv(words.split())
    assert (config.mode, config.compile) == (mode, value)
    assert config.images == ((words.split()[-1],) if mode == "predict" else None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--compile reduce-overhed", "argument --compile: 'reduce-overhed' is not a choice; did you mean 'reduce-ov"),
        ("benchmark --compile fast", "argument --compile: 'fast' is not a choice; choose one of default, "),
        ("--compile .", "'.' is no mode; name the data set's folder with --data-path"),
        ("--compile=", "the value of --compile is empty"),
        ("summary --compile", "--compile has no effect in the mode summary"),
    ],
)
def test_a_wrong_value_that_may_be_left_out_is_refused(words, message):
    with pytest.raises(UsageError) as caught:
        torch_options.RunConfig.from_argv(words.split())
    assert message in str(caught.value)


def test_an_image_may_have_the_name_of_an_option():
    assert torch_options.parser().parse_args(["predict", "--", "--help"]).images == ("--help",)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("evaluate --top-k 3", "--top-k has no effect in the mode evaluate; leave it out, it is for predict"),
        ("--restrict-classes", "--restrict-classes has no effect in the mode train; leave it out, it is for evaluate"),
        ("summary -j4", "-j has no effect in the mode summary; leave it out, it is for train, "),
        ("check-data --lr=1", "--lr has no effect in the mode check-data; leave it out, it is for train, finetune, "),
        ("predict --format torch", "predict has no --format torch; choose one of text, json, csv"),
        ("export --format jsn", "'jsn' is not a choice; did you mean 'json'?"),
    ],
)
def test_a_refusal_names_the_modes(words, message):
    with pytest.raises(UsageError) as caught:
        torch_options.RunConfig.from_argv(words.split())
    assert message in str(caught.value)


def test_the_command_of_an_old_evaluation_is_read_with_a_note():
    config = torch_options.RunConfig.from_argv("-e --checkpoint x --epochs 90 --lr 0.1 --wd 1e-4 -b 64".split())
    assert config.command_notes == ("note: no effect in the mode evaluate: --epochs, --lr, --wd",)
    old = torch_options.RunConfig.from_argv("--port senet154 --eval-from-local --resume x --debug".split())
    assert old.mode == "evaluate"
    assert "no effect in the mode evaluate: --epochs, --learning-rate, " in old.command_notes[-1]
    assert "--checkpoint" not in old.command_notes[-1]
