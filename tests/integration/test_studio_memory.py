"""An hour of a session's events on its screen: what the page holds in memory does not grow with them."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import BrowserContext, Page

from orchestrator.api.studio import studio
from tests.doubles.chromium import chromium
from tests.doubles.debian import NoProgramError, browser

pytestmark = pytest.mark.xdist_group("browser")

TURNS, CANDIDATES = 8, 4
PARTS, EVENTS_A_PART = 6, 600
"""An hour at one event a second; between two parts the stream breaks, and is opened again."""
GROWTH: Final = 600_000
"""Bytes of JavaScript's heap that may be more after the last part than after the second: compiled code and the like.

Measured on 2026-11-30: 0.1 to 0.24 MB; with a page that keeps every state of the session 1.4 to 1.6 MB.
"""
_URLS = """
window.urls = new Set();
const [create, revoke] = [URL.createObjectURL, URL.revokeObjectURL];
URL.createObjectURL = (blob) => { const url = create.call(URL, blob); urls.add(url); return url; };
URL.revokeObjectURL = (url) => { urls.delete(url); revoke.call(URL, url); };
"""
_KEYED = """async () => {
  document.querySelector("edit-studio").remove();
  await customElements.whenDefined("edit-session");
  const session = Object.assign(document.createElement("edit-session"), { sessionId: "ses_hour", key: async () => "et_key" });
  document.body.append(session);
}"""
_SESSION = (
    '(document.querySelector("edit-session") ?? document.querySelector("edit-studio").shadowRoot.querySelector("edit-session"))'
)


def picture(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize((width, height)).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def stream() -> Iterator[dict[str, Any]]:
    """A session's events without end: every turn is made first, and its edits are then tried, watched and judged again."""
    number = count(1)

    def event(kind: str, **fields: Any) -> dict[str, Any]:
        seq = next(number)
        return {"seq": seq, "at": 1_796_000_000 + seq, "type": kind, **fields}

    def image(name: object) -> dict[str, Any]:
        return {"sha256": f"{name:0>64}", "media_type": "image/png", "bytes": 40_000, "width": 96, "height": 64}

    limits = {"max_turns": TURNS, "candidates": CANDIDATES, "semantic_threshold": 8.0, "quality_threshold": 8.0}
    yield event(
        "session_created", source=image("source"), instruction="make it golden", editor="e", strategy="think", limits=limits
    )
    spent = {"editor_seconds": 1.5, "thinker_seconds": 0.5, "prompt_tokens": 900, "completion_tokens": 80, "cached_tokens": 10}

    def tried(turn: int, candidate: int, attempt: int) -> Iterator[dict[str, Any]]:
        of = {"turn": turn, "candidate": candidate}
        scores = {"semantic": (attempt * 7 + candidate) % 10, "quality": 7.5}
        yield event("edit_started", **of, attempt=attempt, seed=attempt)
        yield event("previewed", **of, image=image(attempt))
        yield event("preview_critiqued", **of, **scores, instruction=f"try {attempt}")
        yield event("edit_failed", **of, code="upstream_failed", message=f"failure {attempt}", retryable=True)
        yield event("edit_started", **of, attempt=attempt + 1, seed=attempt)
        yield event("edited", **of, image=image(attempt), **spent)
        places = [{"left": 100, "top": 100, "right": 300, "bottom": 300, "word": f"spot {attempt}"}]
        answers = [{"number": 1, "answer": "yes" if attempt % 2 else "no", "reason": f"because of {attempt}"}]
        yield event(
            "critiqued", **of, **scores, reasoning=f"Reason {attempt}. " * 20, answers=answers, places=places, instruction=None
        )
        yield event("refined", **of, instruction=f"more golden, {attempt}", reasoning="it was too grey")

    for turn in range(1, TURNS + 1):
        yield event(
            "turn_started", turn=turn, instruction=f"make it {turn}", author="thinker", candidates=CANDIDATES, first_seed=turn
        )
        for candidate in range(1, CANDIDATES + 1):
            yield from tried(turn, candidate, 1)
    for attempt in count(3, 2):
        for turn in range(1, TURNS + 1):
            yield event("review_requested", reason=None)
            yield event("feedback_given", action="go_on")
            for candidate in range(1, CANDIDATES + 1):
                yield from tried(turn, candidate, attempt)


class Recorded:
    """The server of one session, whose events are sent as far as they are released; then the stream breaks."""

    def __init__(self) -> None:
        events = stream()
        self.events = [next(events) for _ in range(PARTS * EVENTS_A_PART)]
        self.released = 0
        self.url = ""
        self.picture = picture(96, 64)

    def answer(self, path: str, last_event: int) -> tuple[str, bytes]:
        """Media type and content."""
        assets = f"/studio/assets/{studio().digest}/"
        answers: dict[str, Any] = {
            "/v1/sign_in": {"key_required": False, "tenant": "default", "scopes": ["edit", "read"]},
            "/v1/sessions/ses_hour": {"queue": None},
        }
        if path.startswith(assets):
            asset = studio().assets[path.removeprefix(assets)]
            return asset.media_type, asset.content
        if path.startswith("/studio"):
            return "text/html", studio().page(path.removeprefix("/studio/")).encode()
        if path.endswith("/events"):
            due = self.events[last_event : self.released]
            lines = "".join(f"id: {each['seq']}\nevent: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in due)
            return "text/event-stream", f"retry: 200\n\n{lines}".encode()
        if path in answers:
            return "application/json", json.dumps(answers[path]).encode()
        return "image/png", self.picture


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    served = Recorded()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            media_type, content = served.answer(urlsplit(self.path).path, int(self.headers.get("last-event-id", "0")))
            self.send_response(200)
            self.send_header("content-type", media_type)
            self.send_header("content-length", str(len(content)))
            self.send_header("cache-control", "max-age=3600" if media_type == "image/png" else "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield served
        server.shutdown()


@pytest.fixture(scope="module")
def context() -> Iterator[BrowserContext]:
    try:
        browser()
    except NoProgramError as exc:
        pytest.skip(f"there is no browser: {exc}")
    with chromium() as running:
        profile = running.new_context(viewport={"width": 1280, "height": 800})
        profile.set_default_timeout(120_000)
        profile.add_init_script(_URLS)
        yield profile


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    opened = context.new_page()
    yield opened
    opened.close()


def held(page: Page) -> dict[str, float]:
    """What the page holds once nothing more can be let go of: bytes of heap, nodes, listeners and object URLs."""
    protocol = page.context.new_cdp_session(page)
    protocol.send("Performance.enable")
    # Twice: what is finalized in the first is let go of in the second.
    for _ in range(2):
        protocol.send("HeapProfiler.collectGarbage")
    found = {each["name"]: each["value"] for each in protocol.send("Performance.getMetrics")["metrics"]}
    protocol.detach()
    return {
        "heap": found["JSHeapUsedSize"],
        "nodes": found["Nodes"],
        "listeners": found["JSEventListeners"],
        "urls": page.evaluate("urls.size"),
    }


def watched(page: Page, recorded: Recorded, *, part: int) -> dict[str, float]:
    """What is held after so many parts of the stream."""
    recorded.released = part * EVENTS_A_PART
    page.wait_for_function(f"{_SESSION}?.session?.last_event === {recorded.released}")
    page.evaluate(f"{_SESSION}.updateComplete")
    return held(page)


@pytest.mark.parametrize("keyed", [False, True], ids=["signed-in", "with-a-key"])
def test_an_hour_of_events_takes_no_more_memory_than_its_first_minutes(page: Page, recorded: Recorded, *, keyed: bool) -> None:
    page.goto(f"{recorded.url}/studio/sessions/ses_hour")
    if keyed:
        page.evaluate(_KEYED)
    after = [watched(page, recorded, part=part) for part in range(1, PARTS + 1)]
    first, last = after[1], after[-1]
    assert last["heap"] - first["heap"] < GROWTH, after
    assert last["nodes"] <= first["nodes"] * 1.02 + 50, after
    assert last["listeners"] <= first["listeners"] + 20, after
    assert last["urls"] == first["urls"], after
    assert first["urls"] > 0 if keyed else first["urls"] == 0

    # The screen is left: its pictures, which were fetched with the key, are let go of.
    page.evaluate('document.querySelector("edit-session")?.remove()')
    assert not keyed or page.evaluate("urls.size") == 0
