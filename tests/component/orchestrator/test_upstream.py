"""One call to a collaborator: bounded in time, size and tries, and every failure translated once."""

from __future__ import annotations

import asyncio
import email.utils
import time
from collections.abc import Awaitable, Callable

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from orchestrator.ports.errors import EditorError, PortError, StorageUnavailableError
from orchestrator.upstreams.http import Call, Lazy, Role
from orchestrator.upstreams.liveness import Patience
from tests.component.orchestrator.desk import (
    CALL,
    WAIT_S,
    Answer,
    Desk,
    Pace,
    asking,
    busy,
    failure,
    holding,
    post,
    raw_server,
    stalling,
)

GOOD = JSONResponse({"good": True})
Silent = Callable[[Desk, Request], Awaitable[Response]]


async def test_what_is_sent(desk: Desk) -> None:
    """The pieces as one body of known length, with the call's own headers."""
    desk.answers = [GOOD]

    assert await post(desk) == {"good": True}
    (seen,) = desk.seen
    assert (seen.method, seen.path, seen.body) == ("POST", "/v1/things", b"hello there")
    assert seen.headers["content-type"] == "text/plain"
    assert seen.headers["content-length"] == "11" and "transfer-encoding" not in seen.headers
    assert seen.headers["idempotency-key"] == "k"
    assert seen.headers["accept"] == "application/json"


async def test_small_pieces_go_together_and_large_ones_are_not_copied() -> None:
    """Each write wakes the server up."""
    large = bytes(1_000_000)

    async def load() -> bytes:
        return large

    body: list[bytes | Lazy] = [b"head", Lazy(len(large), load), b"between", Lazy(len(large), load), b"tail"]
    pieces = [piece async for piece in Call("/things", body, "text/plain", {}).pieces()]

    assert b"".join(pieces) == b"head" + large + b"between" + large + b"tail"
    assert len(pieces) == 5
    assert sum(isinstance(piece, memoryview) and piece.obj is large for piece in pieces) == 2

    small = [piece async for piece in Call("/things", [b"head", Lazy(5, _hello), b"tail"], "text/plain", {}).pieces()]
    assert small == [b"headhellotail"]


async def _hello() -> bytes:
    return b"hello"


async def test_the_key_is_a_bearer_token(desk: Desk) -> None:
    """Sent where there is one, to `ready` as well; no header where there is none."""
    desk.answers = [GOOD]
    await post(desk, api_key="secret")
    await post(desk)
    async with asking("editor", desk.url, api_key="secret") as upstream:
        await upstream.ready()

    assert [seen.headers.get("authorization") for seen in desk.seen] == ["Bearer secret", None, "Bearer secret"]


async def test_a_lazy_piece_is_loaded_for_every_attempt(desk: Desk, at_once: None) -> None:
    """Nothing is held between attempts, and each sends the whole body."""
    desk.answers = [busy(), GOOD]
    loads = 0

    async def load() -> bytes:
        nonlocal loads
        loads += 1
        return b"lazy!"

    await post(desk, Call("/x", [b"<", Lazy(5, load), b">"], "text/plain", {}))

    assert [seen.body for seen in desk.seen] == [b"<lazy!>", b"<lazy!>"]
    assert loads == 2


@pytest.mark.parametrize("data", [b"", b"1234", b"123456"])
async def test_a_piece_of_another_size_than_promised_fails(desk: Desk, data: bytes) -> None:
    """A body that does not match its announced length is our error here, not a hang there, and no try mends it."""
    desk.answers = [GOOD]

    async def load() -> bytes:
        return data

    with pytest.raises(PortError) as caught:
        await post(desk, Call("/x", [Lazy(5, load)], "text/plain", {}))
    assert (caught.value.code, caught.value.retryable) == ("internal_error", False)


async def test_a_store_that_fails_is_not_the_collaborators_fault(desk: Desk, at_once: None) -> None:
    """What cannot be loaded keeps its own error."""

    async def load() -> bytes:
        raise StorageUnavailableError("the disk is gone")

    with pytest.raises(StorageUnavailableError):
        await post(desk, Call("/x", [Lazy(5, load)], "text/plain", {}), attempts=2)


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 599])
@pytest.mark.parametrize("role", ["editor", "thinker"])
async def test_what_may_pass_is_tried_again(desk: Desk, at_once: None, status: int, role: Role) -> None:
    """As often as configured, and no more; success on the way is success."""
    desk.answers = [busy(None, status)]
    error = await failure(desk, role=role, attempts=3)

    assert len(desk.seen) == 3
    assert (error.code, error.retryable) == (f"{role}_failed", True)
    assert f"the {role} answered {status}: busy" in error.message
    desk.answers = [busy(None, status), busy(None, status), GOOD]
    desk.seen.clear()
    assert await post(desk, role=role, attempts=3) == {"good": True}


async def test_a_busy_server_is_waited_for(desk: Desk) -> None:
    """Responses with 429 do not count as attempts; only time bounds them."""
    desk.answers = [*[busy("0.05")] * 5, busy("0.05", 503), GOOD]
    assert await post(desk, attempts=2) == {"good": True}
    assert len(desk.seen) == 7

    # Past the end of the call, so it ends with this response and not in the middle of a further request.
    desk.answers = [*[busy("0.05")] * 3, busy("60")]
    desk.seen.clear()
    error = await failure(desk, role="thinker", attempts=1)
    assert (error.code, error.retryable) == ("thinker_overloaded", True)
    assert "busy" in error.message
    assert len(desk.seen) == 4


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 405, 409, 413, 415, 422])
async def test_what_cannot_pass_is_not_tried_again(desk: Desk, at_once: None, status: int) -> None:
    """The same request gets the same answer."""
    desk.answers = [busy("0", status)]
    error = await failure(desk, attempts=3)

    assert len(desk.seen) == 1
    of_the_request = status in {400, 413, 415, 422}
    assert (error.code, error.retryable) == ("editor_refused" if of_the_request else "editor_failed", False)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_server_that_asks_for_no_retry_gets_none(desk: Desk, at_once: None, status: int) -> None:
    """`x-should-retry: false` counts for more than the status: the work was done, and would be done again."""
    desk.answers = [JSONResponse({"error": {"message": "spent"}}, status, {"x-should-retry": "false", "retry-after": "0"})]
    error = await failure(desk, attempts=3)

    assert len(desk.seen) == 1
    assert not error.retryable


@pytest.mark.parametrize("retry_after", ["0", "0.0", "-3", "nan"])
async def test_a_server_that_is_ready_again_is_asked_at_once(desk: Desk, waits: list[float], retry_after: str) -> None:
    """Retry-After replaces the backoff: five tries take less than the first wait of it."""
    desk.answers = [busy(retry_after), busy(retry_after, 503), busy(retry_after), busy(retry_after), GOOD]
    await post(desk, attempts=5)

    assert len(desk.seen) == 5
    assert waits == [0.05] * 4


async def test_a_server_that_names_a_time_is_given_it(desk: Desk, waits: list[float]) -> None:
    """Not asked earlier than it said."""
    desk.answers = [busy("0.4"), GOOD]
    await post(desk, attempts=2)

    assert waits == [0.4]


async def test_a_date_is_a_time_too(desk: Desk, waits: list[float]) -> None:
    """Retry-After as an HTTP date: one that is past means now, one in the far future more than a call may take."""
    desk.answers = [busy(email.utils.formatdate(time.time() - 60, usegmt=True)), GOOD]
    await post(desk, attempts=2)
    assert waits == [0.05]

    desk.answers = [busy(email.utils.formatdate(time.time() + 3600, usegmt=True))]
    desk.seen.clear()
    error = await failure(desk, attempts=2)
    assert len(desk.seen) == 1
    assert error.retry_after == 60.0


@pytest.mark.parametrize("retry_after", ["soon", "", "1e", "١"])  # noqa: RUF001
async def test_an_unreadable_retry_after_is_ignored(desk: Desk, at_once: None, retry_after: str) -> None:
    """The backoff decides."""
    response = busy(None)
    response.raw_headers.append((b"retry-after", retry_after.encode()))
    desk.answers = [response, GOOD]

    assert await post(desk, attempts=2) == {"good": True}


@pytest.mark.parametrize("retry_after", ["55", "1e9", "inf"])
async def test_a_wait_beyond_the_deadline_is_not_begun(desk: Desk, waits: list[float], retry_after: str) -> None:
    """The server's answer is told at once when its Retry-After leaves no time to follow it."""
    desk.answers = [busy(retry_after)]
    error = await failure(desk, attempts=4)

    assert waits == []
    assert (error.code, error.retryable) == ("editor_overloaded", True)
    assert error.retry_after == min(60.0, float(retry_after))
    assert len(desk.seen) == 1


async def test_tries_end_with_the_deadline(desk: Desk) -> None:
    """However many were left."""
    desk.answers = [busy("0.1")]
    error = await failure(desk, attempts=1000, timeout_s=0.6)

    assert len(desk.seen) < 10
    assert error.code in {"editor_overloaded", "editor_timeout"} and error.retryable


@pytest.mark.parametrize("answer", [holding, stalling], ids=["no answer", "a stalled body"])
@pytest.mark.parametrize("role", ["editor", "thinker"])
async def test_silence_ends_with_the_deadline(desk: Desk, pace: Pace, answer: Silent, role: Role) -> None:
    """Head or body: a call never takes longer than its time, and the server is let go."""

    async def silent(desk: Desk, request: Request) -> Response:
        pace.pass_by(9.0)
        return await answer(desk, request)

    desk.answers = [silent]
    # Less than one request may be silent.
    error = await failure(desk, role=role, timeout_s=9.0)

    assert (error.code, error.retryable) == (f"{role}_timeout", True)
    assert "within 9.0 s" in error.message
    assert await asyncio.to_thread(desk.left.wait, WAIT_S)


async def test_the_configured_time_bounds_the_callers(desk: Desk, pace: Pace) -> None:
    """The shorter of the two counts, and is the one that is told."""
    desk.answers = [holding]
    async with asking("editor", desk.url, timeout_s=0.2) as upstream:
        with pytest.raises(EditorError) as caught:
            await upstream.post(CALL, Patience.of(60))

    assert "0.2 s" in caught.value.message


@pytest.mark.parametrize("timeout_s", [0.0, -5.0])
async def test_no_time_left_is_a_timeout(desk: Desk, timeout_s: float) -> None:
    """A deadline that is past asks nobody."""
    desk.answers = [GOOD]

    assert (await failure(desk, timeout_s=timeout_s)).code == "editor_timeout"


@pytest.mark.parametrize("answer", [holding, stalling], ids=["waiting", "reading"])
async def test_cancelling_closes_the_connection(desk: Desk, answer: Answer) -> None:
    """The server learns that nobody waits any longer."""
    desk.answers = [answer]
    async with asking("editor", desk.url) as upstream:
        task = asyncio.create_task(upstream.post(CALL, Patience.of(WAIT_S)))
        assert await asyncio.to_thread(desk.arrived.wait, WAIT_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(desk.left.wait, WAIT_S)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://xn--"], ids=["port", "name"])
async def test_nobody_there(at_once: None, url: str) -> None:
    """A refused connection, or a name without an address, is worth another try."""
    error = await failure(url, attempts=2)

    assert (error.code, error.retryable) == ("editor_unreachable", True)


@pytest.mark.parametrize("url", ["http://[::1", "ftp://127.0.0.1", "127.0.0.1:80", "http://x:port"])
async def test_a_url_that_leads_nowhere_is_not_tried_again(waits: list[float], url: str) -> None:
    """A mistake in the configuration is told as one, and `ready` says no; without waiting."""
    error = await failure(url, attempts=4)

    assert (error.code, error.retryable) == ("editor_unreachable", False)
    assert waits == []
    async with asking("editor", url) as upstream:
        assert not await upstream.ready()


@pytest.mark.parametrize("key", ["two\nlines", "a\r\nx-admin: yes", "\x00", "кључ"])
async def test_a_key_that_is_no_header_is_told_as_a_mistake(desk: Desk, key: str) -> None:
    """It is not sent in part, not tried again, and not shown."""
    desk.answers = [GOOD]
    error = await failure(desk, api_key=key, attempts=4)

    assert (error.code, error.retryable) == ("editor_unreachable", False)
    assert key not in error.message
    assert desk.seen == []
    async with asking("editor", desk.url, api_key=key) as upstream:
        assert not await upstream.ready()


async def test_a_refusal_in_the_middle_of_an_upload_is_read() -> None:
    """A server that does not want the picture says so before it has it all."""
    reply = b'HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 20\r\n\r\n{"error": "too big"}'
    async with raw_server(reply, lingering=True) as url:
        error = await failure(url, call=Call("/x", [b"x" * 1_000_000] * 20, "text/plain", {}), attempts=1)

    assert (error.code, error.retryable) == ("editor_refused", False)
    assert "413: too big" in error.message
