"""The rows of a running session."""

from __future__ import annotations

from editthinker.cli.progress import Progress, summary
from editthinker.client import Event, Session
from tests.component.client.scripted import session


def test_further_critiques_make_a_row_show_the_means() -> None:
    progress, place = Progress(), {"turn": 1, "candidate": 1}
    progress.apply(Event(type="turn_started", turn=1, instruction="x"))
    for kind, semantic in (("critiqued", 9.0), ("verified", 5.0), ("verified", 4.0)):
        row = progress.apply(Event.model_validate({"type": kind, **place, "semantic": semantic, "quality": 8.0}))

    assert row is not None
    assert (row.semantic, row.quality, row.overall) == (6.0, 8.0, 48**0.5)


def test_an_instruction_that_could_not_be_rewritten_is_told() -> None:
    failure = {"preparer": "p", "error": {"code": "thinker_failed", "message": "it is\naway"}}
    told = summary(Session.model_validate(session(preparation=failure)))

    assert "the instruction was not rewritten: it is away" in told
    assert "rewritten" not in summary(Session.model_validate(session(preparation={"preparer": "p", "instruction": "long"})))
