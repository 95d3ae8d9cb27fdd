"""Files of a URL: fetched whole and once, checked, tried again, kept up to a limit, never taken from a reader."""

from __future__ import annotations

import functools
import hashlib
import http.server
import multiprocessing
import os
import sys
import threading
import time
from pathlib import Path

import pytest

fsspec = pytest.importorskip("fsspec")

from shared.errors import DataError, UsageError  # noqa: E402
from shared.imagenet import download_cache  # noqa: E402
from shared.imagenet.download_cache import Remote, fetch, make_cache, opened, read_small, shown  # noqa: E402
from shared.imagenet.extent_reader import Extent, ExtentReader  # noqa: E402


@pytest.fixture
def pauses(monkeypatch):
    made = []
    monkeypatch.setattr(download_cache.time, "sleep", made.append)
    return made


class Store:
    """Files in fsspec's file system of this process's memory, and a cache in a folder."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.files = fsspec.filesystem("memory")
        self.cache = make_cache(str(folder), limit / 2**30)

    def put(self, name: str, content: bytes, said: bytes = b"") -> Remote:
        """`said` is what the index describes, where that is something else."""
        said = said or content
        self.files.pipe(f"/store/{name}", content)
        return Remote(f"memory://store/{name}", len(said), hashlib.sha256(said).hexdigest(), self.cache)

    def kept(self) -> int:
        """The bytes in the cache."""
        return sum(path.stat().st_size for path in Path(self.cache.folder).iterdir())


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "cache", 1000)
    yield made
    made.files.store.clear()


def test_a_file_is_fetched_once_and_kept(store):
    remote, notes = store.put("a", b"x" * 100), []
    with opened(remote, notes) as file:
        assert file.read() == b"x" * 100
    store.files.rm("/store/a")
    with opened(remote, notes) as file:
        assert file.read() == b"x" * 100
    assert notes == []
    assert fetch(remote, notes)


def test_the_same_bytes_of_another_url_need_no_fetching(store):
    fetch(store.put("a", b"x" * 100), [])
    elsewhere = store.put("b", b"x" * 100)
    store.files.rm("/store/b")
    assert fetch(elsewhere, [])
    assert store.kept() == 100


def test_the_oldest_used_go_beyond_the_limit(store):
    remotes = [store.put(str(number), bytes([number]) * 300) for number in range(4)]
    for second, remote in enumerate(remotes[:3]):
        fetch(remote, [])
        os.utime(remote.path, (second, second))
    with opened(remotes[0], []):
        pass  # used just now
    fetch(remotes[3], [])
    assert [os.path.exists(remote.path) for remote in remotes] == [True, False, True, True]
    assert store.kept() <= 1000


def test_what_is_read_is_not_removed(store):
    remotes = [store.put(str(number), bytes([number]) * 400) for number in range(4)]
    with opened(remotes[0], []) as first, opened(remotes[1], []):
        fetch(remotes[2], [])
        assert all(os.path.exists(remote.path) for remote in remotes[:3])
        assert first.read() == bytes(400)
    fetch(remotes[3], [])
    assert store.kept() <= 1000


def test_a_part_that_a_dead_process_left_goes(store):
    dead = store.put("a", b"x" * 900)
    Path(f"{dead.path}.900.part").write_bytes(b"half")
    Path(dead.path + ".lock").touch()
    fetch(store.put("b", b"y" * 200), [])
    assert not os.path.exists(f"{dead.path}.900.part")
    Path(f"{dead.path}.900.part").write_bytes(b"half")
    assert fetch(dead, [])
    assert Path(dead.path).read_bytes() == b"x" * 900


def test_a_part_in_the_making_counts_in_full(store):
    a, b = store.put("a", b"x" * 600), store.put("b", b"y" * 600)
    fetch(b, [])
    with open(a.path + ".lock", "wb") as lock:
        download_cache._lock(lock.fileno(), shared=False)  # as the process that fetches it does
        Path(f"{a.path}.600.part").write_bytes(b"half")
        fetch(store.put("c", b"z" * 300), [])
        assert os.path.exists(f"{a.path}.600.part")
        assert not os.path.exists(b.path)


@pytest.mark.parametrize("content", [b"x" * 99, b"x" * 101, b"y" * 100, b"x" * 10**6])
def test_other_bytes_than_the_index_says_are_refused_after_three_attempts(store, pauses, content):
    remote, notes = store.put("a", content, said=b"x" * 100), []
    with pytest.raises(DataError, match=r"memory://store/a cannot be fetched \(.*\); check the URL and the network"):
        fetch(remote, notes)
    assert pauses == [1.0, 4.0]
    assert len(notes) == 2
    assert all(note.startswith("note: memory://store/a could not be fetched (") for note in notes)
    assert [path.name for path in Path(store.cache.folder).iterdir() if not path.name.endswith(".lock")] == []


def test_a_second_attempt_may_succeed(store, pauses, monkeypatch):
    remote, notes = store.put("a", b"x" * 100), []
    real, calls = download_cache._download, []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionResetError(104, "Connection reset by peer")
        return real(*arguments)

    monkeypatch.setattr(download_cache, "_download", failing)
    assert fetch(remote, notes)
    assert notes == [
        "note: memory://store/a could not be fetched (ConnectionResetError: [Errno 104] Connection reset"
        " by peer), tried again after 1 s"
    ]


def test_what_is_not_there_is_not_asked_for_again(store, pauses):
    remote = store.put("a", b"x")
    store.files.rm("/store/a")
    with pytest.raises(DataError, match="memory://store/a is not there; check the URL"):
        fetch(remote, [])
    assert pauses == []


def test_a_full_disk_is_named(store, pauses, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download_cache, "_download", full)
    with pytest.raises(DataError, match=r"cannot keep memory://store/a in .* \(No space left on device\); lower"):
        fetch(store.put("a", b"x"), [])
    assert pauses == []


def test_a_copy_is_fetched_anew_where_that_is_asked(store):
    remote = store.put("a", b"x" * 100)
    fetch(remote, [])
    store.files.pipe("/store/a", b"y" * 100)
    assert fetch(remote, [])
    store.files.rm("/store/a")
    with pytest.raises(DataError, match="is not there"):
        fetch(remote, [], anew=True)


def test_a_cache_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot keep shards in .*; name another folder with --shard-cache"):
        make_cache(str(tmp_path / "file"))


def test_an_index_has_a_limit(store):
    remote = store.put("a", b"x" * 100)
    assert read_small(remote.url, 100, []) == b"x" * 100
    with pytest.raises(DataError, match="memory://store/a is larger than 99 bytes; "):
        read_small(remote.url, 99, [])


def test_what_is_to_be_installed_is_said(monkeypatch):
    with pytest.raises(UsageError, match="nonsense://a/b is of no known protocol"):
        read_small("nonsense://a/b", 1, [])
    known = sys.modules["fsspec.registry"].known_implementations
    monkeypatch.setitem(known, "odd", {"class": "odd.No", "err": "install odd"})
    with pytest.raises(UsageError, match=r"odd://a/b needs another package \(install odd\); install it"):
        read_small("odd://a/b", 1, [])
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(UsageError, match="https://a/b needs another package .*pip install fsspec aiohttp"):
        read_small("https://a/b", 1, [])


def test_a_password_is_not_shown():
    assert shown("https://me:secret@host/a") == "https://host/a"
    assert shown("s3://bucket/a@b") == "s3://bucket/a@b"


def test_a_reader_keeps_few_open_and_reads_ahead(store):
    remotes = [store.put(str(number), bytes([number]) * 100) for number in range(5)]
    with ExtentReader(2) as reader:
        for remote in remotes:
            assert reader.read(Extent(remote, 10, 5)) == bytes([remotes.index(remote)]) * 5
        assert len(reader._files) == 2
        wanted = [store.put(f"b{number}", bytes([number]) * 101) for number in range(3)]
        reader.expect(wanted)
        for _ in range(500):
            if all(os.path.exists(remote.path) for remote in wanted):
                break
            time.sleep(0.01)
        assert all(os.path.exists(remote.path) for remote in wanted)
    assert reader._files == {}


# -- over HTTP, by several processes ---------------------------------------------------------------


class Counting(http.server.SimpleHTTPRequestHandler):
    """A file server that keeps what it was asked for."""

    def log_message(self, *arguments):
        self.server.asked.append((self.command, self.path))


@pytest.fixture
def server(tmp_path):
    """(URL, folder that is served, list of what was asked for)"""
    pytest.importorskip("aiohttp", reason="fsspec reads http with aiohttp")
    folder = tmp_path / "served"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Counting, directory=str(folder)))
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder, server.asked
    server.shutdown()
    server.server_close()


def _fetch_and_read(remote):
    with opened(remote, []) as file:
        return hashlib.sha256(file.read()).hexdigest() == remote.sha256


@pytest.mark.slow
def test_several_processes_fetch_each_file_once(server, tmp_path):
    url, folder, asked = server
    cache, remotes = make_cache(str(tmp_path / "cache"), 1.0), []
    for number in range(3):
        content = os.urandom(300_000)
        (folder / f"{number}.tar").write_bytes(content)
        remotes.append(Remote(f"{url}/{number}.tar", len(content), hashlib.sha256(content).hexdigest(), cache))
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert all(pool.map(_fetch_and_read, remotes * 3, chunksize=1))
    gets = [path for command, path in asked if command == "GET"]
    assert sorted(gets) == ["/0.tar", "/1.tar", "/2.tar"]


def test_a_server_that_is_not_there_is_one_line(server, tmp_path, pauses):
    url, _, _ = server
    with pytest.raises(DataError, match=f"{url}/none.tar is not there; check the URL and the network"):
        fetch(Remote(f"{url}/none.tar", 1, "0" * 64, make_cache(str(tmp_path / "cache"))), [])
    nobody = "http://127.0.0.1:9"
    with pytest.raises(DataError, match=f"{nobody}/a.tar cannot be fetched") as caught:
        fetch(Remote(f"{nobody}/a.tar", 1, "0" * 64, make_cache(str(tmp_path / "cache"))), [])
    assert "\n" not in str(caught.value)
