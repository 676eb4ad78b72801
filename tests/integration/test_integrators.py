"""What integrators of HTTP APIs expect: own metadata, caching, ranges, polls, strict queries, repeats in another format."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import httpx
import openai
import pytest
import redis as redis_client

from editthinker import EditThinker
from services.imaging.containers import strip_metadata
from tests.doubles.processes import Process
from tests.doubles.upstreams import Script, picture
from tests.integration.conftest import Start
from tests.integration.test_sessions import create
from tests.integration.test_takeover import until

PICTURE = base64.b64encode(picture()).decode()


def error(reply: httpx.Response) -> tuple[int, str, str | None]:
    body = reply.json()["error"]
    return reply.status_code, body["code"], body["param"]


# --- metadata ------------------------------------------------------------------------------------------------------


def test_sessions_are_listed_by_their_metadata(api: httpx.Client, orchestrator: Process) -> None:
    """From a form, from JSON, from OpenAI's client and from ours; all pairs must be there."""
    form = {"prompt": "x", "max_turns": "1", "metadata[order]": "17", "metadata[shop]": "Köln"}
    first = api.post("/v1/sessions", files={"image": picture()}, data=form).json()
    body = {"prompt": "x", "max_turns": 1, "image": PICTURE, "metadata": {"order": "17"}}
    second = api.post("/v1/sessions", json=body).json()
    with openai.OpenAI(base_url=f"{orchestrator.url}/v1", api_key="none") as client:
        reply = client.images.edit(image=picture(), prompt="x", extra_body={"max_turns": 1, "metadata": {"order": "18"}})
    third = (reply.model_extra or {})["session_id"]

    def found(query: str) -> set[str]:
        return {each["id"] for each in api.get(f"/v1/sessions?{query}").raise_for_status().json()["data"]}

    assert first["metadata"] == {"order": "17", "shop": "Köln"}
    assert found("metadata[order]=17") == {first["id"], second["id"]}
    assert found("metadata[order]=17&metadata[shop]=K%C3%B6ln") == {first["id"]}
    assert found("metadata[order]=18&limit=5") == {third}
    assert found("metadata[order]=18&metadata[shop]=Bonn") == set()
    with EditThinker(orchestrator.url) as client_of_ours:
        made = client_of_ours.sessions.create(picture(), "x", max_turns=1, metadata={"order": "19", "a b": ""})
        assert made.metadata == {"order": "19", "a b": ""}
        assert [each.id for each in client_of_ours.sessions.list(metadata={"order": "19"}).data] == [made.id]


@pytest.mark.parametrize(
    "metadata",
    [{"k" * 65: "v"}, {"": "v"}, {"k": "v" * 513}, {f"k{n}": "v" for n in range(17)}, {"k": 1}, {"k": "\x00"}, ["k"], "k"],
)
def test_metadata_is_bounded(api: httpx.Client, metadata: Any) -> None:
    """16 pairs of texts, keys up to 64 and values up to 512 characters."""
    body = {"prompt": "x", "image": PICTURE, "metadata": metadata}
    status, code, param = error(api.post("/v1/sessions", json=body))

    assert (status, code) == (400, "invalid_value")
    assert param and param.startswith("metadata")


# --- pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["", "?format=webp&compression=80", "?format=jpeg"])
def test_pictures_are_cached_and_resumed(api: httpx.Client, query: str) -> None:
    """A strong entity tag for each encoding; one range at a time."""
    session = create(api, wait=20, max_turns=1).json()
    path = session["urls"]["image"] + query
    whole = api.get(path)
    etag, size = whole.headers["etag"], len(whole.content)

    assert re.fullmatch(r'"[^"]+"', etag)
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["cache-control"] == "private, max-age=31536000, immutable"
    if not query:
        stored = session["turns"][0]["candidates"][0]["image"]["sha256"]
        bare = strip_metadata(whole.content)
        assert bare is not None and hashlib.sha256(bare).hexdigest() == stored
        assert etag.startswith(f'"{stored}-'), "the stored picture, and its mark"
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        cached = api.get(path, headers={"if-none-match": known})
        assert (cached.status_code, cached.content, cached.headers["etag"]) == (304, b"", etag), known
    assert api.get(path, headers={"if-none-match": '"other"'}).status_code == 200

    for given, start, end in (("0-9", 0, 10), ("10-", 10, size), ("-7", size - 7, size), (f"5-{size + 9}", 5, size)):
        part = api.get(path, headers={"range": f"bytes={given}"})
        assert (part.status_code, part.content) == (206, whole.content[start:end]), given
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
        assert part.headers["content-length"] == str(end - start)
    beyond = api.get(path, headers={"range": f"bytes={size}-"})
    assert error(beyond) == (416, "range_not_satisfiable", "Range")
    assert beyond.headers["content-range"] == f"bytes */{size}"
    for ignored in ("bytes=0-1,4-5", "bytes=9-2", "lines=0-1", "bytes=x"):
        assert api.get(path, headers={"range": ignored}).content == whole.content, ignored
    assert api.get(path, headers={"range": "bytes=0-9", "if-range": etag}).status_code == 206
    assert api.get(path, headers={"range": "bytes=0-9", "if-range": '"other"'}).status_code == 200


def test_a_best_image_that_may_change_is_revalidated(api: httpx.Client, script: Script) -> None:
    """It may be kept, but not used without asking."""
    script.hold_edit = 2
    session_id = create(api).json()["id"]
    until(lambda: len(script.edits) == 2)
    reply = api.get(f"/v1/sessions/{session_id}/image")
    script.release.set()

    assert reply.headers["cache-control"] == "private, no-cache"
    until(lambda: api.get(f"/v1/sessions/{session_id}").json()["finished_at"])
    assert api.get(f"/v1/sessions/{session_id}/image", headers={"if-none-match": reply.headers["etag"]}).status_code == 200


# --- polls and ends --------------------------------------------------------------------------------------------------


def test_an_unfinished_session_says_when_to_ask_again(api: httpx.Client, script: Script) -> None:
    """As Retry-After, until it is finished; while a cancel is on its way the status says so."""
    script.hold_edit = 1
    created = create(api)
    session_id = created.json()["id"]
    until(lambda: len(script.edits) == 1)
    running = api.get(f"/v1/sessions/{session_id}")

    assert 1 <= int(created.headers["retry-after"]) <= 30
    assert (running.json()["status"], running.headers["retry-after"]) == ("running", "2")
    cancelled = api.post(f"/v1/sessions/{session_id}/cancel").json()
    assert cancelled["status"] == "cancelling"
    until(lambda: api.get(f"/v1/sessions/{session_id}").json()["status"] == "cancelled")
    ended = api.get(f"/v1/sessions/{session_id}")
    assert "retry-after" not in ended.headers
    assert api.get("/v1/sessions?status=cancelling").json()["data"] == []


def test_a_finished_session_says_when_it_expires(start_orchestrator: Start, script: Script) -> None:
    """Where the server deletes sessions; null while it runs, and where they are kept."""
    server = start_orchestrator(EDITTHINKER_REDIS_RETENTION_S="100", EDITTHINKER_ARCHIVE_RETENTION_S="5000")
    script.hold_edit = 1
    with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as api:
        running = create(api).json()
        until(lambda: len(script.edits) == 1)
        finished = create(api, wait=20).json()
        script.release.set()
        listed = {each["id"]: each for each in api.get("/v1/sessions").json()["data"]}

    assert running["expires_at"] is None
    assert finished["expires_at"] == finished["finished_at"] + 5000
    assert listed[finished["id"]]["expires_at"] == finished["expires_at"]


# --- queries and repeats ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "names"),
    [
        ("GET", "/v1/sessions?limt=5", ["limt", "did you mean limit?"]),
        ("GET", "/v1/sessions?limit=5&page=2&per_page=10", ["page, per_page are not parameters"]),
        ("GET", "/v1/sessions/ses_0?expand=turns", ["expand"]),
        ("GET", "/v1/sessions/ses_0?metadata[a]=b", ["metadata[a]"]),
        ("GET", "/v1/sessions/ses_0/image?fmt=png", ["fmt", "did you mean format?"]),
        ("GET", "/v1/sessions/ses_0/events?since=1", ["since"]),
        ("GET", "/v1/export?from=1", ["from"]),
        ("GET", "/v1/models?x=1", ["x"]),
        ("GET", "/v1/webhooks?x=1", ["x"]),
        ("POST", "/v1/sessions?prompt=x", ["prompt"]),
        ("POST", "/v1/images/edits?n=1", ["n"]),
    ],
)
def test_unknown_query_parameters_are_refused(api: httpx.Client, method: str, path: str, names: list[str]) -> None:
    """Named, with what was probably meant."""
    reply = api.request(method, path)
    status, code, _ = error(reply)

    assert (status, code) == (400, "unknown_parameter"), reply.text
    assert all(name in reply.json()["error"]["message"] for name in names), reply.text


def test_probes_ignore_queries(api: httpx.Client) -> None:
    """Prometheus and balancers add their own."""
    assert [api.get(f"{path}?x=1").status_code for path in ("/healthz", "/readyz", "/metrics")] == [200, 200, 200]


def test_a_repeat_in_another_format_is_no_other_request(api: httpx.Client, script: Script) -> None:
    """How the result is sent is not part of what was asked for."""
    headers = {"idempotency-key": "k"}

    def edit(**fields: str) -> httpx.Response:
        data = {"prompt": "x", "max_turns": "1", **fields}
        return api.post("/v1/images/edits", files={"image": picture()}, data=data, headers=headers)

    first = edit()
    others = [edit(output_format="jpeg", output_compression="70"), edit(response_format="url"), edit(max_turns="1")]
    streamed = edit(stream="true", partial_images="1")

    session_id = first.json()["session_id"]
    assert [(reply.status_code, reply.json()["session_id"]) for reply in others] == [(200, session_id)] * 3
    assert session_id in streamed.text and "image_edit.completed" in streamed.text
    assert len(script.edits) == 1
    assert error(edit(seed="5"))[:2] == (422, "idempotency_key_reused")


def test_a_key_of_the_former_version_is_known(api: httpx.Client, redis: Process) -> None:
    """It recorded a digest of all fields, the output ones included."""
    store = redis_client.Redis(port=redis.port, db=0, decode_responses=True)
    made = create(api, max_turns=1)
    reply = api.post(
        "/v1/sessions", files={"image": picture()}, data={"prompt": "make it golden"}, headers={"idempotency-key": "old"}
    )
    record = "et:{0}:idem:default:old"
    assert store.hdel(record, "request") == 1  # as the former version wrote it
    again = api.post(
        "/v1/sessions", files={"image": picture()}, data={"prompt": "make it golden"}, headers={"idempotency-key": "old"}
    )

    assert again.json()["id"] == reply.json()["id"] != made.json()["id"]
