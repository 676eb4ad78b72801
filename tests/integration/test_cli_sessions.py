"""``editthinker sessions`` in a terminal, in a pipe, in a narrow encoding; and exports, whole or not at all."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from editthinker import EditThinker
from tests.component.client.scripted import Answer, Asked, as_json, error, in_turn, scripted, session
from tests.component.client.test_client_export import ARCHIVES, lines
from tests.doubles.processes import ended
from tests.integration.test_cli_commands import command, photo, run, server
from tests.integration.test_cli_stack import until

__all__ = ["photo", "server"]  # fixtures

IDS = [f"ses_{digit * 32}" for digit in "ab"]
INSTRUCTION = "make it feel like golden hour [bold] in a place where\nit never \x1b[31mrains "
KEPT: dict[int, list[str]] = {60: [], 80: ["overall"], 100: ["turns", "overall"], 160: ["started", "turns", "overall"]}
LISTED = {
    "object": "list",
    "next_cursor": None,
    "data": [
        session("awaiting_review", id=IDS[0], instruction=INSTRUCTION * 20, created_at=1795478400.0),
        session(id=IDS[1], instruction="short", created_at=1795478400.0),
    ],
}


def listed(columns: int | None) -> list[str]:
    """What `sessions ls` prints: to a terminal of so many columns, or into a pipe."""
    with scripted(in_turn(as_json(LISTED))) as server:
        words = ("sessions", "ls", "--server", server.base_url)
        if columns is None:
            return run(*words, env={"COLUMNS": "40"}).stdout.splitlines()
        ours, theirs = pty.openpty()
        env = {**os.environ, "COLUMNS": str(columns), "LINES": "50", "NO_COLOR": "1", "TERM": "dumb"}
        with ended(subprocess.Popen(command(*words), stdout=theirs, env=env)):
            os.close(theirs)
            text = b""
            while chunk := read(ours):
                text += chunk
        os.close(ours)
        return text.decode().splitlines()


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # the other side has closed it
        return b""


@pytest.mark.parametrize("columns", [60, 80, 100, 160, None])
def test_an_id_is_never_truncated(columns: int | None) -> None:
    """A session is a line, and the instruction gives way first; in a pipe nothing does."""
    head, first, second = listed(columns)
    assert head.startswith("id ")
    assert [first[:37].strip(), second[:37].strip()] == IDS
    assert "awaiting_review" in first
    assert "\x1b" not in first
    assert second.endswith(" short")
    assert second.index("short") == head.index("  ins") + 2
    if columns is None:
        assert first.count("golden hour [bold] in a place where it never") == 20
        assert second == second.rstrip()
        return
    assert first.endswith("…")
    assert max(map(len, (head, first, second))) <= columns
    assert [name for name in ("started", "turns", "overall") if name in head] == KEPT[columns]


def test_sessions_are_told_apart_by_metadata(server: str, photo: Path) -> None:
    words = ("--server", server, "--metadata", "order=17", "--metadata", "note=a=b")
    assert run("edit", photo, "make it brighter", "-q", "--max-turns", 1, *words).returncode == 0
    (made,) = json.loads(run("sessions", "ls", "--json", *words).stdout)["data"]
    assert made["metadata"] == {"order": "17", "note": "a=b"}
    assert json.loads(run("sessions", "ls", "--json", "--server", server, "--metadata", "order=18").stdout)["data"] == []
    assert "write KEY=VALUE" in run("sessions", "ls", "--server", server, "--metadata", "order").stderr


def test_a_review_is_answered_and_finished_sessions_are_deleted(server: str, photo: Path) -> None:
    with EditThinker(server) as client:
        made = client.sessions.create(photo, "golden hour", review="each_turn", max_turns=3)
        assert client.sessions.review(made.id, timeout=60).status == "awaiting_review"
        unfinished = run("sessions", "rm", made.id, "ses_unknown", "--server", server)
        assert (unfinished.returncode, unfinished.stdout) == (1, "")
        assert "session_conflict" in unfinished.stderr
        assert "ses_unknown" in unfinished.stderr
        words = ("sessions", "feedback", made.id)
        instructed = run(*words, "instruct", "--instruction", "warmer, with grain", "--server", server)
        assert (instructed.returncode, instructed.stdout.startswith(f"{made.id}: ")) == (0, True)
        again = client.sessions.review(made.id, timeout=60)
        assert [turn.instruction for turn in again.turns][-1] == "warmer, with grain"
        picked = run(*words, "pick", "--turn", 1, "--candidate", 1, "--json", "--server", server)
        assert json.loads(picked.stdout)["id"] == made.id
        assert client.sessions.wait(made.id, timeout=60).finish_reason == "accepted"
    assert run(*words, "hope", "--server", server).returncode == 2
    assert run(*words, "pick", "--server", server).returncode == 1
    removed = run("sessions", "rm", made.id, "--server", server)
    assert (removed.returncode, removed.stdout) == (0, f"{made.id}: deleted\n")
    assert run("sessions", "show", made.id, "--server", server).returncode == 1


@pytest.mark.parametrize("verb", ["show", "watch", "cancel"])
def test_an_empty_id_is_refused(verb: str) -> None:
    """It is what an unset $ID becomes."""
    done = run("sessions", verb, "", "--server", "http://127.0.0.1:9")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "editthinker: the session's id is empty; is the shell variable set?\n"


@pytest.mark.parametrize("words", [["show", "\udcff"], ["ls", "--cursor", "\udcff"], ["show", "x", "--server", "http://a\udcff"]])
def test_an_argument_that_is_not_text_is_refused(words: Sequence[str]) -> None:
    done = run("sessions", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_output_is_escaped_in_a_narrow_encoding() -> None:
    """Characters that the encoding lacks are escaped as in JSON, so that the output of --json is still JSON."""
    env = {"PYTHONIOENCODING": "ascii"}
    with scripted(in_turn(as_json(session(instruction="goldene Stunde für 🌄")))) as server:
        words = ("sessions", "show", "s", "--server", server.base_url)
        shown = run(*words, env=env)
        as_document = run(*words, "--json", env=env)
    assert shown.returncode == 0
    assert r"goldene Stunde f\u00fcr \ud83c\udf04" in shown.stdout
    assert json.loads(as_document.stdout)["instruction"] == "goldene Stunde für 🌄"


# --- export --------------------------------------------------------------------------------------------------------------


def exported(answer: Answer, *words: object) -> tuple[subprocess.CompletedProcess[bytes], list[str]]:
    with scripted(in_turn(answer)) as server:
        whole = command("sessions", "export", "--server", server.base_url, *words)
        env = {**os.environ, "PYTHONIOENCODING": "ascii"}
        done = subprocess.run(whole, capture_output=True, timeout=30, check=False, env=env)
    assert b"Traceback" not in done.stderr
    return done, server.paths()


def test_an_export_is_what_the_server_streams(tmp_path: Path) -> None:
    """Byte for byte, to standard output or to a file."""
    done, paths = exported(lines(*ARCHIVES), "--since", "2026-11-24T00:00Z", "--until", 1795564800, "--status", "failed")
    assert (done.returncode, done.stdout, done.stderr) == (0, lines(*ARCHIVES).body, b"")
    assert paths == ["GET /v1/export?since=1795478400.0&until=1795564800.0&status=failed"]
    file = tmp_path / "sessions.jsonl"
    file.write_text("old")
    done, _ = exported(lines(*ARCHIVES), "-o", file)
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.decode() == f"3 sessions: {file}\n"
    assert file.read_bytes() == lines(*ARCHIVES).body


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lines(*ARCHIVES, cut=True), "broke"),
        (lines(*ARCHIVES, tail=b"{"), "incomplete"),
        (as_json({}), "not the stream that was asked for"),
        (error(403, "forbidden"), "forbidden"),
    ],
)
def test_a_broken_export_exits_with_1_and_writes_no_file(tmp_path: Path, answer: Answer, says: str) -> None:
    """The file that was there stays; on standard output stand whole lines."""
    file = tmp_path / "sessions.jsonl"
    file.write_text("old")
    done, _ = exported(answer, "-o", file)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert says in done.stderr.decode()
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["sessions.jsonl"]
    done, _ = exported(answer)
    assert done.returncode == 1
    assert done.stdout in {b"", lines(*ARCHIVES).body}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--since", "yesterday"], "--since: 'yesterday' is not a time"),
        (["--until", "nan"], "--until: 'nan' is not a time"),
        (["-o", "nowhere/a.jsonl"], "does not exist"),
        (["--status", "running"], "succeeded"),
    ],
)
def test_a_wrong_option_of_export_sends_no_request(words: Sequence[str], says: str) -> None:
    done, paths = exported(lines(*ARCHIVES), *words)
    assert (done.returncode, done.stdout, paths) == (2, b"", [])
    assert says in done.stderr.decode()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_export_leaves_no_file(tmp_path: Path, stop: signal.Signals) -> None:
    never = threading.Event()

    def script(_: Asked) -> Answer:
        return lines(*ARCHIVES, hold=never)

    with scripted(script) as server:
        whole = command("sessions", "export", "--server", server.base_url, "-o", tmp_path / "a.jsonl")
        with ended(subprocess.Popen(whole, stderr=subprocess.PIPE, text=True)) as running:
            assert until(lambda: bool(server.asked))
            running.send_signal(stop)
            _, errors = running.communicate(timeout=180)
        never.set()
    assert (running.returncode, errors) == (130, "editthinker: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_both_ends_of_the_export_agree(server: str, photo: Path) -> None:
    """The command line and a real server."""
    made: dict[str, Any] = json.loads(run("edit", photo, "golden", "--server", server, "--json", "--max-turns", 1).stdout)
    done = run("sessions", "export", "--server", server, "--since", made["created_at"], "--status", "succeeded")
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [made["id"]]
    assert run("sessions", "export", "--server", server, "--until", "2020-01-01").stdout == ""
