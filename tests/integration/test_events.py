"""Server-sent events: every event exactly once, wherever the connection is cut."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tests.doubles.upstreams import Script, picture
from tests.integration.conftest import Start
from tests.integration.test_sessions import create
from tests.integration.test_takeover import until


def read_events(api: httpx.Client, url: str, last: int | None, limit: int | None = None) -> Iterator[dict[str, object]]:
    """Events of one connection; the connection is cut after `limit` of them."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    with api.stream("GET", url, headers=headers) as reply:
        assert reply.status_code == 200, reply.read()
        assert reply.headers["content-type"].startswith("text/event-stream")
        seen, frame = 0, dict[str, str]()
        for line in reply.iter_lines():
            if line:
                key, _, value = line.partition(": ")
                frame[key] = value
                continue
            if "data" in frame:
                event = json.loads(frame["data"])
                assert frame["id"] == str(event["seq"])
                assert frame["event"] == event["type"]
                yield event
                seen += 1
                if seen == limit:
                    return
            frame = {}


def test_a_client_cut_at_any_event_sees_every_event_once(api: httpx.Client, script: Script) -> None:
    """While the session runs, for every event after which the connection can be cut."""
    script.edit_delay_s = 0.03
    cut = 1
    while True:
        script.critiques.clear()
        session = create(api, seed=1).json()
        events = list(read_events(api, session["urls"]["events"], None, cut))
        if events[-1]["type"] != "finished":
            events += read_events(api, session["urls"]["events"], int(str(events[-1]["seq"])))
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert events[-1]["type"] == "finished"
        if cut >= len(events):
            break
        cut += 1
    assert cut > 10


def test_a_client_cut_after_every_single_event_sees_all(api: httpx.Client) -> None:
    """With one event for each connection."""
    session = create(api).json()
    events: list[dict[str, object]] = []
    while not events or events[-1]["type"] != "finished":
        last = int(str(events[-1]["seq"])) if events else None
        events += read_events(api, session["urls"]["events"], last, 1)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


def test_a_stream_after_the_last_event_is_empty_and_ends(api: httpx.Client) -> None:
    """A client that has seen `finished` gets an empty response, not a stream that hangs."""
    session = create(api, wait=20).json()
    everything = list(read_events(api, session["urls"]["events"], None))
    assert everything[-1]["type"] == "finished"

    assert list(read_events(api, session["urls"]["events"], session["last_event"] - 1)) == everything[-1:]


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 40, "0" * 5000])
def test_a_wrong_last_event_id_is_refused(api: httpx.Client, last: str) -> None:
    """The error names the header and the fix."""
    session = create(api).json()
    reply = api.get(session["urls"]["events"], headers={"Last-Event-ID": last})

    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "Last-Event-ID"


@pytest.mark.parametrize("last", [0, 1, 993])
def test_a_start_beyond_the_last_event_ends_at_once(api: httpx.Client, last: int) -> None:
    """204 tells a browser not to reconnect."""
    session = create(api, wait=20).json()
    reply = api.get(session["urls"]["events"], headers={"Last-Event-ID": str(session["last_event"] + last)})

    assert reply.status_code == 204


def test_streams_of_a_tenant_are_bounded(start_orchestrator: Start, script: Script) -> None:
    """The next one is refused; a stream that ends, or whose client disconnects, releases its slot."""
    script.hold_every = True
    process = start_orchestrator(EDITTHINKER_TENANT_STREAMS="2")
    with httpx.Client(base_url=process.url, timeout=30, trust_env=False) as api, ExitStack() as stack:
        held = create(api, max_turns=1).json()["urls"]["events"]
        asked: list[httpx.Response] = []

        def joins() -> bool:
            reply = api.send(api.build_request("GET", held), stream=True)
            if reply.status_code != 200:
                # Each would keep a connection of the client's until the end.
                reply.close()
                return False
            asked.append(reply)
            stack.callback(reply.close)
            return True

        staying, vanishing = read_events(api, held, None), read_events(api, held, None, 1)
        assert next(staying)["seq"] == next(vanishing)["seq"] == 1
        reply = api.get(held)
        assert (reply.status_code, reply.json()["error"]["code"]) == (429, "quota_exceeded")
        assert "2 event streams" in reply.json()["error"]["message"] and int(reply.headers["retry-after"]) > 0
        assert list(vanishing) == []
        until(joins)
        assert not joins()

        script.release.set()
        assert [event["type"] for event in staying][-1] == "finished"
        assert "event: finished" in asked[-1].read().decode()
        until(lambda: api.get(held, headers={"Last-Event-ID": "1000"}).status_code == 204)
        # Answers that are no streams take no place for good.
        for _ in range(3):
            assert api.get(held, headers={"Last-Event-ID": "1000"}).status_code == 204
            assert api.get(held.replace("ses_", "ses_x")).status_code == 404
        assert joins()


def test_every_way_to_join_a_session_counts_as_a_stream(start_orchestrator: Start, script: Script) -> None:
    """A streamed edit, and calls that wait under an idempotency key; the call that began the session does not count."""
    script.hold_every = True
    process = start_orchestrator(EDITTHINKER_TENANT_STREAMS="2")
    with httpx.Client(base_url=process.url, timeout=30, trust_env=False) as api, ExitStack() as stack:
        form: dict[str, Any] = {"files": {"image": ("a.png", picture(), "image/png")}, "headers": {"Idempotency-Key": "k"}}
        data = {"prompt": "x", "max_turns": "1", "stream": "true"}
        held = [stack.enter_context(api.stream("POST", "/v1/images/edits", **form, data=data)) for _ in range(2)]
        assert [reply.status_code for reply in held] == [200, 200]

        streamed = api.post("/v1/images/edits", **form, data=data)
        assert (streamed.status_code, streamed.json()["error"]["code"]) == (429, "quota_exceeded")
        session = create(api, max_turns=1, prompt="y").json()
        assert api.get(session["urls"]["events"]).status_code == 429
        joined = {"image": ("a.png", picture(), "image/png")}, {"prompt": "j"}, {"Idempotency-Key": "j"}
        assert api.post("/v1/sessions", files=joined[0], data=joined[1], headers=joined[2]).status_code == 202
        waited = api.post("/v1/sessions", files=joined[0], data=joined[1], headers={**joined[2], "Prefer": "wait=20"})
        assert (waited.status_code, "preference-applied" in waited.headers) == (202, False)

        script.release.set()
        assert "image_edit.completed" in held[0].read().decode()
