"""Data for the tests: the official CIFAR-10 where it can be had, and the embedded sample."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import List

import pytest
from hypothesis import settings

from shared import sample
from shared.cifar10 import dataset as batches
from tests.support.processor_time import ProcessorTime
from tf_seresnet.devices import onednn

# TensorFlow's native start-up messages are nothing to test; it reads this when it is loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
onednn.enable()  # as the program does, or a run in the test's process rounds otherwise than one in its own

# How long an example takes says how busy the machine is, and nothing about the code. An old Python gets fewer examples:
# what it may do otherwise is refuse the syntax or a library's call, and the first one shows that. Nor does it get the
# examples that a newer Hypothesis has kept: it reads them as others, which are too large for its taste.
settings.register_profile("kit", deadline=None)
settings.register_profile("kit-old-python", deadline=None, max_examples=20, database=None)
settings.load_profile("kit" if sys.version_info >= (3, 9) else "kit-old-python")

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_configure(config: pytest.Config) -> None:
    """xdist's own order, files with many tests first, would undo ours. Before 3.7 it cannot be told.

    What is quick is a matter of the environments that the quick tests run in, not of the old TensorFlows'.
    """
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False
    if sys.version_info >= (3, 9):
        config.pluginmanager.register(ProcessorTime())


# Files that take minutes, the longest first; wherever they stand, pytest --durations=0 tells them.
LONGEST = (
    "end_to_end/test_sample_recipe.py torch_imagenet/test_readme_commands.py devices/npu/test_networks.py "
    "networks/test_agreement.py distributed/test_process_group.py devices/test_replicas.py end_to_end/test_run.py "
    "end_to_end/test_launchers.py end_to_end/test_readme_commands.py torch_imagenet/distributed/test_launch.py "
    "torch_imagenet/test_resume.py tf_seresnet/test_resume.py distributed/test_faults.py "
    "torch_imagenet/test_training.py tf_seresnet/test_training.py keras/test_keras.py"
).split()


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """Dear files first: xdist hands out whole files, and one that takes minutes must not be the last."""
    dear = {item.fspath for item in items if item.get_closest_marker("slow")}

    def place(path: str) -> int:
        return next((place for place, name in enumerate(LONGEST) if path.endswith(f"/{name}")), len(LONGEST))

    items.sort(key=lambda item: (place(str(item.fspath)), item.fspath not in dear))


@pytest.fixture(scope="session")
def cifar10_official() -> Path:
    """The folder of the official CIFAR-10 batches; skips where they cannot be had.

    KIT_TEST_CIFAR10 names the folder, or KIT_TEST_DATA (default ../shared/data) one with
    `unpack_cifar10.py`, which then writes them once per machine.
    """
    given = os.environ.get("KIT_TEST_CIFAR10")
    if given:
        return batches.check(given)
    data = Path(os.environ.get("KIT_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
    unpacker = data / "unpack_cifar10.py"
    folder = Path(tempfile.gettempdir()) / "se-pnas-kit-tests" / batches.FOLDER
    if _is_official(folder):
        return folder
    if not unpacker.is_file():
        pytest.skip(f"no official CIFAR-10: KIT_TEST_CIFAR10 is not set and {unpacker} is not there")
    features = pytest.importorskip("PIL.features", reason="unpacking CIFAR-10 needs Pillow")
    if not features.check("webp"):
        pytest.skip("unpacking CIFAR-10 needs a Pillow with WebP")
    return _unpacked(unpacker, folder)


@pytest.fixture(scope="session")
def sample_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the embedded sample in the CIFAR-10 layout."""
    return sample.cifar10_folder(tmp_path_factory.mktemp("cache"))


def _is_official(folder: Path) -> bool:
    """By size alone; the tests that use it look closer."""
    try:
        return all((folder / name).stat().st_size == size for name, (size, _) in batches.OFFICIAL.items())
    except OSError:
        return False


def _unpacked(unpacker: Path, folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.parent / "lock"):
        if not _is_official(folder):  # another process may have made it while this one waited
            command = [sys.executable, str(unpacker), str(folder)]  # keeps what is whole, replaces the rest
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


@contextlib.contextmanager
def _alone(path: Path):
    """Hold the lock of this name among the processes of the machine."""
    import fcntl

    with open(str(path), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
