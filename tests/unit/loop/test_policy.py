"""The rules of the loop, one by one."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.loop import events as ev
from orchestrator.loop.actions import AskReview, ChecklistJob, CritiqueJob, EditJob, Finish, Rest, StartTurn, Wait, Work
from orchestrator.loop.choosing import best
from orchestrator.loop.policy import decide
from orchestrator.loop.session import CorruptLogError, Session, SessionBounds, fold
from tests.unit.loop.worlds import IMAGE

DEADLINE = 100.0


class Story:
    """A session, built event by event."""

    def __init__(
        self,
        *,
        results: int = 1,
        strategy: ev.Strategy = "think",
        review: ev.Review = "never",
        checklist: bool = False,
        seed: int = 40,
        **limits: Any,
    ) -> None:
        bounds = ev.Limits.model_validate({"deadline_at": DEADLINE, **limits})
        self.events: list[ev.Event] = [
            ev.SessionCreated(
                at=0,
                source=IMAGE,
                instruction="golden",
                editor="e",
                thinker="t",
                limits=bounds,
                results=results,
                strategy=strategy,
                review=review,
                seed=seed,
                checklist=checklist,
            )
        ]

    @property
    def session(self) -> Session:
        return fold(self.events)

    def next(self, now: float = 1.0) -> Any:
        """The next action."""
        return decide(self.session, now)

    def begin(self) -> Story:
        """Record the turn that `decide` wants."""
        action = self.next()
        assert isinstance(action, StartTurn)
        self.events.append(
            ev.TurnStarted(
                at=1,
                turn=action.turn,
                instruction=action.instruction,
                author=action.author,
                candidates=action.candidates,
                first_seed=action.first_seed,
            )
        )
        return self

    def edit(self, candidate: int = 1, *, ok: bool = True, retryable: bool = False, seconds: float = 1.0) -> Story:
        """An edit of the current turn, from intent to outcome."""
        turn = len(self.session.turns)
        known = self.session.candidate(ev.CandidateRef(turn=turn, candidate=candidate))
        assert known
        place: dict[str, Any] = {"at": 1, "turn": turn, "candidate": candidate}
        attempt = known.attempts + 1
        self.events.append(ev.EditStarted(**place, attempt=attempt, key="k", seed=known.seed))
        if ok:
            self.events.append(ev.Edited(**place, image=IMAGE, editor_seconds=seconds))
        else:
            failure: dict[str, Any] = {"code": "editor_failed", "message": "no", "retryable": retryable}
            self.events.append(ev.EditFailed(**place, attempt=attempt, **failure, editor_seconds=seconds))
        return self

    def critique(self, semantic: float, quality: float = 9.0, refined: str | None = "more golden", candidate: int = 1) -> Story:
        turn = len(self.session.turns)
        place: dict[str, Any] = {"at": 1, "turn": turn, "candidate": candidate}
        self.events.append(ev.Critiqued(**place, semantic=semantic, quality=quality, reasoning="", instruction=refined))
        return self

    def unscored(self, *, retryable: bool = False, attempt: int = 1) -> Story:
        place: dict[str, Any] = {"at": 1, "turn": len(self.session.turns), "candidate": 1, "attempt": attempt}
        self.events.append(ev.CritiqueFailed(**place, code="thinker_bad_reply", message="", retryable=retryable))
        return self

    def say(self, action: ev.FeedbackAction, **more: Any) -> Story:
        self.events.append(ev.FeedbackGiven(at=1, action=action, **more))
        return self

    def turn(self, semantic: float, quality: float = 9.0, refined: str | None = "more golden") -> Story:
        """A whole turn of one candidate."""
        return self.begin().edit().critique(semantic, quality, refined)


def finish(action: Any) -> Finish:
    assert isinstance(action, Finish), action
    return action


def test_turn_one_is_the_callers_instruction_with_the_sessions_seed() -> None:
    """Unchanged: thinking before the first edit did not help."""
    assert Story().next() == StartTurn(1, "golden", "caller", 1, 40)


def test_every_image_is_critiqued_including_the_last() -> None:
    """The reference never critiques its final image."""
    action = Story(max_turns=1).begin().edit().next()

    assert isinstance(action, Work)
    assert action.jobs == (CritiqueJob(1, 1, 1, "golden", IMAGE),)


def test_seeds_wrap_around() -> None:
    """Every seed is one that a caller could request."""
    story = Story(strategy="best_of_n", seed=ev.SEEDS - 1, candidates=2, max_turns=3).begin()
    assert [candidate.seed for candidate in story.session.candidates] == [ev.SEEDS - 1, 0]
    for candidate in (1, 2):
        story.edit(candidate=candidate).critique(5, candidate=candidate)
    assert story.next().first_seed == 1


def test_the_refined_instruction_makes_the_next_turn_with_the_same_seed() -> None:
    """Only the instruction changes the result between these turns."""
    assert Story().turn(4).next() == StartTurn(2, "more golden", "thinker", 1, 40)


def test_the_best_candidates_critique_refines_the_instruction() -> None:
    """Of several candidates, the next instruction is the one with the highest scores."""
    story = Story(candidates=2, strategy="think_best_of_n").begin().edit(1).edit(2)
    story.critique(4, refined="from the first", candidate=1).critique(6, refined="from the second", candidate=2)

    assert story.next().instruction == "from the second"


@pytest.mark.parametrize("refined", [None, "golden"])
def test_an_unchanged_instruction_is_not_satisfaction(refined: str | None) -> None:
    """It is tried with another seed."""
    assert Story().turn(4, refined=refined).next() == StartTurn(2, "golden", "caller", 1, 41)


@pytest.mark.parametrize(("semantic", "quality", "over"), [(8, 8, True), (7.9, 10, False), (10, 7.9, False)])
def test_both_thresholds_satisfy_and_neither_alone(semantic: float, quality: float, over: bool) -> None:  # noqa: FBT001
    """Semantic and quality, at their thresholds exactly."""
    action = Story().turn(semantic, quality).next()

    assert isinstance(action, Finish) == over
    assert not over or action.reason == "satisfied"


def test_the_best_of_all_turns_is_the_answer_the_first_included() -> None:
    """Later turns may be worse; the reference returns the last."""
    story = Story(max_turns=3, patience=5).turn(7).turn(5).turn(6)

    assert finish(story.next()).reason == "max_turns"
    assert finish(story.next()).best == ev.CandidateRef(turn=1, candidate=1)


def test_meeting_the_thresholds_comes_before_a_higher_mean() -> None:
    """10 and 7.5 is a higher mean than 8 and 8, and still not what was asked for."""
    assert best(Story().turn(10, 7.5).turn(8, 8).session) == ev.CandidateRef(turn=2, candidate=1)


def test_of_equal_candidates_the_earlier_one_is_the_answer() -> None:
    """It cost less."""
    assert best(Story().turn(6).turn(6).session) == ev.CandidateRef(turn=1, candidate=1)


def test_patience_counts_turns_without_a_better_candidate() -> None:
    """Two by default; a better one resets the count."""
    story = Story(max_turns=9).turn(5).turn(5).turn(6).turn(6)
    assert isinstance(story.next(), StartTurn)

    assert finish(story.turn(5).next()).reason == "plateau"


def test_adaptive_is_as_patient_as_the_first_candidate_is_far_from_satisfying() -> None:
    """One further turn in vain for each whole point that it lacks, at most twice as many."""
    turns = {}
    for first in (7.5, 6.5, 6.0, 1.0):
        story = Story(strategy="adaptive", max_turns=10, patience=2).turn(first)
        while isinstance(story.next(), StartTurn):
            story.turn(first, refined=f"golden {len(story.session.turns)}")
        assert finish(story.next()).reason == "plateau"
        turns[first] = len(story.session.turns)

    assert turns == {7.5: 3, 6.5: 4, 6.0: 5, 1.0: 5}


def test_adaptive_is_as_patient_as_asked_where_the_first_candidate_has_no_score() -> None:
    story = Story(strategy="adaptive", max_turns=10, patience=2).begin().edit().unscored()
    story.turn(5).turn(5)

    assert finish(story.turn(5).next()).reason == "plateau"


def test_best_of_n_uses_no_refined_instruction_and_no_patience() -> None:
    """The equal-compute baseline: the same instruction, new seeds."""
    story = Story(strategy="best_of_n", max_turns=4, patience=1).turn(5).turn(4).turn(3)

    assert story.next() == StartTurn(4, "golden", "caller", 1, 43)


def test_an_edit_that_may_be_retried_is_and_then_fails_the_session() -> None:
    """With nothing made, the error is the answer."""
    story = Story(edit_attempts=2).begin().edit(ok=False, retryable=True)
    again = story.next().jobs[0]
    assert isinstance(again, EditJob)
    assert (again.attempt, again.key) == (2, "1/1")
    action = finish(story.edit(ok=False, retryable=True).next())

    assert (action.reason, action.best) == ("failed", None)
    assert action.error is not None
    assert action.error.code == "editor_failed"


def test_an_edit_that_cannot_be_retried_is_not() -> None:
    """A refused request stays refused."""
    assert finish(Story().begin().edit(ok=False).next()).reason == "failed"


def test_a_failed_later_edit_keeps_earlier_candidates() -> None:
    """It is a turn without gain; what was made before is the answer."""
    story = Story(patience=1).turn(5).begin().edit(ok=False)

    assert finish(story.next()) == Finish(
        "plateau", ev.CandidateRef(turn=1, candidate=1), (ev.CandidateRef(turn=1, candidate=1),), None
    )


def test_a_critique_that_never_comes_leaves_the_image_unscored() -> None:
    """After three attempts the loop continues; an unscored image never satisfies, but can be the answer."""
    story = Story(patience=1).begin().edit().unscored(retryable=True)
    assert story.next().jobs[0].attempt == 2
    story.unscored(retryable=True, attempt=2).unscored(retryable=True, attempt=3)
    action = finish(story.next())

    assert (action.reason, action.best) == ("plateau", ev.CandidateRef(turn=1, candidate=1))


def test_the_deadline_ends_everything_and_keeps_what_was_made() -> None:
    """At the exact second, while jobs are running."""
    story = Story().turn(5).begin()
    assert isinstance(story.next(DEADLINE - 0.001), Work)

    assert finish(story.next(DEADLINE)).reason == "deadline"
    assert finish(story.next(DEADLINE)).best == ev.CandidateRef(turn=1, candidate=1)


def test_budgets_bound_edits_and_editor_seconds() -> None:
    """Retries count; an edit's allowance is what is left, shared between edits that start together."""
    assert finish(Story(budget_edits=1).turn(5).next()).reason == "budget"
    assert finish(Story(budget_editor_s=1.0).turn(5).next()).reason == "budget"
    jobs = Story(budget_editor_s=6.0, candidates=3).begin().next().jobs
    assert [job.allowance_s for job in jobs] == [2.0, 2.0, 2.0]


def test_n_results_keep_the_loop_going_and_come_best_first() -> None:
    """Satisfied with one image is not enough when two are wanted."""
    story = Story(results=2).turn(9)
    assert isinstance(story.next(), StartTurn)
    action = finish(story.turn(8.5).next())

    assert action.reason == "satisfied"
    assert action.results == (ev.CandidateRef(turn=1, candidate=1), ev.CandidateRef(turn=2, candidate=1))


def test_cancel_comes_before_everything_and_keeps_the_best() -> None:
    """Even satisfied, even past the deadline."""
    story = Story().turn(9)
    story.events.append(ev.CancelRequested(at=1))
    action = finish(story.next(DEADLINE + 1))

    assert (action.reason, action.best) == ("cancelled", ev.CandidateRef(turn=1, candidate=1))


def test_review_each_turn_requests_waits_and_continues() -> None:
    """Until there is feedback, or the deadline passes."""
    story = Story(review="each_turn").turn(5)
    assert story.next() == AskReview(1, ev.CandidateRef(turn=1, candidate=1), None)
    story.events.append(ev.ReviewRequested(at=1, turn=1, best=None))
    assert story.next() == Wait()
    assert finish(story.next(DEADLINE)).reason == "deadline"

    assert story.say("go_on").next() == StartTurn(2, "more golden", "thinker", 1, 40)


def test_review_before_finish_asks_with_the_reason() -> None:
    """Feedback can continue even a satisfied loop."""
    story = Story(review="before_finish").turn(9)
    assert story.next() == AskReview(1, ev.CandidateRef(turn=1, candidate=1), "satisfied")

    assert isinstance(story.say("go_on").next(), StartTurn)


def test_a_persons_instruction_comes_at_once_and_is_refined_from_then_on() -> None:
    """It replaces the current turn."""
    story = Story().turn(5).begin().say("instruct", instruction="rather blue")
    assert story.next() == StartTurn(3, "rather blue", "person", 1, 40)

    assert story.turn(5, refined="bluer").next().instruction == "bluer"


def test_accept_and_pick_are_the_answer() -> None:
    """Accept takes the best so far, pick the candidate named."""
    assert finish(Story().turn(5).turn(4).say("accept").next()).best == ev.CandidateRef(turn=1, candidate=1)
    assert finish(Story().turn(5).turn(4).say("pick", turn=2, candidate=1).next()).best == ev.CandidateRef(turn=2, candidate=1)


def test_a_finished_session_rests() -> None:
    """At any time."""
    story = Story().turn(9)
    action = finish(story.next())
    story.events.append(ev.Finished(at=1, reason=action.reason, best=action.best, totals=story.session.totals))

    assert story.next(DEADLINE + 1) == Rest()


def test_a_corrupt_log_is_refused() -> None:
    """Lost data is detected."""
    story = Story().turn(5).turn(5)

    with pytest.raises(CorruptLogError):
        fold([])
    with pytest.raises(CorruptLogError):
        fold(story.events[1:])
    with pytest.raises(CorruptLogError):
        fold([*story.events[:1], *story.events[5:]])
    with pytest.raises(CorruptLogError):
        fold([*story.events, story.events[0]])


def test_the_checklist_is_written_while_the_first_edit_is_made() -> None:
    """Both are under way at once; the critique waits for it, and nothing else does."""
    story = Story(checklist=True).begin()
    assert [type(job) for job in story.next().jobs] == [ChecklistJob, EditJob]
    story.edit()
    assert [type(job) for job in story.next().jobs] == [ChecklistJob]
    story.events.append(ev.ChecklistMade(at=1, questions=(ev.ChecklistQuestion(kind="change", text="Is it golden?"),)))
    assert [type(job) for job in story.next().jobs] == [CritiqueJob]
    assert [question.text for question in story.session.checklist.questions] == ["Is it golden?"]


def test_without_a_checklist_critiques_go_ahead() -> None:
    """After as many attempts as a critique has; at once when another cannot help."""
    story = Story(checklist=True, critique_attempts=2).begin().edit()
    failure: dict[str, Any] = {"at": 1, "code": "thinker_bad_reply", "message": "no"}
    story.events.append(ev.ChecklistFailed(**failure, attempt=1, retryable=True))
    assert story.next().jobs == (ChecklistJob(2),)
    story.events.append(ev.ChecklistFailed(**failure, attempt=2, retryable=True))
    assert [type(job) for job in story.next().jobs] == [CritiqueJob]
    hopeless = Story(checklist=True).begin().edit()
    hopeless.events.append(ev.ChecklistFailed(**failure, attempt=1, retryable=False))
    assert [type(job) for job in hopeless.next().jobs] == [CritiqueJob]


def test_later_turns_use_the_same_checklist() -> None:
    """It is written once per session."""
    story = Story(checklist=True).begin().edit()
    story.events.append(ev.ChecklistMade(at=1, questions=(ev.ChecklistQuestion(kind="keep", text="Is the cup unchanged?"),)))
    story.critique(3).begin()
    assert [type(job) for job in story.next().jobs] == [EditJob]


def test_no_edit_is_started_that_would_miss_the_deadline() -> None:
    """With less time left than an edit takes, the best so far is the answer."""
    fresh = Story()
    assert isinstance(decide(fresh.session, 95.0, 4.0), StartTurn)
    late = decide(fresh.session, 97.0, 4.0)
    assert isinstance(late, Finish) and late.reason == "deadline"
    assert late.error and late.error.code == "deadline_exceeded"

    begun = Story().begin()
    late = decide(begun.session, 97.0, 4.0)
    assert isinstance(late, Finish) and late.reason == "deadline"
    scored = Story().begin().edit().critique(5, 5)
    assert isinstance(decide(scored.session, 95.0, 4.0), StartTurn)
    late = decide(scored.session, 97.0, 4.0)
    assert isinstance(late, Finish) and (late.reason, late.error) == ("deadline", None)
    assert late.best == ev.CandidateRef(turn=1, candidate=1)


def test_running_jobs_are_not_cancelled_for_being_late() -> None:
    """They may still finish in time."""
    story = Story(candidates=2).begin()
    story.events.append(ev.EditStarted(at=2, turn=1, candidate=1, attempt=1, key="1/1", seed=40))
    late = decide(story.session, 99.0, 4.0)
    assert isinstance(late, Work) and [job.candidate for job in late.jobs if isinstance(job, EditJob)] == [1]

    edited = Story().begin().edit()
    late = decide(edited.session, 99.0, 4.0)
    assert isinstance(late, Work) and isinstance(late.jobs[0], CritiqueJob)


def test_an_edit_without_a_slot_in_time_ends_the_session_at_its_deadline() -> None:
    """It did not fail: it came too late."""
    story = Story().begin()
    story.events.append(ev.EditStarted(at=2, turn=1, candidate=1, attempt=1, key="1/1", seed=40))
    late = ev.EditFailed(at=97, turn=1, candidate=1, attempt=1, code=ev.TOO_LATE, message="no place", retryable=False)
    story.events.append(late)
    action = finish(decide(story.session, 97.0, 1.0))
    assert action.reason == "deadline" and action.error and action.error.code == ev.TOO_LATE


def test_an_edit_is_started_while_half_of_the_time_is_left() -> None:
    """However long recent edits took: this one may be faster."""
    assert isinstance(decide(Story().session, 49.0, 1000.0), StartTurn)
    assert isinstance(decide(Story().session, 51.0, 1000.0), Finish)


BOUNDED = SessionBounds(turns=2, feedback=2, log_bytes=100_000, image_bytes=3)


def bounded(story: Story) -> Any:
    return decide(fold(story.events, BOUNDED), 1.0)


def test_a_session_ends_at_the_servers_turns_in_all() -> None:
    """Those after feedback included, no matter what its own limit is."""
    story = Story(review="each_turn", max_turns=5).begin().edit().critique(3)
    story.say("go_on").begin().edit().critique(4)

    action = decide(fold(story.events, SessionBounds(turns=2)), 1.0)
    assert isinstance(action, AskReview) and action.reason == "max_turns"
    assert isinstance(decide(fold(story.events, SessionBounds(turns=3)), 1.0), AskReview | StartTurn)


def test_a_session_ends_when_its_events_take_the_servers_bytes() -> None:
    story = Story(max_turns=20, patience=20).begin().edit().critique(3, refined="x" * 99_000)

    action = bounded(story)
    assert isinstance(action, Finish) and (action.reason, action.best) == ("budget", ev.CandidateRef(turn=1, candidate=1))


def test_no_edit_is_started_when_the_images_take_the_servers_bytes() -> None:
    """The source and two candidates of a byte each are as many as it allows."""
    story = Story(candidates=4, strategy="think_best_of_n").begin().edit(1).edit(2)

    action = bounded(story)
    assert isinstance(action, Work) and all(isinstance(job, CritiqueJob) for job in action.jobs)
    story.critique(3, candidate=1).critique(3, candidate=2)
    assert isinstance(end := bounded(story), Finish) and end.reason == "budget"


def test_the_bytes_of_a_log_are_about_what_it_takes() -> None:
    story = Story(max_turns=20).begin().edit().critique(3, refined="😀" * 1000)
    taken = sum(len(ev.dump(event)) for event in story.events)

    assert 0.7 * taken < story.session.log_bytes < 1.5 * taken
