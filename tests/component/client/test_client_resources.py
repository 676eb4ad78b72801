"""Lists that go on over pages, OpenAI's one call, reviews, webhooks of a tenant, and what the environment says."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from editthinker import AsyncEditThinker, EditThinker
from editthinker.client import (
    APIConnectionError,
    APIError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    BadRequestError,
    InternalServerError,
    Retries,
)
from tests.component.client.conftest import FAST, Use
from tests.component.client.scripted import PNG, Answer, Asked, as_json, error, in_turn, scripted, session, stream


def pages(asked: Asked) -> Answer:
    """Three pages of two, one and no session."""
    if "cursor=c3" in asked.path:
        return as_json({"object": "list", "data": [], "next_cursor": None})
    if "cursor=c2" in asked.path:
        return as_json({"object": "list", "data": [session(id="ses_3")], "next_cursor": "c3"})
    return as_json({"object": "list", "data": [session(id="ses_1"), session(id="ses_2")], "next_cursor": "c2"})


def ids(**options: Any) -> Callable[[Any], Any]:
    """The ids of all sessions that a client lists."""

    def do(client: Any) -> Any:
        listed = client.sessions.list(**options)
        if isinstance(client, EditThinker):
            return (each.id for each in listed)
        return (each.id async for each in listed)

    return do


def test_iterating_over_a_list_goes_through_every_page(use: Use) -> None:
    with scripted(pages) as server:
        assert use(server.base_url, ids(limit=2, status="succeeded", metadata={"order": "17"})) == ["ses_1", "ses_2", "ses_3"]
    asked = "limit=2&{}status=succeeded&metadata%5Border%5D=17"
    assert server.paths() == [f"GET /v1/sessions?{asked.format(more)}" for more in ("", "cursor=c2&", "cursor=c3&")]


def test_pages_are_fetched_as_they_are_needed() -> None:
    with scripted(pages) as server, EditThinker(server.base_url) as client:
        page = client.sessions.list()
        sessions = iter(page)
        assert [next(sessions).id, next(sessions).id] == ["ses_1", "ses_2"]
        assert len(server.asked) == 1
        assert page.model_dump(exclude_unset=True)["next_cursor"] == "c2"
        following = page.next_page()
        assert following is not None
        assert [each.id for each in following] == ["ses_3"]
        last = following.next_page()
        assert last is not None
        assert last.next_page() is None


def test_images_edit_is_openais_call(use: Use, tmp_path: Path) -> None:
    scores = {"semantic": 9.0, "quality": 9.0, "overall": 9.0}
    image = {"b64_json": base64.b64encode(PNG).decode(), "revised_prompt": "warmer", "turn": 2, "candidate": 1, "scores": scores}
    body = {"created": 1, "data": [image], "session_id": "ses_1", "finish_reason": "satisfied", "usage": {"total_tokens": 5}}
    with scripted(in_turn(as_json(body))) as server:
        made = use(
            server.base_url,
            lambda client: client.images.edit(
                image=PNG, prompt="x", model="classical", output_format="webp", metadata={"a": "b"}, extra_body={"fit": "contain"}
            ),
        )
    asked = server.asked[0]
    assert asked.path == "/v1/images/edits"
    for field, value in (("model", "classical"), ("output_format", "webp"), ("metadata[a]", "b"), ("fit", "contain")):
        assert f'name="{field}"\r\n\r\n{value}\r\n'.encode() in asked.body
    assert made.data[0].save(tmp_path / "out.png").read_bytes() == PNG
    assert (made.session_id, made.data[0].revised_prompt, made.data[0].turn) == ("ses_1", "warmer", 2)
    assert made.model_extra["usage"] == {"total_tokens": 5}


def test_an_image_that_is_a_link_says_so(use: Use) -> None:
    with scripted(in_turn(as_json({"created": 1, "data": [{"url": "https://example.com/1"}]}))) as server:
        made = use(server.base_url, lambda client: client.images.edit(PNG, "x", response_format="url"))
    with pytest.raises(ValueError, match="fetch url"):
        _ = made.data[0].image


PARTIAL = {"type": "image_edit.partial_image", "partial_image_index": 0, "turn": 1, "b64_json": base64.b64encode(PNG).decode()}
COMPLETED = {**PARTIAL, "type": "image_edit.completed", "turn": 2, "finish_reason": "satisfied", "new": 1}


def images(*events: dict[str, Any], **more: Any) -> Answer:
    body = "".join(f": keep-alive\n\nevent: {event.get('type', 'error')}\ndata: {json.dumps(event)}\n\n" for event in events)
    return Answer(200, body.encode(), {"content-type": "text/event-stream"}, **more)


def streamed(**options: Any) -> Callable[[Any], Any]:
    """The events of a streamed edit."""

    async def collected(client: Any) -> Any:
        return [event async for event in await client.images.edit(PNG, "x", stream=True, **options)]

    def do(client: Any) -> Any:
        return client.images.edit(PNG, "x", stream=True, **options) if isinstance(client, EditThinker) else collected(client)

    return do


def test_a_streamed_edit_gives_each_image_as_it_is_made(use: Use) -> None:
    with scripted(in_turn(Answer(drop=True), error(503, "not_ready"), images(PARTIAL, COMPLETED))) as server:
        first, last = use(server.base_url, streamed(partial_images=1))
    assert (first.type, first.turn, first.image) == ("image_edit.partial_image", 1, PNG)
    assert (last.type, last.turn, last.finish_reason, last.model_extra) == ("image_edit.completed", 2, "satisfied", {"new": 1})
    assert len({asked.headers["idempotency-key"] for asked in server.asked}) == 1
    assert b'name="stream"\r\n\r\ntrue' in server.asked[0].body
    assert b'name="partial_images"\r\n\r\n1' in server.asked[0].body


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (images(PARTIAL), APIConnectionError, "ended before the edit was completed"),
        (images(PARTIAL, cut=True), APIConnectionError, "broke"),
        (images(PARTIAL, {"error": {"message": "the editor is down", "code": "editor_failed"}}), APIError, "the editor is down"),
        (images({"error": "text"}), APIResponseError, "cannot be read"),
        (as_json({"created": 1, "data": []}), APIResponseError, "not the stream that was asked for"),
        (error(400, "invalid_value", "no such model"), BadRequestError, "no such model"),
    ],
)
def test_a_streamed_edit_that_fails_says_why(use: Use, answer: Answer, kind: type[Exception], says: str) -> None:
    with scripted(in_turn(answer)) as server, pytest.raises(kind, match=says):
        use(server.base_url, streamed())
    assert len(server.asked) == 1


def test_images_edit_joins_its_session_when_the_response_was_lost(use: Use) -> None:
    with scripted(in_turn(Answer(drop=True), as_json({"created": 1, "data": []}))) as server:
        use(server.base_url, lambda client: client.images.edit(PNG, "x"))
    assert len(server.asked) == 2
    assert len({asked.headers["idempotency-key"] for asked in server.asked}) == 1


def test_the_timeout_of_images_edit_is_its_own(use: Use) -> None:
    from threading import Event as Flag  # noqa: PLC0415 - as in test_client_calls

    never = Flag()
    once = Retries(attempts=1)
    with scripted(in_turn(Answer(hold=never))) as server:
        with pytest.raises(APITimeoutError, match="in time"):
            use(server.base_url, lambda client: client.images.edit(PNG, "x", timeout=1.0), retries=once)
        never.set()


def test_review_waits_until_a_person_is_asked(use: Use) -> None:
    events = [{"seq": 8, "type": "turn_started", "turn": 2}, {"seq": 9, "type": "review_requested"}]
    states = [session("running"), session("awaiting_review", last_event=9)]

    def script(asked: Asked) -> Answer:
        return stream(events) if asked.path.endswith("/events") else as_json(states.pop(0))

    with scripted(script) as server:
        assert use(server.base_url, lambda client: client.sessions.review("ses_1")).status == "awaiting_review"
    assert server.asked[1].headers["last-event-id"] == "7"


@pytest.mark.parametrize("status", ["awaiting_review", "succeeded", "cancelled"])
def test_review_returns_at_once_what_needs_no_waiting(use: Use, status: str) -> None:
    with scripted(in_turn(as_json(session(status)))) as server:
        assert use(server.base_url, lambda client: client.sessions.review("ses_1")).status == status
    assert len(server.asked) == 1


def test_the_routes_of_webhooks(use: Use) -> None:
    hook = {"id": "whk_1", "url": "https://example.com/h", "events": [], "secret": "whsec_MTIz"}

    def script(asked: Asked) -> Answer:
        if asked.path.endswith("/test"):
            return as_json({"delivered": True, "attempt": {"at": 1.0, "status": 204, "error": None}})
        if asked.path.endswith("/deliveries"):
            return as_json({"object": "list", "data": [{"id": "msg_1", "state": "pending", "attempts": []}]})
        if asked.method == "DELETE":
            return Answer(204)
        return as_json({"data": [hook]} if (asked.method, asked.path) == ("GET", "/v1/webhooks") else hook)

    with scripted(script) as server:
        base = server.base_url
        assert use(base, lambda c: c.webhooks.create("https://example.com/h", events=["session.finished"])).secret == "whsec_MTIz"
        assert use(base, lambda c: c.webhooks.list())[0].id == "whk_1"
        assert use(base, lambda c: c.webhooks.get("whk_1")).url == "https://example.com/h"
        assert use(base, lambda c: c.webhooks.rotate_secret("whk_1")).secret
        assert use(base, lambda c: c.webhooks.test("whk_1")).attempt.status == 204
        assert use(base, lambda c: c.sessions.deliveries("ses_1"))[0].state == "pending"
        assert use(base, lambda c: c.webhooks.delete("whk_1")) is None
    assert server.paths() == [
        "POST /v1/webhooks",
        "GET /v1/webhooks",
        "GET /v1/webhooks/whk_1",
        "POST /v1/webhooks/whk_1/rotate_secret",
        "POST /v1/webhooks/whk_1/test",
        "GET /v1/sessions/ses_1/deliveries",
        "DELETE /v1/webhooks/whk_1",
    ]
    assert json.loads(server.asked[0].body) == {"url": "https://example.com/h", "events": ["session.finished"]}


def test_models_are_listed_under_both_names(use: Use) -> None:
    with scripted(in_turn(as_json({"object": "list", "data": [{"id": "classical", "object": "model"}]}))) as server:
        assert use(server.base_url, lambda client: client.models.list())[0].id == "classical"
        with pytest.warns(DeprecationWarning, match=r"models\.list"):
            assert use(server.base_url, lambda client: client.models())[0].id == "classical"


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_a_fault_of_the_server_is_tried_again(use: Use, status: int) -> None:
    with scripted(in_turn(error(status, "a_code"), as_json(session()))) as server:
        assert use(server.base_url, lambda client: client.sessions.get("ses_1")).id == "ses_1"
    assert len(server.asked) == 2


def test_the_server_says_whether_a_repeat_makes_sense(use: Use) -> None:
    with scripted(in_turn(error(409, "a_code", x_should_retry="true"), as_json(session()))) as server:
        assert use(server.base_url, lambda client: client.sessions.get("ses_1")).id == "ses_1"
    with scripted(in_turn(error(502, "editor_failed", x_should_retry="false"))) as server, pytest.raises(InternalServerError):
        use(server.base_url, lambda client: client.sessions.get("ses_1"))
    assert len(server.asked) == 1


@pytest.mark.parametrize(("given", "requests"), [(0, 1), (2, 3)])
def test_max_retries_counts_the_repeats(use: Use, given: int, requests: int) -> None:
    with scripted(in_turn(error(503, "not_ready"))) as server, pytest.raises(APIStatusError) as caught:
        use(server.base_url, lambda client: client.sessions.get("ses_1"), max_retries=given)
    assert len(server.asked) == requests
    assert caught.value.status_code == caught.value.status == 503


def test_a_timeout_is_a_connection_error_as_in_openais_client() -> None:
    assert issubclass(APITimeoutError, APIConnectionError)
    with pytest.raises(ValueError, match="max_retries is -1"):
        EditThinker(max_retries=-1)


@pytest.mark.parametrize("kind", [EditThinker, AsyncEditThinker])
def test_the_environment_names_the_server(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EDITTHINKER_BASE_URL", "EDITTHINKER_SERVER", "EDITTHINKER_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert kind().base_url == "http://127.0.0.1:8080"
    monkeypatch.setenv("EDITTHINKER_SERVER", "http://former:1")
    assert kind().base_url == "http://former:1"
    monkeypatch.setenv("EDITTHINKER_BASE_URL", "http://present:1/v1")
    assert kind().base_url == "http://present:1"
    assert kind("http://given:1").base_url == kind(base_url="http://given:1").base_url == "http://given:1"
    with pytest.raises(ValueError, match="an API key, not a URL; give it as api_key="):
        kind("et_secret")


@pytest.mark.parametrize(("given", "sent"), [(None, "Bearer et_env"), ("et_1", "Bearer et_1"), ("", None)])
def test_the_environment_names_the_key(use: Use, monkeypatch: pytest.MonkeyPatch, given: str | None, sent: str | None) -> None:
    monkeypatch.setenv("EDITTHINKER_API_KEY", "et_env")
    with scripted(in_turn(as_json(session()))) as server:
        use(server.base_url, lambda client: client.sessions.get("s"), api_key=given, retries=FAST)
    assert server.asked[0].headers.get("authorization") == sent
