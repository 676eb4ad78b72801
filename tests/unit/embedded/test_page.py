"""Every phrase of docs/embedded-editor.md is read as the operation of its row, or refused for the reason of its row."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.embedded.instructions import parse
from services.embedded.instructions.operations import Kind

_PAGE = Path(__file__).parents[3] / "docs" / "embedded-editor.md"
_REASONS = {
    "things are not recognised": r"not recognised|cannot be told|not changed",
    "nor is a subject": "background",
    "nor is a sky": "the sky cannot be told",
    "a colour is not replaced, nor left out": "one colour is neither replaced nor left out",
    "nor is a coloured thing told apart": "cannot be told",
    "nothing is redrawn": "not redrawn",
    "nothing is restored": "not restored",
    "pixels are counted by the request": "size of the request",
    "it contradicts itself": "contradict|ruled out|in colour or without it",
    "it is code": "looks like code",
    "another language": "seems to be",
    "a form that is not offered": "in quotes|in percent|round the whole picture|one corner|100 %",
    "nothing is asked for": "nothing to change was asked for",
    "it describes": "this describes|this says what is liked",
    "a word is not understood": "not understood|does not say|nothing that can be done",
}


def _rows() -> list[tuple[str, str, int]]:
    """(first cell, phrase, column) of every table."""
    rows = []
    for line in _PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(cells) > 1:
            for column, cell in enumerate(cells[1:]):
                rows += [(cells[0], phrase, column) for phrase in re.findall(r"`([^`]+)`", cell)]
    return rows


@pytest.mark.parametrize(("kind", "phrase", "column"), [row for row in _rows() if row[0] in set(Kind)])
def test_a_phrase_is_read_as_its_operation(kind: str, phrase: str, column: int) -> None:
    reading = parse(phrase)
    assert [operation.kind for operation in reading.operations] == [kind]
    assert not reading.refusals and not reading.unjudged and not reading.looks
    assert (reading.operations[0].amount < 0) == (column == 1)


@pytest.mark.parametrize(("why", "phrase"), [row[:2] for row in _rows() if row[0] in _REASONS])
def test_a_phrase_is_refused_for_the_reason_of_its_row(why: str, phrase: str) -> None:
    refusals = parse(phrase).refusals
    assert refusals
    assert re.search(_REASONS[why], str(refusals[0]).lower())


def test_the_page_names_every_operation() -> None:
    assert {kind for kind, _, _ in _rows() if kind in set(Kind)} == set(Kind)


def test_every_look_of_the_page_is_read_as_a_look() -> None:
    text = _PAGE.read_text(encoding="utf-8").split("## Looks")[1].split("##")[0]
    for phrase in re.findall(r"`([^`/.]+)`", text):
        reading = parse(phrase)
        assert reading.looks and not reading.refusals and not reading.unjudged, phrase
