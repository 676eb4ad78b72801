"""Logs as JSON lines on stderr: one event a line, whatever is in it, with the ids of what it is about.

Modules log through `logging` as ever; `configure` routes all of it, uvicorn's and libraries' too, through structlog.
`bind` gives what runs in this task, and the tasks it starts, ids that stand in every line: request_id, session_id, tenant,
turn, candidate. Only composition roots call `configure`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final

import orjson
import structlog
from structlog.contextvars import bind_contextvars, merge_contextvars

from services.serving.jsonlines import one_line
from services.serving.log_format import LogFormat

_LONGEST_VALUE: Final = 2_000
"""Characters of one value: longer than any sentence of ours, shorter than any picture in base64."""
_LONGEST_TRACEBACK: Final = 16_000
_SECRET_NAME: Final = re.compile(r"api_?key|authorization|secret|password|cookie|^token$|_token$", re.IGNORECASE)
_SECRET_TEXT: Final = re.compile(
    r"\bBearer\s+[^\s'\",;]+|\b(?:sk-|et_|whsec_)[A-Za-z0-9_+/=-]{8,}|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)", re.IGNORECASE
)
"""Keys by their form: what is sent as one, OpenAI's and ours, those of webhooks, and passwords in URLs."""
_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {0x2028: "\\u2028", 0x2029: "\\u2029"}
_NOISY: Final = ("httpx", "httpcore", "aiohttp", "urllib3", "asyncio", "PIL", "opentelemetry", "python_multipart")
_FIRST: Final = ("timestamp", "level", "service", "logger", "event")

_Event = MutableMapping[str, Any]


def bind(**ids: object) -> None:
    """Every line that this task, or one it starts from now on, logs has these ids."""
    bind_contextvars(**ids)


def configure(
    level: str,
    form: LogFormat,
    *,
    service: str,
    secrets: Iterable[str | None] = (),
    ids: Callable[[], Mapping[str, str]] = dict,
) -> None:
    """Route every log of this process through structlog to stderr.

    Args:
        level: the least that is logged.
        form: how a line is written.
        service: stands in every line.
        secrets: texts that must never be in a line, such as configured keys.
        ids: further ids for each line; those of the trace.
    """
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    hidden = sorted({secret for secret in secrets if secret}, key=len, reverse=True)

    def told(_: Any, __: str, event: _Event) -> _Event:
        event.pop("color_message", None)  # uvicorn's, for terminals
        return {"service": service, **event, **ids()}

    def cleaned(_: Any, __: str, event: _Event) -> _Event:
        return {name: _clean(name, value, hidden) for name, value in event.items()}

    shared: list[Any] = [
        merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        told,
    ]
    last: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.format_exc_info, cleaned]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
        processors=[*last, _text if text else _json],
    )
    _route(formatter, level)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _route(formatter: logging.Formatter, level: str) -> None:
    """Let every logger of the process end at one handler."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # A collector that is away is told of once for each batch that is lost, and not at every try.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)


def _clean(name: str, value: object, hidden: Iterable[str]) -> object:
    """A value that may stand in a log: no bytes, no keys, and not longer than a person reads."""
    if isinstance(value, int | float | None):
        return value
    if _SECRET_NAME.search(name):
        return "***"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return {str(key): _clean(str(key), inner, hidden) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(name, inner, hidden) for inner in value]
    text = value if isinstance(value, str) else str(value)
    if name == "exception" or "Traceback (most" in text:
        # Its end says what happened.
        text = text[-_LONGEST_TRACEBACK:]
    elif len(text) > _LONGEST_VALUE:
        text = f"{text[:_LONGEST_VALUE]}… ({len(text)} characters)"
    for secret in hidden:
        text = text.replace(secret, "***")
    return _SECRET_TEXT.sub("***", text)


def _ordered(event: _Event) -> dict[str, Any]:
    return {**{name: event[name] for name in _FIRST if name in event}, **event}


def _json(_: Any, __: str, event: _Event) -> str:
    try:
        return one_line(_ordered(event)).decode()
    except (TypeError, orjson.JSONEncodeError):
        # Half a surrogate pair, or an integer of more than 64 bits.
        return json.dumps(_ordered(event), default=str)


def _text(_: Any, __: str, event: _Event) -> str:
    """A line for people, in which nothing can pass for another line or move the cursor."""
    rest = dict(event)
    head = [_shown(rest.pop(name, "")) for name in ("timestamp", "level", "logger", "event")]
    trace = rest.pop("exception", None)
    rest.pop("service", None)
    line = " ".join([*head, *(f"{name}={_shown(value)}" for name, value in rest.items())])
    lines = [f"  {_shown(row)}" for row in str(trace).splitlines()] if trace else []
    return "\n".join([line, *lines])


def _shown(value: object) -> str:
    return str(value).translate(_CONTROL)
