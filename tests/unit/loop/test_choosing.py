"""Choosing and stopping under a judge whose scores are noisy."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.loop import events as ev
from orchestrator.loop.actions import CompareJob, Finish, StartTurn, VerifyJob, Work
from orchestrator.loop.choosing import best, noise
from orchestrator.loop.policy import decide
from orchestrator.loop.session import Session, fold
from tests.unit.loop.worlds import IMAGE

FIRST, SECOND = (ev.CandidateRef(turn=turn, candidate=1) for turn in (1, 2))


class Noisy:
    """A session with a judge of known noise, built event by event."""

    def __init__(self, noise: float = 1.0, *, weight: float = 1e6, compares: bool = False, most: int = 4, **limits: Any) -> None:
        bounds = ev.Limits.model_validate({"deadline_at": 100.0, **limits})
        choosing = ev.Choosing(noise=noise, weight=weight, confirmations=most, compares=compares)
        created = ev.SessionCreated(
            at=0, version=3, source=IMAGE, instruction="golden", editor="e", thinker="t", limits=bounds, choosing=choosing
        )
        self.events: list[ev.Event] = [created]

    @property
    def session(self) -> Session:
        return fold(self.events)

    def next(self) -> Any:
        return decide(self.session, 1.0)

    def turn(self, semantic: float, quality: float = 10.0, refined: str | None = None) -> Noisy:
        """A turn with one critiqued candidate."""
        number = len(self.session.turns) + 1
        action = self.next()
        assert isinstance(action, StartTurn), action
        place: dict[str, Any] = {"at": 1, "turn": number, "candidate": 1}
        self.events += [
            ev.TurnStarted(
                at=1,
                turn=number,
                instruction=action.instruction,
                author=action.author,
                candidates=1,
                first_seed=action.first_seed,
            ),
            ev.EditStarted(**place, attempt=1, key=f"{number}/1", seed=1),
            ev.Edited(**place, image=IMAGE, editor_seconds=1),
            ev.Critiqued(**place, semantic=semantic, quality=quality, reasoning="", instruction=refined or f"golden {number}"),
        ]
        return self

    def verify(self, semantic: float, quality: float = 10.0, turn: int = 1, refined: str | None = None) -> Noisy:
        """A further critique of a candidate."""
        self.events.append(
            ev.Verified(at=1, turn=turn, candidate=1, semantic=semantic, quality=quality, reasoning="", instruction=refined)
        )
        return self


def test_a_score_above_the_threshold_by_less_than_the_noise_is_verified() -> None:
    action = Noisy().turn(8.6).next()

    assert action == Work((VerifyJob(1, 1, 2, 1, "golden", IMAGE),))


def test_a_candidate_is_certain_once_the_mean_exceeds_the_noise_that_is_left() -> None:
    story = Noisy().turn(8.9).verify(9.1)

    action = story.next()
    assert isinstance(action, Finish)
    assert action.reason == "satisfied"


def test_a_candidate_that_is_refuted_starts_the_next_turn() -> None:
    story = Noisy().turn(8.9, refined="from the first").verify(6.0, refined="from the stricter one")

    assert story.next() == StartTurn(2, "from the stricter one", "thinker", 1, 0)


def test_what_cannot_become_certain_is_not_verified() -> None:
    """With four further critiques the margin is half a point: 8.3 cannot reach it by staying where it is."""
    assert isinstance(Noisy().turn(8.3).next(), StartTurn)


def test_a_judge_without_noise_is_asked_once() -> None:
    assert isinstance(Noisy(0.0).turn(8.0).next(), Finish)
    assert isinstance(Noisy(0.0).turn(7.9).turn(7.9).next(), StartTurn)


def test_two_equal_answers_of_an_unknown_judge_show_that_it_has_no_noise() -> None:
    story = Noisy(0.8, weight=0.2, most=8).turn(8.0)
    for _ in range(2):
        assert isinstance(story.next(), Work)
        story.verify(8.0)

    assert noise(story.session) == 0
    assert isinstance(story.next(), Finish)


def test_candidates_that_are_about_as_good_are_both_verified_before_the_next_turn() -> None:
    action = Noisy().turn(6.0).turn(6.4).next()

    assert isinstance(action, Work)
    assert [(job.turn, job.number) for job in action.jobs if isinstance(job, VerifyJob)] == [(2, 2), (1, 2)]


def test_verified_scores_are_means_and_the_better_mean_is_the_answer() -> None:
    story = Noisy().turn(6.0).turn(6.4).verify(8.0, turn=1).verify(5.0, turn=2)

    first = story.session.candidate(FIRST)
    assert first is not None and first.scores is not None
    assert (first.scores.semantic, first.scores.semantic_spread) == (7.0, 1.0)
    assert best(story.session) == FIRST


def test_a_judge_that_compares_decides_between_the_two_best() -> None:
    story = Noisy(compares=True, most=1).turn(6.0).turn(6.4).verify(6.2, turn=1).verify(6.3, turn=2)
    assert story.next() == Work((CompareJob(FIRST, SECOND, 1),))
    assert best(story.session) == SECOND
    story.events.append(ev.Compared(at=1, first=FIRST, second=SECOND, winner="first", by="pair"))

    assert best(story.session) == FIRST


def test_a_tie_keeps_the_earlier_candidate() -> None:
    story = Noisy(compares=True).turn(6.0).turn(6.4)
    story.events.append(ev.Compared(at=1, first=FIRST, second=SECOND, winner="tie", by="pair"))

    assert best(story.session) == FIRST


@pytest.mark.parametrize(("winner", "preferred"), [("first", True), ("second", False), ("tie", False)])
def test_an_answer_that_does_not_satisfy_is_compared_with_doing_nothing(winner: ev.Winner, preferred: bool) -> None:  # noqa: FBT001
    story = Noisy(0.0, max_turns=1).turn(4.0)
    assert story.next() == Work((CompareJob(FIRST, None, 1),))
    story.events.append(ev.Compared(at=1, first=FIRST, second=None, winner=winner, by="scores"))

    action = story.next()
    assert isinstance(action, Finish)
    assert (action.best, action.preferred) == (FIRST, preferred)


def test_a_comparison_that_fails_for_good_ends_the_session_without_one() -> None:
    story = Noisy(0.0, max_turns=1).turn(4.0)
    failure: dict[str, Any] = {"at": 1, "first": FIRST, "code": "thinker_failed", "message": ""}
    story.events.append(ev.CompareFailed(**failure, attempt=1, retryable=True))
    assert story.next() == Work((CompareJob(FIRST, None, 2),))
    story.events.append(ev.CompareFailed(**failure, attempt=2, retryable=False))

    action = story.next()
    assert isinstance(action, Finish)
    assert action.preferred is None


def test_a_verification_that_fails_for_good_leaves_what_is_known() -> None:
    story = Noisy().turn(8.9)
    story.events.append(ev.VerifyFailed(at=1, turn=1, candidate=1, attempt=1, code="thinker_failed", message="", retryable=False))

    assert isinstance(story.next(), StartTurn)


def test_the_best_candidate_so_far_is_refined_with_what_was_not_tried() -> None:
    """The second turn was worse: the first one's other refinement comes next, and only then the worse one's."""
    story = Noisy().turn(6.5, refined="a").turn(2.0, refined="b")
    assert story.next().instruction == "b"

    story.verify(7.0, refined="c")
    assert story.next().instruction == "c"


def test_a_small_gain_is_no_gain_for_a_noisy_judge() -> None:
    """Patience counts turns that exceed the record by no more than noise explains; here it ends with the untouched source."""
    assert isinstance(Noisy(0.0, patience=1).turn(2.0).turn(3.0).next(), StartTurn)
    story = Noisy(most=1, patience=1).turn(2.0).turn(3.4).verify(2.0, turn=1).verify(3.4, turn=2)
    assert story.next() == Work((CompareJob(SECOND, None, 1),))


def test_a_log_of_an_earlier_version_is_decided_as_before() -> None:
    """Without `choosing` single scores are trusted, and nothing of it is written."""
    story = Noisy().turn(8.0)
    created = story.events[0].model_copy(update={"choosing": None, "version": 1})
    events = [created, *story.events[1:]]

    assert b"choosing" not in ev.dump(created) and b"preferred" not in ev.dump(created)
    action = decide(fold([ev.load(ev.dump(event)) for event in events]), 1.0)
    assert isinstance(action, Finish)
    assert action.reason == "satisfied"
