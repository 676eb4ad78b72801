"""Regular expressions and reply parsers are fast on hostile texts of the longest allowed length."""

from __future__ import annotations

import ast
import contextlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api.sessions import preferred_wait_s
from services.protocol.critique.formats import FORMATS
from services.protocol.critique.messages import MAX_INSTRUCTION, UnreadableRequestError, _values
from services.protocol.critique.prompts import Template
from services.protocol.critique.questions import LIST_PATTERN, load_list
from services.protocol.critique.replies import Reply
from services.serving import logs

ROOT = Path(__file__).parents[2]
FOLDERS = ("orchestrator", "services")
CALLS = {"compile", "match", "search", "fullmatch", "sub", "split", "findall", "finditer", "subn"}
LENGTH = MAX_INSTRUCTION
QUICK_S = 1.0
"""Of this thread's processor time. A pattern with catastrophic backtracking takes minutes on these texts."""


def _text(node: ast.expr) -> str | None:
    """Return a literal pattern; None for one that is assembled at run time."""
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    return value if isinstance(value, str) else value.decode("latin-1") if isinstance(value, bytes) else None


def patterns() -> dict[str, tuple[str, bool]]:
    """Find every pattern of the sources by file and line, and whether it is only matched at the start of a text."""
    found = {
        "services/protocol/critique/questions.py:LIST_PATTERN": (LIST_PATTERN, True),
        "services/serving/logs.py:secrets": (logs._SECRET_TEXT.pattern, False),
    }
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        source = path.read_text()
        if "import re\n" not in source and "pattern" not in source:
            continue  # parsing all files would take longer than all texts
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Call):
                continue
            func = node.func
            of_re = isinstance(func, ast.Attribute) and getattr(func.value, "id", "") == "re" and func.attr in CALLS
            written = [node.args[0]] if of_re and node.args else [word.value for word in node.keywords if word.arg == "pattern"]
            uses = {func.attr} if isinstance(func, ast.Attribute) else set()
            if name := re.match(r"(\w+)(?:: Final)? = re.compile", source.splitlines()[node.lineno - 1]):
                uses = set(re.findall(rf"\b{name[1]}\.(\w+)\(", source))
            for text in filter(None, map(_text, written)):
                found[f"{path.relative_to(ROOT)}:{node.lineno}"] = (text, bool(uses) and uses <= {"match", "fullmatch"})
    return found


PATTERNS = patterns()
PIECES = [
    "a",
    " ",
    "\t ",
    "\n",
    '"',
    "'",
    "\\",
    '\\"',
    "{",
    "[",
    "<",
    "<score>",
    "</score>",
    "```",
    "0",
    "9.",
    "- ",
    ":",
    ",",
    "=",
    "/",
    "@",
]
PIECES += [
    "a:",
    "://a:",
    "sk-",
    "et_",
    "Bearer ",
    "wait",
    " wait=",
    "semantic ",
    '"semantic"',
    '{"n": 1, "about": "keep", "question": "a',
    "*",
    "**",
]
PIECES += [
    '"answer": ',
    "out of 10",
    "i am ",
    "I'm sorry",
    "rewritten prompt",
    "\u2028",
    "\x01",
    "é",
    "1 ",
    "x1 ",
    ".5",
    "\u2019",
    "“",
    "#0",
    "b w",
    "and ",
]
TEXTS = [prefix + piece * (LENGTH // len(piece)) + end for piece in PIECES for prefix in ("", '"') for end in ("", "\x00", "!")]


def timed(work: Callable[[], Any]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def test_patterns_are_found() -> None:
    assert len(PATTERNS) > 30
    assert any(location.startswith("orchestrator/api/sessions.py") for location in PATTERNS)


@pytest.mark.parametrize("location", PATTERNS)
def test_a_pattern_is_quick_over_any_text(location: str) -> None:
    written, anchored = PATTERNS[location]
    pattern = re.compile(written, re.IGNORECASE | re.DOTALL)
    for text in TEXTS:
        for work in (pattern.match if anchored else pattern.search, pattern.fullmatch):
            seconds = timed(lambda work=work, text=text: work(text))  # type: ignore[misc]
            assert seconds < QUICK_S, f"{seconds:.1f} s over {text[:40]!r}…"


_pieces = st.lists(
    st.sampled_from([*PIECES, "<think>", "</think>", "<answer>", "</answer>", '{"semantic": 8, "quality": 7}', "}", "]"])
    | st.text(max_size=5),
    min_size=1,
    max_size=12,
)


@given(pieces=_pieces, times=st.integers(1, 20_000), name=st.sampled_from(sorted(FORMATS)))
def test_a_reply_is_parsed_in_time(pieces: list[str], times: int, name: str) -> None:
    """Replies of up to 200,000 characters, made of the parsers' own marks, are parsed in less than a second."""
    text = ("".join(pieces) * times)[:200_000]

    assert timed(lambda: FORMATS[name].bind().parse(Reply(text, "", "stop"))) < QUICK_S
    assert timed(lambda: FORMATS[name].bind().parse(Reply("", text, "length"))) < QUICK_S


@given(pieces=_pieces, times=st.integers(1, 20_000))
def test_lists_of_questions_and_prompts_are_parsed_in_time(pieces: list[str], times: int) -> None:
    text = ("".join(pieces) * times)[:100_000]

    def parse_all() -> None:
        for work in (lambda: load_list(text), lambda: _values(["", "", text], [Template.named("editthinker").segments()])):
            with contextlib.suppress(ValueError, RecursionError, UnreadableRequestError, KeyError, TypeError):
                work()
        preferred_wait_s([text])

    assert timed(parse_all) < QUICK_S
