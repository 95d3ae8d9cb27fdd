"""The command lines of the three ImageNet documents, letter by letter, with options behind them that make them small.

They are typed where the documents say, in the folder of the port: with `cd torch_imagenet` the network is the default
one and the first line says so; the launchers in test/NETWORK/ are the document's own.
"""

from __future__ import annotations

import subprocess
from typing import List, Tuple

import pytest

from tests.torch_imagenet.conftest import Tiny
from tests.torch_imagenet.distributed.conftest import SMALL, Checkout

# As the documents have them, but for the folder.
SENET154 = [
    "bash ./test/train_full_1p.sh  --data_path=数据集路径",
    "bash ./test/train_performance_1p.sh  --data_path=数据集路径",
]
SE_RESNET50 = [
    "bash ./test/train_performance_1p.sh --data_path=/data/xxx/",
    "bash ./test/train_full_8p.sh --data_path=/data/xxx/",
    "bash ./test/train_performance_8p.sh --data_path=/data/xxx/",
    "bash ./test/train_eval_8p.sh --data_path=/data/xxx/",
    "bash ./test/train_performance_multinodes.sh --data_path=数据集路径 --batch_size=单卡batch_size*所有卡数"
    " --nnodes=机器总数量 --node_rank=当前机器rank(0,1,2..) --local_addr=当前机器IP(需要和master_addr处于同一网段)"
    " --master_addr=主节点IP",
]
PNASNET = [
    "bash ./test/train_full_1p.sh --data_path=real_data_path",
    "bash ./test/train_performance_1p.sh --data_path=real_data_path",
    "bash ./test/train_full_8p.sh --data_path=real_data_path",
    "bash ./test/train_performance_8p.sh --data_path=real_data_path",
    "bash ./test/train_finetune_1p.sh --data_path=real_data_path",
    "bash ./test/train_eval_8p.sh --data_path=real_data_path",
]
DOCUMENTS = {"senet154": SENET154, "se_resnet50": SE_RESNET50, "pnasnet5large": PNASNET}
# The placeholders that the reader of a document replaces, longest first.
READER = {
    "单卡batch_size*所有卡数": "1024",
    "机器总数量": "1",
    "当前机器rank(0,1,2..)": "0",
    "当前机器IP(需要和master_addr处于同一网段)": "127.0.0.1",
    "主节点IP": "127.0.0.1",
}
FOLDERS = ("数据集路径", "/data/xxx/", "real_data_path")
CASES = [(network, command) for network, commands in DOCUMENTS.items() for command in commands]


def words(command: str, data: str) -> List[str]:
    for placeholder, value in [*READER.items(), *((folder, data) for folder in FOLDERS)]:
        command = command.replace("=" + placeholder, "=" + value)
    return command.split()


def typed(checkout: Checkout, command: List[str], folder: str = "torch_imagenet") -> Tuple[int, str, str]:
    done = subprocess.run(
        command,
        cwd=checkout.root / folder,
        env=checkout.environment(),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("network", "command"), CASES)
def test_on_a_machine_without_an_npu_it_ends_with_one_line_that_says_what_to_do(
    network: str, command: str, checkout: Checkout
) -> None:
    """The device is the documented one, and never silently another; weights are what the document says to edit in."""
    for own in ("", f"{network}/"):
        status, out, err = typed(checkout, words(command.replace("/test/", f"/test/{own}"), "there"))
        assert (status, out) == (2, "")
        assert err.count("\n") == 1
        starts_from_weights = "eval" in command or "finetune" in command
        assert ("name them with --resume=PATH" if starts_from_weights else "--device=cuda, --device=cpu or") in err


@pytest.mark.slow
@pytest.mark.parametrize("network", ["se_resnet50", "pnasnet5large"])
def test_the_default_network_is_said_and_the_documents_own_launcher_runs_its_own(
    network: str, checkout: Checkout, tiny: Tiny
) -> None:
    small = [*SMALL, "--max-steps=1", *(["--image-size=64"] if network != "se_resnet50" else [])]
    command = words(DOCUMENTS[network][0], str(tiny.folder))
    name = command[1].rpartition("/")[2]
    if network == "se_resnet50":  # the command of the other documents is the same
        status, out, err = typed(checkout, [*command, *small])
        assert (status, err) == (0, "")
        assert out.startswith(
            "network: se_resnet50, the default; others: --network=se_resnet50_caffe, --network=senet154, "
        )
        assert out.splitlines()[0].endswith(f"or test/NETWORK/{name}")
    own = [command[0], command[1].replace("/test/", f"/test/{network}/"), *command[2:]]
    status, out, err = typed(checkout, [*own, *small])
    assert (status, err) == (0, "")
    assert out.startswith(f"network: {network}, by --network; others: ")
    assert checkout.record(name[: -len(".sh")])["network"] == network
    assert out.startswith((checkout.output / "train_0.log").read_text())  # the final result stands on the console alone


@pytest.mark.slow
def test_several_devices_and_one_of_several_machines(checkout: Checkout, tiny: Tiny) -> None:
    for command in (SE_RESNET50[1], SE_RESNET50[4]):
        line = [word for word in words(command, str(tiny.folder)) if not word.startswith("--data_path")]
        small = [option for option in SMALL if not option.startswith("--batch_size")]
        small += ["--num_devices=2", "--max-steps=1", f"--data_path={tiny.folder}"]
        small += ["--batch_size=2"] if "multinodes" in command else ["--batch-size=1"]
        status, out, err = typed(checkout, [*line, *small, "--image-size=64"])
        assert (status, err) == (0, "")
        assert out.startswith("network: se_resnet50, the default; ")
        # Only the launcher for several machines has the meaning of SE-ResNet-50's program.
        assert ("note: --batch-size is per device here" in out) is ("multinodes" not in command)
        record = checkout.record(line[1].rpartition("/")[2][: -len(".sh")])
        assert (record["device"]["count"], record["batch_size"], record["global_batch_size"]) == (2, 1, 2)
