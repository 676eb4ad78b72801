"""``Prefer: wait=n``, as RFC 7240 has it."""

from __future__ import annotations

import pytest

from orchestrator.api.sessions import preferred_wait_s
from tests.doubles.cost import grows_linearly


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        ([], 0),
        (["wait=20"], 20),
        (["wait = 20"], 20),
        (["Wait=20"], 20),
        (['wait="20"'], 20),
        (["respond-async, wait=20"], 20),
        (["respond-async", "wait=20"], 20),
        (["wait=20; foo=bar"], 20),
        (["wait=5, wait=20"], 5),
        (["wait=99999"], 600),
        (["wait"], 600),
        (["wait=0"], 0),
        (["wait=-5"], 0),
        (["wait=1e3"], 0),
        (["wait=\u0662"], 0),
        (["wait=" + "9" * 40], 0),
        (["waiting=20"], 0),
        (["foo; wait=20"], 0),
        (['foo="a, wait=20"'], 0),
        (['foo="a\\", wait=20"'], 0),
        (['foo="', "wait=20"], 0),
    ],
)
def test_the_seconds_to_wait(lines: list[str], seconds: float) -> None:
    """In any case, spacing and place; what is no preference, or no number, is not honoured."""
    assert preferred_wait_s(lines) == seconds


def test_a_long_line_is_read_in_time() -> None:
    """As long as a head may be."""
    for text in (",", '"', "\\", "wait=", 'wait="', ", wait;"):
        assert grows_linearly(lambda size, text=text: preferred_wait_s([text * (size // len(text))]), 65_536)  # type: ignore[misc]
