"""Between our requests and httpx: the one place that knows both. Shared by the two shells."""

from __future__ import annotations

from typing import Any, Final

import httpx

from editthinker.client.calls import Reply, Request, is_loopback, normal_base
from editthinker.client.errors import ConnectionFailed

DEFAULT_TIMEOUT: Final = 60.0
DEFAULT_STALL: Final = 60.0
_CONNECT: Final = 10.0


def client_arguments(base_url: str, api_key: str | None, timeout: float) -> dict[str, Any]:
    """What `httpx.Client` and `httpx.AsyncClient` are made with."""
    base = normal_base(base_url)
    headers = {"user-agent": "editthinker-python", "accept": "application/json, image/*;q=0.9, */*;q=0.5"}
    if api_key:
        headers["authorization"] = f"Bearer {api_key}"
    return {
        "base_url": base,
        "headers": headers,
        "timeout": httpx.Timeout(timeout, connect=min(timeout, _CONNECT)),
        # A proxy named in the environment cannot reach this machine's loopback.
        "trust_env": not is_loopback(base),
        # Only spares plain http the building of a TLS context, which takes longer than many a call. Redirects are
        # not followed, so nothing of https is reached unverified.
        "verify": base.startswith("https://"),
        "follow_redirects": False,
    }


def request_arguments(request: Request, timeout: float) -> dict[str, Any]:
    """What ``httpx.Client.request`` takes for a request of ours."""
    arguments: dict[str, Any] = {
        "method": request.method,
        "url": request.path,
        "params": dict(request.query),
        "headers": dict(request.headers),
    }
    if request.files is not None:
        arguments["files"] = dict(request.files)
        arguments["data"] = dict(request.form or {})
    if request.json is not None:
        arguments["json"] = dict(request.json)
    if request.extra_wait:
        arguments["timeout"] = httpx.Timeout(timeout + request.extra_wait, connect=min(timeout, _CONNECT))
    return arguments


def stream_arguments(request: Request, silence: float) -> dict[str, Any]:
    """The same for a stream, on which only the time without a byte is limited."""
    limits = httpx.Timeout(_CONNECT, read=silence)
    return {**request_arguments(request, silence), "timeout": limits}


def reply_of(response: httpx.Response) -> Reply:
    """An answer that was read to its end."""
    return Reply(response.status_code, _lowered(response), response.content)


def is_stream(response: httpx.Response) -> bool:
    """Whether the answer is an event stream rather than an error or a stranger's page."""
    kind = response.headers.get("content-type", "")
    return response.status_code == httpx.codes.OK and kind.startswith("text/event-stream")


def failure_of(exc: httpx.TransportError, base_url: httpx.URL) -> ConnectionFailed:
    """What an httpx error means for the caller."""
    sent = not isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    where = str(base_url).rstrip("/")
    if isinstance(exc, httpx.ReadTimeout):
        message = f"{where} did not answer in time"
    elif sent:
        message = f"the connection to {where} broke: {str(exc) or type(exc).__name__}"
    else:
        message = f"cannot connect to {where}: {str(exc) or type(exc).__name__}"
    return ConnectionFailed(message, sent=sent)


def _lowered(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}
