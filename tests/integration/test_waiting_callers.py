"""Callers who wait for a session while connections, Redis or they themselves go away."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import redis as redis_client

from tests.doubles.processes import Process
from tests.doubles.tcp_proxy import Fault, running
from tests.doubles.upstreams import Script, picture
from tests.integration.conftest import Start
from tests.integration.test_shutdown import edit
from tests.integration.test_takeover import until


def leaves(process: Process, headers: dict[str, str], seconds: float) -> None:
    """Ask for a picture, and leave before it is there."""
    fields = {"prompt": "x", "max_turns": "2"}
    with httpx.Client(base_url=process.url, timeout=seconds, trust_env=False) as api, pytest.raises(httpx.ReadTimeout):
        api.post("/v1/images/edits", files={"image": picture()}, data=fields, headers=headers)


def test_a_session_with_a_key_outlives_its_caller_however_long_that_waited(
    start_orchestrator: Start, redis: Process, script: Script
) -> None:
    """It has no lease of its caller: that was renewed while the caller waited, and its end cancelled the session."""
    script.scores = [(3, 9)]
    script.hold_every = True
    process = start_orchestrator(EDITTHINKER_LEASE_S="0.6")
    leaves(process, {"idempotency-key": "k"}, seconds=3)  # leases are renewed every 0.2 s
    until(lambda: len(script.edits) == 1)
    with httpx.Client(base_url=process.url, timeout=20, trust_env=False) as api:
        (session,) = api.get("/v1/sessions").json()["data"]
        stored = redis_client.Redis(port=redis.port, db=1).hget(f"et:{{0}}:s:{session['id']}", "caller")
        script.hold_every = False
        script.release.set()
        until(lambda: api.get(f"/v1/sessions/{session['id']}").json()["finished_at"])

        assert stored is None
        assert api.get(f"/v1/sessions/{session['id']}").json()["status"] == "succeeded"


@pytest.mark.parametrize("stream", ["true", "false"])
def test_a_caller_gets_its_picture_after_an_outage_however_long_it_has_waited(
    start_orchestrator: Start, redis: Process, script: Script, stream: str
) -> None:
    """The outage is met by who follows a session: its subscription is made again before its log can be read."""
    script.hold_every = True
    with running("127.0.0.1", redis.port) as proxy, ThreadPoolExecutor(1) as pool:
        process = start_orchestrator(EDITTHINKER_REDIS_URL=f"redis://127.0.0.1:{proxy.port}/1")
        call = pool.submit(edit, process, stream=stream)
        until(lambda: len(script.edits) == 1)
        proxy.set(Fault("reset", only="XRANGE"))
        redis_client.Redis(port=redis.port, db=1).client_kill_filter(_type="pubsub")
        until(lambda: proxy.hit >= 8)  # the driver of the session reads its log too
        proxy.set(Fault())
        script.hold_every = False
        script.release.set()
        answer = call.result(60)
        process.stop()

    assert answer.status_code == 200
    assert ("event: image_edit.completed" if stream == "true" else '"b64_json"') in answer.text, answer.text


def test_an_error_after_a_session_was_created_says_where_it_is(start_orchestrator: Start, redis: Process) -> None:
    """Who repeats the request without a key would create another."""
    with running("127.0.0.1", redis.port) as proxy:
        process = start_orchestrator(EDITTHINKER_REDIS_URL=f"redis://127.0.0.1:{proxy.port}/1")
        proxy.set(Fault("reset", only="XRANGE"))
        with httpx.Client(base_url=process.url, timeout=20, trust_env=False) as api:
            answer = api.post("/v1/sessions", files={"image": picture()}, data={"prompt": "x"})
            proxy.set(Fault())
            found = api.get(answer.headers["location"])
        process.stop()

    assert (answer.status_code, answer.headers["x-should-retry"]) == (503, "false")
    assert found.status_code == 200
