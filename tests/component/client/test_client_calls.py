"""Requests, answers, errors and retries, over a real connection."""

from __future__ import annotations

import inspect
import traceback
from pathlib import Path

import pytest

from editthinker import AsyncEditThinker, EditThinker
from editthinker.client import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    AsyncImages,
    AsyncModels,
    AsyncSessions,
    AsyncWebhooks,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    Images,
    InternalServerError,
    InvalidImageError,
    Models,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    SessionFailedError,
    Sessions,
    UnprocessableEntityError,
    Webhooks,
)
from tests.component.client.conftest import Use
from tests.component.client.scripted import EVENTS, PNG, Answer, Asked, as_json, error, in_turn, scripted, session, stream


def test_create_sends_what_was_given_and_reads_the_session(use: Use, tmp_path: Path) -> None:
    photo = tmp_path / "a photo.png"
    photo.write_bytes(PNG)
    with scripted(in_turn(as_json(session("queued"), 202))) as server:
        made = use(
            server.base_url + "/v1/",
            lambda client: client.sessions.create(photo, "é & more", max_turns=3, editor="classical"),
            api_key="sk-1",
        )
    asked = server.asked[0]
    assert (asked.method, asked.path) == ("POST", "/v1/sessions")
    assert asked.headers["authorization"] == "Bearer sk-1"
    assert asked.headers["idempotency-key"]
    assert b'name="image"; filename="a photo.png"\r\nContent-Type: image/png\r\n\r\n' + PNG in asked.body
    assert 'name="prompt"\r\n\r\né & more'.encode() in asked.body
    assert b'name="max_turns"\r\n\r\n3' in asked.body
    assert b'name="model"\r\n\r\nclassical' in asked.body
    assert (made.id, made.status, made.ended) == ("ses_1", "queued", False)
    assert made.model_extra["unheard_of"] == {"new": True}


@pytest.mark.parametrize(("given", "says"), [(b"", "is empty"), (b"hello", "is not an image")])
def test_bytes_that_are_not_a_picture_are_not_sent(use: Use, given: bytes, says: str) -> None:
    with scripted(in_turn(as_json({}))) as server, pytest.raises(InvalidImageError, match=says):
        use(server.base_url, lambda client: client.sessions.create(given, "x"))
    assert server.asked == []


def test_every_other_route(use: Use) -> None:
    def script(asked: Asked) -> Answer:
        path = asked.path.partition("?")[0]
        if path.endswith(("/image", "/source", "/answer")):
            return Answer(200, PNG)
        if path == "/v1/sessions":
            return as_json({"object": "list", "data": [session()], "next_cursor": "c2"})
        if path == "/v1/models":
            return as_json({"object": "list", "data": [{"id": "classical", "object": "model"}]})
        if path == "/readyz":
            return as_json({"redis": "unreachable"}, 503)
        return Answer(204) if asked.method == "DELETE" else as_json(session())

    with scripted(script) as server:
        base = server.base_url
        assert use(base, lambda c: c.sessions.list(5, "c1", status="running")).next_cursor == "c2"
        assert use(base, lambda c: c.sessions.get("a/../b")).best.turn == 1
        assert use(base, lambda c: c.sessions.cancel("s")).ended
        assert use(base, lambda c: c.sessions.feedback("s", action="pick", turn=2, candidate=1)).ended
        assert use(base, lambda c: c.sessions.delete("s")) is None
        assert use(base, lambda c: c.sessions.image("s")) == PNG
        assert use(base, lambda c: c.sessions.image("s", 2, format="jpeg")) == PNG
        assert use(base, lambda c: c.sessions.source("s")) == PNG
        assert use(base, lambda c: c.sessions.answer("s", 2, format="webp")) == PNG
        assert use(base, lambda c: c.models.list())[0].id == "classical"
        ready = use(base, lambda c: c.ready())
    assert (ready.ready, ready.model_extra) == (False, {"redis": "unreachable"})
    assert server.paths() == [
        "GET /v1/sessions?limit=5&cursor=c1&status=running",
        "GET /v1/sessions/a%2F..%2Fb",
        "POST /v1/sessions/s/cancel",
        "POST /v1/sessions/s/feedback",
        "DELETE /v1/sessions/s",
        "GET /v1/sessions/s/image",
        "GET /v1/sessions/s/turns/2/candidates/1/image?format=jpeg",
        "GET /v1/sessions/s/source",
        "GET /v1/sessions/s/turns/2/candidates/1/answer?format=webp",
        "GET /v1/models",
        "GET /readyz",
    ]
    assert server.asked[3].body == b'{"action":"pick","turn":2,"candidate":1}'


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (409, ConflictError),
        (413, BadRequestError),
        (422, UnprocessableEntityError),
        (429, RateLimitError),
        (500, InternalServerError),
        (502, InternalServerError),
        (503, InternalServerError),
    ],
)
def test_errors_have_their_class_and_all_their_parts(use: Use, status: int, kind: type[APIStatusError]) -> None:
    answer = error(status, "a_code", "fix it", "seed", x_should_retry="false", retry_after="7")
    with scripted(in_turn(answer)) as server, pytest.raises(APIStatusError) as caught:
        use(server.base_url, lambda client: client.sessions.get("s"))
    exc = caught.value
    assert type(exc) is kind
    assert (exc.status, exc.code, exc.message, exc.param, exc.type) == (status, "a_code", "fix it", "seed", "x")
    assert (exc.request_id, exc.retry_after) == ("req_1", 7.0)
    assert len(server.asked) == 1
    assert "fix it" in str(exc)
    assert "req_1" in str(exc)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": "text"}', b'{"error": {"message": null}}', b"\xff"])
def test_an_error_body_can_be_anything(use: Use, body: bytes) -> None:
    with scripted(in_turn(Answer(502, body))) as server, pytest.raises(InternalServerError, match="502"):
        use(server.base_url, lambda client: client.sessions.get("s"))


@pytest.mark.parametrize("body", [b"", b"<html>hello</html>", b"[1]", b'{"id": 1}', b'{"hello": "world"}'])
def test_an_answer_that_is_not_this_apis_says_so(use: Use, body: bytes) -> None:
    with scripted(in_turn(Answer(200, body))) as server, pytest.raises(APIResponseError):
        use(server.base_url, lambda client: client.sessions.get("s"))


def test_a_read_is_repeated_after_lost_answers_and_refusals(use: Use) -> None:
    answers = [
        Answer(drop=True),
        error(429, "overloaded", retry_after="0"),
        error(503, "not_ready"),
        as_json(session()),
    ]
    with scripted(in_turn(*answers)) as server:
        assert use(server.base_url, lambda client: client.sessions.get("s")).id == "ses_1"
    assert len(server.asked) == 4


def test_retry_after_is_waited_out(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def remember(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("editthinker.client.sync.sleep", waited.append)
    monkeypatch.setattr("editthinker.client.aio.sleep", remember)
    with scripted(in_turn(error(429, "overloaded", retry_after="1.5"), as_json(session()))) as server:
        use(server.base_url, lambda client: client.sessions.get("s"))
    assert waited == [1.5]


def test_a_long_retry_after_is_the_callers_to_decide(use: Use) -> None:
    with scripted(in_turn(error(429, "overloaded", retry_after="3600"))) as server, pytest.raises(RateLimitError) as caught:
        use(server.base_url, lambda client: client.sessions.get("s"))
    assert caught.value.retry_after == 3600
    assert len(server.asked) == 1


def test_create_is_repeated_with_the_same_key(use: Use) -> None:
    with scripted(in_turn(Answer(drop=True), error(503, "not_ready"), as_json(session("queued"), 202))) as server:
        use(server.base_url, lambda client: client.sessions.create(PNG, "x"))
    assert len({asked.headers["idempotency-key"] for asked in server.asked}) == 1
    assert len({asked.body.split(b"\r\n", 1)[1].split(b"--")[0] for asked in server.asked}) == 1
    assert len(server.asked) == 3


def test_feedback_is_not_repeated_when_its_answer_was_lost(use: Use) -> None:
    with scripted(in_turn(Answer(drop=True), as_json(session()))) as server, pytest.raises(APIConnectionError):
        use(server.base_url, lambda client: client.sessions.feedback("s", action="accept"))
    assert len(server.asked) == 1


def test_a_delete_whose_answer_was_lost_is_done(use: Use) -> None:
    with scripted(in_turn(Answer(drop=True), error(404, "session_not_found"))) as server:
        assert use(server.base_url, lambda client: client.sessions.delete("s")) is None
    with scripted(in_turn(error(404, "session_not_found"))) as server, pytest.raises(NotFoundError):
        use(server.base_url, lambda client: client.sessions.delete("s"))


def test_no_server(use: Use) -> None:
    with pytest.raises(APIConnectionError, match=r"cannot connect to http://127\.0\.0\.1") as caught:
        use("http://127.0.0.1:1", lambda client: client.sessions.get("s"))
    assert not caught.value.sent


def test_a_slow_answer_ends_with_the_timeout(use: Use) -> None:
    from threading import Event as Flag  # noqa: PLC0415 - Event is the client's here

    never = Flag()
    with scripted(in_turn(Answer(hold=never))) as server:
        with pytest.raises(APIConnectionError, match="in time"):
            use(server.base_url, lambda client: client.sessions.feedback("s", action="accept"), timeout=1.0)
        never.set()


def test_edit_creates_waits_and_fetches(use: Use, tmp_path: Path) -> None:
    def script(asked: Asked) -> Answer:
        if asked.method == "POST":
            return as_json(session("queued", best=None), 202)
        if asked.path.endswith("/events"):
            return stream(EVENTS)
        return Answer(200, PNG) if "/image" in asked.path else as_json(session())

    with scripted(script) as server:
        done = use(server.base_url, lambda client: client.edit(PNG, "x", format="webp", max_turns=2))
    assert (done.image, done.media_type, done.session.status) == (PNG, "image/png", "succeeded")
    assert done.save(tmp_path / "out.png").read_bytes() == PNG
    assert server.paths()[-1] == "GET /v1/sessions/ses_1/image?format=webp"


def test_edit_says_why_a_session_failed(use: Use) -> None:
    failed = session("failed", error={"code": "editor_unreachable", "message": "the editor is down"})

    def script(asked: Asked) -> Answer:
        return stream(EVENTS) if asked.path.endswith("/events") else as_json(failed)

    with scripted(script) as server, pytest.raises(SessionFailedError, match="the editor is down") as caught:
        use(server.base_url, lambda client: client.edit(PNG, "x"))
    assert caught.value.session.status == "failed"


@pytest.mark.parametrize(
    "url", ["", "ftp://x", "http://", "/v1", "http://h:port", "h:0", "http://[::1", "http://a\x07b", "a..b", "http://xn--zz--"]
)
def test_a_base_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        EditThinker(url)


@pytest.mark.parametrize("kind", [EditThinker, AsyncEditThinker])
@pytest.mark.parametrize(
    "key", ["et_SECRET\rx", "et_SECRET\nx-tenant: other", "et_SECRET x", "et_SECRET\x1b", "et_SECRETé", "\udcffet_SECRET"]
)
def test_an_invalid_key_is_refused_and_not_quoted(kind: type[EditThinker | AsyncEditThinker], key: str) -> None:
    """When the client is made, and neither by the error nor by what it comes from."""
    with pytest.raises(ValueError, match="API key") as caught:
        kind("http://127.0.0.1:9", key)
    text = "".join(traceback.format_exception(None, caught.value, None))
    assert type(caught.value) is ValueError
    assert "SECRET" not in text


@pytest.mark.parametrize(
    ("given", "sent"), [("et_1\r\n", "Bearer et_1"), (" et_1", "Bearer et_1"), ("\r\n", None), ("", None), (None, None)]
)
def test_white_space_around_a_key_is_not_sent(use: Use, given: str | None, sent: str | None) -> None:
    """It comes of files and of copying."""
    with scripted(in_turn(as_json(session()))) as server:
        use(server.base_url, lambda client: client.sessions.get("s"), api_key=given)
    assert server.asked[0].headers.get("authorization") == sent


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/", "h:1", " h:1/v1 ", "h:1//"])
def test_the_base_url_is_taken_with_or_without_v1(url: str) -> None:
    with EditThinker(url) as client:
        assert client.base_url == "http://h:1"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (EditThinker, AsyncEditThinker),
        (Images, AsyncImages),
        (Models, AsyncModels),
        (Sessions, AsyncSessions),
        (Webhooks, AsyncWebhooks),
    ],
)
def test_both_clients_have_the_same_methods_and_parameters(one: type, other: type) -> None:
    def shape(kind: type) -> dict[str, list[tuple[str, object]]]:
        public = {name: value for name, value in vars(kind).items() if not name.startswith("_") and callable(value)}
        return {
            name.removeprefix("a") if name == "aclose" else name: [
                (each.name, each.default) for each in inspect.signature(value).parameters.values()
            ]
            for name, value in public.items()
        }

    assert shape(one) == shape(other)
