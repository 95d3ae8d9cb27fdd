"""Pages in Chromium through the DevTools protocol: console messages, network requests, width and printed form.

https://chromedevtools.github.io/devtools-protocol. The messages go through two pipes: no library, no port.
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

TIMEOUT = 120.0  # seconds; generous, for a busy machine
# Chromium reads descriptor 3 and writes to 4. It may be a shell script, which passes both on.
_WITH_PIPES = 'exec "$@" 3<&"$REQUESTS" 4>&"$RESPONSES"'


class Browser:
    """A Chromium process with its profile in an empty folder."""

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
        requests, self._requests = os.pipe()
        self._responses, responses = os.pipe()
        environment = dict(os.environ, HOME=str(folder), REQUESTS=str(requests), RESPONSES=str(responses))
        self._process = subprocess.Popen(
            ["bash", "-c", _WITH_PIPES, "bash", *command],
            env=environment,
            pass_fds=(requests, responses),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(requests)
        os.close(responses)
        self._rest, self._count = b"", 0
        self._events: List[Dict[str, Any]] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        os.close(self._requests)  # ends Chromium
        try:
            self._process.wait(TIMEOUT)
        finally:
            self._process.kill()
            os.close(self._responses)

    def call(self, method: str, session: Optional[str] = None, **parameters: Any) -> Dict[str, Any]:
        """Call a method and return its result. Events that arrive meanwhile are kept for `events`."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._requests, json.dumps(message).encode() + b"\0")
        while True:
            response = self._next()
            if response.get("id") == self._count:
                assert "error" not in response, (method, response)
                return response["result"]

    def wait_for(self, method: str, session: str) -> None:
        while not self.events(method, session):
            self._next()

    def events(self, method: str, session: str) -> List[Dict[str, Any]]:
        """The parameters of all events of one name so far."""
        found = [event for event in self._events if (event["method"], event.get("sessionId")) == (method, session)]
        return [event["params"] for event in found]

    def _next(self) -> Dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._responses], [], [], TIMEOUT)[0], "Chromium does not respond"
            more = os.read(self._responses, 1 << 20)
            assert more, "Chromium has ended"
            self._rest += more
        first, _, self._rest = self._rest.partition(b"\0")
        message: Dict[str, Any] = json.loads(first.decode("utf-8"))
        if "method" in message:
            self._events.append(message)
        return message


class Visit:
    """A page in its own tab; with `width`, as on a telephone with a screen of this width."""

    def __init__(self, browser: Browser, address: str, width: Optional[int] = None) -> None:
        self._browser = browser
        tab = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self._call(f"{domain}.enable")
        if width is not None:
            self._call("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=3, mobile=True)
        self._call("Page.navigate", url=address)
        browser.wait_for("Page.loadEventFired", self._session)

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression, to which the page's content security policy does not apply."""
        return self._call("Runtime.evaluate", expression=expression)["result"]["value"]

    def requests(self) -> List[str]:
        """All URLs that the page has requested, its own first, without data: URLs.

        Requests that the content security policy blocks are not included; they are logged.
        """
        urls = [event["request"]["url"] for event in self._events("Network.requestWillBeSent")]
        return [url for url in urls if not url.startswith("data:")]

    def logged(self) -> List[str]:
        """All console messages: of scripts, failed requests and the browser."""
        entries = [event["entry"]["text"] for event in self._events("Log.entryAdded")]
        calls = [str(event["args"]) for event in self._events("Runtime.consoleAPICalled")]
        return entries + calls + [str(event) for event in self._events("Runtime.exceptionThrown")]

    def printed(self) -> bytes:
        """The page as PDF."""
        return base64.b64decode(self._call("Page.printToPDF")["data"])

    def _events(self, method: str) -> List[Dict[str, Any]]:
        return self._browser.events(method, self._session)

    def _call(self, method: str, **parameters: Any) -> Dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)
