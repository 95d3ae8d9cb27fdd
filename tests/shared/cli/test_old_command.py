"""The command lines of the old ports' scripts, as they were typed, and what they are read as. Nothing is started."""

from __future__ import annotations

import pytest

from shared.cli.old_ports import PORTS, REPLACED
from shared.errors import UsageError
from tf_seresnet.options import RunConfig as CifarConfig
from torch_imagenet.options import RunConfig

# The commands of the originals' scripts, without what bash does around them.
SENET_1P = (
    "--data_path=/d --device npu:0 --opt-level O2 --loss-scale 128 --epochs 1 --batch-size 128 --lr 0.075 --scheduler"
    " cosine --label-smoothing-factor 0.1 --print-freq 10 --num-workers 8"
)
SENET_8P = (
    "--data_path=/d --device npu --distributed --num-devices 8 --local-rank {} --epochs 120 --batch-size 128 --lr 0.6"
    " --scheduler cosine --label-smoothing-factor 0.1 --print-freq 100 --num-workers 12"
)
SE = (
    "/d --addr=10.1.1.1 --seed=49 --workers={workers} --learning-rate={rate} --mom=0.9 --weight-decay=1.0e-04"
    " --print-freq=1 --dist-url=tcp://127.0.0.1:50009 --dist-backend=hccl --world-size=1 --rank=0 --device=npu"
    " --epochs={epochs} --batch-size={batch} --amp --opt-level=O2 --loss-scale=1024 --gpu={gpu}"
)
SE_1P = SE.format(workers=64, rate=0.1, epochs=1, batch=128, gpu=3)
SE_8P = SE.format(workers=64, rate=0.6, epochs=100, batch=1024, gpu=5) + " --multiprocessing-distributed"
PNAS = (
    "--data=/d --wd 4e-5 --wd-all --gamma 0.97 --opt-level O2 --warmup 0 --lr 0.4 --print-freq 10 --use_aux --epochs {}"
    " --train-batch 32 --test-batch 32 -c out -log train_0.log --workers 16 --loss_scale dynamic --local_rank {}"
)
PNAS_1P = PNAS.format(1, 0) + " --world_size 1 --max_step 1000"
PNAS_8P = PNAS.format(90, 6)


def read(port, words, config=RunConfig):
    return config.from_argv(["--port", port, *words.split()])


@pytest.mark.parametrize(
    ("port", "words", "expected"),
    [
        (
            *("senet154", SENET_1P),
            {
                "network": "senet154",
                "recipe": "senet154_cosine_as_run",
                "device": "npu:0",
                "batch_size": 128,
                "num_devices": None,
            },
        ),
        (
            *("senet154", SENET_8P.format(3)),
            {
                "device": "npu",
                "num_devices": 8,
                "local_rank": 3,
                "master_port": 23333,
                "batch_size": 128,
                "workers": 12,
                "epochs": 120,
            },
        ),
        (
            *("se_resnet50", SE_1P),
            {
                "network": "se_resnet50",
                "device": "npu:3",
                "batch_size": 128,
                "workers": 64,
                "precision": "O2",
                "loss_scale": "1024",
            },
        ),
        (
            *("se_resnet50", SE_8P),
            {
                "device": "npu",
                "num_devices": 8,
                "local_rank": 5,
                "master_port": 29688,
                "batch_size": 128,
                "workers": 8,
                "seed": 49,
            },
        ),
        (
            *("pnasnet5large", PNAS_1P),
            {
                "network": "pnasnet5large",
                "device": "npu",
                "steps_per_epoch": 1000,
                "max_steps": None,
                "recipe": "pnasnet5large_8p_as_run",
                "label_smoothing": None,
            },
        ),
        (
            *("pnasnet5large", PNAS_8P),
            {
                "num_devices": 8,
                "local_rank": 6,
                "master_port": 50001,
                "output_dir": "out",
                "log_file": "out/train_0.log",
            },
        ),
    ],
)
def test_a_script_is_read_as_its_program_did(port, words, expected):
    config = read(port, words)
    assert {name: getattr(config, name) for name in expected} == expected
    assert (config.mode, config.data_path, config.port) == ("train", "/d", port)
    (line,) = config.command_notes
    assert line.startswith(f"port {port}: read as --network {port} ")
    assert "\n" not in line


def test_what_is_said_is_a_command_line_of_ours():
    """Typed without --port it means the same."""
    for port, words in (("senet154", SENET_1P), ("se_resnet50", SE_1P), ("pnasnet5large", PNAS_1P)):
        config = read(port, words)
        said = config.command_notes[0].partition("read as ")[2].partition("; left out")[0].split()
        ours = RunConfig.from_argv(said).to_json()
        assert {**ours, "port": port} == config.to_json()


def test_the_port_has_its_programs_defaults_where_nothing_is_given():
    senet, se, pnas = (read(port, "") for port in ("senet154", "se_resnet50", "pnasnet5large"))
    assert (senet.epochs, senet.batch_size, senet.learning_rate, senet.device) == (100, 256, 0.6, "cpu")
    assert (senet.recipe, senet.label_smoothing) == ("senet154_step_as_run", 0.0)
    assert (se.epochs, se.batch_size, se.learning_rate, se.precision, se.device) == (90, 256, 0.1, "O0", "npu")
    assert (pnas.batch_size, pnas.weight_decay, pnas.warm_up_epochs, pnas.num_devices) == (256, 1e-4, 5, 8)
    assert (pnas.zero_pad, pnas.auxiliary_weight, pnas.output_dir) == (False, 0.0, "checkpoint")
    assert (pnas.recipe, pnas.normalisation) == ("pnasnet5large_8p_as_run", "none")


def test_senet154s_program_never_read_its_loss_scale():
    config = read("senet154", SENET_1P + " --loss-scale 128")
    assert config.loss_scale is None
    assert "--loss-scale (the program never read it: it is dynamic)" in config.command_notes[0]


def test_no_largest_step_of_pnasnet_is_a_whole_epoch():
    assert read("pnasnet5large", "--max_step 0").steps_per_epoch is None


def test_our_own_options_may_follow_and_win():
    config = read("pnasnet5large", PNAS_1P + " --image-size 64 --max-steps 3 --output-dir here --label-smoothing 0.1")
    assert (config.image_size, config.max_steps, config.output_dir) == (64, 3, "here")
    assert config.label_smoothing is None  # the program never read it; the recipe has none
    assert "--label-smoothing (the program never read it)" in config.command_notes[0]
    assert read("se_resnet50", "/d -b64 --num-devices 2 --multiprocessing-distributed").batch_size == 32


@pytest.mark.parametrize(
    ("port", "words", "mode", "weights"),
    [
        ("senet154", "--evaluate-from-local --resume W", "evaluate", ("W", None)),
        ("senet154", "--evaluate-from-local --evaluate-model-path W", "evaluate", ("W", None)),
        ("senet154", "--pretrained --resume W", "finetune", ("W", None)),
        ("senet154", "--start-epoch 11", "train", (None, "models/checkpoint-10.pth.rar")),
        ("senet154", "--start-epoch 1", "train", (None, None)),
        ("se_resnet50", "-e /d --resume W", "evaluate", (None, "W")),
        ("se_resnet50", "/d --resume W --start-epoch 4", "train", (None, "W")),
        ("pnasnet5large", "--evaluate --resume W", "evaluate", (None, "W")),
        ("senet154", "--profile", "profile", (None, None)),
    ],
)
def test_modes_and_weights(port, words, mode, weights):
    config = read(port, words)
    assert (config.mode, (config.checkpoint, config.resume)) == (mode, weights)


def test_an_evaluation_of_pnasnet_does_not_replace_its_training():
    assert read("pnasnet5large", "-e -c out --resume W").output_dir == "out/evaluate"


@pytest.mark.parametrize(
    ("port", "words", "says"),
    [
        ("senet154", "--eval-from-url", "download the weights"),
        ("senet154", "/d", "unexpected word '/d'; name the data set's folder"),
        ("se_resnet50", "/d --start-epoch 3", "name the checkpoint with --resume"),
        (
            "se_resnet50",
            "/d -b 4 --multiprocessing-distributed",
            "--batch-size 4 is for all 8 devices; give a multiple",
        ),
        ("se_resnet50", "/d --batch-size many", "argument --batch-size: 'many' does not fit; give a whole number"),
        ("se_resnet50", "/d --gpu", "--gpu needs a value; give one"),
        ("pnasnet5large", "--mixup", "--mixup ALPHA"),
        ("pnasnet5large", "--el2", "leave it out"),
        ("senet154", "--data_pth=x", "did you mean '--data_path'"),
        ("senet145", "", "did you mean 'senet154'"),
        ("tf", "", "choose one of senet154, se_resnet50, pnasnet5large"),
    ],
)
def test_what_cannot_be_carried_over_is_one_line(port, words, says):
    with pytest.raises(UsageError) as raised:
        read(port, words)
    assert says in str(raised.value)
    assert ";" in str(raised.value)


def test_the_cifar_program():
    config = read("tf", "--data_path=/d --total_epochs 2 --iteration 5 --test_iteration 3 --num_class 10", CifarConfig)
    assert (config.data_path, config.epochs, config.steps_per_epoch, config.test_iteration) == ("/d", 2, 5, 3)
    assert "left out: --num_class" in config.command_notes[0]


@pytest.mark.parametrize("half", REPLACED)
def test_without_the_port_each_option_is_answered_with_what_replaces_it(half):
    config = RunConfig if half == "torch_imagenet" else CifarConfig
    for option, instead in REPLACED[half].items():
        for words in ([option, "3"], [f"{option}=3"]):
            with pytest.raises(UsageError) as raised:
                config.from_argv(words)
            assert f"{option} is an option of an old port's program; {instead}" in str(raised.value)


def test_the_positional_folder_is_answered_too(tmp_path):
    for folder in ("/data/imagenet", str(tmp_path)):
        with pytest.raises(UsageError, match=f"is no mode; .*--data-path {folder}.*--port se_resnet50"):
            RunConfig.from_argv([folder, "--epochs", "1"])
    with pytest.raises(UsageError, match="did you mean 'train'"):
        RunConfig.from_argv(["trian"])
    with pytest.raises(UsageError, match="unknown option --run-dir"):  # not its value
        RunConfig.from_argv(["--run-dir", str(tmp_path)])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--distributed --batch-size 64", ["--batch-size is per device here"]),
        ("--num-devices 2 -b 64 -j 4", ["-b is per device here", "-j is per device here"]),
        ("--recipe se_resnet50_8p --distributed --workers 64", ["--workers is per device here"]),
        ("--mom 0.9", ["--amp is the default"]),
        ("--mom 0.9 --amp", []),
        ("--batch-size 64 --workers 4", []),  # of one device: the same
        ("--network senet154 --distributed --batch-size 64", []),  # its program meant that too
        ("--network pnasnet5large --max_step 1000", ["--max_step ends the training"]),
        ("--max-steps 1000", []),
        ("--network pnasnet5large --checkpoint .", ["--checkpoint names weights to start from"]),
        ("", []),
    ],
)
def test_a_note_where_the_same_option_meant_another_thing(words, says):
    notes = RunConfig.from_argv(words.split()).command_notes
    assert [note.startswith(f"note: {said}") for note, said in zip(notes, says)] == [True] * len(says)
    assert len(notes) == len(says)


def test_the_output_folder_of_pnasnets_old_program_is_no_checkpoint(tmp_path):
    with pytest.raises(UsageError, match="give --output-dir .*gone, or --port pnasnet5large"):
        RunConfig.from_argv(["--network", "pnasnet5large", "--checkpoint", str(tmp_path / "gone")])


def test_the_defaults_of_every_port_are_options_of_ours():
    for name, port in PORTS.items():
        config = RunConfig if port.half == "torch_imagenet" else CifarConfig
        assert config.from_argv(port.defaults.split()).command_notes == ()
        spellings = [spelling for option in port.options for spelling in option.spellings]
        assert len(spellings) == len(set(spellings)), name


@pytest.mark.parametrize("words", ["--batch-size 16 --num-devices 2", "--warm_up_epochs 1", "--max_step 3", "/d"])
def test_the_cifar_half_names_no_program_of_the_imagenet_networks(words):
    try:
        said = " ".join(CifarConfig.from_argv(words.split()).command_notes)
    except UsageError as error:
        said = str(error)
    assert "--port" not in said
