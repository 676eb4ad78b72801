"""The tokens of a pass are fewer after memory ran out, and recover."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.editor.engine.token_limit import TokenLimit


def test_a_limit_of_tokens_is_halved_when_memory_runs_out_and_recovers() -> None:
    """With more patience after each further time."""
    limit = TokenLimit.measured(800)
    assert limit.tokens == 1000 and limit.after_pass(2) == limit
    waits = []
    for _ in range(3):
        limit = limit.after_out_of_memory(1000)
        assert limit.tokens == 625
        passes = 0
        while limit.tokens != 1000:
            limit, passes = limit.after_pass(2), passes + 1
        waits.append(passes)
    assert waits[0] == 4 * 64 and waits[1] == 2 * waits[0] and waits[2] == 4 * waits[0]


@given(st.one_of(st.none(), st.integers(1, 1000)), st.lists(st.integers(2, 2000), min_size=1, max_size=3))
def test_what_did_not_fit_is_not_tried_at_once_but_again_some_day(measured: int | None, failures: list[int]) -> None:
    limit = TokenLimit.measured(measured)
    for tokens in failures:
        limit = limit.after_out_of_memory(tokens)
        assert limit.tokens is not None and 1 <= limit.tokens < tokens
        assert limit.most is None or limit.tokens <= limit.most
    for _ in range(50_000):
        if limit.tokens == limit.most:
            break
        limit = limit.after_pass(2)
    assert limit.tokens == limit.most


def test_patience_is_as_before_once_a_pass_fits_that_did_not() -> None:
    """What had taken the memory is gone: the next failure is a new one."""
    limit = TokenLimit.measured(800)
    for _ in range(5):
        limit = limit.after_out_of_memory(1000)
    patience = TokenLimit.measured(800).after_out_of_memory(1000).patience
    assert limit.patience == 16 * patience
    while limit.tokens != limit.most:
        limit = limit.after_pass(900)
    assert limit.after_pass(900).after_out_of_memory(1000).patience == 32 * patience
    assert limit.after_pass(1000).after_out_of_memory(1000).patience == patience


def test_a_limit_rises_to_what_there_was_no_time_to_try() -> None:
    """By an eighth at a time, so that memory is not filled at once."""
    limit = TokenLimit.measured(200, most=800)
    assert (limit.tokens, limit.most) == (250, 1000)
    risen = {limit.tokens}
    for _ in range(1000):
        limit = limit.after_pass(200)
        risen.add(limit.tokens)
    assert limit.tokens == 1000 and len(risen) > 10
