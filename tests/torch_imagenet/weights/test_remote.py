"""Weights by name: fetched once, kept whole or not at all, verified; a failure is one line. The servers are ours."""

from __future__ import annotations

import errno
import hashlib
import http.server
import json
import os
import pickle
import re
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("aiohttp", reason="fsspec reads http with aiohttp")
hub = pytest.importorskip("huggingface_hub.constants")
safetensors = pytest.importorskip("safetensors.torch")

from shared.errors import UsageError  # noqa: E402
from shared.imagenet import download_cache  # noqa: E402
from shared.results.model_card import write_card  # noqa: E402
from shared.system.signals import Interrupts, Stopped  # noqa: E402
from tests.torch_imagenet.small_network import SmallNetwork  # noqa: E402
from torch_imagenet.weights import load_weights, remote  # noqa: E402

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what the server's `files` have under a path: bytes, or (status, headers) of a refusal."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.partition("?")[0]
        self.server.asked.append((self.command, path))
        found = self.server.files.get(path, (404, {"X-Error-Code": "EntryNotFound"}))
        status, headers = (200, {}) if isinstance(found, bytes) else found
        content = found if isinstance(found, bytes) else b"no"
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) + self.server.more))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
            self.wfile.flush()
            self.server.go_on.wait(20)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server of files that is also the Hub, with empty caches. `url` is its address."""
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.files, made.asked, made.more, made.go_on = {}, [], 0, threading.Event()
    made.go_on.set()
    made.url = f"http://127.0.0.1:{made.server_port}"
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "ENDPOINT", made.url)
    monkeypatch.setattr(hub, "HUGGINGFACE_CO_URL_TEMPLATE", made.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "AGENT_HARNESSES_PATH", str(tmp_path / "agents.json"))
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(download_cache, "_PAUSES", (0.0, 0.0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield made
    made.go_on.set()
    made.shutdown()
    made.server_close()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """(the state dict, the bytes of its .safetensors file, of its torch.save file)"""
    torch.manual_seed(3)
    state, folder = SmallNetwork(3, 0.0, 0.0).state_dict(), tmp_path_factory.mktemp("weights")
    torch.save(state, folder / "w.pth")
    return state, safetensors.save(state), (folder / "w.pth").read_bytes()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def refused(name):
    with pytest.raises(UsageError) as caught:
        remote.fetched(name)
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value)
    return str(caught.value)


def kept(tmp_path):
    """The files in the cache, without locks."""
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]


# -- URLs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), [(1, "w.safetensors"), (2, "w.pth"), (1, "download")])
def test_weights_at_a_url_are_fetched_once(server, weights, tmp_path, kind, name):
    server.files[f"/a/{name}"] = weights[kind]
    url = f"{server.url}/a/{name}?id=3"
    network = SmallNetwork(3, 0.0, 0.0)
    assert load_weights(network, url).matched == len(weights[0])
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in weights[0].items())
    asked = len(server.asked)
    again = remote.fetched(url)
    assert len(server.asked) == asked
    assert kept(tmp_path) == [again.path]
    assert (again.name, again.sha256) == (f"{server.url}/a/{name}?...", sha256(weights[kind]))
    assert f"SHA-256 {again.sha256}" in again.title
    assert "delete it to have it fetched again" in again.notes[0]


def test_the_digits_must_be_those_of_the_file(server, weights, tmp_path):
    url, digits = f"{server.url}/w.pth", sha256(weights[2])
    server.files["/w.pth"] = weights[2] + b"another"
    assert f"does not begin with {digits}; it is another file" in refused(f"{url}#sha256={digits}")
    assert kept(tmp_path) == []
    remote.fetched(url)  # keeps that other file
    server.files["/w.pth"] = weights[2]
    for part in (digits, digits[:8].upper()):
        assert remote.fetched(f"{url}#sha256={part}").sha256 == digits
    assert len(kept(tmp_path)) == 1
    for wrong in ("#sha256=", "#sha256=1234567", "#md5=12345678", "#", f"#sha256={digits}0"):
        assert "which is not #sha256= with 8 to 64 digits" in refused(url + wrong)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<!DOCTYPE html>\n<html><body>Sign in", "begins with '<!DOCTYPE html> <html><body>Sign in'"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "begins with 'version https://git-lfs"),
        (b"", "is empty"),
    ],
)
def test_a_page_in_place_of_the_file_is_not_kept(server, tmp_path, content, says):
    server.files["/w.pth"] = content
    assert says in refused(f"{server.url}/w.pth")
    assert kept(tmp_path) == []


def test_the_page_of_a_file_on_the_hub_is_told_from_the_file(tmp_path):
    (tmp_path / "page").write_bytes(b"<!doctype html>")
    with pytest.raises(UsageError, match="with /resolve/ or /raw/ in place of /blob/"):
        remote._check_kind(tmp_path / "page", "https://huggingface.co/o/n/blob/main/model.safetensors")


@pytest.mark.parametrize(
    ("status", "asked", "says"),
    [(404, 1, "is not there; check the URL"), (401, 1, "401"), (403, 1, "403"), (500, 3, "500")],
)
def test_a_server_that_refuses(server, tmp_path, status, asked, says):
    server.files["/w.pth"] = (status, {})
    url = server.url.replace("//", "//me:secret1@")
    text = refused(f"{url}/w.pth?token=secret2")
    assert says in text
    assert f"{server.url}/w.pth?... " in text
    assert "--checkpoint FILE" in text
    assert "secret" not in text
    assert server.asked.count(("GET", "/w.pth")) == asked
    assert kept(tmp_path) == []


def test_no_network_says_what_to_do(server):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        text = refused(f"http://127.0.0.1:{closed.getsockname()[1]}/w.pth")
    assert "cannot be fetched" in text
    assert "download it yourself and give --checkpoint FILE" in text


def test_half_a_file_is_not_kept(server, weights, tmp_path):
    server.files["/w.pth"], server.more = weights[2], 1000
    assert "cannot be fetched" in refused(f"{server.url}/w.pth")
    assert kept(tmp_path) == []


def test_a_signal_ends_the_wait_and_leaves_nothing(server, weights, tmp_path):
    server.files["/w.pth"], server.more = weights[2], 1000
    server.go_on.clear()
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with Interrupts() as interrupts, pytest.raises(Stopped):
        remote.fetched(f"{server.url}/w.pth")
    assert interrupts.requested is None
    assert kept(tmp_path) == []


def test_a_full_disk_is_one_line(server, monkeypatch):
    def full(url):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(remote, "filesystem", full)
    text = refused(f"{server.url}/w.pth")
    assert "cannot keep" in text
    assert "(No space left on device); free space, or name another folder with KIT_CACHE" in text


def test_of_those_who_want_it_at_once_one_fetches(server, weights):
    server.files["/w.pth"] = weights[2]
    found = []
    threads = [threading.Thread(target=lambda: found.append(remote.fetched(f"{server.url}/w.pth"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert {file.sha256 for file in found} == {sha256(weights[2])}
    assert len(found) == 4
    assert server.asked.count(("GET", "/w.pth")) == 1


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_fetched_file_is_run(server, tmp_path):
    server.files["/w.pth"] = pickle.dumps(Hostile(tmp_path / "ran"), protocol=2)
    with pytest.raises(UsageError, match="is refused"):
        load_weights(SmallNetwork(3, 0.0, 0.0), f"{server.url}/w.pth")
    assert not (tmp_path / "ran").exists()


def test_a_missing_package_is_named(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    assert "pip install fsspec aiohttp" in refused(f"{server.url}/w.pth")


# -- the Hub ---------------------------------------------------------------------------------------------------


def test_a_repository_by_name(server, weights, tmp_path):
    server.files["/o/n/resolve/main/model.safetensors"] = weights[1]
    network = SmallNetwork(3, 0.0, 0.0)
    assert load_weights(network, "hf-hub:o/n").matched == len(weights[0])
    file = remote.fetched("hf-hub:o/n")
    assert file.name == f"hf-hub:o/n@{COMMIT}"
    assert file.title == f"{file.name} (model.safetensors, SHA-256 {sha256(weights[1])})"
    assert server.asked.count(("GET", "/o/n/resolve/main/model.safetensors")) == 1
    assert remote.fetched(f"{file.name}#sha256={file.sha256}").path == file.path
    assert "does not begin with 00000000" in refused("hf-hub:o/n#sha256=00000000")
    blob = file.path.resolve()
    blob.write_bytes(weights[1][:-1] + bytes([weights[1][-1] ^ 1]))
    assert f"so it is damaged; delete {blob}" in refused("hf-hub:o/n")


def test_a_revision_and_the_older_kind_of_file(server, weights):
    server.files["/o/n/resolve/v1.0/pytorch_model.bin"] = weights[2]
    file = remote.fetched("hf-hub:o/n@v1.0")
    assert (file.path.name, file.sha256) == ("pytorch_model.bin", sha256(weights[2]))


def test_offline_the_cache_is_used_and_nothing_is_asked(server, weights, monkeypatch):
    """A cache as huggingface_hub lays it out, made by hand."""
    folder = Path(hub.HF_HUB_CACHE) / "models--o--n"
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    (folder / "snapshots" / COMMIT / "pytorch_model.bin").write_bytes(weights[2])
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    assert remote.fetched("hf-hub:o/n").name == f"hf-hub:o/n@{COMMIT}"
    text = refused("hf-hub:o/other@v2")
    assert "HF_HUB_OFFLINE is set; unset it, or download" in text
    assert f"{server.url}/o/other/resolve/v2/model.safetensors on another machine and give --checkpoint" in text
    assert server.asked == []


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (401, "RepoNotFound", "is not on .*, or it is private; check the name; for a private one hf auth login"),
        (404, "RepoNotFound", "is not on "),
        (403, "GatedRepo", "only for those who have been given access; ask for it at "),
        (404, "RevisionNotFound", "o/n has no revision v9; look at "),
        (404, "EntryNotFound", "has no model.safetensors and no pytorch_model.bin; give the address of a file in it"),
        (403, "", r"cannot be fetched \(.*403.*; .*download http"),
    ],
)
def test_a_hub_that_refuses(server, status, code, says):
    for file in remote.FILES:
        server.files[f"/o/n/resolve/v9/{file}"] = (status, {"X-Error-Code": code} if code else {})
    text = refused("hf-hub:o/n@v9")
    assert re.search(says, text), text


def test_a_hub_that_cannot_be_reached(server, monkeypatch):
    """What hf_hub_download raises then, after half a minute of its own attempts."""
    import huggingface_hub

    def unreachable(*names, local_files_only, **more):
        calls.append(local_files_only)
        raise huggingface_hub.utils.LocalEntryNotFoundError("Cannot find it.") from ConnectionError("no route")

    calls = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    text = refused("hf-hub:o/n")
    assert "cannot be fetched (ConnectionError: no route); check the network, or download" in text
    assert calls == [False, True]  # the second file is only looked for in the cache


def test_without_the_package_it_is_said_what_to_install(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    text = refused("hf-hub:timm/legacy_senet154.in1k")
    assert "python -m pip install huggingface_hub, or download https://huggingface.co/timm/" in text


def test_a_full_disk_under_the_hubs_cache(server, weights, monkeypatch):
    import huggingface_hub

    def full(*names, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    assert "(No space left on device); free space, or name another folder with HF_HOME" in refused("hf-hub:o/n")


@pytest.mark.parametrize("name", ["hf-hub:", "hf-hub:n", "hf-hub:a/b/c", "hf-hub:a/b@", "hf-hub:../b c"])
def test_a_name_that_is_none(name):
    assert "names no repository; write hf-hub:OWNER/NAME" in refused(name)


def test_a_name_without_its_prefix_is_recognised(run_in, tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--checkpoint", "timm/legacy_senet154.in1k", "--data-path", str(tiny.folder), "--device", "cpu"]
    assert run_in(tmp_path / "run", *words, mode="evaluate", plain=True).status == 2
    assert "or write hf-hub:timm/legacy_senet154.in1k for the Hugging Face Hub's" in capsys.readouterr().err


# -- the command line ------------------------------------------------------------------------------------------


def test_an_evaluation_says_which_file_it_was(server, weights, run_in, tiny, tmp_path, capsys):
    server.files["/o/n/resolve/main/model.safetensors"] = weights[1]
    words = ["--checkpoint", "hf-hub:o/n", "--data-path", str(tiny.folder), "--image-size", "32", "--device", "cpu"]
    run = run_in(tmp_path / "run", *words, "--workers", "1", mode="evaluate", plain=True)
    assert run.status == 0
    part, name = run.record["evaluation"], f"hf-hub:o/n@{COMMIT}"
    assert (part["checkpoint"], part["checkpoint_sha256"]) == (name, sha256(weights[1]))
    stored = json.loads((run.folder / "config.json").read_text())["weights"]
    assert stored == {"name": name, "sha256": sha256(weights[1])}
    assert f"weights: {name} (model.safetensors, SHA-256 {sha256(weights[1])})" in capsys.readouterr().out


def test_a_run_goes_to_the_hub_with_its_card_and_comes_back(server, run_in, tiny, tmp_path):
    """The card is read by the Hub's own library; the weights bring class names and normalisation along."""
    from huggingface_hub import ModelCard

    trained = run_in(tmp_path / "run", "--max-steps", "1", "--normalisation", "none")
    result = trained.folder / "result.json"
    result.write_text(re.sub('"commit": "[^"]*"', '"commit": "0123"', result.read_text()))
    write_card(result)
    card = ModelCard.load(trained.folder / "model-card" / "README.md").data
    found = {one.metric_name: one.metric_value for one in card.eval_results}
    expected = trained.record["evaluation"]
    assert found == {"top-1 accuracy": pytest.approx(expected["top1"] / 100)}
    assert (card.license, card.pipeline_tag) == ("unknown", "image-classification")
    server.files["/o/n/resolve/main/pytorch_model.bin"] = (trained.folder / "model.pth").read_bytes()
    words = ["--checkpoint", "hf-hub:o/n", "--data-path", str(tiny.folder), "--image-size", "32", "--device", "cpu"]
    again = run_in(tmp_path / "again", *words, "--workers", "1", mode="evaluate", plain=True)
    assert again.record["evaluation"]["top1"] == expected["top1"]
    assert again.record["normalisation"] == "none"
