"""Structured logs on stderr: one JSON object per line, with the ids of its request, session and turn.

Modules log through `logging`; `configure` routes all records, including those of uvicorn and libraries, through structlog.
`bind` adds ids (request_id, session_id, tenant, turn, candidate) to every record of the current task and of tasks it starts.
Only composition roots call `configure`.
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

from services.serving.jsonlines import json_line
from services.serving.log_format import LogFormat

_MAX_VALUE: Final = 2_000
"""Characters of one value: longer than any log message here, shorter than any image in base64."""
_MAX_TRACEBACK: Final = 16_000
_SECRET_NAME: Final = re.compile(r"api_?key|authorization|secret|password|cookie|^token$|_token$", re.IGNORECASE)
_SECRET_TEXT: Final = re.compile(
    r"\bBearer\s+[^\s'\",;]+|\b(?:sk-|et_|whsec_)[A-Za-z0-9_+/=-]{8,}|\bshr_\w+\.[\w.-]+"
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)",
    re.IGNORECASE,
)
"""Secrets by their form: bearer tokens, keys of OpenAI and of this project, secrets of webhooks, tokens of shares, passwords in
URLs."""
_BIDI: Final = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Controls of bidirectional text, with which a text can show as another one."""
_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    code: f"\\u{code:04x}" for code in (0x2028, 0x2029, *_BIDI)
}
_JSON_CONTROL: Final = {code: f"\\u{code:04x}" for code in (*range(127, 160), *_BIDI)}
"""What JSON leaves as it is in strings, for a log that is shown on a terminal."""
_NOISY: Final = ("httpx", "httpcore", "aiohttp", "urllib3", "asyncio", "PIL", "opentelemetry", "python_multipart")
_FIRST: Final = ("timestamp", "level", "service", "logger", "event")

_Event = MutableMapping[str, Any]


def bind(**ids: object) -> None:
    """Add ids to every record of this task and of tasks that it starts from now on."""
    bind_contextvars(**ids)


def configure(
    level: str,
    log_format: LogFormat,
    *,
    service: str,
    secrets: Iterable[str | None] = (),
    ids: Callable[[], Mapping[str, str]] = dict,
) -> None:
    """Route every log of this process through structlog to stderr.

    Args:
        level: the lowest level that is logged.
        log_format: of each record.
        service: added to every record.
        secrets: texts to replace in every record, such as configured keys.
        ids: further ids for each record, such as the trace's.
    """
    text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    secret_texts = sorted({secret for secret in secrets if secret}, key=len, reverse=True)

    def add_ids(_: Any, __: str, event: _Event) -> _Event:
        event.pop("color_message", None)  # uvicorn's, for terminals
        return {"service": service, **event, **ids()}

    def redact(_: Any, __: str, event: _Event) -> _Event:
        return {name: _clean(name, value, secret_texts) for name, value in event.items()}

    shared: list[Any] = [
        merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_ids,
    ]
    final: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.format_exc_info, redact]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
        processors=[*final, _text if text else _json],
    )
    _route(formatter, level)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _route(formatter: logging.Formatter, level: str) -> None:
    """Route every logger of the process to one handler."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # An unreachable collector is reported once per lost batch, not at every attempt.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)


def _clean(name: str, value: object, secret_texts: Iterable[str]) -> object:
    """A value that is safe to log: without bytes and secrets, and bounded in length."""
    if isinstance(value, int | float | None):
        return value
    if _SECRET_NAME.search(name):
        return "***"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return {str(key): _clean(str(key), inner, secret_texts) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(name, inner, secret_texts) for inner in value]
    text = value if isinstance(value, str) else str(value)
    if name == "exception" or "Traceback (most" in text:
        # The end of a traceback is the relevant part.
        text = text[-_MAX_TRACEBACK:]
    elif len(text) > _MAX_VALUE:
        text = f"{text[:_MAX_VALUE]}… ({len(text)} characters)"
    for secret in secret_texts:
        text = text.replace(secret, "***")
    return without_secrets(text)


def without_secrets(text: str) -> str:
    """A text without what has a secret's form."""
    return _SECRET_TEXT.sub("***", text)


def _ordered(event: _Event) -> dict[str, Any]:
    return {**{name: event[name] for name in _FIRST if name in event}, **event}


def _json(_: Any, __: str, event: _Event) -> str:
    try:
        line = json_line(_ordered(event)).decode()
    except (TypeError, orjson.JSONEncodeError):
        # An unpaired surrogate, or an integer of more than 64 bits.
        return json.dumps(_ordered(event), default=str)
    return line if line.isascii() and "\x7f" not in line else line.translate(_JSON_CONTROL)


def _text(_: Any, __: str, event: _Event) -> str:
    """A record for people; control characters are escaped, so that it cannot forge records or move the cursor."""
    rest = dict(event)
    head = [_shown(rest.pop(name, "")) for name in ("timestamp", "level", "logger", "event")]
    trace = rest.pop("exception", None)
    rest.pop("service", None)
    line = " ".join([*head, *(f"{name}={_shown(value)}" for name, value in rest.items())])
    lines = [f"  {_shown(row)}" for row in str(trace).splitlines()] if trace else []
    return "\n".join([line, *lines])


def _shown(value: object) -> str:
    return str(value).translate(_CONTROL)
