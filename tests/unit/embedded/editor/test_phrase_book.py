"""Every phrase of docs/embedded-editor.md is parsed as the operation of its row."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.embedded.editor import parse
from services.embedded.editor.plan import Kind

_PAGE = Path(__file__).parents[4] / "docs" / "embedded-editor.md"


def _phrases() -> list[tuple[str, str, int]]:
    phrases = []
    for line in _PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells[0] in set(Kind):
            for column, cell in enumerate(cells[1:]):
                phrases += [(cells[0], phrase, column) for phrase in re.findall(r"`([^`]+)`", cell)]
    return phrases


@pytest.mark.parametrize(("kind", "phrase", "column"), _phrases())
def test_phrase_is_read_as_its_operation(kind: str, phrase: str, column: int) -> None:
    plan = parse(phrase)
    assert [operation.kind for operation in plan.operations] == [kind]
    assert not plan.not_understood
    assert not plan.operations[0].nudge
    if column == 1:
        assert plan.operations[0].amount < 0


def test_the_page_names_every_operation() -> None:
    assert {kind for kind, _, _ in _phrases()} == set(Kind)


def test_the_page_holds_at_least_32_operations() -> None:
    assert len(set(Kind)) >= 32
