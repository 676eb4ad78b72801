"""Votes and ratings over the REST API, against a real Redis: what is stored, listed, exported, refused and deleted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_client

from editthinker import AsyncEditThinker, EditThinker, NotFoundError
from orchestrator.store.scripts import KeySpace
from tests.attacks.target import target
from tests.doubles.processes import Process
from tests.doubles.upstreams import Script, picture
from tests.integration.test_sessions import create

MOST_BYTES = 32 * 1024 * 1024


def vote(api: httpx.Client, a: dict[str, Any], b: dict[str, Any], choice: str = "b", **more: Any) -> httpx.Response:
    headers = {"idempotency-key": more.pop("key")} if "key" in more else {}
    return api.post("/v1/preferences", json={"a": a, "b": b, "choice": choice, **more}, headers=headers)


def turn(session: dict[str, Any], number: int) -> dict[str, Any]:
    return {"session_id": session["id"], "turn": number}


def rate(api: httpx.Client, session: dict[str, Any], rating: int) -> httpx.Response:
    return api.post("/v1/preferences", json={"session_id": session["id"], "rating": rating})


def listed(api: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get("/v1/preferences", params=query).json()["data"]
    return found


def exported(api: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in api.get("/v1/preferences/export", params=query).text.splitlines()]


# --- votes ----------------------------------------------------------------------------------------------------------------


def test_a_vote_says_who_made_both_pictures(api: httpx.Client, script: Script) -> None:
    session = create(api, wait=20, judge="strict").json()
    reply = vote(api, turn(session, 1), turn(session, 2), label="turns", reason="warmer")

    assert reply.status_code == 201, reply.text
    made = {"candidate": 1, "editor": "double", "thinker": "double", "judge": "strict", "strategy": "think"}
    digests = [each["candidates"][0]["image"]["sha256"] for each in session["turns"]]
    assert reply.json() == {
        "id": reply.json()["id"],
        "object": "preference",
        "created_at": reply.json()["created_at"],
        "a": {"session_id": session["id"], "sha256": digests[0], "turn": 1, **made},
        "b": {"session_id": session["id"], "sha256": digests[1], "turn": 2, **made},
        "choice": "b",
        "label": "turns",
        "reason": "warmer",
    }
    assert listed(api) == [reply.json()]


def test_a_candidate_is_compared_with_the_source(api: httpx.Client, script: Script) -> None:
    session = create(api, wait=20, max_turns=1).json()
    reply = vote(api, {"session_id": session["id"], "source": True}, turn(session, 1), "tie").json()

    assert reply["a"]["sha256"] == session["source"]["sha256"]
    assert {value for name, value in reply["a"].items() if name not in {"session_id", "sha256"}} == {None}


def test_a_session_that_waits_for_a_person_is_voted_on(api: httpx.Client, script: Script) -> None:
    single = create(api, wait=20, strategy="single").json()
    waiting = create(api, review="each_turn").json()
    with httpx.stream("GET", f"{api.base_url}{waiting['urls']['events']}", timeout=30, trust_env=False) as events:
        assert any(line == "event: review_requested" for line in events.iter_lines())
    reply = vote(api, turn(waiting, 1), turn(single, 1), label="strategies")

    assert (reply.json()["a"]["strategy"], reply.json()["b"]["strategy"]) == ("think", "single")


def test_a_repeat_under_one_key_is_one_vote(api: httpx.Client, script: Script) -> None:
    session = create(api, wait=20).json()
    first = vote(api, turn(session, 1), turn(session, 2), key="k1")
    again = vote(api, turn(session, 1), turn(session, 2), key="k1")
    other = vote(api, turn(session, 1), turn(session, 2), "a", key="k1")

    assert again.json() == first.json() and len(listed(api)) == 1
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    assert (other.status_code, other.json()["error"]["param"]) == (422, "Idempotency-Key")


def test_a_vote_is_taken_back(api: httpx.Client, script: Script) -> None:
    session = create(api, wait=20).json()
    made = vote(api, turn(session, 1), turn(session, 2), key="k1").json()

    assert api.delete(f"/v1/preferences/{made['id']}").status_code == 204
    again = api.delete(f"/v1/preferences/{made['id']}")
    assert (again.status_code, again.json()["error"]["code"]) == (404, "preference_not_found")
    assert listed(api) == [] and exported(api) == []
    assert vote(api, turn(session, 1), turn(session, 2), "tie", key="k1").status_code == 201, "its key is free again"


def test_votes_are_listed_in_pages_the_newest_first(api: httpx.Client, script: Script) -> None:
    session = create(api, wait=20).json()
    made = [vote(api, turn(session, 1), turn(session, 2), reason=str(number)).json()["id"] for number in range(7)]
    seen, cursor, sizes = [], None, []
    while True:
        page = api.get("/v1/preferences", params={"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        seen += [each["id"] for each in page["data"]]
        sizes.append(len(page["data"]))
        if not (cursor := page["next_cursor"]):
            break
    assert sorted(seen) == sorted(made) and sizes == [3, 3, 1]
    times = [each["created_at"] for each in listed(api)]
    assert [round(at, 3) for at in times] == sorted((round(at, 3) for at in times), reverse=True)


@pytest.mark.parametrize(
    ("body", "status", "param", "fix"),
    [
        ({"b": {"turn": 1}, "choice": "a"}, 400, "a", "send two pictures"),
        ({"a": {"turn": 1}, "b": {"turn": 2}}, 400, "choice", "choice is missing"),
        ({"a": {}, "b": {"turn": 2}, "choice": "a"}, 400, "a.turn", "name the turn"),
        ({"a": {"turn": 1, "source": True}, "b": {"turn": 2}, "choice": "a"}, 400, "a.source", "send one of them"),
        ({"a": {"turn": 1}, "b": {"turn": 1, "candidate": 1}, "choice": "a"}, 400, "b", "send another"),
        ({"a": {"turn": 1}, "b": {"turn": 9}, "choice": "a"}, 404, "b.turn", "turn 9 has no image"),
        ({"a": {"turn": 1}, "b": {"turn": 2}, "choice": "c"}, 400, "choice", "'a', 'b', 'tie' or 'skip'"),
        ({"a": {"turn": 1}, "b": {"turn": 2}, "choise": "a"}, 400, "choise", "did you mean choice?"),
        ({"a": {"turn": 1}, "b": {"turn": 2}, "choice": "a", "rating": 3}, 400, "a", "no meaning with rating"),
        ({"a": {"turn": 1}, "b": {"turn": 2}, "choice": "a", "session_id": "ses_1"}, 400, "session_id", "no meaning without"),
        ({"rating": 3}, 400, "session_id", "rating needs one"),
        ({"session_id": "ses_1", "rating": 3}, 404, "session_id", "there is no session"),
        ({"session_id": "ses_1", "rating": 6}, 400, "rating", "less than or equal to 5"),
        ({"a": {"turn": 1}, "b": {"turn": 2}, "choice": "a", "reason": "x" * 1001}, 400, "reason", "at most 1000"),
    ],
)
def test_what_is_wrong_is_named_with_its_fix(
    api: httpx.Client, script: Script, body: dict[str, Any], status: int, param: str, fix: str
) -> None:
    session = create(api, wait=20).json()
    named = {name: {"session_id": session["id"], **body[name]} for name in ("a", "b") if name in body}
    reply = api.post("/v1/preferences", json={**body, **named})

    assert (reply.status_code, reply.json()["error"]["param"]) == (status, param), reply.text
    assert fix in reply.json()["error"]["message"]
    assert listed(api) == []


def test_edits_of_different_tasks_are_not_compared(api: httpx.Client, script: Script) -> None:
    session = create(api, wait=20, max_turns=1).json()
    other_words = create(api, wait=20, max_turns=1, prompt="make it silver").json()
    files = {"image": ("b.png", picture(shade=9), "image/png")}
    data = {"prompt": "make it golden", "max_turns": "1"}
    other_source = api.post("/v1/sessions", files=files, data=data, headers={"prefer": "wait=20"}).json()
    for other in (other_words, other_source):
        error = vote(api, turn(session, 1), turn(other, 1)).json()["error"]
        assert (error["code"], error["param"]) == ("invalid_value", "b.session_id"), error


# --- ratings --------------------------------------------------------------------------------------------------------------


def test_a_session_has_one_rating_and_shows_it(api: httpx.Client, script: Script) -> None:
    session = create(api, wait=20, max_turns=1).json()
    other = create(api, wait=20, max_turns=1).json()
    first, second = rate(api, session, 2).json(), rate(api, session, 4).json()

    assert first["id"] == second["id"] == f"rating_{session['id']}"
    assert [(each["session_id"], each["rating"]) for each in listed(api)] == [(session["id"], 4)]
    assert api.get(session["urls"]["self"]).json()["rating"] == 4
    shown = {each["id"]: each.get("rating") for each in api.get("/v1/sessions").json()["data"]}
    assert shown == {session["id"]: 4, other["id"]: None}
    assert exported(api) == []
    api.delete(f"/v1/preferences/{second['id']}")
    assert "rating" not in api.get(session["urls"]["self"]).json()


def test_a_session_without_an_image_is_not_rated(api: httpx.Client, script: Script) -> None:
    script.hold_every = True
    session = create(api).json()
    assert rate(api, session, 3).json()["error"]["code"] == "image_not_found"
    script.release.set()


# --- export ---------------------------------------------------------------------------------------------------------------


def test_votes_are_exported_as_training_pairs(api: httpx.Client, script: Script) -> None:
    """Oldest first, with the words that each picture was made with; without skips and ratings."""
    session = create(api, wait=20).json()
    single = create(api, wait=20, strategy="single").json()
    first = vote(api, turn(session, 1), turn(session, 2), label="turns").json()
    vote(api, turn(session, 1), turn(session, 2), "skip")
    rate(api, session, 5)
    second = vote(api, turn(session, 3), turn(single, 1), "a", reason="one\u2028line").json()
    lines = exported(api)

    assert [line["id"] for line in lines] == [first["id"], second["id"]]
    assert lines[0] == {
        "object": "preference_pair",
        "version": 1,
        "id": first["id"],
        "tenant": "default",
        "created_at": first["created_at"],
        "instruction": "make it golden",
        "source": session["source"]["sha256"],
        "references": [],
        "mask": None,
        "a": {**first["a"], "instruction": "make it golden"},
        "b": {**first["b"], "instruction": "make it golden +"},
        "choice": "b",
        "label": "turns",
        "reason": None,
    }
    assert (lines[1]["b"]["strategy"], lines[1]["reason"]) == ("single", "one\u2028line")
    assert [line["id"] for line in exported(api, since=second["created_at"])] == [second["id"]]
    assert [line["id"] for line in exported(api, until=second["created_at"])] == [first["id"]]


# --- deletion -------------------------------------------------------------------------------------------------------------


def test_votes_and_ratings_are_deleted_with_their_session(api: httpx.Client, redis: Process, script: Script) -> None:
    """Nothing of them is left in Redis."""
    session, other = create(api, wait=20).json(), create(api, wait=20).json()
    vote(api, turn(session, 1), turn(other, 1))
    vote(api, turn(session, 1), turn(session, 2))
    kept = vote(api, turn(other, 1), {"session_id": other["id"], "source": True}).json()
    rate(api, session, 5)
    assert api.delete(session["urls"]["self"]).status_code == 204

    assert [each["id"] for each in listed(api)] == [kept["id"]]
    assert [line["id"] for line in exported(api)] == [kept["id"]]
    assert api.delete(other["urls"]["self"]).status_code == 204
    raw = redis_client.Redis(port=redis.port, db=0)
    assert list(raw.scan_iter("*prefer*")) == []


def test_many_votes_are_deleted_in_calls_that_do_not_keep_redis_for_long(
    api: httpx.Client, redis: Process, script: Script
) -> None:
    session = create(api, wait=20).json()
    raw = redis_client.Redis(port=redis.port, db=0)
    prefix = KeySpace().prefix
    record = json.dumps({"sessions": [session["id"]]})
    with raw.pipeline() as calls:
        for number in range(2_500):
            calls.hset(f"{prefix}preferences:default", f"prf_{number}", record)
            calls.zadd(f"{prefix}preferred:default", {f"prf_{number}": number})
            calls.sadd(f"{prefix}preferences_of:{session['id']}", f"prf_{number}")
            calls.hincrby(f"{prefix}preference_bytes", "default", len(record))
        calls.execute()
    raw.config_resetstat()
    assert api.delete(session["urls"]["self"]).status_code == 204

    assert list(raw.scan_iter("*prefer*")) == []
    assert raw.info("commandstats")["cmdstat_spop"]["calls"] == 3
    assert api.get(session["urls"]["self"]).status_code == 404


def test_a_tenant_may_fill_so_many_bytes(api: httpx.Client, redis: Process, script: Script) -> None:
    session = create(api, wait=20).json()
    raw = redis_client.Redis(port=redis.port, db=0)
    raw.hset(f"{KeySpace().prefix}preference_bytes", "default", str(MOST_BYTES))
    reply = vote(api, turn(session, 1), turn(session, 2))

    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "quota_exceeded")
    raw.hset(f"{KeySpace().prefix}preference_bytes", "default", "0")
    assert vote(api, turn(session, 1), turn(session, 2)).status_code == 201


# --- tenants --------------------------------------------------------------------------------------------------------------


def test_preferences_are_of_their_tenant(tmp_path: Path) -> None:
    with target(tmp_path) as running, running.client("ann") as ann, running.client("bob") as bob:
        session = create(ann, wait=20).json()
        made = vote(ann, turn(session, 1), turn(session, 2), key="same").json()
        rate(ann, session, 5)

        assert vote(bob, turn(session, 1), turn(session, 2), key="same").json()["error"]["code"] == "session_not_found"
        assert rate(bob, session, 1).status_code == 404
        assert bob.delete(f"/v1/preferences/{made['id']}").status_code == 404
        assert listed(bob) == [] and exported(bob) == []
        assert len(listed(ann)) == 2


# --- the client -----------------------------------------------------------------------------------------------------------


def test_the_client_votes_rates_lists_and_exports(api: httpx.Client, orchestrator: Process, script: Script) -> None:
    session = create(api, wait=20).json()
    with EditThinker(orchestrator.url) as client:
        made = client.preferences.vote((session["id"], 1), (session["id"], 2), "b", label="turns", reason="warmer")
        client.preferences.vote(session["id"], (session["id"], 3, 1), "tie")
        rated = client.preferences.rate(session["id"], 4)

        assert (made.a and made.a.turn, made.b and made.b.turn, made.choice) == (1, 2, "b")
        assert (rated.rating, client.sessions.get(session["id"]).rating) == (4, 4)
        assert next(iter(client.preferences.list(limit=1))).id == rated.id
        assert len(list(client.preferences.list(limit=2))) == 3
        assert [pair["choice"] for pair in client.preferences.export()] == ["b", "tie"]
        client.preferences.delete(made.id)
        with pytest.raises(NotFoundError):
            client.preferences.delete(made.id)


async def test_the_asynchronous_client_does_the_same(api: httpx.Client, orchestrator: Process, script: Script) -> None:
    session = create(api, wait=20).json()
    async with AsyncEditThinker(orchestrator.url) as client:
        made = await client.preferences.vote((session["id"], 1), (session["id"], 2), "a")
        await client.preferences.rate(session["id"], 4)

        assert [each.rating async for each in client.preferences.list(limit=1)] == [4, None]
        assert len((await client.preferences.list()).data) == 2
        assert [pair["id"] async for pair in client.preferences.export()] == [made.id]
        await client.preferences.delete(made.id)
