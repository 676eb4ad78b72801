"""Sessions over the REST API, against a real Redis and scripted upstreams."""

from __future__ import annotations

import httpx

from tests.doubles.upstreams import Script, picture


def create(api: httpx.Client, **fields: object) -> httpx.Response:
    """A session from a small picture."""
    wait = fields.pop("wait", None)
    headers = {"Prefer": f"wait={wait}"} if wait else {}
    data = {"prompt": "make it golden", **{key: str(value) for key, value in fields.items()}}
    return api.post("/v1/sessions", files={"image": ("a.png", picture(), "image/png")}, data=data, headers=headers)


def test_a_session_refines_until_it_is_satisfied(api: httpx.Client, script: Script) -> None:
    """Turn after turn from the source, with the thinker's instruction; the best one is the answer."""
    reply = create(api, wait=20, seed=5)
    session = reply.json()

    assert reply.status_code == 200, reply.text
    assert session["status"] == "succeeded"
    assert session["finish_reason"] == "satisfied"
    assert [turn["instruction"] for turn in session["turns"]] == ["make it golden", "make it golden +", "make it golden + +"]
    assert [turn["author"] for turn in session["turns"]] == ["caller", "thinker", "thinker"]
    assert session["best"] == {"turn": 3, "candidate": 1}
    assert session["scores"] == {
        "semantic": 9.0,
        "quality": 9.0,
        "overall": 9.0,
        "semantic_spread": 0.0,
        "quality_spread": 0.0,
    }
    assert [edit["seed"] for edit in script.edits] == ["5", "5", "5"]
    image = api.get(session["urls"]["image"])
    assert image.headers["content-type"] == "image/png"
    third = api.get(session["turns"][2]["candidates"][0]["image"]["url"])
    assert third.content == image.content


def test_head_is_get_without_its_body(api: httpx.Client) -> None:
    """Clients use it for a picture's size or a liveness check. The connection stays usable."""
    session = create(api, wait=20, max_turns=1).json()
    paths = [session["urls"]["image"], f"{session['urls']['image']}?format=jpeg", f"/v1/sessions/{session['id']}"]
    for path in [*paths, "/v1/sessions", "/healthz", "/readyz", "/v1/models", "/metrics"]:
        whole, head = api.get(path), api.head(path)
        assert (head.status_code, head.content) == (200, b""), path
        same = ["content-type", *(["content-length", "cache-control"] if "image" in path else [])]
        assert [head.headers[name] for name in same] == [whole.headers[name] for name in same], path
    events = api.head(f"/v1/sessions/{session['id']}/events")
    assert (events.status_code, events.content) == (200, b"")


def test_a_slash_at_the_end_is_another_path(api: httpx.Client) -> None:
    """Not a redirect to the host that the caller named, without TLS."""
    reply = api.get("/v1/sessions/", headers={"host": "localhost:1"})

    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")


def test_waiting_is_asked_for_as_rfc_7240_has_it(api: httpx.Client) -> None:
    """In any case, quoted, on a line of its own."""
    files = {"image": ("a.png", picture(), "image/png")}
    for lines in ([("Prefer", "Wait = 20")], [("Prefer", 'wait="20"')], [("Prefer", "respond-async"), ("Prefer", "wait=20")]):
        reply = api.post("/v1/sessions", files=files, data={"prompt": "x", "max_turns": "1"}, headers=lines)
        assert (reply.status_code, reply.headers.get("preference-applied")) == (200, "wait=20"), lines
