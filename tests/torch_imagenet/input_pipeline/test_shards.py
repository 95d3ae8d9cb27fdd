"""Shards and folders of the same images: the same batches, counts and runs; from a URL each image once, resumable."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import List, Tuple

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from shared import imagenet  # noqa: E402
from shared.errors import DataError, UsageError  # noqa: E402
from shared.imagenet.check import check  # noqa: E402
from shared.imagenet.download_cache import make_cache  # noqa: E402
from shared.imagenet.shards.write import write_shards  # noqa: E402
from tests.torch_imagenet.test_resume import _same as same  # noqa: E402
from tests.torch_imagenet.test_resume import _stop_at as stop_at  # noqa: E402
from torch_imagenet.input_pipeline.loader import EvaluationInput, Loading, TrainingInput  # noqa: E402
from torch_imagenet.input_pipeline.transforms import EvalTransform, TrainTransform  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
DATA = Path(os.environ.get("KIT_TEST_DATA") or ROOT.parent / "shared" / "data")
SIZE = 20_480  # four shards of the tiny set's images for training, two for evaluation


@pytest.fixture(scope="module")
def shards(tiny, tmp_path_factory) -> Path:
    """The tiny set as shards."""
    target = tmp_path_factory.mktemp("shards") / "tiny"
    data = imagenet.load(tiny.folder)
    write_shards(data.name, (data.train, data.val), target, SIZE, lambda text: None)
    return target


@pytest.fixture
def url(shards) -> str:
    """The same at a URL: fsspec's for files of this machine, which are fetched as any other."""
    pytest.importorskip("fsspec")
    return f"file://{shards}"


def _batches(batches) -> List[Tuple[bytes, List[int]]]:
    return [(batch.images.numpy().tobytes(), batch.labels.tolist()) for batch in batches]


def _small_cache(folder: Path, split, groups: int):
    """A cache in which `groups` shards are shuffled together."""
    largest = max(shard.size for shard in split.shards)
    return make_cache(str(folder), (4 * groups * largest + 1) / 2**30)


def test_the_same_batches_as_from_the_folder(tiny, shards):
    folder, packed = imagenet.load(tiny.folder), imagenet.load(shards)
    assert len(packed.train.shards) >= 4
    for workers in (0, 2):
        with TrainingInput(folder.train, TrainTransform(24), 4, 7, Loading(0)) as one, TrainingInput(
            packed.train, TrainTransform(24), 4, 7, Loading(workers)
        ) as other:
            for epoch in range(2):
                assert _batches(one.epoch(epoch)) == _batches(other.epoch(epoch))
    with EvaluationInput(folder.val, EvalTransform(24), 3, Loading(0)) as one, EvaluationInput(
        packed.val, EvalTransform(24), 3, Loading(1)
    ) as other:
        assert _batches(one) == _batches(other)


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("groups", [None, 1, 2])
def test_all_ranks_together_see_each_image_once_an_epoch(shards, url, tmp_path, ranks, groups):
    split = imagenet.load(shards).train
    if groups is not None:
        split = imagenet.load(url, shard_cache=_small_cache(tmp_path / "cache", split, groups)).train
        assert split.group == groups
    seen = []
    for rank in range(ranks):
        with TrainingInput(split, TrainTransform(24), 1, 3, Loading(0, rank=rank, ranks=ranks)) as batches:
            seen += [index for batch in batches.epoch(1) for index in batch.indices.tolist()]
    whole = 21 // ranks * ranks  # the images that do not fill a step are left out
    assert sorted(seen) == sorted(split.epoch_order(3, 1)[:whole].tolist())
    assert len(set(seen)) == whole


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_all_ranks_together_evaluate_each_image_once(tiny, shards, ranks):
    def labels(split):
        found = []
        for rank in range(ranks):
            with EvaluationInput(split, EvalTransform(24), 4, Loading(0, rank=rank, ranks=ranks)) as batches:
                found += _batches(batches)
        return found

    assert labels(imagenet.load(shards).val) == labels(imagenet.load(tiny.folder).val)


def test_shards_of_a_url_are_read_by_groups_and_the_cache_keeps_its_limit(shards, url, tmp_path):
    local = imagenet.load(shards)
    cache = _small_cache(tmp_path / "cache", local.train, 1)
    remote = imagenet.load(url, shard_cache=cache)
    assert (remote.name, remote.fingerprint, remote.classes) == (local.name, local.fingerprint, local.classes)
    known = local.train.ordered(remote.train.order)
    orders = []
    with TrainingInput(remote.train, TrainTransform(24), 2, 0, Loading(2)) as batches, TrainingInput(
        known, TrainTransform(24), 2, 0, Loading(0)
    ) as expected:
        for epoch in range(2):
            assert _batches(batches.epoch(epoch)) == _batches(expected.epoch(epoch))
            assert _batches(batches.epoch(epoch, 4)) == _batches(expected.epoch(epoch, 4))  # as a resumed run asks
            orders.append(remote.train.epoch_order(0, epoch).tolist())
    assert orders[0] != orders[1]
    kept = [path for path in (tmp_path / "cache").iterdir() if len(path.name) == 64]
    assert sum(path.stat().st_size for path in kept) <= cache.limit
    assert not list((tmp_path / "cache").glob("*.part"))


def test_what_is_fetched_ahead_is_what_comes_next(shards, url, tmp_path):
    split = imagenet.load(shards).train
    split = imagenet.load(url, shard_cache=_small_cache(tmp_path / "cache", split, 1)).train
    order = split.epoch_order(0, 0)
    batches = [order[start : start + 3] for start in range(0, 21, 3)]
    for number, files in enumerate(split.ahead(batches)):
        before = {int(split.shard[index]) for batch in batches[:number] for index in batch}
        fresh = [split.shards[n].file for n in split.shard[np.concatenate(batches[number:])] if n not in before]
        assert list(files) == list(dict.fromkeys(fresh))[:1]
    assert imagenet.load(shards).train.ahead(batches) == [()] * 7


def test_a_cache_that_is_too_small_says_how_large_it_must_be(url, tmp_path):
    with pytest.raises(
        UsageError, match=r"needs .* GiB of cache for its shards; give --shard-cache-size at least .* GiB"
    ):
        imagenet.load(url, shard_cache=make_cache(str(tmp_path / "cache"), 0.00001))


def test_a_url_without_an_index_is_one_line(tmp_path):
    pytest.importorskip("fsspec")
    with pytest.raises(DataError, match=f"file://{tmp_path}/shards.json is not there; check the URL"):
        imagenet.load(f"file://{tmp_path}", shard_cache=make_cache(str(tmp_path / "cache")))


def test_a_shard_that_cannot_be_fetched_ends_the_epoch_with_its_url(shards, tmp_path, monkeypatch):
    pytest.importorskip("fsspec")
    monkeypatch.setattr("shared.imagenet.download_cache.time.sleep", lambda seconds: None)
    shutil.copytree(str(shards), str(tmp_path / "copy"))
    split = imagenet.load(f"file://{tmp_path}/copy", shard_cache=make_cache(str(tmp_path / "cache"))).train
    (tmp_path / "copy" / "train-000001.tar").unlink()
    for workers in (0, 1):
        with TrainingInput(split, TrainTransform(24), 4, 0, Loading(workers, skip_bad=True)) as batches, pytest.raises(
            DataError, match=f"file://{tmp_path}/copy/train-000001.tar is not there; check the URL and the network"
        ):
            list(batches.epoch(0))


def test_shards_of_a_url_are_checked_anew(shards, tmp_path, monkeypatch):
    pytest.importorskip("fsspec")
    monkeypatch.setattr("shared.imagenet.download_cache.time.sleep", lambda seconds: None)
    copy, cache = tmp_path / "copy", make_cache(str(tmp_path / "cache"))
    shutil.copytree(str(shards), str(copy))
    said = []
    check(f"file://{copy}", 1, said.append, shard_cache=cache)
    assert said[0] == f"shards in file://{copy}"
    assert said[-1] == "tiny: complete"
    content = bytearray((copy / "train-000001.tar").read_bytes())
    content[700] ^= 1
    (copy / "train-000001.tar").write_bytes(bytes(content))
    (copy / "train-000002.tar").unlink()
    said.clear()
    with pytest.raises(DataError, match=f"tiny: 2 faults, the first: file://{copy}/train-000001.tar cannot be fetched"):
        check(f"file://{copy}", 2, said.append, shard_cache=cache)
    faults = [line for line in said if line.startswith("fault: ")]
    assert "train-000001.tar cannot be fetched (ValueError: its SHA-256 is not the index's); " in faults[0]
    assert "train-000002.tar is not there; " in faults[1]
    assert sum("tried again" in line for line in said) == 2


def test_a_bad_image_is_named_with_its_shard(tiny, tmp_path):
    shutil.copytree(str(tiny.folder), str(tmp_path / "set"))
    (tmp_path / "set" / "val" / "class1" / "image04.png").write_bytes(b"no image")
    data = imagenet.load(tmp_path / "set")
    write_shards("set", (data.train, data.val), tmp_path / "shards", SIZE, lambda text: None)
    packed = imagenet.load(tmp_path / "shards")
    with EvaluationInput(packed.val, EvalTransform(24), 4, Loading(1)) as batches, pytest.raises(DataError) as caught:
        list(batches)
    line = str(caught.value)
    assert f"an image in {tmp_path}/shards/val cannot be read: val-00000" in line
    assert ".tar:00000005-image04.png (cannot identify image file the file); " in line
    with EvaluationInput(packed.val, EvalTransform(24), 4, Loading(1, skip_bad=True)) as batches:
        assert sum(len(batch.labels) for batch in batches) == 9


# -- whole runs ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_on_shards_is_the_run_on_the_folder(run_in, tiny, shards, tmp_path):
    folder = run_in(tmp_path / "folder")
    packed = run_in(tmp_path / "packed", "--data-path", str(shards))
    assert folder.status == packed.status == 0
    same(folder, packed)
    assert packed.record["dataset"]["fingerprint"] == folder.record["dataset"]["fingerprint"]
    assert packed.record["dataset"]["name"] == "tiny"
    evaluated = [
        run_in(tmp_path / name, "--checkpoint", str(folder.folder), "--data-path", str(path), mode="evaluate").record
        for name, path in (("e1", tiny.folder), ("e2", shards))
    ]
    assert evaluated[0]["evaluation"] == evaluated[1]["evaluation"]
    assert evaluated[0]["dataset"]["fingerprint"] == evaluated[1]["dataset"]["fingerprint"]


@pytest.mark.slow
def test_a_run_on_the_folder_is_continued_on_shards(run_in, shards, tmp_path, monkeypatch):
    whole = run_in(tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        assert run_in(tmp_path / "part").status == 143
    resume = ["--resume", str(tmp_path / "part"), "--data-path", str(shards), "--print-freq", "1", "--workers", "1"]
    resumed = run_in(tmp_path / "part", *resume, plain=True)
    assert resumed.status == 0
    same(whole, resumed)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["url", "shards", "folder"])
def test_a_run_from_a_url_is_continued_exactly(run_in, tiny, shards, url, tmp_path, monkeypatch, capsys, place):
    """Also from a copy of the shards; from class folders, which have no shards to go by, it is refused."""
    largest = max(shard.size for shard in imagenet.load(shards).train.shards)
    cache = ["--shard-cache", str(tmp_path / "cache"), "--shard-cache-size", str(4.1 * largest / 2**30)]
    whole = run_in(tmp_path / "whole", "--data-path", url, *cache)
    assert whole.status == 0
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        assert run_in(tmp_path / "part", "--data-path", url, *cache).status == 143
    given = {"url": [], "shards": ["--data-path", str(shards)], "folder": ["--data-path", str(tiny.folder)]}[place]
    resumed = run_in(
        tmp_path / "part",
        "--resume",
        str(tmp_path / "part"),
        "--device",
        "cpu",
        "--print-freq",
        "1",
        "--workers",
        "1",
        *cache,
        *given,
        plain=True,
    )
    if place == "folder":
        assert resumed.status == 2
        assert "in another order; give what it had with --data-path" in capsys.readouterr().err
    else:
        assert resumed.status == 0
        same(whole, resumed)
