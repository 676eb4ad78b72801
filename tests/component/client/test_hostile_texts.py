"""What a server or a stranger writes reaches no terminal: every command's output, for hostile texts in every field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from editthinker.cli import sessions
from editthinker.cli.app import app
from editthinker.client import Session
from editthinker.printable import block, json_line, json_text, one_line
from editthinker.report import Pictures, render
from tests.component.client.scripted import EVENTS, PNG, Answer, Asked, as_json, error, scripted, session, stream

HOSTILE = "a\x1b]52;c;aGk=\x07b\x9b31m\x7f\u202ec\u2066d\u2028[link=https://evil.example]e[/link]\nresult: forged\r\x08"
CONTROLS = ["\x1b]", "\x07", "\x9b", "\x7f", "\u202e", "\u2066", "\u2028", "\x08", "\x1b]8;"]
IMAGE = {"sha256": "a", "media_type": "image/png", "bytes": 1, "width": 3, "height": 2}
SCORES = {"semantic": 1.0, "quality": 2.0, "overall": 1.4}
SESSION = session(
    id=HOSTILE,
    instruction=HOSTILE,
    editor=HOSTILE,
    thinker=HOSTILE,
    finish_reason=HOSTILE,
    revised_prompt=HOSTILE,
    error={"code": HOSTILE, "message": HOSTILE},
    turns=[
        {
            "turn": 1,
            "instruction": HOSTILE,
            "author": HOSTILE,
            "candidates": [
                {"candidate": 1, "status": "critiqued", "scores": SCORES, "reasoning": HOSTILE, "image": IMAGE},
                {"candidate": 2, "status": "failed", "error": {"code": HOSTILE, "message": HOSTILE}},
            ],
        }
    ],
)
FAILED = {**SESSION, "best": None, "status": "failed"}
HOSTILE_EVENTS = [
    {**event, **{name: HOSTILE for name in ("instruction", "reasoning", "reason", "message", "author") if name in event}}
    for event in EVENTS
]
FAILURE = {"seq": 6, "type": "edit_failed", "turn": 1, "candidate": 2, "message": HOSTILE, "code": HOSTILE}


def answer(asked: Asked) -> Answer:
    if asked.path.endswith("/events"):
        return stream([*HOSTILE_EVENTS[:-2], FAILURE, HOSTILE_EVENTS[-1]])
    if "/image" in asked.path or "/source" in asked.path:
        return Answer(200, PNG, {"content-type": "image/png"})
    if "export" in asked.path:
        return Answer(200, json.dumps(SESSION, ensure_ascii=False).encode() + b"\n", {"content-type": "application/jsonl"})
    if asked.method == "GET" and asked.path.partition("?")[0].endswith("/sessions"):
        return as_json({"object": "list", "data": [SESSION], "next_cursor": HOSTILE})
    return as_json({**SESSION, "id": "ses_1"} if asked.method == "POST" and not asked.path.endswith("cancel") else SESSION)


def refuse(_: Asked) -> Answer:
    return error(400, HOSTILE, HOSTILE, HOSTILE)


def fail(asked: Asked) -> Answer:
    return as_json({**FAILED, "id": "ses_1"}) if "/events" not in asked.path else answer(asked)


def run(script: Any, *arguments: str, terminal: bool = False) -> Result:
    with scripted(script) as server:
        env = {"FORCE_COLOR": "1", "COLUMNS": "200"} if terminal else {"NO_COLOR": "1"}
        return CliRunner(env=env).invoke(app, [*arguments, "--server", server.base_url])


def check(result: Result) -> None:
    assert not [mark for mark in CONTROLS if mark in result.output], result.output
    assert not [line for line in result.output.splitlines() if line.strip().startswith("result: forged")]


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [
        ("sessions", "ls"),
        ("sessions", "ls", "--json"),
        ("sessions", "show", "ses_1"),
        ("sessions", "show", "ses_1", "--json"),
        ("sessions", "watch", "ses_1"),
        ("sessions", "watch", "ses_1", "--json"),
        ("sessions", "cancel", "ses_1"),
        ("sessions", "cancel", "ses_1", "--json"),
        ("sessions", "feedback", "ses_1", "accept"),
        ("sessions", "rm", HOSTILE),
        ("sessions", "export"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("script", [answer, fail, refuse])
def test_no_command_about_sessions_prints_a_control_character(
    monkeypatch: pytest.MonkeyPatch,
    script: Any,
    arguments: tuple[str, ...],
    terminal: bool,  # noqa: FBT001
) -> None:
    """On a terminal and in a pipe, for what succeeded, failed and was refused. An export in a pipe is the server's bytes."""
    monkeypatch.setattr(sessions, "_is_terminal", lambda: True)
    result = run(script, *arguments, terminal=terminal)
    check(result)
    assert result.output
    if "--json" in arguments and script is answer:
        assert result.exit_code == 0


def test_json_holds_the_same_values() -> None:
    """Escaped as JSON does."""
    assert json.loads(run(answer, "sessions", "show", "ses_1", "--json").stdout)["instruction"] == HOSTILE
    assert json.loads(run(answer, "sessions", "export").stdout)["instruction"] == HOSTILE


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize("script", [answer, fail, refuse])
def test_an_edit_prints_no_control_character(script: Any, options: tuple[str, ...], terminal: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """Its progress, its results and its error line."""
    photo = tmp_path / "photo.png"
    photo.write_bytes(PNG)
    result = run(script, "edit", str(photo), "warmer", *options, terminal=terminal)
    check(result)
    assert result.output


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize("script", [answer, fail, refuse])
def test_a_batch_prints_no_control_character(script: Any, options: tuple[str, ...], terminal: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """Neither of what the server says nor of what the file of instructions holds."""
    (tmp_path / "photo.png").write_bytes(PNG)
    prompts = tmp_path / "prompts.csv"
    prompts.write_text(f'photo.png,"{one_line(HOSTILE)}"\n')
    words = ("edit", "--prompts", str(prompts), "-o", str(tmp_path / "out"), *options)
    result = run(script, *words, terminal=terminal)
    check(result)
    assert result.output


def test_the_report_holds_no_control_character() -> None:
    """Nor one that turns the reading order around."""
    page = render(Session.model_validate(SESSION), Pictures(PNG, {(1, 1): PNG}))
    assert not [mark for mark in CONTROLS if mark in page]


def test_the_three_forms() -> None:
    """On one line, in a block, in JSON."""
    assert one_line("a \n b\x1b\u202e") == "a b\\x1b\\u202e"
    assert block("a\n\tb\x1b\r") == "a\n\tb\\x1b\\x0d"
    assert json_text('{\n "a": "\x9b"}') == '{\n "a": "\\u009b"}'
    assert json_line(b'{"a": "\xc2\x9b"}\x1b\xff') == b'{"a": "\\u009b"}\\u001b' + "\ufffd".encode()
