"""A person's word: review modes, feedback, and what is refused."""

from __future__ import annotations

import json

import httpx

from tests.doubles.upstreams import Script
from tests.integration.conftest import Start
from tests.integration.test_sessions import create
from tests.integration.test_takeover import until

EMOJI = "\U0001f600"


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


def test_feedback_ends_at_the_servers_turns(start_orchestrator: Start, script: Script) -> None:
    """Another turn is refused with what to do; accepting is not."""
    script.scores = [(3, 9)]
    process = start_orchestrator(EDITTHINKER_SESSION_TURNS="20")
    with httpx.Client(base_url=process.url, timeout=30, trust_env=False) as api:
        session_id = str(create(api, review="each_turn", max_turns=1).json()["id"])
        for number in range(19):
            waiting(api, session_id)
            assert say(api, session_id, action="instruct", instruction=f"again {number}").status_code == 200
        assert len(waiting(api, session_id)["turns"]) == 20  # type: ignore[arg-type]

        for refused in (say(api, session_id, action="instruct", instruction="more"), say(api, session_id, action="go_on")):
            error = refused.json()["error"]
            assert (refused.status_code, error["code"], error["param"]) == (409, "session_conflict", "action")
            assert "has 20 turns" in error["message"] and "accept or pick" in error["message"]
        assert say(api, session_id, action="accept").status_code == 200
        assert done(api, session_id)["status"] == "succeeded"


def test_feedback_ends_at_the_servers_bytes(start_orchestrator: Start, script: Script) -> None:
    """Instructions that no turn has used count too."""
    script.hold_every = True
    process = start_orchestrator(EDITTHINKER_SESSION_LOG_BYTES="200000")
    with httpx.Client(base_url=process.url, timeout=30, trust_env=False) as api:
        session_id = str(create(api, review="each_turn").json()["id"])
        said = [say(api, session_id, action="instruct", instruction=str(number) + EMOJI * 15_000) for number in range(6)]

        assert [reply.status_code for reply in said] == [200, 200, 200, 200, 409, 409]
        assert "events take" in said[-1].json()["error"]["message"]
        too_long = say(api, session_id, action="instruct", instruction=EMOJI * 32_000)
        assert (too_long.status_code, too_long.json()["error"]["param"]) == (400, "instruction")
        script.release.set()
        assert api.post(f"/v1/sessions/{session_id}/cancel").status_code == 200
