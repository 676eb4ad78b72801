"""What comes back from a collaborator: broken connections, replies of every wrong kind, and what they are told as."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import orjson
import pytest
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response

from orchestrator.upstreams.http import HttpUpstream, Role
from tests.component.orchestrator.desk import Desk, asking, failure, post, raw_server

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        HEAD + b'content-length: 100\r\n\r\n{"data": [',
        HEAD + b'transfer-encoding: chunked\r\n\r\n5\r\n{"dat',
        HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"content-length: -1\r\n\r\n{}",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x00" * 64,
    ],
    ids=["nothing", "half a head", "half a body", "half a chunk", "no chunk", "bad length", "ssh", "zeros"],
)
async def test_a_connection_that_breaks(reply: bytes) -> None:
    """Cut at any place, or no HTTP at all: worth another try, and never an exception of the client library."""
    async with raw_server(reply) as url:
        error = await failure(url, attempts=1)

    assert (error.code, error.retryable) == ("editor_failed", True)
    assert "connection" in error.message


@pytest.mark.parametrize(
    "answer",
    [
        HTMLResponse("<h1>It works!</h1>"),
        PlainTextResponse(""),
        Response(status_code=204),
        PlainTextResponse('{"data": [{"b64_json": "AAA'),
        Response(b"\xff\xfe\x00", media_type="application/json"),
        PlainTextResponse("NaN"),
        PlainTextResponse("[" * 100_000),
    ],
    ids=["html", "empty", "204", "half json", "bytes", "NaN", "deep"],
)
@pytest.mark.parametrize("role", ["editor", "thinker"])
async def test_an_answer_that_is_not_json(desk: Desk, at_once: None, answer: Response, role: Role) -> None:
    """The loop may try again; the same call is not repeated, since the server has done its work."""
    desk.answers = [answer]
    error = await failure(desk, role=role, attempts=3)

    assert len(desk.seen) == 1
    assert (error.code, error.retryable) == (f"{role}_bad_reply", True)


def packed(data: bytes, times: int) -> bytes:
    for _ in range(times):
        data = gzip.compress(data)
    return data


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "deflate", "br", "zstd", "nonsense"])
@pytest.mark.parametrize("role", ["editor", "thinker"])
async def test_an_encoded_reply_is_refused_and_never_decoded(
    desk: Desk, at_once: None, monkeypatch: pytest.MonkeyPatch, encoding: str, role: Role
) -> None:
    """Kilobytes can stand for gigabytes, and nobody asked for an encoding."""
    monkeypatch.setattr(zlib, "decompressobj", lambda *_, **__: pytest.fail("a reply was decoded"))
    desk.answers = [Response(packed(b" " * 3_000_000, 2), headers={"content-encoding": encoding})]
    error = await failure(desk, role=role, attempts=3)

    assert (error.code, error.retryable, len(desk.seen)) == (f"{role}_bad_reply", False, 1)
    assert f"content encoding {encoding}" in error.message
    assert desk.seen[0].headers["accept-encoding"] == "identity"


async def test_identity_is_no_encoding(desk: Desk) -> None:
    """Some servers say so."""
    desk.answers = [Response(b'{"good": true}', headers={"content-encoding": "identity"})]
    assert await post(desk) == {"good": True}


async def test_an_encoded_error_is_told_by_its_status(desk: Desk) -> None:
    """Its body is not read."""
    desk.answers = [Response(packed(b" " * 3_000_000, 2), 400, {"content-encoding": "gzip"})]
    error = await failure(desk)
    assert (error.code, error.message) == ("editor_refused", "the editor answered 400: no message")


async def test_a_reply_without_end_is_cut(desk: Desk, at_once: None) -> None:
    """Beyond the limit nothing more is read; of an error, only the start is."""
    desk.answers = [Response(b" " * 3_000_000)]
    error = await failure(desk, attempts=3, max_reply=1_000_000)
    assert (error.code, error.retryable, len(desk.seen)) == ("editor_bad_reply", False, 1)
    assert "1,000,000" in error.message

    desk.answers = [Response(b'"' + b"x" * 999_998 + b'"')]
    assert len(await post(desk, max_reply=1_000_000)) == 999_998

    desk.answers = [Response(b"x" * 3_000_000, 400)]
    assert (await failure(desk, max_reply=1_000_000)).code == "editor_refused"


MANY = [b'{"choices": [' + b"{}," * 200_000 + b"{}]}", b"[" * 300_000, b'{"data":{' + b'"":1,' * 200_001]


@pytest.mark.parametrize("body", MANY)
@pytest.mark.parametrize("role", ["editor", "thinker"])
async def test_a_reply_of_many_values_is_refused_before_it_is_built(
    desk: Desk, at_once: None, monkeypatch: pytest.MonkeyPatch, body: bytes, role: Role
) -> None:
    """Forty megabytes of choices became five gigabytes of objects."""
    monkeypatch.setattr(orjson, "loads", lambda _: pytest.fail("a reply was parsed"))
    desk.answers = [Response(body)]
    error = await failure(desk, role=role)
    assert (error.code, error.retryable) == (f"{role}_bad_reply", False)
    assert "200,000 values" in error.message


DEEP = b'{"detail": ' + b"[" * 1000 + b"]" * 1000 + b"}"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"error": {"message": "too dark", "code": "x"}}', "too dark"),
        (b'{"error": "too dark"}', "too dark"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b'{"detail": [{"loc": ["body", "prompt"], "msg": "Field required"}]}', "Field required"),
        (b'{"message": "too dark"}', "too dark"),
        (b'{"error": {"message": null}}', '{"error"'),
        (b'{"error": {}}', '{"error"'),
        (b'{"error": {"message": ["a"]}}', "a"),
        (b'{"error": {"message": "a\\nb\\r\\n  c"}}', "a b c"),
        (b"[1]", "[1]"),
        (b"<html>\n<h1>Bad Gateway</h1>", "<html> <h1>Bad Gateway</h1>"),
        (b"", "no message"),
        (b" \n ", "no message"),
        (b"\xff\xfe", "\ufffd"),
        (b'{"error": "\\u001b]52;c;aGk=\\u0007\\u202e"}', "\\x1b]52;c;aGk=\\x07\\u202e"),
        (DEEP, "[["),
        (b'{"error": {"message": "' + b"x" * 100_000 + b'"}}', "x" * 400),
    ],
)
async def test_what_the_server_said_is_told(desk: Desk, body: bytes, told: str) -> None:
    """OpenAI's error body, FastAPI's, or the start of the body, in one line of bounded length."""
    desk.answers = [Response(body, 400)]
    error = await failure(desk)

    assert told in error.message
    assert error.message.startswith("the editor answered 400: ")
    assert len(error.message) < 600


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"error": {"message": "no", "code": "content_refused"}}, "content_refused"),
        ({"error": {"message": "no", "code": "context_overflow"}}, "context_overflow"),
        ({"error": {"message": "no", "code": "content_filter"}}, "content_refused"),
        ({"error": {"message": "no", "code": "moderation_blocked"}}, "content_refused"),
        ({"error": {"message": "no", "code": "invalid_api_key"}}, "thinker_failed"),
        ({"error": {"message": "no", "code": "session_not_found"}}, "thinker_failed"),
        ({"error": {"message": "no", "code": ["content_refused"]}}, "thinker_failed"),
        ({"error": {"message": "no", "code": 400}}, "thinker_failed"),
        ({"error": "content_refused"}, "thinker_failed"),
        (["content_refused"], "thinker_failed"),
    ],
)
async def test_the_codes_that_mean_the_same_for_our_caller(desk: Desk, body: Any, code: str) -> None:
    """A refusal and an overflow are passed on; any other code is the collaborator's own business."""
    desk.answers = [JSONResponse(body, 400)]

    assert (await failure(desk, role="thinker")).code == code


async def test_redirects_are_not_followed(desk: Desk) -> None:
    """A collaborator does not choose whom we talk to, nor who sees the key."""
    desk.answers = [RedirectResponse(f"{desk.url}/v1/elsewhere", 307)]
    error = await failure(desk, api_key="secret", attempts=2)

    assert [seen.path for seen in desk.seen] == ["/v1/things"]
    assert "307" in error.message


@pytest.mark.parametrize(("status", "ready"), [(200, True), (401, True), (404, True), (500, False), (503, False)])
async def test_ready_is_whether_somebody_answers(desk: Desk, status: int, ready: bool) -> None:  # noqa: FBT001
    """Servers without a list of models are there all the same; a failing one is not."""
    desk.answers = [Response(status_code=status)]
    async with asking("editor", desk.url) as upstream:
        assert await upstream.ready() is ready
    assert (desk.seen[0].method, desk.seen[0].path) == ("GET", "/v1/models")


async def test_nobody_there_is_not_ready() -> None:
    """Refused, or no HTTP."""
    async with asking("editor", "http://127.0.0.1:1") as upstream:
        assert not await upstream.ready()
    async with raw_server(b"SSH-2.0\r\n") as url, asking("editor", url) as upstream:
        assert isinstance(upstream, HttpUpstream)
        assert not await upstream.ready()
