"""The export: lines of JSON over a real connection, and the times that bound it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from editthinker import EditThinker
from editthinker.client import APIConnectionError, APIResponseError, BadRequestError
from editthinker.client.export import Lines, moment
from tests.component.client.conftest import Use
from tests.component.client.scripted import Answer, as_json, error, in_turn, scripted

ARCHIVES: list[dict[str, Any]] = [
    {"id": "ses_1", "events": [{"reasoning": "one\u2028line, \u2029still\u0085the same\r"}]},
    {"id": "ses_2", "events": [{"reasoning": "é" * 70_000}]},
    {"id": "ses_3", "events": []},
]


def lines(*archives: dict[str, Any], **more: Any) -> Answer:
    """They stand in it as they are, as JSON allows; our own server escapes them."""
    body = b"".join(json.dumps(each, ensure_ascii=False).encode() + b"\n" for each in archives)
    return Answer(200, body + more.pop("tail", b""), {"content-type": "application/jsonl"}, **more)


def export(**bounds: Any) -> Callable[[EditThinker], Any]:
    return lambda client: client.sessions.export(**bounds)


def test_an_export_is_read_line_by_line(use: Use) -> None:
    """A line ends at a line feed alone."""
    with scripted(in_turn(lines(*ARCHIVES))) as server:
        assert use(server.base_url, export()) == ARCHIVES
        assert use(server.base_url, export(since=1795478400, until="1970-01-02T00:00Z", status="failed")) == ARCHIVES
    assert server.paths() == ["GET /v1/export", "GET /v1/export?since=1795478400.0&until=86400.0&status=failed"]


def test_nothing_to_export_is_no_error(use: Use) -> None:
    with scripted(in_turn(lines())) as server:
        assert use(server.base_url, export()) == []


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (lines(*ARCHIVES, cut=True), APIConnectionError),
        (lines(*ARCHIVES, tail=b'{"id": "ses_4"', cut=True), APIConnectionError),
        (lines(*ARCHIVES, tail=b'{"id": "ses_4"}'), APIResponseError),
        (lines(*ARCHIVES, tail=b"oops\n"), APIResponseError),
        (lines(*ARCHIVES, tail=b"[]\n"), APIResponseError),
        (as_json({"object": "list"}), APIResponseError),
        (error(400, "invalid_parameter", "no", "since"), BadRequestError),
    ],
)
def test_an_incomplete_export_is_an_error(use: Use, answer: Answer, kind: type[Exception]) -> None:
    """And is not asked for again behind the caller's back once a line was given."""
    with scripted(in_turn(answer, lines(*ARCHIVES))) as server, pytest.raises(kind):
        use(server.base_url, export())
    assert len(server.asked) == 1


def test_lines_before_the_break_are_given(use: Use) -> None:
    got: list[dict[str, Any]] = []

    def kept(each: dict[str, Any]) -> dict[str, Any]:
        got.append(each)
        return each

    def keep(client: Any) -> Any:
        archives = client.sessions.export()
        return (kept(each) for each in archives) if isinstance(client, EditThinker) else (kept(each) async for each in archives)

    with scripted(in_turn(lines(*ARCHIVES, cut=True))) as server, pytest.raises(APIConnectionError):
        use(server.base_url, keep)
    assert got == ARCHIVES


def test_an_export_that_has_not_begun_is_asked_for_again(use: Use) -> None:
    answers = [Answer(drop=True), error(503, "not_ready"), error(429, "overloaded", retry_after="0"), lines(*ARCHIVES)]
    with scripted(in_turn(*answers)) as server:
        assert use(server.base_url, export()) == ARCHIVES
    assert len(server.asked) == 4


def test_lines_may_be_cut_anywhere() -> None:
    whole = b'{"a": "\xc3\xa9\r"}\n\n{"b": 1}\n'
    for size in range(1, len(whole) + 1):
        reader = Lines(bytes)
        got = [line for at in range(0, len(whole), size) for line in reader.feed(whole[at : at + size])]
        reader.end()
        assert got == [b'{"a": "\xc3\xa9\r"}', b"", b'{"b": 1}']


@pytest.mark.parametrize(
    ("given", "at"),
    [
        (1795478400, 1795478400.0),
        ("1795478400.5", 1795478400.5),
        ("2026-11-24T00:00:00Z", 1795478400.0),
        ("2026-11-24T01:00+01:00", 1795478400.0),
        (datetime(2026, 11, 24, tzinfo=UTC), 1795478400.0),
        (datetime(2026, 11, 24, 2, tzinfo=timezone(timedelta(hours=2))), 1795478400.0),
        # Without an offset it is this machine's time, as `sessions ls` shows it.
        ("2026-11-24", datetime.fromisoformat("2026-11-24").timestamp()),
        ("2026-11-24 10:30", datetime.fromisoformat("2026-11-24 10:30").timestamp()),
    ],
)
def test_a_time_is_unix_seconds_or_an_iso_date(given: float | str | datetime, at: float) -> None:
    assert moment(given) == at


@pytest.mark.parametrize("given", ["", "yesterday", "nan", "inf", "2026-13-01", float("nan")])
def test_a_time_that_is_none_is_refused(given: float | str) -> None:
    """At once, not when the first line is asked for."""
    with EditThinker("http://127.0.0.1:9") as client, pytest.raises(ValueError, match="is not a time"):
        client.sessions.export(since=given)
