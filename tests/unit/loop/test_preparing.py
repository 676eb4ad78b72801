"""The first turn's instruction: rewritten for the editor where a preparer does that, otherwise the caller's own."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.loop import events as ev
from orchestrator.loop.actions import EditJob, Finish, PrepareJob, StartTurn, Work
from orchestrator.loop.policy import decide
from orchestrator.loop.preparing import prepare_until
from orchestrator.loop.session import Session, fold
from tests.unit.loop.worlds import IMAGE

LONG = "golden evening light on the whole scene; the house stays as it is"


class Story:
    """A session with a preparer, built event by event."""

    def __init__(self, *, preparer: str | None = "p", strategy: ev.Strategy = "think", **limits: Any) -> None:
        bounds = ev.Limits.model_validate({"deadline_at": 100.0, **limits})
        created = ev.SessionCreated(
            at=0,
            version=3,
            source=IMAGE,
            instruction="golden",
            editor="e",
            thinker="t",
            limits=bounds,
            preparer=preparer,
            strategy=strategy,
        )
        self.events: list[ev.Event] = [created]

    @property
    def session(self) -> Session:
        return fold(self.events)

    def next(self, now: float = 1.0) -> Any:
        return decide(self.session, now)

    def add(self, *events: ev.Event) -> Story:
        self.events += events
        return self

    def started(self, attempt: int = 1) -> Story:
        return self.add(ev.PrepareStarted(at=1, attempt=attempt))

    def prepared(self) -> Story:
        return self.add(ev.Prepared(at=1, instruction=LONG, thinker_seconds=2.0, prompt_tokens=30, completion_tokens=9))

    def failed(self, attempt: int = 1, *, retryable: bool = True) -> Story:
        return self.add(
            ev.PrepareFailed(at=1, attempt=attempt, code="thinker_failed", message="no", retryable=retryable, thinker_seconds=1.0)
        )

    def turn(self, code: str = "", *, retryable: bool = False) -> Story:
        """The next turn, with an edit that fails with this code, or is made."""
        action = self.next()
        assert isinstance(action, StartTurn), action
        place: dict[str, Any] = {"at": 1, "turn": action.turn, "candidate": 1}
        self.add(
            ev.TurnStarted(
                at=1,
                turn=action.turn,
                instruction=action.instruction,
                author=action.author,
                candidates=1,
                first_seed=action.first_seed,
            ),
            ev.EditStarted(**place, attempt=1, key=f"{action.turn}/1", seed=1),
        )
        failure: dict[str, Any] = {"attempt": 1, "code": code, "message": "no", "retryable": retryable}
        return self.add(ev.EditFailed(**place, **failure) if code else ev.Edited(**place, image=IMAGE, editor_seconds=1))


def test_the_instruction_is_rewritten_before_the_first_turn_and_makes_it() -> None:
    story = Story()
    assert (story.next(), story.session.status) == (Work((PrepareJob(1),)), "queued")
    story.started()
    assert (story.next(), story.session.status) == (Work((PrepareJob(1, started=True),)), "running")

    first = story.prepared().next()
    assert (first.instruction, first.author) == (LONG, "preparer")
    assert story.session.created.instruction == "golden"


def test_without_a_preparer_the_callers_own_words_make_the_first_turn() -> None:
    first = Story(preparer=None).next()

    assert (first.instruction, first.author) == ("golden", "caller")


def test_words_that_were_not_changed_are_the_callers() -> None:
    first = Story().add(ev.Prepared(at=1, instruction="golden")).next()

    assert (first.instruction, first.author) == ("golden", "caller")


def test_a_failed_attempt_is_repeated_and_the_last_leaves_the_callers_own_words() -> None:
    story = Story(critique_attempts=2).started().failed()
    assert story.next() == Work((PrepareJob(2),))

    first = story.failed(2).next()
    assert (first.instruction, first.author) == ("golden", "caller")
    assert story.session.preparation.error == ev.Failure(code="thinker_failed", message="no")


def test_an_attempt_that_cannot_succeed_is_not_repeated() -> None:
    assert isinstance(Story().failed(retryable=False).next(), StartTurn)


def test_its_cost_is_in_the_sessions_totals() -> None:
    totals = Story().failed().prepared().session.totals

    assert (totals.thinker_seconds, totals.prompt_tokens, totals.completion_tokens) == (3.0, 30, 9)


def test_a_persons_instruction_makes_it_needless() -> None:
    first = Story().add(ev.FeedbackGiven(at=1, action="instruct", instruction="blue")).next()

    assert (first.instruction, first.author) == ("blue", "person")


def test_a_cancelled_session_prepares_nothing() -> None:
    action = Story().add(ev.CancelRequested(at=1)).next()

    assert isinstance(action, Finish) and action.reason == "cancelled"


def test_it_may_take_half_of_what_an_edit_leaves_of_the_time() -> None:
    session = Story().session

    assert prepare_until(session, 0.0) == 50
    assert prepare_until(session, 20.0) == 40
    assert prepare_until(session, 1e9) == 25


@pytest.mark.parametrize("strategy", ["think", "single", "best_of_n"])
def test_words_that_the_editor_refuses_are_given_up_for_the_callers_own(strategy: ev.Strategy) -> None:
    """Also where the session has one turn only: the refused one does not count."""
    story = Story(strategy=strategy, max_turns=1).prepared().turn("editor_refused")

    second = story.next()
    assert (second.turn, second.instruction, second.author) == (2, "golden", "caller")
    story.turn()
    assert not isinstance(story.next(), StartTurn)


def test_if_the_editor_refuses_both_the_session_fails() -> None:
    story = Story().prepared().turn("editor_refused").turn("content_refused")

    action = story.next()
    assert isinstance(action, Finish)
    assert (action.reason, action.error and action.error.code) == ("failed", "content_refused")


@pytest.mark.parametrize("code", [ev.TOO_LATE, ev.SUPERSEDED])
def test_an_edit_that_was_not_made_in_time_is_no_refusal(code: str) -> None:
    assert isinstance(Story().prepared().turn(code).next(), Finish)


def test_an_edit_that_may_be_repeated_is_no_refusal() -> None:
    action = Story(edit_attempts=2).prepared().turn("editor_failed", retryable=True).next()

    assert isinstance(action, Work) and isinstance(action.jobs[0], EditJob)


def test_a_refusal_starts_no_edit_that_the_budget_does_not_have() -> None:
    action = Story(budget_edits=1).prepared().turn("editor_refused").next()

    assert isinstance(action, Finish) and action.reason == "budget"


def test_logs_of_former_versions_have_no_preparer() -> None:
    created = Story(preparer=None).session.created

    assert "preparer" not in ev.dump(created).decode()
    assert ev.load(ev.dump(Story().session.created)) == Story().session.created
