"""Instructions in a stored log: a long one once, every reader gets complete events."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.loop import events as ev
from orchestrator.loop.events import dump, load
from orchestrator.store.packing import LONG_BYTES, pack, references, unpack

LONG = "😀" * 300


def turn(instruction: str, number: int = 1) -> ev.TurnStarted:
    return ev.TurnStarted(at=1, turn=number, instruction=instruction, author="caller", candidates=1, first_seed=0)


def stored(events: list[ev.Event]) -> list[tuple[int, bytes]]:
    """The log as ``record_event`` in the scripts makes it."""
    known: dict[str, int] = {}
    log = []
    for seq, event in enumerate(events, 1):
        packed = pack(event)
        at = known.get(packed.digest) if packed.digest else None
        log.append((seq, packed.event if at is None else packed.head + b"%d}" % at))
        if packed.digest:
            known.setdefault(packed.digest, seq)
    return log


def test_a_short_instruction_is_stored_as_before() -> None:
    """A version before this one reads such a log."""
    event = turn("make it golden")

    packed = pack(event)

    assert (packed.event, packed.digest) == (dump(event), "")


def test_a_long_instruction_is_stored_once() -> None:
    log = stored([turn(LONG, number) for number in range(1, 21)])

    assert sum(len(event) for _, event in log) < len(LONG.encode()) + 20 * 250
    assert [load(event) for _, event in unpack(log, {})] == [turn(LONG, number) for number in range(1, 21)]


def test_a_part_of_a_log_names_the_events_that_it_needs() -> None:
    log = stored([turn("short"), turn(LONG), turn(LONG, 3), turn("short", 4)])

    assert set(references(log[2:])) == {2}
    assert set(references(log[1:])) == set()
    assert [load(event) for _, event in unpack(log[2:], {2: log[1][1]})] == [turn(LONG, 3), turn("short", 4)]
    with pytest.raises(KeyError):
        unpack(log[2:], {})


@given(st.lists(st.sampled_from([LONG, LONG + "x", 'a","instruction_at":1}', "x" * LONG_BYTES, "x" * (LONG_BYTES + 1)])))
def test_every_log_is_read_as_it_was_recorded(instructions: list[str]) -> None:
    events: list[ev.Event] = [turn(text, number) for number, text in enumerate(instructions, 1)]
    events += [ev.FeedbackGiven(at=1, action="instruct", instruction=text) for text in instructions]

    assert [load(event) for _, event in unpack(stored(events), {})] == events


def test_a_callers_field_of_that_name_is_not_a_reference() -> None:
    raw = orjson.dumps({"type": "x", "editor_options": {"n": 1, "instruction_at": 7}})

    assert unpack([(1, raw)], {}) == [(1, raw)]
