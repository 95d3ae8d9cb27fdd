"""What a launcher turns its options into, held to the tables of the originals' scripts. Nothing is started."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts import documented_launcher
from shared import recipes
from shared.errors import UsageError
from shared.launchers.documented import LAUNCHERS, NEVER_READ
from shared.launchers.plan import launcher_parser
from tf_seresnet import options as tf_options

ROOT = Path(__file__).resolve().parents[3]
DATA = "--data_path=DIR"
FIELDS = ("epochs", "batch_size", "learning_rate", "steps_per_epoch")


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("ASCEND_DEVICE_ID", "etp_running_flag"):
        monkeypatch.delenv(name, raising=False)


def plan(name, *words, half="torch_imagenet"):
    return documented_launcher.plan(half, name, list(words))


def options_of(made, half="torch_imagenet"):
    """The namespace that main.py makes of the planned command."""
    assert made.command[:2] == [sys.executable, str(ROOT / half / "main.py")]
    return importlib.import_module(f"{half}.options").parser().parse_args(made.command[2:])


def recipe_of(options):
    given = {name: getattr(options, name) for name in FIELDS if getattr(options, name) is not None}
    return recipes.get(options.recipe).override(**given)


# From the tables of the originals: devices, images a step and device, epochs, rate, steps an epoch, print-freq.
SCRIPTS = {
    ("train_full_1p", "senet154"): (1, 128, 1, 0.075, None, 10),
    ("train_performance_1p", "senet154"): (1, 128, 1, 0.075, None, 10),
    ("train_full_8p", "senet154"): (8, 128, 120, 0.6, None, 100),
    ("train_performance_8p", "senet154"): (8, 128, 3, 0.6, None, 100),
    ("train_performance_1p", "se_resnet50"): (1, 128, 1, 0.1, None, 1),
    ("train_full_8p", "se_resnet50"): (8, 1024 // 8, 100, 0.6, None, 1),
    ("train_performance_8p", "se_resnet50"): (8, 1024 // 8, 2, 0.6, None, 1),
    ("train_performance_multinodes", "se_resnet50"): (8, 1024 // 8, 2, 0.6, None, 1),
    ("train_full_1p", "pnasnet5large"): (1, 32, 1, 0.4, 1000, 10),
    ("train_performance_1p", "pnasnet5large"): (1, 32, 1, 0.4, 1000, 10),
    ("train_full_8p", "pnasnet5large"): (8, 32, 90, 0.4, None, 10),
    ("train_performance_8p", "pnasnet5large"): (8, 32, 1, 0.4, 1000, 10),
}


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_a_training_is_the_documented_one(script):
    name, network = script
    made = plan(name, DATA, f"--network={network}")
    options = options_of(made)
    recipe = recipe_of(options)
    devices, batch, epochs, rate, steps, print_freq = SCRIPTS[script]
    assert (options.num_devices or 1, options.distributed) == (devices, devices > 1)
    assert (recipe.network, recipe.batch_size, recipe.epochs, recipe.steps_per_epoch) == (network, batch, epochs, steps)
    assert recipe.schedule.base == rate
    assert options.print_freq == print_freq
    assert (options.mode, options.data_path) == ("train", "DIR")


def test_every_launcher_has_its_script_and_the_other_way_round():
    for half, launchers in LAUNCHERS.items():
        scripts = {path.stem: path.read_text() for path in (ROOT / half / "test").glob("*.sh")}
        assert set(scripts) == set(launchers)
        for text in scripts.values():
            assert text.endswith('/../../scripts/documented_launcher.sh"\n')
        for path in (ROOT / half / "test").glob("*/*.sh"):
            assert path.read_text() == scripts[path.stem].replace("/../../", "/../../../")
            assert path.parent.name in launchers[path.stem].networks


def test_each_port_has_the_launchers_of_its_document():
    names = {
        network: {path.stem for path in folder(network)} for network in ("senet154", "se_resnet50", "pnasnet5large")
    }
    for (name, network), _ in SCRIPTS.items():
        assert name in names[network]
    assert "train_finetune_1p" in names["pnasnet5large"]
    assert all("train_eval_8p" in found for found in names.values())


def folder(network):
    return (ROOT / "torch_imagenet" / "test" / network).glob("*.sh")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "network: se_resnet50, the default; others: --network=se_resnet50_caffe, --network=senet154, "),
        (["--network=senet154"], "network: senet154, by --network; others: --network=se_resnet50, "),
        (["--recipe=senet154_step"], "network: senet154, by --recipe senet154_step; others: --network=se_resnet50, "),
        (["--resume=RUN"], "network: that of RUN"),
    ],
)
def test_the_first_line_says_which_network_it_is(words, says):
    (line,) = plan("train_full_1p", DATA, *words).head
    assert line.startswith(says)
    assert ("test/NETWORK/train_full_1p.sh" in line) is ("RUN" not in line)


def test_one_network_needs_no_line():
    assert plan("train_full_1p", DATA, half="tf_seresnet").head == []


def test_a_launcher_does_not_read_the_command_line_of_a_program():
    with pytest.raises(UsageError, match="a launcher takes its port with --network"):
        plan("train_full_1p", DATA, "--port=senet154")


def test_an_adapter_is_needed_where_no_device_is_named():
    assert plan("train_full_8p", DATA).adapters == ("torch_npu",)
    assert plan("train_full_1p", DATA, half="tf_seresnet").adapters == ("npu_bridge", "npu_device")
    for device in ("npu", "cuda", "cpu", "auto"):
        assert plan("train_full_8p", DATA, f"--device={device}").adapters == ()


def test_the_cifar_launchers_are_the_documented_ones():
    full = options_of(plan("train_full_1p", DATA, half="tf_seresnet"), "tf_seresnet")
    assert (full.mode, full.recipe, full.epochs, full.max_steps) == ("train", None, None, None)  # the device's recipe
    for name in ("train_performance_1p", "train_RT2_performance_1p"):
        short = options_of(plan(name, DATA, half="tf_seresnet"), "tf_seresnet")
        assert (short.epochs, short.steps_per_epoch) == (1, 10)
    spelled = plan("train_full_1p", DATA, "--total_epochs=3", "--iteration=5", "--test_iteration=2", half="tf_seresnet")
    options = options_of(spelled, "tf_seresnet")
    assert (options.epochs, options.steps_per_epoch, options.test_iteration) == (3, 5, 2)


def test_the_second_runtime_is_switched_on_where_it_is():
    on_npu = plan("train_RT2_performance_1p", DATA, "--device=npu", half="tf_seresnet")
    assert on_npu.exported["ENABLE_RUNTIME_V2"] == "1"
    assert not plan("train_RT2_performance_1p", DATA, "--device=cpu", half="tf_seresnet").exported
    assert "ENABLE_RUNTIME_V2" not in plan("train_performance_1p", DATA, "--device=npu", half="tf_seresnet").exported


@pytest.mark.parametrize("name", ["train_eval_8p", "train_finetune_1p"])
@pytest.mark.parametrize("spelling", ["--resume=PATH", "--checkpoint=PATH", "--resume=hf-hub:o/n"])
def test_evaluation_and_fine_tuning_start_from_a_checkpoint(name, spelling):
    options = options_of(plan(name, DATA, spelling, "--device=cpu", "--num_devices=1"))
    weights = spelling.partition("=")[2]
    assert (options.checkpoint, options.resume, options.recipe, options.network) == (weights, None, None, None)
    assert options.mode == {"train_eval_8p": "evaluate", "train_finetune_1p": "finetune"}[name]
    assert options_of(plan(name, DATA, spelling, "--network=senet154")).network == "senet154"
    with pytest.raises(UsageError, match="name them with --resume"):
        plan(name, DATA)
    with pytest.raises(UsageError, match="--data_path"):
        plan(name, spelling)


def test_a_resumed_training_takes_everything_from_its_checkpoint():
    made = plan("train_full_8p", "--resume=DIR", "--num_devices", "2", "--device=cpu")
    options = options_of(made)
    assert (options.resume, options.checkpoint, options.data_path) == ("DIR", None, None)
    assert (options.recipe, options.epochs, options.network) == (None, None, None)
    assert options.num_devices == 2
    with pytest.raises(UsageError, match="--data_path"):
        plan("train_full_8p")


def test_a_training_that_goes_on_from_an_old_file_is_the_documented_one(tmp_path):
    """Such a file does not say what was trained."""
    path = tmp_path / "model_best.pth.tar"
    path.write_bytes(b"PK")
    made = plan("train_full_8p", DATA, f"--resume={path}", "--device=cpu", "--epochs=90")
    options = options_of(made)
    assert (options.resume, options.recipe, options.epochs) == (str(path), "se_resnet50_8p", 90)
    assert made.head[0].startswith("network: se_resnet50, the default; others: --network=se_resnet50_caffe")
    assert options_of(plan("train_full_8p", DATA, f"--resume={path}", "--network=senet154")).recipe == "senet154_cosine"
    assert options_of(plan("train_eval_8p", DATA, f"--resume={path}")).recipe is None


# -- options that pass through ---------------------------------------------------------------------------------

SPELLINGS = [
    ("epochs", ["--epochs", "--train_epochs", "--total_epochs"], 7),
    ("batch_size", ["--batch-size", "--batch_size", "-b"], 4),
    ("workers", ["--workers", "-j", "--num-workers"], 3),
    ("print_freq", ["--print-freq", "--print_freq", "-p"], 20),
    ("learning_rate", ["--lr", "--learning-rate"], 0.25),
    ("image_size", ["--image-size"], 64),
    ("seed", ["--seed", "--manualSeed"], 5),
    ("steps_per_epoch", ["--steps-per-epoch"], 9),
]


@st.composite
def words(draw):
    """Some options in a random order, each spelled and joined at random; what they are to mean."""
    chosen = draw(st.lists(st.sampled_from(SPELLINGS), unique_by=lambda option: option[0]))
    groups, meant = [[DATA]], {}
    for name, spellings, value in chosen:
        spelling = draw(st.sampled_from(spellings))
        joined = spelling.startswith("--") and draw(st.booleans())
        groups.append([f"{spelling}={value}"] if joined else [spelling, str(value)])
        meant[name] = value
    for name, value in (("device", "cpu"), ("num_devices", 2), ("network", "senet154")):
        groups.append([f"--{name}={value}"] if draw(st.booleans()) else [f"--{name}", str(value)])
    return [word for group in draw(st.permutations(groups)) for word in group], meant


@given(words(), st.sampled_from(["train_full_1p", "train_performance_8p"]))
def test_options_of_main_pass_in_any_spelling_and_win_over_the_documented_ones(given_words, name):
    line, meant = given_words
    made = plan(name, *line)
    options = options_of(made)
    assert {key: getattr(options, key) for key in meant} == meant
    assert (options.device, options.num_devices, options.data_path) == ("cpu", 2, "DIR")
    assert recipes.get(options.recipe).network == "senet154"
    documented = LAUNCHERS["torch_imagenet"][name].networks["senet154"].split()
    for option, value in zip(documented[::2], documented[1::2]):
        key = option[2:].replace("-", "_")
        assert key in meant or str(getattr(options, key)) == value


def test_a_recipe_of_the_users_own():
    options = options_of(plan("train_full_8p", DATA, "--recipe", "senet154_step", "--network=senet154"))
    assert (options.recipe, options.print_freq) == ("senet154_step", 100)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--num_devces=2"], "did you mean '--num_devices'"),
        (["--devce_id=2"], "did you mean '--device_id'"),
        (["--data_pth=x"], "did you mean '--data_path'"),
        (["--imagesize=64"], "did you mean '--image-size'"),
        (["--network=senet145"], "did you mean 'senet154'"),
        (["--num_devices=0"], "at least 1"),
        (["evaluate"], "unexpected word 'evaluate'"),
        (["--evaluate"], "use python torch_imagenet/main.py evaluate"),
        (["--profile"], "use python torch_imagenet/main.py profile"),
        (["--workers=many"], "'many' does not fit"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(words, says):
    with pytest.raises(UsageError) as raised:
        plan("train_full_1p", DATA, *words)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert ";" in str(raised.value)


@pytest.mark.parametrize("option", sorted(NEVER_READ["tf_seresnet"]))
def test_what_the_original_never_read_is_refused_with_what_does_it(option):
    with pytest.raises(UsageError) as raised:
        plan("train_full_1p", DATA, option + "=True", half="tf_seresnet")
    instead = str(raised.value).partition("; use ")[2].replace("MODE", "force_fp16").replace("STEPS", "1|2")
    for way in instead.split(", or "):
        tf_options.parser().parse_args(way.split())


def test_help_says_what_the_launcher_has(capsys):
    for half, launchers in LAUNCHERS.items():
        for name in launchers:
            for word in ("-h", "--help"):
                with pytest.raises(SystemExit) as raised:
                    plan(name, DATA, word, half=half)
                assert not raised.value.code
                said = capsys.readouterr().out
                assert said.startswith(f"usage: bash {half}/test/{name}.sh --data_path=DIR")
                assert "--num_devices" in said


def test_a_launcher_takes_every_option_that_its_help_names():
    for half, launchers in LAUNCHERS.items():
        for name, launcher in launchers.items():
            values = {"--network": next(iter(launcher.networks)), "--device": "cpu", "--node_rank": "0"}
            values.update(
                {"--node-rank": "0", "--num_devices": "8", "--num-devices": "8", "--device_id": "0", "--device-id": "0"}
            )
            named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", launcher_parser(half, name).format_help()))
            assert {"--data_path", "--workers"} <= named
            for option in sorted(named - {"--help", "--help-all", "--version", "--name", "--data_path"}):
                words = [DATA, "--resume=x"] if launcher.needs_checkpoint and option != "--resume" else [DATA]
                made = plan(name, *words, f"{option}={values.get(option, '8')}", half=half)
                options_of(made, half)


def test_the_version_is_said_and_nothing_started(capsys):
    with pytest.raises(SystemExit) as raised:
        plan("train_full_1p", "--version", half="tf_seresnet")
    assert not raised.value.code
    assert capsys.readouterr().out.startswith("se-pnas-kit ")


# -- several machines ------------------------------------------------------------------------------------------


def test_the_global_batch_of_several_machines_is_divided():
    made = plan(
        "train_performance_multinodes",
        DATA,
        "--batch_size=2048",
        "--nnodes=2",
        "--node_rank=1",
        "--local_addr=10.0.0.2",
        "--master_addr=10.0.0.1",
        "--master_port=29688",
        "--device=npu",
    )
    options = options_of(made)
    assert (options.batch_size, options.num_devices, options.nnodes, options.node_rank) == (128, 8, 2, 1)
    assert (options.local_addr, options.master_addr, options.master_port) == ("10.0.0.2", "10.0.0.1", 29688)
    assert not made.first
    assert made.log.name == "train_0_node1.log"
    with pytest.raises(UsageError, match="multiple of 16"):
        plan("train_performance_multinodes", DATA, "--batch_size=1000", "--nnodes=2", "--node_rank=0")


def test_one_machine_is_the_documented_default_of_several():
    options = options_of(plan("train_performance_multinodes", DATA))
    assert (options.num_devices, options.nnodes, options.node_rank, options.batch_size) == (8, None, None, None)


# -- files -----------------------------------------------------------------------------------------------------


def test_where_the_files_go():
    made = plan("train_full_1p", DATA, "--device=cuda", "--device_id=3")
    output = ROOT / "torch_imagenet" / "test" / "output" / "3"
    assert (made.output, made.log, made.run) == (output, output / "train_3.log", output / "train_full_1p")
    assert options_of(made).output_dir == str(made.run)
    own = plan("train_full_1p", DATA, "--output-dir=here")
    assert (str(own.run), options_of(own).output_dir) == ("here", "here")
