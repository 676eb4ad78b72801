"""Every request of the API, and how to read its answer. No I/O here, except reading an image file that is named.

A function here makes a `Call`: the request, and the function that turns its answer into a typed value. The two
shells (`sync`, `aio`) only carry calls out, so no route is written twice.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import time
from typing import Any, Final, Generic, Literal, Never, TypedDict, TypeVar
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from editthinker.client.errors import APIResponseError, APIStatusError, InvalidImageError, error_class
from editthinker.client.export import Moment, moment
from editthinker.client.models import EditOutcome, ModelCard, Readiness, Session, SessionPage

T = TypeVar("T")
_Body = TypeVar("_Body", bound=BaseModel)

ImageSource = bytes | str | os.PathLike[str]
"""Encoded image bytes, or the path of an image file."""
ImageFormat = Literal["png", "jpeg", "webp"]

_OK: Final = range(200, 300)
_NOT_READY: Final = 503


class SessionOptions(TypedDict, total=False):
    """What `create` and `edit` take besides the image and the prompt. What is left out, the server decides.

    Attributes:
        editor: name of the editor (``model`` on the wire); see ``models()``.
        thinker: name of the thinker.
        strategy: ``think | best_of_n | think_best_of_n | single``.
        review: ``never | each_turn | before_finish``: when a person is asked.
        wait: seconds the server may hold the answer until the session has ended.
        idempotency_key: makes a repeated ``create`` answer with the first one's session; made up if left out.
    """

    mask: ImageSource
    editor: str
    thinker: str
    strategy: str
    max_turns: int
    candidates: int
    n: int
    semantic_threshold: float
    quality_threshold: float
    patience: int
    deadline_s: float
    budget_edits: int
    budget_editor_s: float
    seed: int
    review: str
    size: str
    negative_prompt: str
    num_inference_steps: int
    guidance_scale: float
    true_cfg_scale: float
    image_guidance_scale: float
    strength: float
    wait: float
    idempotency_key: str


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, relative to the base URL.

    Attributes:
        extra_wait: seconds the answer may take on top of the client's timeout, because it was asked to.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] | None = None
    files: Mapping[str, tuple[str, bytes, str]] | None = None
    json: Mapping[str, Any] | None = None
    extra_wait: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request with the way to read its answer.

    Attributes:
        repeatable: whether the request may be sent again after an answer was lost or said "later".
    """

    request: Request
    read: Callable[[Reply], T]
    repeatable: bool = True


def normal_base(base_url: str) -> str:
    """The base URL without a trailing slash and without ``/v1``; ``http://`` is added where no scheme is given."""
    given = base_url.strip()
    url = given if "://" in given else f"http://{given}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        message = f"{base_url!r} is not the URL of a server; give one such as http://127.0.0.1:8080"
        raise ValueError(message)
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def is_loopback(base_url: str) -> bool:
    """Whether the server is on this machine, so that no proxy from the environment should come between."""
    host = urlsplit(base_url).hostname or ""
    return host in {"localhost", "::1"} or host.startswith("127.")


def create(image: ImageSource, prompt: str, **options: Any) -> Call[Session]:
    """``POST /v1/sessions``."""
    wait = options.pop("wait", None)
    key = options.pop("idempotency_key", None) or f"et-{secrets.token_hex(16)}"
    files = {"image": _file_part(image, "image")}
    if (mask := options.pop("mask", None)) is not None:
        files["mask"] = _file_part(mask, "mask")
    if "editor" in options:
        options["model"] = options.pop("editor")
    headers = {"idempotency-key": key}
    if wait is not None:
        headers["prefer"] = f"wait={round(wait)}"
    form = {"prompt": prompt} | {name: _text(value) for name, value in options.items() if value is not None}
    request = Request("POST", "/v1/sessions", headers=headers, form=form, files=files, extra_wait=wait or 0.0)
    return Call(request, _as(Session))


def get(session_id: str) -> Call[Session]:
    """``GET /v1/sessions/{id}``."""
    return Call(Request("GET", _path(session_id)), _as(Session))


def list_sessions(limit: int | None, cursor: str | None, status: str | None) -> Call[SessionPage]:
    """``GET /v1/sessions``."""
    given = {"limit": limit, "cursor": cursor, "status": status}
    query = {name: str(value) for name, value in given.items() if value is not None}
    return Call(Request("GET", "/v1/sessions", query=query), _as(SessionPage))


def events(session_id: str, last: int) -> Request:
    """``GET /v1/sessions/{id}/events``, from after the event numbered ``last``."""
    headers = {"accept": "text/event-stream", "cache-control": "no-store"}
    if last:
        headers["last-event-id"] = str(last)
    return Request("GET", f"{_path(session_id)}/events", headers=headers)


def cancel(session_id: str) -> Call[Session]:
    """``POST /v1/sessions/{id}/cancel``. Cancelling twice is the same as once."""
    return Call(Request("POST", f"{_path(session_id)}/cancel"), _as(Session))


def feedback(session_id: str, action: str, turn: int | None, candidate: int | None, instruction: str | None) -> Call[Session]:
    """``POST /v1/sessions/{id}/feedback``. Not repeated when its answer is lost: it may have been taken."""
    given = {"action": action, "turn": turn, "candidate": candidate, "instruction": instruction}
    body = {name: value for name, value in given.items() if value is not None}
    return Call(Request("POST", f"{_path(session_id)}/feedback", json=body), _as(Session), repeatable=False)


def delete(session_id: str) -> Call[None]:
    """``DELETE /v1/sessions/{id}``."""
    return Call(Request("DELETE", _path(session_id)), lambda _: None)


def image(session_id: str, turn: int | None = None, candidate: int | None = None, image_format: str | None = None) -> Call[bytes]:
    """``GET …/image`` (the best), or the image of one candidate; the first of the turn if none is named."""
    if turn is None and candidate is not None:
        message = "candidate needs turn: candidates are numbered within their turn"
        raise ValueError(message)
    place = "image" if turn is None else f"turns/{turn}/candidates/{candidate or 1}/image"
    return _picture(f"{_path(session_id)}/{place}", image_format)


def source(session_id: str, image_format: str | None = None) -> Call[bytes]:
    """``GET /v1/sessions/{id}/source``."""
    return _picture(f"{_path(session_id)}/source", image_format)


def export(since: Moment | None, until: Moment | None, status: str | None) -> Call[Never]:
    """``GET /v1/export``. Its answer is a stream of lines; one that can be read as a whole is not this API's."""

    def read(_: Reply) -> Never:
        message = "the answer to the export request is no export; check the base URL"
        raise APIResponseError(message)

    times = {name: repr(moment(at)) for name, at in (("since", since), ("until", until)) if at is not None}
    query = times | ({} if status is None else {"status": status})
    return Call(Request("GET", "/v1/export", query=query, headers={"accept": "application/jsonl"}), read)


def models() -> Call[list[ModelCard]]:
    """``GET /v1/models``."""

    def read(reply: Reply) -> list[ModelCard]:
        body = _json(reply)
        return [_valid(ModelCard, entry) for entry in body.get("data", [])]

    return Call(Request("GET", "/v1/models"), read)


def ready() -> Call[Readiness]:
    """``GET /readyz``. "Not ready" is an answer here, not an error, and not repeated."""

    def read(reply: Reply) -> Readiness:
        return _valid(Readiness, {**_json(reply), "ready": reply.status in _OK})

    return Call(Request("GET", "/readyz"), read, repeatable=False)


def answers(call: Call[Any], status: int) -> bool:
    """Whether this status is an answer to the call rather than an error."""
    return status in _OK or (call.request.path == "/readyz" and status == _NOT_READY)


def outcome(session: Session, picture: bytes) -> EditOutcome:
    """The result of a finished session."""
    return EditOutcome(session, picture, sniff(picture) or "application/octet-stream")


def read_error(reply: Reply) -> APIStatusError:
    """The error that an answer of 400 or more stands for; total, whatever the body is."""
    error: Mapping[str, Any] = {}
    try:
        body = from_json(reply.body)
    except ValueError:
        body = None
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        error = body["error"]
    message = error.get("message") or f"the server answered with status {reply.status}"
    return error_class(reply.status)(
        reply.status,
        str(error.get("code") or f"http_{reply.status}"),
        str(message),
        param=error.get("param"),
        request_id=reply.headers.get("x-request-id"),
        retry_after=read_retry_after(reply.headers.get("retry-after")),
    )


def read_retry_after(value: str | None) -> float | None:
    """Seconds that a ``Retry-After`` asks for: a number, or a date; None when it is neither."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except ValueError:
        return None


def sniff(data: bytes) -> str | None:
    """The image type the bytes claim to be, or None when they are no picture we know."""
    for magic, media_type in _MAGIC:
        if data.startswith(magic):
            return media_type
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
)


def _file_part(given: ImageSource, name: str) -> tuple[str, bytes, str]:
    if isinstance(given, bytes):
        label, data = name, given
    else:
        path = Path(given)
        label, data = path.name, path.read_bytes()
    media_type = sniff(data)
    if media_type is None:
        what = "is empty" if not data else "is not an image"
        message = f"{label} {what}; send a PNG, JPEG or WebP"
        raise InvalidImageError(message)
    return label, data, media_type


def _path(session_id: str) -> str:
    if not session_id:
        message = "the session id is empty"
        raise ValueError(message)
    return f"/v1/sessions/{quote(session_id, safe='')}"


def _picture(path: str, image_format: str | None) -> Call[bytes]:
    query = {"format": image_format} if image_format else {}
    return Call(Request("GET", path, query=query), lambda reply: reply.body)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _as(model: type[_Body]) -> Callable[[Reply], _Body]:
    return lambda reply: _valid(model, _json(reply))


def _valid(model: type[_Body], body: object) -> _Body:
    try:
        return model.model_validate(body)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        message = f"the server's {model.__name__} cannot be read: {place or 'it'}: {first['msg']}"
        raise APIResponseError(message) from exc


def _json(reply: Reply) -> dict[str, Any]:
    try:
        body = from_json(reply.body)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        kind = reply.headers.get("content-type", "no content type")
        message = f"the answer is not this API's (status {reply.status}, {kind}); check the base URL"
        raise APIResponseError(message)
    return body
