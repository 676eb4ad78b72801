"""The table of error codes: HTTP status, cause, and whether a retry can help.

Every service answers errors in OpenAI's form, ``{"error": {"message", "type", "param", "code"}}``, and every code in such a body
is a row of `TABLE`, which alone maps errors to statuses. `ApiError` is an error that a caller is meant to read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class Blame(StrEnum):
    """Who caused an error; OpenAI's error type."""

    CALLER = "invalid_request_error"
    CAPACITY = "rate_limit_error"
    COLLABORATOR = "upstream_error"
    SERVER = "server_error"


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """One row: the HTTP status, who caused the error, and whether the same request may succeed later."""

    status: int
    blame: Blame
    retryable: bool = False


TABLE: Final[dict[str, ErrorCode]] = {
    # The caller's request.
    "invalid_value": ErrorCode(400, Blame.CALLER),
    "missing_parameter": ErrorCode(400, Blame.CALLER),
    "unknown_parameter": ErrorCode(400, Blame.CALLER),
    "unsupported_parameter": ErrorCode(400, Blame.CALLER),
    "invalid_json": ErrorCode(400, Blame.CALLER),
    "invalid_multipart": ErrorCode(400, Blame.CALLER),
    "invalid_image": ErrorCode(400, Blame.CALLER),
    "image_too_large": ErrorCode(400, Blame.CALLER),
    "invalid_url": ErrorCode(400, Blame.CALLER),
    "url_forbidden": ErrorCode(400, Blame.CALLER),
    "url_unreachable": ErrorCode(400, Blame.CALLER),
    "editor_refused": ErrorCode(400, Blame.CALLER),
    "content_refused": ErrorCode(400, Blame.CALLER),
    "budget_exceeded": ErrorCode(400, Blame.CALLER),
    "context_overflow": ErrorCode(400, Blame.CALLER),
    "invalid_api_key": ErrorCode(401, Blame.CALLER),
    "forbidden": ErrorCode(403, Blame.CALLER),
    "training_denied": ErrorCode(403, Blame.CALLER),
    "not_found": ErrorCode(404, Blame.CALLER),
    "model_not_found": ErrorCode(404, Blame.CALLER),
    "session_not_found": ErrorCode(404, Blame.CALLER),
    "image_not_found": ErrorCode(404, Blame.CALLER),
    "webhook_not_found": ErrorCode(404, Blame.CALLER),
    "preference_not_found": ErrorCode(404, Blame.CALLER),
    "share_not_found": ErrorCode(404, Blame.CALLER),
    "critique_not_found": ErrorCode(404, Blame.CALLER),
    "method_not_allowed": ErrorCode(405, Blame.CALLER),
    "request_timeout": ErrorCode(408, Blame.CALLER, retryable=True),
    "session_conflict": ErrorCode(409, Blame.CALLER),
    "prompt_changed": ErrorCode(409, Blame.CALLER),
    "session_cancelled": ErrorCode(409, Blame.CALLER),
    "edit_cancelled": ErrorCode(409, Blame.CALLER),
    "source_unknown": ErrorCode(412, Blame.CALLER),
    "request_too_large": ErrorCode(413, Blame.CALLER),
    "unsupported_media_type": ErrorCode(415, Blame.CALLER),
    "range_not_satisfiable": ErrorCode(416, Blame.CALLER),
    "idempotency_key_reused": ErrorCode(422, Blame.CALLER),
    "edit_failed": ErrorCode(422, Blame.CALLER),
    # Capacity.
    "overloaded": ErrorCode(429, Blame.CAPACITY, retryable=True),
    "rate_limited": ErrorCode(429, Blame.CAPACITY, retryable=True),
    "quota_exceeded": ErrorCode(429, Blame.CAPACITY, retryable=True),
    "editor_overloaded": ErrorCode(429, Blame.CAPACITY, retryable=True),
    "thinker_overloaded": ErrorCode(429, Blame.CAPACITY, retryable=True),
    # A collaborator: an editor or a thinker.
    "editor_failed": ErrorCode(502, Blame.COLLABORATOR, retryable=True),
    "editor_bad_reply": ErrorCode(502, Blame.COLLABORATOR, retryable=True),
    "editor_unreachable": ErrorCode(502, Blame.COLLABORATOR, retryable=True),
    "editor_timeout": ErrorCode(504, Blame.COLLABORATOR, retryable=True),
    "thinker_misconfigured": ErrorCode(502, Blame.COLLABORATOR),
    "thinker_refused": ErrorCode(502, Blame.COLLABORATOR),
    "thinker_failed": ErrorCode(502, Blame.COLLABORATOR, retryable=True),
    "thinker_bad_reply": ErrorCode(502, Blame.COLLABORATOR, retryable=True),
    "thinker_unreachable": ErrorCode(502, Blame.COLLABORATOR, retryable=True),
    "thinker_timeout": ErrorCode(504, Blame.COLLABORATOR, retryable=True),
    "deadline_exceeded": ErrorCode(504, Blame.COLLABORATOR),
    # This server.
    "internal_error": ErrorCode(500, Blame.SERVER, retryable=True),
    "driver_crashed": ErrorCode(500, Blame.SERVER),
    "session_unreadable": ErrorCode(500, Blame.SERVER),
    "judge_unfit": ErrorCode(503, Blame.SERVER),
    "signing_failed": ErrorCode(503, Blame.SERVER, retryable=True),
    "not_ready": ErrorCode(503, Blame.SERVER, retryable=True),
    "storage_unavailable": ErrorCode(503, Blame.SERVER, retryable=True),
    "storage_full": ErrorCode(507, Blame.SERVER, retryable=True),
    "out_of_memory": ErrorCode(507, Blame.SERVER),
}


NOT_AN_OBJECT: Final = frozenset({"model_type", "model_attributes_type", "dict_type"})
"""Pydantic's error types for values that are not objects; their texts name an internal class."""
OBJECT_EXPECTED: Final = "it must be an object with named fields"


def reason_of(error: Mapping[str, Any]) -> str:
    """Pydantic's text for one error of a field, to stand after the field's name."""
    if error["type"] == "string_pattern_mismatch":
        # Pydantic's text is the regular expression.
        return "it is not written as expected; the API's documentation shows how"
    text = str(error["msg"]).removeprefix("Value error, ")
    return text[:1].lower() + text[1:]


MAX_NAME: Final = 100
"""Characters of a field's name; the names of this API have less than 30."""
_MAX_MESSAGE: Final = 2_000
"""Characters of an error's message, however long the values are that it quotes."""


def shown(text: str, most: int = MAX_NAME) -> str:
    """The start of a stranger's text, in one line that is safe to print: what is not printable is escaped."""
    start = text[:most]
    if not start.isprintable():
        start = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in start)
    return start if len(text) <= most else f"{start}… ({len(text):,} characters)"


class ApiError(Exception):
    """An error for the client of an HTTP request.

    Args:
        code: a row of `TABLE`.
        message: one sentence for a person: what is wrong, and what to do about it.
        param: the request field at fault, or None.
        retry_after: seconds after which a retry makes sense (sent as ``Retry-After``), or None.
    """

    def __init__(self, code: str, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.retry_after = retry_after

    @property
    def row(self) -> ErrorCode:
        """The row of `TABLE` for this code."""
        return TABLE[self.code]

    @property
    def status(self) -> int:
        """The HTTP status this error answers with."""
        return self.row.status

    def body(self) -> dict[str, Any]:
        """The error as OpenAI's error body."""
        return error_body(self.code, self.message, self.param)


def error_body(code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """OpenAI's error body for a code of `TABLE`."""
    if len(message) > _MAX_MESSAGE:
        message = f"{message[:_MAX_MESSAGE]}…"
    param = None if param is None else shown(param, 2 * MAX_NAME)
    return {"error": {"message": message, "type": str(TABLE[code].blame), "param": param, "code": code}}
