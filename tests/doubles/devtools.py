"""A page in Chromium, driven as a person does: keys, pointer, screen sizes; and what its console and its policy complained of.

with open_page(folder) as page:
    page.visit("file:///…/report.html");  page.screen(360, dark=True)
    page.key("Tab");  page.drag((10, 10), (90, 10));  page.evaluate("document.title")
    page.complaints         errors of scripts, of the console, and violations of its Content-Security-Policy

The Chrome DevTools Protocol, over a pair of pipes (`--remote-debugging-pipe`: JSON messages, each ended by a zero byte).
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from tests.doubles.browser import command, end

_CODES: Final = {"Tab": 9, "Enter": 13, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40, " ": 32}
_TEXTS: Final = {"Enter": "\r", " ": " "}


@dataclass
class Page:
    """One page.

    Attributes:
        complaints: what went wrong on it, in words.
        requests: the addresses that it loaded, without those of `data:`.
    """

    sent: IO[bytes]
    received: IO[bytes]
    session: str = ""
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _events: list[str] = field(default_factory=list)

    def call(self, method: str, **params: Any) -> Any:
        """The result of a method of the protocol."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": self.session} if self.session else {})
        self.sent.write(json.dumps(message).encode() + b"\0")
        self.sent.flush()
        while (reply := self._read()).get("id") != number:
            self._note(reply)
        assert "error" not in reply, (method, reply)
        return reply["result"]

    def visit(self, url: str) -> None:
        """Load a page, with everything that belongs to it."""
        self._events.clear()
        self.call("Page.navigate", url=url)
        while "Page.loadEventFired" not in self._events:
            self._note(self._read())

    def screen(self, width: int, height: int = 800, *, dark: bool = False, media: str = "", still: bool = False) -> None:
        """The size of the window in CSS pixels, and what the person prefers."""
        phone = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
        ]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)
        self.settle()

    def evaluate(self, script: str) -> Any:
        """The value of an expression; a promise is awaited."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def settle(self) -> None:
        """Wait until the page is laid out and painted."""
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def key(self, name: str, *, times: int = 1) -> None:
        """Press a key."""
        named = {"key": name, "code": name, "windowsVirtualKeyCode": _CODES[name]}
        for _ in range(times):
            text = {"text": _TEXTS[name]} if name in _TEXTS else {}
            self.call("Input.dispatchKeyEvent", type="keyDown", **named, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", **named)
        self.settle()

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the pointer, move it, release it; coordinates of the window."""
        button = {"button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type="mousePressed", x=start[0], y=start[1], **button)
        for step in (0.5, 1.0):
            x, y = (a + (b - a) * step for a, b in zip(start, end, strict=True))
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, button="left", buttons=1)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=end[0], y=end[1], **button)
        self.settle()

    def click(self, selector: str) -> None:
        """Click the middle of an element."""
        box = self.box(selector, scroll=True)
        middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        self.drag(middle, middle)

    def box(self, selector: str, *, scroll: bool = False) -> dict[str, float]:
        """Where an element is in the window."""
        name = json.dumps(selector)
        if scroll:
            self.evaluate(f"document.querySelector({name}).scrollIntoView({{block: 'center', behavior: 'instant'}})")
            self.settle()
        box: dict[str, float] = self.evaluate(f"document.querySelector({name}).getBoundingClientRect().toJSON()")
        return box

    def screenshot(self, *, whole: bool = False) -> bytes:
        """What is seen, as PNG; or the whole page."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"])

    def _read(self) -> Any:
        text = bytearray()
        while (byte := self.received.read(1)) != b"\0":
            assert byte, "the browser has ended"
            text += byte
        return json.loads(text)

    def _note(self, message: Any) -> None:
        method, params = message.get("method", ""), message.get("params", {})
        self._events.append(method)
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.complaints.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in {"error", "warning", "assert"}:
            self.complaints.append(json.dumps(params["args"]))
        elif method == "Network.requestWillBeSent" and not params["request"]["url"].startswith("data:"):
            self.requests.append(params["request"]["url"])


@contextlib.contextmanager
def open_page(folder: Path) -> Iterator[Page]:
    """An empty page in a browser of its own, whose profile is in the folder."""
    program, env = command(folder)
    ours, theirs = os.pipe(), os.pipe()

    def pipes() -> None:
        # The protocol reads from 3 and writes to 4. The copies come first: 3 or 4 may be the ends themselves.
        read, write = os.dup(ours[0]), os.dup(theirs[1])
        high = max(read, write, 5)
        os.dup2(read, high + 1)
        os.dup2(write, high + 2)
        os.dup2(high + 1, 3)
        os.dup2(high + 2, 4)

    with (folder / "browser.log").open("ab") as log:
        # No thread of the tests holds a lock that these calls need.
        more: dict[str, Any] = {"preexec_fn": pipes, "close_fds": False}
        process = subprocess.Popen([*program, "--remote-debugging-pipe"], stdout=log, stderr=log, env=env, **more)
    os.close(ours[0])
    os.close(theirs[1])
    try:
        with os.fdopen(ours[1], "wb") as sent, os.fdopen(theirs[0], "rb") as received:
            page = Page(sent, received)
            target = page.call("Target.createTarget", url="about:blank")["targetId"]
            page.session = page.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                page.call(f"{domain}.enable")
            yield page
    finally:
        end(process)
