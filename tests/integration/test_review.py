"""A person's word: review modes, feedback, and what is refused."""

from __future__ import annotations

import json

import httpx

from tests.doubles.upstreams import Script
from tests.integration.test_sessions import create
from tests.integration.test_takeover import until


def waiting(api: httpx.Client, session_id: str) -> dict[str, object]:
    """The session once it waits for a person."""
    until(lambda: api.get(f"/v1/sessions/{session_id}").json()["status"] == "awaiting_review")
    found: dict[str, object] = api.get(f"/v1/sessions/{session_id}").json()
    return found


def say(api: httpx.Client, session_id: str, **feedback: object) -> httpx.Response:
    """Feedback."""
    return api.post(f"/v1/sessions/{session_id}/feedback", json=feedback)


def done(api: httpx.Client, session_id: str) -> dict[str, object]:
    """The finished session."""
    until(lambda: api.get(f"/v1/sessions/{session_id}").json()["finished_at"])
    found: dict[str, object] = api.get(f"/v1/sessions/{session_id}").json()
    return found


def test_review_each_turn(api: httpx.Client, script: Script) -> None:
    """Go on, then a new instruction, then accept."""
    session_id = create(api, review="each_turn", semantic_threshold=10).json()["id"]
    assert len(waiting(api, session_id)["turns"]) == 1  # type: ignore[arg-type]
    assert say(api, session_id, action="go_on").status_code == 200
    until(lambda: len(script.edits) == 2)
    waiting(api, session_id)
    assert say(api, session_id, action="instruct", instruction="rather blue").status_code == 200
    until(lambda: len(script.edits) == 3)
    waiting(api, session_id)
    assert say(api, session_id, action="accept").status_code == 200
    session = done(api, session_id)

    assert session["finish_reason"] == "accepted"
    assert [edit["prompt"] for edit in script.edits] == ["make it golden", "make it golden +", "rather blue"]
    assert session["turns"][2]["author"] == "person"  # type: ignore[index]


def test_review_before_finish_and_pick(api: httpx.Client) -> None:
    """The loop runs until it would finish; a person picks an earlier turn."""
    session_id = create(api, review="before_finish").json()["id"]
    assert len(waiting(api, session_id)["turns"]) == 3  # type: ignore[arg-type]
    assert say(api, session_id, action="pick", turn=9).status_code == 404
    assert say(api, session_id, action="pick", turn=2).status_code == 200
    session = done(api, session_id)

    assert session["best"] == {"turn": 2, "candidate": 1}
    assert session["scores"]["semantic"] == 6  # type: ignore[index]


def test_accept_while_running_stops_the_edit(api: httpx.Client, script: Script) -> None:
    """Good enough is good enough: the edit under way is dropped."""
    script.hold_edit = 2
    session_id = create(api).json()["id"]
    until(lambda: len(script.edits) == 2)
    assert say(api, session_id, action="go_on").status_code == 409
    assert say(api, session_id, action="accept").status_code == 200
    session = done(api, session_id)

    assert (session["finish_reason"], session["best"]) == ("accepted", {"turn": 1, "candidate": 1})
    until(lambda: script.disconnected == 1)
    assert say(api, session_id, action="accept").status_code == 409


def test_feedback_that_makes_no_sense(api: httpx.Client) -> None:
    """Each is refused with the field at fault."""
    session_id = create(api, review="each_turn").json()["id"]
    waiting(api, session_id)
    for feedback, param in (
        ({"action": "clap"}, "action"),
        ({}, "action"),
        ({"action": "pick"}, "turn"),
        ({"action": "instruct"}, "instruction"),
        ({"action": "instruct", "instruction": " "}, "instruction"),
        ({"action": "accept", "turn": 1}, "turn"),
        ({"action": "accept", "x": 1}, "x"),
        ({"action": "instruct", "instruction": "\ud83d"}, None),  # half a character: no JSON
        ({"action": "instruct", "instruction": "a\x00b"}, "instruction"),
    ):
        body = json.dumps(feedback).encode()
        reply = api.post(f"/v1/sessions/{session_id}/feedback", content=body, headers={"content-type": "application/json"})
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, param), reply.text


def test_listing_and_deleting(api: httpx.Client) -> None:
    """Newest first, in pages, by status; only what is finished can be deleted."""
    ids = [create(api, wait=20, max_turns=1).json()["id"] for _ in range(5)]
    pending = create(api, review="each_turn").json()["id"]
    waiting(api, pending)
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = api.get("/v1/sessions", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [session["id"] for session in page["data"]]
        cursor = page["next_cursor"]

    assert seen == [pending, *reversed(ids)]
    listed = api.get("/v1/sessions", params={"status": "awaiting_review"}).json()["data"]
    assert [session["id"] for session in listed] == [pending]
    assert api.delete(f"/v1/sessions/{pending}").status_code == 409
    assert api.delete(f"/v1/sessions/{ids[0]}").status_code == 204
    assert api.get(f"/v1/sessions/{ids[0]}").status_code == 404
    assert api.get("/v1/sessions", params={"cursor": "%%%"}).status_code == 400
