"""Between our requests and httpx: the one place that knows both. Shared by the two shells."""

from __future__ import annotations

from typing import Any, Final

import httpx

from editthinker.client.calls import Reply, Request, is_loopback, normal_base
from editthinker.client.errors import APIConnectionError

DEFAULT_TIMEOUT: Final = 60.0
DEFAULT_STALL: Final = 60.0
SEEKING: Final = 300.0
"""Seconds without a byte of an export: it has no heartbeats while the server looks for the next session that fits."""
_CONNECT: Final = 10.0


def client_arguments(base_url: str, api_key: str | None, timeout: float) -> dict[str, Any]:
    """What `httpx.Client` and `httpx.AsyncClient` are made with.

    Raises:
        ValueError: for a URL or a key that cannot be one.
    """
    base = _reachable(normal_base(base_url))
    headers = {"user-agent": "editthinker-python", "accept": "application/json, image/*;q=0.9, */*;q=0.5"}
    if key := _sendable(api_key or ""):
        headers["authorization"] = f"Bearer {key}"
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
    arguments = request_arguments(request, silence)
    # Read as it arrives: a proxy must not compress it.
    return {**arguments, "headers": {"accept-encoding": "identity", **arguments["headers"]}, "timeout": limits}


def reply_of(response: httpx.Response) -> Reply:
    """An answer that was read to its end."""
    return Reply(response.status_code, _lowered(response), response.content)


def is_stream(response: httpx.Response) -> bool:
    """Whether the answer is an event stream rather than an error or a stranger's page."""
    return _is(response, "text/event-stream")


def is_export(response: httpx.Response) -> bool:
    """The same for an export."""
    return _is(response, "application/jsonl")


def failure_of(exc: httpx.TransportError, base_url: httpx.URL) -> APIConnectionError:
    """What an httpx error means for the caller."""
    sent = not isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    where = str(base_url).rstrip("/")
    if isinstance(exc, httpx.ReadTimeout):
        message = f"{where} did not answer in time"
    elif sent:
        message = f"the connection to {where} broke: {str(exc) or type(exc).__name__}"
    else:
        message = f"cannot connect to {where}: {str(exc) or type(exc).__name__}"
    return APIConnectionError(message, sent=sent)


def _sendable(api_key: str) -> str:
    """The key without the white space that files and copying leave around it.

    Checked here, since whatever sends a header says what was wrong with it, the key included. So the error has no value.
    """
    key = api_key.strip()
    if not all("!" <= letter <= "~" for letter in key):
        message = "the API key cannot be one: it has white space, control characters or letters outside ASCII; copy it again"
        raise ValueError(message)
    return key


def _reachable(base: str) -> str:
    """The URL, if its host can be looked up; whatever is wrong with it would be no `TransportError` later."""
    try:
        httpx.URL(base).host.encode("idna")
    except (httpx.InvalidURL, UnicodeError):
        message = f"{base!r} is not the URL of a server; give one such as http://127.0.0.1:8080"
        raise ValueError(message) from None
    return base


def _is(response: httpx.Response, kind: str) -> bool:
    return response.status_code == httpx.codes.OK and response.headers.get("content-type", "").startswith(kind)


def _lowered(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}
