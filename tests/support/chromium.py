"""Chromium as its DevTools protocol tells it: what a page logs and asks for, how wide it is, what it is in print.

https://chromedevtools.github.io/devtools-protocol. The messages go through two pipes, so no library and no port.
"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, List, Optional, Type

SECONDS = 120.0  # for an answer, from a machine that does other things too
# Chromium reads descriptor 3 and writes to 4. It may be a shell script itself, which leaves them as they are.
_WITH_PIPES = 'exec "$@" 3<&"$ASKED" 4>&"$SAID"'


class Browser:
    """One Chromium with a profile of its own in the folder, which is to be empty."""

    def __init__(self, path: str, folder: Path) -> None:
        command = [
            path,
            "--headless",
            "--remote-debugging-pipe",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            f"--user-data-dir={folder}",
        ]
        asked, self._asking = os.pipe()
        self._said, said = os.pipe()
        environment = dict(os.environ, HOME=str(folder), ASKED=str(asked), SAID=str(said))
        self._process = subprocess.Popen(
            ["bash", "-c", _WITH_PIPES, "bash", *command],
            env=environment,
            pass_fds=(asked, said),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(asked)
        os.close(said)
        self._rest, self._count = b"", 0
        self._events: List[Dict[str, Any]] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        os.close(self._asking)  # it ends where nobody can ask it anything
        try:
            self._process.wait(SECONDS)
        finally:
            self._process.kill()
            os.close(self._said)

    def ask(self, method: str, session: Optional[str] = None, **parameters: Any) -> Dict[str, Any]:
        """The result of a method. What happens meanwhile is kept for `events`."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._asking, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                assert "error" not in answer, (method, answer)
                return answer["result"]

    def wait_for(self, method: str, session: str) -> None:
        while not self.events(method, session):
            self._next()

    def events(self, method: str, session: str) -> List[Dict[str, Any]]:
        """The parameters of all events of one name so far."""
        found = [event for event in self._events if (event["method"], event.get("sessionId")) == (method, session)]
        return [event["params"] for event in found]

    def _next(self) -> Dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._said], [], [], SECONDS)[0], "Chromium does not answer"
            more = os.read(self._said, 1 << 20)
            assert more, "Chromium has ended"
            self._rest += more
        first, _, self._rest = self._rest.partition(b"\0")
        message: Dict[str, Any] = json.loads(first.decode("utf-8"))
        if "method" in message:
            self._events.append(message)
        return message


class Visit:
    """A page, loaded in a tab of its own, as wide as asked for: on a telephone where `width` is given."""

    def __init__(self, browser: Browser, address: str, width: Optional[int] = None) -> None:
        self._browser = browser
        tab = browser.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.ask("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self._ask(f"{domain}.enable")
        if width is not None:
            self._ask("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=3, mobile=True)
        self._ask("Page.navigate", url=address)
        browser.wait_for("Page.loadEventFired", self._session)

    def value(self, expression: str) -> Any:
        """Of a JavaScript expression. The page's own rules against scripts do not hold for it."""
        return self._ask("Runtime.evaluate", expression=expression)["result"]["value"]

    def requests(self) -> List[str]:
        """All addresses that it has asked for, its own first; a data: URL is no address but the thing itself.

        What its own rules forbid it to ask for is not among them, and logged.
        """
        urls = [event["request"]["url"] for event in self._events("Network.requestWillBeSent")]
        return [url for url in urls if not url.startswith("data:")]

    def logged(self) -> List[str]:
        """What is on the console: by scripts, by failed loads, by the browser about the page."""
        entries = [event["entry"]["text"] for event in self._events("Log.entryAdded")]
        calls = [str(event["args"]) for event in self._events("Runtime.consoleAPICalled")]
        return entries + calls + [str(event) for event in self._events("Runtime.exceptionThrown")]

    def printed(self) -> bytes:
        """The page as PDF."""
        return base64.b64decode(self._ask("Page.printToPDF")["data"])

    def _events(self, method: str) -> List[Dict[str, Any]]:
        return self._browser.events(method, self._session)

    def _ask(self, method: str, **parameters: Any) -> Dict[str, Any]:
        return self._browser.ask(method, self._session, **parameters)
