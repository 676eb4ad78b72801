"""An edit that is its source: it never satisfies, is not repeated in vain, and is told as such."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.view import show
from orchestrator.loop import events as ev
from orchestrator.loop.actions import AskReview, Finish, StartTurn
from orchestrator.loop.policy import decide
from orchestrator.loop.session import Session, fold
from tests.unit.loop.worlds import IMAGE


class Story:
    """A session, turn by turn."""

    def __init__(self, *, deterministic: bool = True, results: int = 1, review: ev.Review = "never", **limits: Any) -> None:
        checked = ev.Limits.model_validate({"deadline_at": 100.0, **limits})
        created = ev.SessionCreated(
            at=0,
            source=IMAGE,
            instruction="golden",
            editor="e",
            thinker="t",
            limits=checked,
            results=results,
            review=review,
            deterministic=deterministic,
        )
        self.events: list[ev.Event] = [created]

    @property
    def session(self) -> Session:
        return fold(self.events)

    def next(self, now: float = 1.0) -> Any:
        return decide(self.session, now)

    def turn(self, score: float, *, unchanged: bool = True, refined: str | None = None) -> Story:
        action = self.next()
        assert isinstance(action, StartTurn), action
        number = action.turn
        place: dict[str, Any] = {"at": 1, "turn": number, "candidate": 1}
        self.events.append(
            ev.TurnStarted(
                at=1,
                turn=number,
                instruction=action.instruction,
                author=action.author,
                candidates=1,
                first_seed=7,
            )
        )
        self.events.append(ev.EditStarted(**place, attempt=1, key="k", seed=7))
        edited = ev.Edited(**place, image=IMAGE, editor_seconds=1, unchanged=unchanged, not_understood=("golden",))
        self.events.append(edited)
        critique = ev.Critiqued(**place, semantic=score, quality=score, reasoning="", instruction=refined)
        self.events.append(critique)
        return self


def test_it_never_satisfies_however_it_is_scored() -> None:
    action = Story(deterministic=False).turn(10).next()
    assert isinstance(action, StartTurn)


def test_a_deterministic_editor_is_not_asked_the_same_again() -> None:
    action = Story().turn(3).next()
    assert isinstance(action, Finish)
    assert action.reason == "unchanged"
    assert action.best == ev.CandidateRef(turn=1, candidate=1)


def test_another_instruction_is_tried() -> None:
    story = Story().turn(3, refined="more golden")
    action = story.next()
    assert isinstance(action, StartTurn)
    assert action.instruction == "more golden"
    # And then neither of the two again.
    assert story.turn(3, refined="golden").next().reason == "unchanged"


def test_nor_is_a_changed_picture_made_again() -> None:
    """That session has reached a plateau."""
    assert Story().turn(3, unchanged=False).next().reason == "plateau"


def test_more_pictures_are_made_where_they_are_asked_for() -> None:
    assert isinstance(Story(results=2).turn(3).next(), StartTurn)


def test_with_seeds_that_matter_patience_decides() -> None:
    story = Story(deterministic=False).turn(3).turn(3)
    assert isinstance(story.next(), StartTurn)
    assert story.turn(3).next().reason == "unchanged"


@pytest.mark.parametrize(("now", "reason"), [(101.0, "unchanged"), (1.0, "unchanged")])
def test_time_and_turns_end_it_alike(now: float, reason: str) -> None:
    assert Story(deterministic=False, max_turns=1).turn(3).next(now).reason == reason


def test_something_else_was_made() -> None:
    story = Story(deterministic=False, max_turns=2).turn(3).turn(2, unchanged=False)
    assert story.next().reason == "max_turns"


def test_what_people_do_keeps_its_reason() -> None:
    story = Story(deterministic=False).turn(3)
    story.events.append(ev.CancelRequested(at=2))
    assert story.next().reason == "cancelled"


def test_a_review_is_told_as_well() -> None:
    action = Story(review="before_finish").turn(3).next()
    assert isinstance(action, AskReview)
    assert action.reason == "unchanged"


def test_it_is_shown() -> None:
    story = Story().turn(3)
    shown = show("ses_1", story.session, len(story.events))
    assert shown.unchanged
    candidate = shown.turns[0].candidates[0]
    assert (candidate.unchanged, candidate.not_understood) == (True, ["golden"])
    assert "unchanged" not in show("s", Story(deterministic=False).turn(3, unchanged=False).session, 1).model_dump()


def test_a_session_of_an_earlier_version_is_read() -> None:
    event = ev.Edited(at=1, turn=1, candidate=1, image=IMAGE, editor_seconds=1)
    assert b"unchanged" not in ev.dump(event)
    assert ev.load(ev.dump(event)) == event
