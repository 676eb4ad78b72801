"""The one table of errors: every code is a row, every row means one thing, every body has OpenAI's shape."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.errors import TABLE, ApiError, Blame, error_body

ROOT = Path(__file__).parents[3]
RAISING = {"ApiError", "EditorError", "ThinkerError", "PortError", "error_body", "_error"}
ROLES = ("editor", "thinker")


def codes_of(node: ast.expr) -> list[str]:
    """The codes a first argument can be, where they can be read off the source."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.IfExp):
        return [*codes_of(node.body), *codes_of(node.orelse)]
    if isinstance(node, ast.JoinedStr) and isinstance(node.values[-1], ast.Constant):
        return [role + str(node.values[-1].value) for role in ROLES]
    return []


def raised() -> Iterator[tuple[str, str]]:
    """(place, code) of every error made with a literal code in the services and the orchestrator."""
    for folder in ("services", "orchestrator"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and node.args:
                    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                    if name in RAISING:
                        yield from ((f"{path.name}:{node.lineno}", code) for code in codes_of(node.args[0]))


def test_every_code_raised_is_in_the_table() -> None:
    """No service makes up a code of its own."""
    found = list(raised())

    assert len(found) > 50
    assert [(place, code) for place, code in found if code not in TABLE] == []


def test_every_row_is_used() -> None:
    """Every row is used somewhere."""
    # An upstream's are made of its role.
    named = {code for _, code in raised()} | {"editor_overloaded", "thinker_overloaded"}
    for folder in ("services", "orchestrator"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name != "errors.py":
                named |= {word for code in TABLE for word in re.findall(f'"{code}"', path.read_text("utf-8"))}

    assert [code for code in TABLE if code not in named and f'"{code}"' not in named] == []


@pytest.mark.parametrize("code", TABLE)
def test_a_row_agrees_with_its_status(code: str) -> None:
    """Who is to blame, the status class and whether a retry can help say the same thing."""
    row = TABLE[code]
    statuses = {
        Blame.CALLER: range(400, 429),
        Blame.CAPACITY: range(429, 430),
        Blame.COLLABORATOR: range(502, 505),
        Blame.SERVER: range(500, 508),
    }

    assert row.status in statuses[row.blame]
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
    if row.blame is Blame.CALLER:
        assert row.retryable == (row.status == 408)
    if row.blame is Blame.CAPACITY:
        assert row.retryable


@pytest.mark.parametrize("code", TABLE)
def test_a_body_has_openais_shape(code: str) -> None:
    """`error` with exactly message, type, param and code."""
    error = ApiError(code, "what is wrong", param="image", retry_after=2.0)

    assert error.body() == {
        "error": {"message": "what is wrong", "type": TABLE[code].blame.value, "param": "image", "code": code}
    }
    assert type(error.body()["error"]["type"]) is str
    assert error_body(code, "x")["error"]["param"] is None
    assert (error.status, error.retry_after, str(error)) == (TABLE[code].status, 2.0, "what is wrong")


def test_a_code_outside_the_table_does_not_pass() -> None:
    """A mistyped code fails in the first test that meets it."""
    with pytest.raises(KeyError):
        error_body("no_such_code", "x")
