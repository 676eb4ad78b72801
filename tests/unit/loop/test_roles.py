"""A judge that is not the thinker: it scores, and the thinker is asked for the next instruction, once one is needed."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.loop import events as ev
from orchestrator.loop.actions import CritiqueJob, Finish, RefineJob, StartTurn, Work
from orchestrator.loop.policy import decide
from orchestrator.loop.session import Session, fold
from tests.unit.loop.worlds import IMAGE


class Judged:
    """A session with a judge of its own, built event by event."""

    def __init__(self, *, choosing: bool = True, judge: str | None = "j", strategy: ev.Strategy = "think", **more: Any) -> None:
        limits = ev.Limits.model_validate({"deadline_at": 100.0, **more.pop("limits", {})})
        known = ev.Choosing(noise=0, weight=100, confirmations=1) if choosing else None
        created = ev.SessionCreated(
            at=0,
            version=4,
            source=IMAGE,
            instruction="golden",
            editor="e",
            thinker="t",
            judge=judge,
            strategy=strategy,
            limits=limits,
            choosing=known,
            **more,
        )
        self.events: list[ev.Event] = [created]

    @property
    def session(self) -> Session:
        return fold(self.events)

    def next(self, now: float = 1.0) -> Any:
        return decide(self.session, now)

    def turn(self, score: float, instruction: str | None = None) -> Judged:
        """A turn with one critiqued candidate."""
        number = len(self.session.turns) + 1
        action = self.next()
        assert isinstance(action, StartTurn), action
        place: dict[str, Any] = {"at": 1, "turn": number, "candidate": 1}
        started = {"turn": number, "instruction": action.instruction, "author": action.author, "candidates": 1}
        self.events += [
            ev.TurnStarted.model_validate({"at": 1, **started, "first_seed": action.first_seed}),
            ev.EditStarted(**place, attempt=1, key=f"{number}/1", seed=1),
            ev.Edited(**place, image=IMAGE, editor_seconds=1),
            ev.Critiqued(**place, semantic=score, quality=score, reasoning="pale", instruction=instruction),
        ]
        return self

    def refine(self, instruction: str | None, turn: int = 1) -> Judged:
        self.events.append(ev.Refined(at=1, turn=turn, candidate=1, instruction=instruction, reasoning="more sun"))
        return self

    def fail(self, attempt: int, *, retryable: bool = True, turn: int = 1) -> Judged:
        failure: dict[str, Any] = {"attempt": attempt, "code": "x", "message": "x", "retryable": retryable}
        self.events.append(ev.RefineFailed(at=1, turn=turn, candidate=1, **failure))
        return self


@pytest.mark.parametrize("choosing", [True, False])
def test_the_thinker_writes_the_next_instruction(*, choosing: bool) -> None:
    judged = Judged(choosing=choosing).turn(5.0)

    assert judged.next() == Work((RefineJob(1, 1, 1, "golden", IMAGE),))
    action = judged.refine("more golden").next()
    assert isinstance(action, StartTurn)
    assert (action.instruction, action.author) == ("more golden", "thinker")


def test_a_satisfied_judge_costs_no_instruction() -> None:
    action = Judged().turn(10.0).next()

    assert isinstance(action, Finish) and action.reason == "satisfied"


def test_the_last_turn_costs_no_instruction() -> None:
    judged = Judged(choosing=False, limits={"max_turns": 1}).turn(5.0)

    assert isinstance(judged.next(), Finish)


@pytest.mark.parametrize("strategy", ["best_of_n", "single"])
def test_a_strategy_without_refinement_asks_for_none(strategy: ev.Strategy) -> None:
    action = Judged(choosing=False, strategy=strategy, limits={"max_turns": 2}).turn(5.0).next()

    assert isinstance(action, StartTurn) and action.instruction == "golden"


def test_a_thinker_that_judges_is_not_asked_a_second_time() -> None:
    action = Judged(judge=None).turn(5.0, "more golden").next()

    assert isinstance(action, StartTurn) and action.instruction == "more golden"


def test_a_judge_that_only_compares_leaves_scores_and_instructions_to_the_thinker() -> None:
    judged = Judged(judge_scores=False)

    assert (judged.session.created.scorer, judged.session.created.comparer) == ("t", "j")
    action = judged.turn(5.0, "more golden").next()
    assert isinstance(action, StartTurn) and action.instruction == "more golden"


def test_the_best_candidate_so_far_is_refined_and_the_next_best_after_it() -> None:
    """The best one's instruction was tried in turn 2, and did not help."""
    judged = Judged(limits={"patience": 3}).turn(6.0).refine("more golden").turn(4.0)

    assert judged.next() == Work((RefineJob(2, 1, 1, "more golden", IMAGE),))
    action = judged.refine("much more golden", turn=2).next()
    assert isinstance(action, StartTurn) and action.instruction == "much more golden"


def test_a_thinker_that_fails_is_asked_again_and_then_the_same_instruction_gets_another_seed() -> None:
    judged = Judged(limits={"critique_attempts": 2}).turn(5.0).fail(1)
    assert judged.next() == Work((RefineJob(1, 1, 2, "golden", IMAGE),))

    action = judged.fail(2).next()
    assert isinstance(action, StartTurn)
    assert (action.instruction, action.first_seed) == ("golden", 1)


def test_a_refusal_is_not_repeated() -> None:
    assert isinstance(Judged().turn(5.0).fail(1, retryable=False).next(), StartTurn)


def test_no_instruction_is_asked_for_that_would_come_too_late() -> None:
    judged = Judged().turn(5.0)
    action = decide(judged.session, 99.0, edit_s=10.0)

    assert isinstance(action, Finish) and action.reason == "deadline"


def test_the_candidate_tells_both_opinions() -> None:
    (candidate,) = Judged().turn(5.0).refine("more golden").session.candidates

    assert (candidate.reasoning, candidate.refinement_reasoning, candidate.refined_instruction) == (
        "pale",
        "more sun",
        "more golden",
    )


def test_a_further_critique_keeps_the_thinkers_instruction() -> None:
    judged = Judged().turn(5.0).refine("more golden")
    place: dict[str, Any] = {"at": 1, "turn": 1, "candidate": 1}
    judged.events.append(ev.Verified(**place, semantic=3, quality=3, reasoning="paler", instruction=None))
    (candidate,) = judged.session.candidates

    assert (candidate.reasoning, candidate.refined_instruction) == ("paler", "more golden")


def test_a_critique_is_still_the_judges_job() -> None:
    judged = Judged()
    place: dict[str, Any] = {"at": 1, "turn": 1, "candidate": 1}
    judged.events += [
        ev.TurnStarted(at=1, turn=1, instruction="golden", author="caller", candidates=1, first_seed=0),
        ev.EditStarted(**place, attempt=1, key="1/1", seed=0),
        ev.Edited(**place, image=IMAGE, editor_seconds=1),
    ]

    assert judged.next() == Work((CritiqueJob(1, 1, 1, "golden", IMAGE),))


def test_a_session_without_a_judge_is_recorded_as_by_earlier_versions() -> None:
    (created,) = Judged(judge=None).events

    assert {"judge", "judge_scores"}.isdisjoint(created.model_dump(mode="json"))
