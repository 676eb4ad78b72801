"""JSON in one line, for every kind of reader."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.serving.jsonlines import json_line, sse_message

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NESTED = st.recursive(TEXT | st.integers(-(2**53), 2**53) | st.none(), lambda of: st.lists(of) | st.dictionaries(TEXT, of))
ENDS = [chr(code) for code in range(sys.maxunicode + 1) if len(f"a{chr(code)}b".splitlines()) > 1]


@given(
    st.recursive(TEXT | st.integers(-(2**53), 2**53) | st.none(), lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner))
)
def test_it_is_the_same_json(value: object) -> None:
    """Read back, nothing has changed."""
    assert json.loads(json_line(value)) == value


@pytest.mark.parametrize("end", ENDS, ids=ascii)
def test_no_character_ends_the_line(end: str) -> None:
    """Each that Python takes for an end of line, in a key and in a value."""
    line = json_line({f"a{end}b": f"c{end}d"}).decode()
    assert line.splitlines() == [line]


def test_a_message() -> None:
    """Fields in the order in which every reader takes them."""
    assert sse_message({"a": "b\u2028c"}, event="critiqued", seq=7) == b'id: 7\nevent: critiqued\ndata: {"a":"b\\u2028c"}\n\n'
    assert sse_message([1]) == b"data: [1]\n\n"
