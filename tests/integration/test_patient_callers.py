"""Calls that take long: early bytes keep clients waiting, an error stays one, and a caller who left comes back to its session."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from socket import SHUT_RDWR
from typing import Any

import httpx
import openai
import pytest
import redis as redis_client
from starlette.responses import JSONResponse, Response

from tests.doubles.processes import Process
from tests.doubles.upstreams import Script, picture
from tests.integration.conftest import Start
from tests.integration.test_shutdown import edit, session, sessions
from tests.integration.test_takeover import until

EARLY = {"EDITTHINKER_REPLY_STARTS_S": "0.3"}


@pytest.fixture(autouse=True)
def two_turns(script: Script) -> None:
    script.scores = [(3, 9)]


class Call:
    """A request on a connection of its own, which can be left."""

    def __init__(self, process: Process, pool: ThreadPoolExecutor, **fields: str) -> None:
        data = {"prompt": "x", "max_turns": "2", **fields}
        request = httpx.Request("POST", process.url, files={"image": picture()}, data=data)
        self.connection = HTTPConnection("127.0.0.1", process.port, timeout=60)
        self.connection.request("POST", "/v1/images/edits", request.read(), dict(request.headers))
        self.socket = self.connection.sock
        self.head: Future[HTTPResponse] = pool.submit(self.connection.getresponse)

    def pieces(self) -> Iterator[bytes]:
        head = self.head.result(60)
        while piece := head.read1():
            yield piece

    def leave(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(SHUT_RDWR)


Make = Callable[..., Call]


@pytest.fixture
def call_of() -> Iterator[Make]:
    """Makes calls to a process; their connections are closed at the end."""
    made: list[Call] = []
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(8))

        def make(process: Process, **fields: str) -> Call:
            made.append(Call(process, pool, **fields))
            return made[-1]

        yield make
        for call in made:
            call.leave()
    for call in made:
        if call.head.exception() is None:
            call.head.result().close()
        call.connection.close()


def failing(_: int) -> Response:
    return JSONResponse({"error": {"message": "no", "type": "invalid_request_error", "code": "content_policy"}}, 400)


def test_a_long_call_begins_with_white_space(start_orchestrator: Start, script: Script, call_of: Make) -> None:
    script.hold_every = True
    call = call_of(start_orchestrator(**EARLY))
    head, pieces = call.head.result(60), call.pieces()
    first = [next(pieces), next(pieces), next(pieces)]
    script.release.set()
    body = b"".join([*first, *pieces])

    assert {piece.strip() for piece in first} == {b""}
    assert (head.status, head.headers["content-type"]) == (200, "application/json")
    assert head.headers["x-accel-buffering"] == "no"
    reply = json.loads(body)
    assert reply["data"][0]["b64_json"]
    assert reply["session_id"] == head.headers["x-session-id"]


def test_a_call_that_is_done_before_has_its_status_and_no_white_space(start_orchestrator: Start, script: Script) -> None:
    process = start_orchestrator(EDITTHINKER_REPLY_STARTS_S="30")
    assert edit(process).text.startswith('{"data":[{"b64_json"')
    script.edit_fault = failing
    assert edit(process, prompt="y").status_code >= 400


def test_an_error_after_the_head_breaks_the_reply_off_and_is_the_status_of_the_repeat(
    start_orchestrator: Start, script: Script, call_of: Make
) -> None:
    """What is sent shows the error, and is never JSON that a client could take for a result."""
    script.hold_every, script.edit_fault = True, failing
    process = start_orchestrator(**EARLY)
    call = call_of(process)
    pieces = call.pieces()
    received = [next(pieces)]
    script.release.set()
    with pytest.raises(IncompleteRead):
        received.extend(pieces)

    with pytest.raises(json.JSONDecodeError):
        json.loads(b"".join(received))
    error = json.loads(b"".join([*received, b"}"]))["error"]
    repeat = edit(process)
    assert repeat.status_code >= 400
    assert repeat.json()["error"] == error
    assert repeat.headers["x-should-retry"] == "false"
    assert repeat.headers["x-session-id"] == call.head.result().headers["x-session-id"]
    assert len(sessions(process)) == 1
    assert edit(process).headers["x-session-id"] != repeat.headers["x-session-id"]


def test_the_openai_client_raises_the_error_of_a_long_call(start_orchestrator: Start, script: Script) -> None:
    """Its own repeat after the broken reply gets the status."""
    script.edit_delay_s, script.edit_fault = 1.0, failing
    process = start_orchestrator(**EARLY)
    with (
        openai.OpenAI(base_url=f"{process.url}/v1", api_key="none") as client,
        pytest.raises(openai.APIStatusError) as raised,
    ):
        client.images.edit(image=picture(), prompt="x")
    assert raised.value.code
    assert len(sessions(process)) == 1


def test_white_space_outlasts_the_timeout_of_the_openai_client(start_orchestrator: Start, script: Script) -> None:
    script.edit_delay_s = 12.0
    process = start_orchestrator(**EARLY)
    with openai.OpenAI(base_url=f"{process.url}/v1", api_key="none", timeout=10.0, max_retries=0) as client:
        assert client.images.edit(image=picture(), prompt="x", extra_body={"max_turns": 1}).data


def test_a_repeat_of_a_client_that_timed_out_joins_its_session(start_orchestrator: Start, script: Script) -> None:
    """No second session is paid, however often it gives up."""
    script.edit_delay_s = 2.5
    process = start_orchestrator(EDITTHINKER_REPLY_STARTS_S="0")
    with openai.OpenAI(base_url=f"{process.url}/v1", api_key="none", timeout=1.0, max_retries=8) as client:
        assert client.images.edit(image=picture(), prompt="x", extra_body={"max_turns": 1}).data
    assert len(sessions(process)) == 1
    assert len(script.edits) == 1


@pytest.mark.parametrize(("env", "fields"), [({}, {}), ({}, {"stream": "true"}), (EARLY, {})], ids=["waits", "stream", "begun"])
def test_a_session_whose_caller_left_begins_nothing_until_it_is_back(
    start_orchestrator: Start,
    redis: Process,
    script: Script,
    call_of: Make,
    env: dict[str, str],
    fields: dict[str, str],
) -> None:
    """The edit under way is finished and judged; the repeat, on any replica, goes on from there."""
    script.hold_edit = 1
    first, second = start_orchestrator(**env), start_orchestrator()
    call = call_of(first, **fields)
    until(lambda: len(script.edits) == 1)
    if env or fields:
        call.head.result(60)
    call.leave()
    until(lambda: left(redis) == 1)
    script.release.set()
    until(lambda: len(script.critiques) == 1)
    # A second replica would drive it on, if it could.
    until(lambda: session(second, sessions(second)[0]["id"])["turns"][0]["candidates"][0]["image"] is not None)
    assert len(script.edits) == 1

    reply = edit(second, output_format="jpeg")
    assert reply.json()["turns"] == 2
    assert len(script.edits) == 2
    assert [found["status"] for found in sessions(second)] == ["succeeded"]


def test_the_repeat_of_a_caller_who_left_is_no_further_stream(
    start_orchestrator: Start, redis: Process, script: Script, call_of: Make
) -> None:
    """It waits in that caller's place. Refused, it would lose the session, which it has taken from the list."""
    script.hold_edit = 1
    process = start_orchestrator(EDITTHINKER_TENANT_STREAMS="1")
    call = call_of(process)
    until(lambda: len(script.edits) == 1)
    (found,) = sessions(process)
    with httpx.stream("GET", f"{process.url}/v1/sessions/{found['id']}/events", trust_env=False, timeout=60):
        call.leave()
        until(lambda: left(redis) == 1)
        script.release.set()
        reply = edit(process)
    assert reply.status_code == 200, reply.text
    assert reply.json()["session_id"] == found["id"]


def left(redis: Process) -> int:
    """How many sessions can be joined by a repeat of their request."""
    store: Any = redis_client.Redis(port=redis.port, db=1)
    return sum(store.llen(key) for key in store.scan_iter("*handed:*"))


def test_two_equal_requests_at_a_time_are_two_sessions(
    start_orchestrator: Start, redis: Process, script: Script, call_of: Make
) -> None:
    """Only a caller who has gone is replaced, and by one alone."""
    script.hold_every = True
    process = start_orchestrator()
    calls = [call_of(process) for _ in range(2)]
    until(lambda: len(script.edits) == 2)
    calls[0].leave()
    until(lambda: left(redis) == 1)
    more = [call_of(process) for _ in range(2)]
    until(lambda: len(sessions(process)) == 3)
    script.release.set()

    answered = {call.head.result(60).headers["x-session-id"] for call in [calls[1], *more]}
    assert len(answered) == 3
    assert {found["id"] for found in sessions(process)} == answered


def test_a_session_to_which_nobody_comes_back_is_cancelled(start_orchestrator: Start, script: Script, call_of: Make) -> None:
    """The edit under way is stopped at its editor; a repeat after that is a new session."""
    script.hold_edit = 1
    process = start_orchestrator(EDITTHINKER_REJOIN_S="1")
    call = call_of(process)
    until(lambda: len(script.edits) == 1)
    call.leave()
    until(lambda: script.disconnected == 1)
    until(lambda: [found["status"] for found in sessions(process)] == ["cancelled"])

    reply = edit(process)
    assert reply.status_code == 200
    assert len(sessions(process)) == 2


def test_a_session_that_was_cancelled_is_not_joined(
    start_orchestrator: Start, redis: Process, script: Script, call_of: Make
) -> None:
    script.hold_edit = 1
    process = start_orchestrator()
    call = call_of(process)
    until(lambda: len(script.edits) == 1)
    call.leave()
    until(lambda: left(redis) == 1)
    (found,) = sessions(process)
    httpx.post(f"{process.url}/v1/sessions/{found['id']}/cancel", trust_env=False)
    assert edit(process).json()["session_id"] != found["id"]


def test_without_a_time_to_come_back_a_caller_who_leaves_cancels(
    start_orchestrator: Start, script: Script, call_of: Make
) -> None:
    script.hold_edit = 1
    process = start_orchestrator(EDITTHINKER_REJOIN_S="0")
    call = call_of(process)
    until(lambda: len(script.edits) == 1)
    call.leave()
    until(lambda: script.disconnected == 1)
    until(lambda: [found["status"] for found in sessions(process)] == ["cancelled"])


def test_a_replica_that_closes_cuts_a_begun_reply_off_and_the_repeat_joins(
    start_orchestrator: Start, script: Script, call_of: Make
) -> None:
    script.hold_every = True
    first, second = start_orchestrator(**EARLY, EDITTHINKER_DRAIN_S="0.2"), start_orchestrator()
    call = call_of(first)
    pieces = call.pieces()
    next(pieces)
    first.stop()
    with pytest.raises(IncompleteRead):
        list(pieces)
    script.hold_every = False
    script.release.set()
    assert edit(second).json()["session_id"] == call.head.result().headers["x-session-id"]
    assert len(sessions(second)) == 1


def test_the_session_outlives_the_replica_that_its_caller_left(
    start_orchestrator: Start, redis: Process, script: Script, call_of: Make
) -> None:
    """It has the minute from Redis, and no lease of the caller ends it before."""
    script.hold_every = True
    first, second = start_orchestrator(), start_orchestrator()
    call = call_of(first)
    until(lambda: len(script.edits) == 1)
    call.leave()
    until(lambda: left(redis) == 1)
    first.kill()
    script.hold_every = False
    script.release.set()
    assert edit(second).json()["turns"] == 2
    assert len(sessions(second)) == 1


def test_the_default_deadline_of_a_call_is_below_what_clients_wait(start_orchestrator: Start, script: Script) -> None:
    """That of a stream, which keeps itself alive, and of a session, for which nobody waits, is the general one."""
    process = start_orchestrator()

    def seconds(session_id: str) -> float:
        found = session(process, session_id)
        return round(float(found["deadline_at"] - found["created_at"]))

    whole, stream = edit(process), edit(process, prompt="y", stream="true")
    asked = edit(process, prompt="z", deadline_s="500")
    created: Any = httpx.post(
        f"{process.url}/v1/sessions", files={"image": picture()}, data={"prompt": "x"}, trust_env=False
    ).json()
    found = [seconds(reply.headers["x-session-id"]) for reply in (whole, stream, asked)]
    assert [*found, seconds(created["id"])] == [280, 600, 500, 600]
