"""Places in a session's log: those of the strictest critique count, and the next candidate is compared with their own."""

from __future__ import annotations

import pytest

from orchestrator.loop import events as ev
from orchestrator.loop.choosing import improves
from orchestrator.loop.session import Session, fold
from tests.unit.loop.test_choosing import Noisy

HAT = ev.Place(left=1, top=2, right=300, bottom=400, word="hat")
FACE = ev.Place(left=0, top=0, right=9, bottom=9, word="face")
MOVED = ev.OutsideMask(changed=0.25, difference=8.0)
FIRST, SECOND = (ev.CandidateRef(turn=turn, candidate=1) for turn in (1, 2))


def pointing(story: Noisy, *places: ev.Place) -> Noisy:
    """The same story, whose last critique points at places."""
    last = story.events[-1]
    assert isinstance(last, ev.Critiqued | ev.Verified)
    story.events[-1] = last.model_copy(update={"places": places})
    return story


def places_of(session: Session) -> tuple[ev.Place, ...]:
    candidate = session.candidate(FIRST)
    assert candidate is not None
    return candidate.places


def test_the_places_are_those_of_the_strictest_critique() -> None:
    """As its reasoning and its instruction are."""
    story = pointing(Noisy().turn(5.0), HAT)
    assert places_of(story.session) == (HAT,)

    assert places_of(pointing(story.verify(7.0), FACE).session) == (HAT,)
    assert places_of(pointing(story.verify(3.0), FACE).session) == (FACE,)
    assert places_of(story.verify(1.0).session) == ()


def test_the_next_candidate_is_to_improve_the_one_that_was_pointed_at() -> None:
    story = pointing(Noisy(noise=0.0).turn(5.0, refined="warmer"), HAT)
    (former,) = story.session.candidates
    assert improves(story.session, FIRST) is None

    story.turn(6.0)
    assert story.session.turns[1].instruction == "warmer"
    assert improves(story.session, SECOND) == former


@pytest.mark.parametrize("places", [(HAT,), ()])
def test_another_instruction_improves_none(places: tuple[ev.Place, ...]) -> None:
    """A person's, or one after a critique that points at nothing."""
    story = pointing(Noisy(noise=0.0).turn(5.0, refined="warmer"), *places)
    if places:
        story.events.append(ev.FeedbackGiven(at=1, action="instruct", instruction="colder"))
    story.turn(6.0)

    assert improves(story.session, SECOND) is None


def test_events_without_places_are_written_as_before() -> None:
    """And those with them are read back; an older log has none."""
    plain = Noisy().turn(5.0).verify(5.0).events[-2:]
    for event in plain:
        assert not {"places", "outside_places"} & event.model_dump().keys()
        assert event.places == ()  # type: ignore[union-attr]
    pointed = plain[0].model_copy(update={"places": (HAT, FACE), "outside_places": MOVED})

    assert ev.Critiqued.model_validate_json(pointed.model_dump_json()) == pointed


def test_places_count_in_the_size_of_a_log() -> None:
    story = Noisy().turn(5.0)
    before = story.session.log_bytes
    pointed = fold(pointing(story, *[HAT] * 8).events)

    assert 8 * 60 < pointed.log_bytes - before < 8 * 100
