"""The page in a real browser: nothing on the console, no request to anywhere but its own file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from shared.results.__main__ import main

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.once,
    pytest.mark.skipif(BROWSER is None, reason="NO BROWSER: the page was not loaded (apt-get install chromium)"),
]


def _visited(page, folder):
    """What the console got, and the addresses that were asked for, those of the page's own file left out."""
    log = folder / "net.json"
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={folder / 'profile'}",
        "--enable-logging=stderr", f"--log-net-log={log}", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    environment = dict(os.environ, HOME=str(folder))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    done = subprocess.run(command, check=True, env=environment, timeout=240, **pipes)
    console = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if "CONSOLE" in line]
    events = json.loads(log.read_text(encoding="utf-8"))["events"]
    asked = [event.get("params", {}) for event in events]
    of_pages = [params for params in asked if str(params.get("initiator", "")) not in ("", "not an origin")]
    urls = {params["url"] for params in of_pages if "url" in params}
    return done.stdout.decode("utf-8"), console, {url for url in urls if url != page.as_uri()}


def test_the_page_asks_nobody(tmp_path):
    pytest.importorskip("matplotlib")
    page = tmp_path / "page.html"
    assert main(["--format", "html", "--output", str(page)]) == 0
    dom, console, urls = _visited(page, tmp_path)
    assert dom.count("<svg") == page.read_text(encoding="utf-8").count("<svg") > 3
    assert console == []
    assert urls == set()


def test_a_page_that_asks_is_noticed(tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<title>x</title><img src="http://127.0.0.1:9/x.png"><script>console.error("no")</script>')
    _, console, urls = _visited(page, tmp_path)
    assert any('"no"' in line for line in console)
    assert "http://127.0.0.1:9/x.png" in urls
