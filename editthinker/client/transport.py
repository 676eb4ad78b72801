"""Maps our requests and responses to httpx's. Shared by the blocking and the async client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeVar

import httpx

from editthinker.client.calls import Reply, Request, is_loopback, normal_base
from editthinker.client.errors import APIConnectionError, APITimeoutError
from editthinker.environment import inherited

T_co = TypeVar("T_co", covariant=True)
DEFAULT_SERVER: Final = "http://127.0.0.1:8080"
"""Where ``editthinker up`` listens."""
SERVER_VARIABLES: Final = ("EDITTHINKER_BASE_URL", "EDITTHINKER_SERVER")
"""The second is the name of version 0.1."""
KEY_VARIABLE: Final = "EDITTHINKER_API_KEY"
WEBHOOK_SECRET_VARIABLE: Final = "EDITTHINKER_WEBHOOK_SECRET"  # noqa: S105 - its name
DEFAULT_TIMEOUT: Final = 60.0
DEFAULT_STALL: Final = 60.0
STREAM_READ_TIMEOUT: Final = 300.0
"""Seconds without a byte of a stream: an export has no heartbeats while the server searches for the next matching session."""
_CONNECT_TIMEOUT: Final = 10.0
_KEY_PREFIX: Final = "et_"


def client_arguments(base_url: str | None, api_key: str | None, timeout: float, tenant: str | None = None) -> dict[str, Any]:
    """Keyword arguments of `httpx.Client` and `httpx.AsyncClient`. What is None comes from the environment.

    Raises:
        ValueError: for an invalid URL or key.
    """
    environment = inherited()
    if base_url is None:
        base_url = next((named for name in SERVER_VARIABLES if (named := environment.get(name))), DEFAULT_SERVER)
    elif base_url.startswith(_KEY_PREFIX):
        message = "this is an API key, not a URL; give it as api_key="
        raise ValueError(message)
    base = _reachable(normal_base(base_url))
    headers = {"user-agent": "editthinker-python", "accept": "application/json, image/*;q=0.9, */*;q=0.5"}
    if key := sendable(environment.get(KEY_VARIABLE, "") if api_key is None else api_key):
        headers["authorization"] = f"Bearer {key}"
    if tenant is not None:
        headers["x-tenant"] = sendable(tenant)
    return {
        "base_url": base,
        "headers": headers,
        "timeout": httpx.Timeout(timeout, connect=min(timeout, _CONNECT_TIMEOUT)),
        # A proxy named in the environment cannot reach this machine's loopback.
        "trust_env": not is_loopback(base),
        # Building a TLS context takes longer than many a call, and plain http does not need one. Redirects are not
        # followed, so no https URL is reached unverified.
        "verify": base.startswith("https://"),
        "follow_redirects": False,
    }


def request_arguments(request: Request, timeout: float) -> dict[str, Any]:
    """Keyword arguments of ``httpx.Client.request``."""
    arguments: dict[str, Any] = {
        "method": request.method,
        "url": request.path,
        "params": dict(request.query),
        "headers": dict(request.headers),
    }
    if request.files is not None:
        arguments["files"] = list(request.files)
        arguments["data"] = dict(request.form or {})
    if request.json is not None:
        arguments["json"] = dict(request.json)
    if request.extra_wait or request.timeout is not None:
        seconds = timeout + request.extra_wait if request.timeout is None else request.timeout
        arguments["timeout"] = httpx.Timeout(seconds, connect=min(seconds, _CONNECT_TIMEOUT))
    return arguments


def stream_arguments(request: Request, silence: float) -> dict[str, Any]:
    """Keyword arguments of ``httpx.Client.stream``; only the time between two bytes is limited."""
    limits = httpx.Timeout(_CONNECT_TIMEOUT, read=silence)
    arguments = request_arguments(request, silence)
    # A proxy must not compress a stream that is read as it arrives.
    return {**arguments, "headers": {"accept-encoding": "identity", **arguments["headers"]}, "timeout": limits}


def reply_of(response: httpx.Response) -> Reply:
    """A response that was read to its end."""
    return Reply(response.status_code, _lowered(response), response.content)


class Reader(Protocol[T_co]):
    """Reads a streamed response as it arrives.

    Attributes:
        media_type: of the response; another one is an error, or a page of another server.
        begun: whether anything was read that has been given to the caller.
    """

    media_type: str
    begun: bool

    def feed(self, chunk: bytes) -> Sequence[T_co]:
        """What the chunk completes."""
        ...

    def end(self) -> None:
        """Raise if the response ended too early."""
        ...


def is_of(response: httpx.Response, media_type: str) -> bool:
    """Whether the response is a success of this type, not an error or a page of another server."""
    return response.status_code == httpx.codes.OK and response.headers.get("content-type", "").startswith(media_type)


def is_stream(response: httpx.Response) -> bool:
    """Whether the response is an event stream."""
    return is_of(response, "text/event-stream")


def failure_of(exc: httpx.TransportError, base_url: httpx.URL) -> APIConnectionError:
    """The client's error for an error of httpx."""
    sent = not isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    where = str(base_url).rstrip("/")
    if isinstance(exc, httpx.TimeoutException):
        why = "did not answer in time" if sent else "could not be reached in time"
        return APITimeoutError(f"{where} {why}", sent=sent)
    if sent:
        message = f"the connection to {where} broke: {str(exc) or type(exc).__name__}"
    else:
        message = f"cannot connect to {where}: {str(exc) or type(exc).__name__}"
    return APIConnectionError(message, sent=sent)


def sendable(api_key: str) -> str:
    """The key without surrounding white space.

    Checked here because httpx and h11 quote an invalid header in their errors; this message does not contain the key.

    Raises:
        ValueError: for a key that no header can have.
    """
    key = api_key.strip()
    if not all("!" <= letter <= "~" for letter in key):
        message = "the API key is invalid: it has white space, control characters or letters outside ASCII; copy it again"
        raise ValueError(message)
    return key


def _reachable(base: str) -> str:
    """The URL, if its host name can be encoded; httpx raises no `TransportError` for one that cannot."""
    try:
        httpx.URL(base).host.encode("idna")
    except (httpx.InvalidURL, UnicodeError):
        message = f"{base!r} is not the URL of a server; give one such as http://127.0.0.1:8080"
        raise ValueError(message) from None
    return base


def _lowered(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}
