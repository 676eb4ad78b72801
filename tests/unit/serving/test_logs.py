"""What a log record holds, and what it never does."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pty
import subprocess
import sys
import textwrap
from typing import Any

import structlog

from services.serving import logs

PREAMBLE = "import logging\nfrom services.serving import logs\n"


def ran(code: str, form: str = "json", level: str = "info") -> str:
    """What a process that configures its logs and runs this writes to stderr."""
    configure = f"logs.configure({level!r}, {form!r}, service='here', secrets=['hunter2', None])"
    begin = f"{PREAMBLE}{configure}\nlog = logging.getLogger('a.b')\n"
    done = subprocess.run([sys.executable, "-c", begin + textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr


def lines(code: str, **how: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ran(code, **how).splitlines()]


def test_a_line_is_json_with_the_ids_that_were_bound() -> None:
    """Also those of uvicorn, of warnings, and of structlog's own loggers."""
    records = lines("""
        import structlog, warnings
        logs.bind(request_id="req_1", session_id="ses_1", tenant="acme", turn=2)
        log.info("hello %s", "you", extra={"candidate": 3})
        logging.getLogger("uvicorn.error").warning("it stops", extra={"color_message": "no"})
        logging.getLogger("httpx").info("noise")
        log.debug("more noise")
        warnings.warn("old", stacklevel=1)
        structlog.get_logger("s").error("direct", code="x")
    """)
    assert [line["event"].split("\n")[0][-8:] for line in records] == ["ello you", "it stops", "ing: old", "direct"]
    first = records[0]
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "level": "info",
        "service": "here",
        "logger": "a.b",
        "event": "hello you",
        "request_id": "req_1",
        "session_id": "ses_1",
        "tenant": "acme",
        "turn": 2,
        "candidate": 3,
    }
    assert "color_message" not in records[1] and records[3]["code"] == "x"


def test_no_value_makes_a_line_of_its_own() -> None:
    """Newlines, escapes, separators, half characters and huge numbers, as JSON and as text."""
    code = r"""
        evil = 'x\n{"level":"critical"}\r\x1b[2J\u2028\x85'
        logs.bind(tenant=evil)
        log.info(evil, extra={"path": evil, "half": "\ud800", "large": 10**40})
    """
    written = ran(code)
    assert len(written.splitlines()) == 1 and len(ran(code.replace("\\ud800", "é").replace("10**40", "1")).splitlines()) == 1
    line = json.loads(written)
    assert line["tenant"] == line["path"] == line["event"] and line["level"] == "info"
    assert "\x1b" not in written and "\r" not in written

    text = ran(code.replace(', "half": "\\ud800"', ""), form="text")
    assert len(text.splitlines()) == 1 and "\x1b" not in text and "\\x0a" in text


def test_nothing_in_a_line_moves_a_terminal_or_turns_its_text_around() -> None:
    """JSON leaves DEL, C1 and the controls of bidirectional text as they are; here they are escaped, in both forms."""
    code = r"""
        log.info('a\x7fb\x9b31mc\u202ed\u2066e\u200ff')
    """
    written, text = ran(code), ran(code, form="text")
    for form in (written, text):
        assert all(each.isprintable() or each == "\n" for each in form)
    assert json.loads(written)["event"] == "a\x7fb\x9b31mc\u202ed\u2066e\u200ff"


def test_pictures_and_keys_are_left_out() -> None:
    """Bytes by their size, long values cut, keys by name, by form, and those that were configured."""
    [line] = lines("""
        log.info("got %s from redis://me:pw@host/0 with hunter2", "Bearer abc.def", extra={
            "data": b"PNG", "b64": "A" * 100_000, "api_key": "k", "headers": {"Authorization": "Basic x", "n": [b"12"]},
            "note": "sk-abcdefgh1234 et_0123456789ab whsec_MfKQ9r8GKYqrTwjU", "prompt_tokens": 7,
        })
    """)
    assert line["event"] == "got *** from redis://***@host/0 with ***"
    assert (line["data"], line["api_key"], line["note"], line["prompt_tokens"]) == ("<3 bytes>", "***", "*** *** ***", 7)
    assert line["headers"] == {"Authorization": "***", "n": ["<2 bytes>"]}
    assert len(line["b64"]) < 2_100 and "100000" in line["b64"]


def test_the_token_of_a_share_is_left_out_and_its_id_is_kept() -> None:
    """Of a path too, as it is told with a span."""
    path = "/studio/shared/shr_5b1f0c6be2d14b5f.ses_2d1c.b8-_Xw"
    assert logs.without_secrets(path) == "/studio/shared/***"
    assert logs.without_secrets("share shr_5b1f0c6be2d14b5f of ses_2d1c.") == "share shr_5b1f0c6be2d14b5f of ses_2d1c."


def test_a_traceback_keeps_its_end() -> None:
    """In its line, as JSON; below it, as text."""
    code = """
        def deep(n):
            return deep(n - 1) if n else 1 / 0
        try:
            deep(3)
        except ZeroDivisionError:
            log.exception("a bug")
    """
    [line] = lines(code)
    assert line["exception"].splitlines()[-1] == "ZeroDivisionError: division by zero"
    head, *trace = ran(code, form="text").splitlines()
    assert " error a.b a bug" in head and trace[-1] == "  ZeroDivisionError: division by zero"


def test_auto_is_text_on_a_terminal_only() -> None:
    """A person sees text, a file gets JSON."""
    code = f"{PREAMBLE}logs.configure('info', 'auto', service='here')\nlogging.getLogger('a').info('hello')"
    assert ran("log.info('hello')", form="auto").startswith("{")
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", code], stderr=theirs, check=True)
    os.close(theirs)
    seen = os.read(ours, 4096).decode()
    os.close(ours)
    assert seen.rstrip().endswith("info a hello")


async def test_what_a_task_binds_stays_in_it_and_its_children() -> None:
    """Two sessions in one process do not get each other's ids."""

    both_bound = asyncio.Barrier(2)

    async def work(name: str) -> list[str]:
        logs.bind(session_id=name)
        await both_bound.wait()
        inner = await asyncio.create_task(asyncio.to_thread(structlog.contextvars.get_contextvars))
        return [structlog.contextvars.get_contextvars()["session_id"], inner["session_id"]]

    one, two = await asyncio.gather(work("one"), work("two"))
    assert (one, two) == (["one", "one"], ["two", "two"])
    assert "session_id" not in structlog.contextvars.get_contextvars()
    assert logging.getLogger("a.b").name == "a.b"
