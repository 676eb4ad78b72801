"""Editors and thinkers that fail: the right picture or a clear error, and never a session that hangs."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from tests.doubles import tcp_proxy
from tests.doubles.processes import Process
from tests.doubles.upstreams import Script, picture
from tests.integration.test_sessions import create
from tests.integration.test_takeover import until

Fault = Callable[[int], Response | None]


async def _stalled() -> AsyncIterator[bytes]:
    yield b'{"data": ['
    await asyncio.sleep(600)


def _image(data: bytes) -> Response:
    return JSONResponse({"data": [{"b64_json": base64.b64encode(data).decode()}]})


BROKEN_ANSWERS: dict[str, Fault] = {
    "500": lambda _: JSONResponse({"error": {"message": "boom"}}, 500),
    "html": lambda _: HTMLResponse("<h1>Bad gateway</h1>", 200),
    "html 502": lambda _: HTMLResponse("<h1>Bad gateway</h1>", 502, {"retry-after": "0"}),
    "wrong json": lambda _: JSONResponse({"data": {"b64_json": 7}}),
    "a list": lambda _: JSONResponse([1, 2]),
    "half a json": lambda _: Response(b'{"data": [{"b64_json": "', media_type="application/json"),
    "not base64": lambda _: JSONResponse({"data": [{"b64_json": "$$$"}]}),
    "not an image": lambda _: _image(b"hello"),
    "a truncated image": lambda _: _image(picture()[:-20]),
    "a stalled body": lambda _: StreamingResponse(_stalled(), media_type="application/json"),
}


@pytest.mark.parametrize("name", BROKEN_ANSWERS)
def test_a_broken_editor_ends_in_a_clear_error(api: httpx.Client, script: Script, name: str) -> None:
    """With no image made the session fails, says why, and ends by its deadline at the latest."""
    script.edit_fault = BROKEN_ANSWERS[name]
    session = create(api, wait=40, deadline_s=10).json()

    assert session["status"] == "failed", session
    assert session["error"]["code"].startswith(("editor_", "deadline")), session["error"]
    assert "Traceback" not in str(session)


@pytest.mark.parametrize("name", BROKEN_ANSWERS)
def test_an_editor_that_breaks_later_loses_nothing(api: httpx.Client, script: Script, name: str) -> None:
    """What turn 1 made is the answer when every later edit fails."""
    script.edit_fault = lambda number: None if number == 1 else BROKEN_ANSWERS[name](number)
    session = create(api, wait=40, deadline_s=10).json()

    assert session["status"] == "succeeded", session
    assert session["best"] == {"turn": 1, "candidate": 1}
    assert session["finish_reason"] in {"plateau", "deadline"}


@pytest.mark.parametrize("name", [name for name in BROKEN_ANSWERS if "image" not in name])
def test_a_broken_thinker_satisfies_nobody(api: httpx.Client, script: Script, name: str) -> None:
    """The images stay unscored, the loop goes on by patience, and the first one is the answer."""
    script.critique_fault = BROKEN_ANSWERS[name]
    session = create(api, wait=40, deadline_s=10).json()

    assert session["status"] == "succeeded", session
    assert session["finish_reason"] in {"plateau", "deadline"}
    assert session["scores"] is None
    assert session["best"] == {"turn": 1, "candidate": 1}
    first = session["turns"][0]["candidates"][0]
    assert first["status"] in {"unscored", "edited"}


def test_a_passing_fault_is_retried(api: httpx.Client, script: Script) -> None:
    """429 with Retry-After and a 503 are waited out; the session notices nothing."""
    busy = JSONResponse({"error": {"message": "busy"}}, 429, {"retry-after": "0"})
    script.edit_fault = lambda number: busy if number in {1, 3} else None
    script.critique_fault = lambda number: busy if number == 1 else None
    session = create(api, wait=20).json()

    assert session["finish_reason"] == "satisfied"
    assert session["totals"]["edits"] == session["totals"]["turns"]


def test_an_editor_that_cannot_be_reached(start_orchestrator: Callable[..., object], script: Script) -> None:
    """The error says so; the readiness check says which one is missing."""
    editors = '{"double": {"url": "http://127.0.0.1:9/v1", "attempts": 2}}'
    with pytest.raises(AssertionError, match="not ready"):
        start_orchestrator(EDITTHINKER_EDITORS=editors, TEST_READY_S="3")


def test_an_editor_that_takes_an_edit_and_never_answers(
    start_orchestrator: Callable[..., Process], upstreams: str, script: Script
) -> None:
    """It is asked again under the same key long before the deadline, and the silence is not charged."""
    script.hold_edit = 1
    # Within this time the second request has to be answered.
    editor = {"url": f"{upstreams}/editor/v1", "first_silence_s": 5, "min_silence_s": 5}
    process = start_orchestrator(EDITTHINKER_EDITORS=json.dumps({"double": editor}))
    with httpx.Client(base_url=process.url, timeout=60, trust_env=False) as api:
        session = create(api, wait=50, strategy="single", deadline_s=300).json()

    assert session["status"] == "succeeded", session
    assert [edit["key"] for edit in script.edits] == [script.edits[0]["key"]] * 2
    assert session["totals"]["editor_seconds"] < 5
    until(lambda: script.disconnected == 1)


def test_a_session_whose_editor_and_thinker_hang_is_served_by_their_fallbacks(
    start_orchestrator: Callable[..., Process], upstreams: str, script: Script
) -> None:
    """Both take requests and never answer, before anything is known of their pace: within a part of the session's time, and
    the silence is neither charged nor hidden.
    """
    address = httpx.URL(upstreams)
    with tcp_proxy.running(address.host, address.port or 0) as proxy:
        silence = {"first_silence_s": 2, "min_silence_s": 2}
        hanging, good = f"http://127.0.0.1:{proxy.port}", upstreams
        editors = {
            "double": {"url": f"{hanging}/editor/v1", "fallback": "spare", **silence},
            "spare": {"url": f"{good}/editor/v1"},
        }
        thinkers = {
            "double": {"url": f"{hanging}/thinker/v1", "model": "double", "fallback": "expert", **silence},
            "expert": {"url": f"{good}/thinker/v1", "model": "double"},
        }
        names = {"EDITTHINKER_EDITORS": json.dumps(editors), "EDITTHINKER_THINKERS": json.dumps(thinkers)}
        process = start_orchestrator(**names)
        proxy.set(tcp_proxy.Fault("stall"))
        with httpx.Client(base_url=process.url, timeout=90, trust_env=False) as api:
            session = create(api, wait=80, max_turns=1, deadline_s=300).json()
            metrics = api.get("/metrics").text

    assert session["status"] == "succeeded", session
    assert (session["scores"]["semantic"], len(script.edits), len(script.critiques)) == (3, 1, 1)
    assert session["totals"]["editor_seconds"] < 2
    assert session["finished_at"] - session["created_at"] < 150
    for role in ("editor", "thinker"):
        assert f'editthinker_upstream_unanswered_total{{name="double",role="{role}"}} 2.0' in metrics


def test_cancel_is_idempotent_and_reaches_the_editor(api: httpx.Client, script: Script) -> None:
    """The edit in flight is dropped, what was made is kept, and a second cancel changes nothing."""
    script.hold_edit = 2
    session_id = create(api).json()["id"]
    until(lambda: len(script.edits) == 2)
    first = api.post(f"/v1/sessions/{session_id}/cancel")
    until(lambda: api.get(f"/v1/sessions/{session_id}").json()["status"] == "cancelled")
    again = api.post(f"/v1/sessions/{session_id}/cancel").json()

    assert first.status_code == 200
    assert again["status"] == "cancelled"
    assert again["best"] == {"turn": 1, "candidate": 1}
    assert api.get(again["urls"]["image"]).status_code == 200
    until(lambda: script.disconnected == 1)


def test_a_caller_who_leaves_with_a_key_finds_the_work_done(api: httpx.Client, script: Script) -> None:
    """With one, the session goes on, and the repeat gets its answer."""
    script.hold_edit = 1
    request = {"files": {"image": picture()}, "data": {"prompt": "x"}, "headers": {"Idempotency-Key": "k"}}
    with pytest.raises(httpx.ReadTimeout):
        api.post("/v1/images/edits", timeout=httpx.Timeout(30, read=1.5), **request)  # type: ignore[arg-type]
    script.release.set()
    reply = api.post("/v1/images/edits", **request)  # type: ignore[arg-type]

    assert reply.status_code == 200
    assert [edit["key"].split("/", 1)[1] for edit in script.edits] == ["1/1", "2/1", "3/1"]


def test_the_deadline_ends_a_session_with_its_best(api: httpx.Client, script: Script) -> None:
    """An editor that hangs costs the deadline and no more: it would hang for longer than the caller waits."""
    script.hold_edit = 2
    session = create(api, wait=25, deadline_s=5).json()

    assert (session["status"], session["finish_reason"]) == ("succeeded", "deadline")
    until(lambda: script.disconnected == 1)


def test_a_caller_who_disconnects_at_any_moment_is_cancelled(api: httpx.Client, script: Script, orchestrator: Process) -> None:
    """Also in the first milliseconds, while the session is just being made."""
    script.scores = [(3, 9)]
    # A busy server notices that a caller left long before twenty such turns are over.
    script.edit_delay_s = 1
    request = httpx.Request(
        "POST",
        f"{orchestrator.url}/v1/images/edits",
        files={"image": picture()},
        data={"prompt": "x", "max_turns": "20", "patience": "20"},
    )
    head = f"POST /v1/images/edits HTTP/1.1\r\nHost: a\r\nContent-Type: {request.headers['content-type']}\r\n"
    raw = f"{head}Content-Length: {request.headers['content-length']}\r\n\r\n".encode() + request.read()
    for number in range(40):
        with socket.create_connection(("127.0.0.1", orchestrator.port)) as connection:
            connection.sendall(raw)
            connection.settimeout(0.001 * (number % 20) + 0.001)
            with contextlib.suppress(TimeoutError):
                connection.recv(1)
    sessions: list[dict[str, object]] = []

    def all_ended() -> bool:
        # One list for both: the last request may become a session after any of them.
        sessions[:] = api.get("/v1/sessions?limit=100").json()["data"]
        return all(session["finished_at"] for session in sessions)

    until(all_ended)
    assert {session["finish_reason"] for session in sessions} <= {"cancelled"}


def test_a_key_does_not_outlive_its_session(api: httpx.Client) -> None:
    """The repeat after a DELETE is a new session, not a wait for one that is gone."""
    request = {"files": {"image": picture()}, "data": {"prompt": "x"}, "headers": {"Idempotency-Key": "k9"}}
    first = api.post("/v1/images/edits", **request).json()["session_id"]  # type: ignore[arg-type]
    assert api.delete(f"/v1/sessions/{first}").status_code == 204
    second = api.post("/v1/images/edits", **request)  # type: ignore[arg-type]

    assert second.status_code == 200
    assert second.json()["session_id"] != first


def test_what_the_editor_refuses_is_the_callers_fault(api: httpx.Client, script: Script) -> None:
    """A size or mask it cannot take is a 400 with its words, not a bad gateway."""
    script.edit_fault = lambda _: JSONResponse({"error": {"message": "size is too large"}}, 400)
    reply = api.post("/v1/images/edits", files={"image": picture()}, data={"prompt": "x"})

    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "editor_refused")
    assert "size is too large" in reply.json()["error"]["message"]
