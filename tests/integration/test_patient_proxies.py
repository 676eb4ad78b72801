"""Long calls through proxies with a time limit: white space keeps them open, and a reply that is cut off is no result."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.responses import JSONResponse

from tests.doubles.debian import NoProgramError
from tests.doubles.haproxy import NoHAProxyError, haproxy_binary
from tests.doubles.nginx import nginx, nginx_binary
from tests.doubles.processes import Process, free_port, start, wait_ready
from tests.doubles.upstreams import Script
from tests.integration.conftest import Start
from tests.integration.test_shutdown import edit, sessions

EARLY = {"EDITTHINKER_REPLY_STARTS_S": "0.6"}
LIMIT_S = 4
"""Of the proxies, between two bytes; 60 in real life."""

_HAPROXY = """\
global
    log stderr format raw local0 warning
defaults
    mode http
    option abortonclose
    timeout connect 20s
    timeout client {limit}s
    timeout server {limit}s
listen proxy
    bind 127.0.0.1:{port}
    server orchestrator 127.0.0.1:{upstream}
"""


@contextlib.contextmanager
def proxy(kind: str, folder: Path, upstream: int) -> Iterator[Process]:
    """One of the proxies."""
    with contextlib.ExitStack() as stack:
        if kind == "haproxy":
            folder.mkdir()
            port, config = free_port(), folder / "haproxy.cfg"
            config.write_text(_HAPROXY.format(limit=LIMIT_S, port=port, upstream=upstream))
            process = start([haproxy_binary(), "-f", str(config)], port, folder / "out.log")
            stack.callback(process.stop)
            wait_ready(process, "/healthz")
            yield process
        else:
            version = "1.0" if kind == "nginx, HTTP/1.0" else "1.1"
            yield stack.enter_context(nginx(folder, upstream, buffering=True, connection='""', version=version, read_s=LIMIT_S))


PROXIES = ["haproxy", "nginx", "nginx, HTTP/1.0"]


@pytest.fixture(params=PROXIES)
def kind(request: pytest.FixtureRequest) -> str:
    """Skips what is not installed."""
    try:
        haproxy_binary() if request.param == "haproxy" else nginx_binary()
    except (NoHAProxyError, NoProgramError) as exc:
        pytest.skip(str(exc))
    return str(request.param)


def test_a_call_outlasts_the_limit_of_a_proxy(start_orchestrator: Start, script: Script, tmp_path: Path, kind: str) -> None:
    """Twice over. Without early bytes it is a 504 of the proxy."""
    script.scores, script.edit_delay_s = [(9, 9)], 2.0 * LIMIT_S + 0.5
    process = start_orchestrator(**EARLY)
    with proxy(kind, tmp_path / "proxy", process.port) as front:
        reply = edit(front)
    assert reply.status_code == 200
    assert reply.json()["data"][0]["b64_json"]
    assert len(sessions(process)) == 1


def test_a_cut_off_reply_is_a_result_to_nobody(start_orchestrator: Start, script: Script, tmp_path: Path, kind: str) -> None:
    """Over HTTP/1.0 its end cannot be told from that of a whole one, so its JSON is not whole either."""
    script.edit_delay_s = 3.0  # the reply has begun by then
    script.edit_fault = lambda _: JSONResponse({"error": {"message": "no", "type": "x", "code": "content_policy"}}, 400)
    process = start_orchestrator(**EARLY)
    with proxy(kind, tmp_path / "proxy", process.port) as front:
        with pytest.raises((httpx.RemoteProtocolError, json.JSONDecodeError)):
            edit(front).json()
        repeat = edit(front)
    assert repeat.status_code >= 400
    assert repeat.json()["error"]["code"]
    assert len(sessions(process)) == 1


def test_without_early_bytes_the_proxy_gives_up_and_the_repeat_joins(
    start_orchestrator: Start, script: Script, tmp_path: Path, kind: str
) -> None:
    script.scores, script.edit_delay_s = [(9, 9)], 1.5 * LIMIT_S
    process = start_orchestrator(EDITTHINKER_REPLY_STARTS_S="0")
    with proxy(kind, tmp_path / "proxy", process.port) as front:
        assert edit(front).status_code == 504
        assert edit(front).status_code == 200
    assert len(sessions(process)) == len(script.edits) == 1
