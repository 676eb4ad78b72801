"""Drafts, and the render of the winner."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.view import show
from orchestrator.loop import events as ev
from orchestrator.loop.actions import CritiqueJob, EditJob, Finish, StartTurn, Work
from orchestrator.loop.policy import decide
from orchestrator.loop.session import Session, SessionBounds, fold
from tests.unit.loop.worlds import IMAGE

DRAFT = IMAGE.model_copy(update={"sha256": "d" * 64, "width": 2})
FIRST = ev.CandidateRef(turn=1, candidate=1)
SECOND = ev.CandidateRef(turn=2, candidate=1)


class Drafting:
    """A session with drafts, built event by event."""

    def __init__(
        self, *, review: ev.Review = "never", strategy: ev.Strategy = "think", bounds: SessionBounds | None = None, **limits: Any
    ) -> None:
        self._bounds = bounds
        checked = ev.Limits.model_validate({"deadline_at": 100.0, **limits})
        self.events: list[ev.Event] = [
            ev.SessionCreated(
                at=0,
                version=4,
                source=IMAGE,
                instruction="golden",
                editor="e",
                thinker="t",
                limits=checked,
                seed=40,
                draft=True,
                review=review,
                strategy=strategy,
            )
        ]

    @property
    def session(self) -> Session:
        return fold(self.events, self._bounds)

    def next(self, now: float = 1.0, edit_s: float = 0.0) -> Any:
        return decide(self.session, now, edit_s)

    def begin(self, now: float = 1.0, edit_s: float = 0.0) -> Drafting:
        """Record the turn that `decide` wants, and its edits' intents."""
        action = self.next(now, edit_s)
        assert isinstance(action, StartTurn), action
        self.events.append(
            ev.TurnStarted(
                at=now,
                turn=action.turn,
                instruction=action.instruction,
                author=action.author,
                candidates=action.candidates,
                first_seed=action.first_seed,
                draft=action.draft,
                renders=action.renders,
            )
        )
        return self

    def made(self, *, seconds: float = 1.0, candidate: int = 1, ok: bool = True) -> Drafting:
        turn = self.session.turns[-1]
        place: dict[str, Any] = {"at": 1, "turn": turn.number, "candidate": candidate}
        seed = turn.candidates[candidate - 1].seed
        self.events.append(ev.EditStarted(**place, attempt=1, key=f"{turn.number}/{candidate}", seed=seed))
        if ok:
            image = DRAFT if turn.draft else IMAGE
            self.events.append(ev.Edited(**place, image=image, editor_seconds=seconds))
        else:
            self.events.append(ev.EditFailed(**place, attempt=1, code="x", message="", retryable=False, editor_seconds=seconds))
        return self

    def judged(self, score: float, refined: str | None = "more golden", candidate: int = 1) -> Drafting:
        place: dict[str, Any] = {"at": 1, "turn": len(self.session.turns), "candidate": candidate}
        self.events.append(ev.Critiqued(**place, semantic=score, quality=score, reasoning="", instruction=refined))
        return self

    def turn(self, score: float, refined: str | None = "more golden") -> Drafting:
        return self.begin().made().judged(score, refined)

    def say(self, action: ev.FeedbackAction, **more: Any) -> Drafting:
        self.events.append(ev.FeedbackGiven(at=1, action=action, **more))
        return self


def test_turns_make_drafts() -> None:
    story = Drafting()
    assert story.next() == StartTurn(1, "golden", "caller", 1, 40, draft=True)

    action = story.begin().next()
    assert isinstance(action, Work)
    assert [job.draft for job in action.jobs if isinstance(job, EditJob)] == [True]


def test_a_satisfying_draft_is_edited_in_full_and_critiqued_before_the_session_ends() -> None:
    story = Drafting().turn(4).turn(9)
    assert story.next() == StartTurn(3, "more golden", "thinker", 1, 40, renders=SECOND)

    action = story.begin().next()
    assert action.jobs == (EditJob(3, 1, 1, "3/1", "more golden", 40, False, None, draft=False),)
    assert story.made().next() == Work((CritiqueJob(3, 1, 1, "more golden", IMAGE),))
    end = story.judged(9).next()
    assert (end.reason, end.best) == ("satisfied", ev.CandidateRef(turn=3, candidate=1))


def test_a_render_that_does_not_satisfy_is_not_called_satisfied_and_drafts_go_on() -> None:
    story = Drafting().turn(9).turn(6, refined="most golden")

    assert story.next() == StartTurn(3, "most golden", "thinker", 1, 40, draft=True)
    # The draft that was rendered competes no more; the render does.
    story.turn(7)
    end_or_turn = story.next()
    assert isinstance(end_or_turn, StartTurn) and not end_or_turn.renders


def test_the_answer_is_the_render_with_its_own_scores_though_its_draft_was_judged_better() -> None:
    story = Drafting(max_turns=1).turn(9).turn(6)

    end = story.next()
    assert (end.reason, end.best) == ("max_turns", SECOND)


def test_of_two_renders_the_better_one_is_the_answer() -> None:
    story = Drafting(max_turns=2).turn(9).turn(7).turn(8.5, "most golden").turn(6)

    end = story.next()
    assert (end.reason, end.best) == ("max_turns", SECOND)


def test_the_last_drafts_are_not_rendered_where_a_picture_in_full_is_as_good() -> None:
    story = Drafting(max_turns=2).turn(9).turn(7).turn(7)

    end = story.next()
    assert isinstance(end, Finish)
    assert end.best == SECOND


def test_after_a_render_another_one_needs_new_drafts() -> None:
    """Otherwise every draft would be rendered in turn, since the best of several scores is usually lucky."""
    story = Drafting(max_turns=1, candidates=3, strategy="best_of_n").begin()
    for candidate, score in ((1, 7.9), (2, 7.8), (3, 7.7)):
        story.made(candidate=candidate).judged(score, candidate=candidate)
    assert story.next().renders == FIRST

    end = story.turn(5).next()
    assert (end.reason, end.best) == ("max_turns", SECOND)


def test_a_draft_is_the_answer_where_its_render_failed() -> None:
    story = Drafting(max_turns=1, edit_attempts=1).turn(9).begin().made(ok=False)

    end = story.next()
    assert (end.reason, end.best, end.error) == ("max_turns", FIRST, None)


def test_a_critique_that_fails_leaves_the_render_as_the_answer() -> None:
    story = Drafting(max_turns=1).turn(9).begin().made()
    failed = ev.CritiqueFailed(at=1, turn=2, candidate=1, attempt=3, code="x", message="", retryable=False)
    story.events.append(failed)

    end = story.next()
    assert (end.reason, end.best) == ("max_turns", SECOND)


def test_renders_count_neither_as_turns_nor_against_patience() -> None:
    story = Drafting(max_turns=3, patience=2).turn(9).turn(5).turn(9.5)

    assert story.next() == StartTurn(4, "more golden", "thinker", 1, 40, renders=ev.CandidateRef(turn=3, candidate=1))


def test_drafts_leave_one_edit_of_the_budget() -> None:
    story = Drafting(budget_edits=2).turn(4)

    assert story.next().renders == FIRST
    end = story.turn(5).next()
    assert (end.reason, end.best) == ("budget", SECOND)


def test_with_one_edit_there_is_no_draft() -> None:
    story = Drafting(budget_edits=1)
    assert not story.next().draft

    end = story.turn(5).next()
    assert (end.reason, end.best) == ("budget", FIRST)


def test_drafts_may_take_half_of_the_editor_seconds() -> None:
    story = Drafting(budget_editor_s=10.0).begin()
    assert story.next().jobs[0].allowance_s == 5.0

    story.made(seconds=5.0).judged(4)
    assert story.next().renders == FIRST
    assert story.begin().next().jobs[0].allowance_s == 5.0


def test_the_last_turn_that_the_server_allows_is_for_the_render() -> None:
    story = Drafting(bounds=SessionBounds(turns=2)).turn(4)

    assert story.next().renders == FIRST
    assert story.turn(5).next().reason == "max_turns"


def test_a_satisfying_draft_that_cannot_be_rendered_is_not_called_satisfied() -> None:
    story = Drafting(bounds=SessionBounds(image_bytes=IMAGE.bytes + DRAFT.bytes)).turn(9)

    end = story.next()
    assert (end.reason, end.best) == ("budget", FIRST)


@pytest.mark.parametrize(("now", "renders"), [(79.0, None), (81.0, FIRST)])
def test_no_draft_begins_when_only_an_edit_in_full_is_in_time(now: float, renders: ev.CandidateRef | None) -> None:
    """An edit takes 10 seconds and the deadline is at 100."""
    assert Drafting().turn(4).next(now, 10.0).renders == renders


def test_drafts_that_were_not_begun_in_time_make_way_for_the_render() -> None:
    story = Drafting(candidates=2).begin().made(candidate=1).judged(4, candidate=1)
    assert story.next(81.0, 10.0).renders == FIRST

    late = story.next(91.0, 10.0)
    assert (late.reason, late.best) == ("deadline", FIRST)


def test_a_session_that_comes_to_its_turn_late_begins_in_full() -> None:
    assert Drafting().next(79.0, 10.0).draft
    assert not Drafting().next(81.0, 10.0).draft


def test_an_accepted_draft_is_edited_in_full_and_is_the_answer_without_a_critique() -> None:
    story = Drafting(review="each_turn").turn(4)
    story.events.append(ev.ReviewRequested(at=1, turn=1, best=FIRST))
    story.say("accept")
    assert story.next() == StartTurn(2, "golden", "caller", 1, 40, renders=FIRST)

    action = story.begin().next()
    assert [job.turn for job in action.jobs] == [2]
    end = story.made().next()
    assert (end.reason, end.best) == ("accepted", SECOND)


def test_a_picked_draft_is_answered_with_its_render() -> None:
    story = Drafting(review="each_turn").turn(4).say("go_on").turn(5, "most golden").say("pick", turn=1, candidate=1)
    assert story.next().renders == FIRST

    end = story.begin().made().next()
    assert (end.reason, end.best) == ("accepted", ev.CandidateRef(turn=3, candidate=1))


def test_an_accepted_draft_whose_render_fails_or_comes_too_late_is_the_answer() -> None:
    story = Drafting(review="each_turn", edit_attempts=1).turn(4).say("accept")
    assert story.next(99.0, 10.0).best == FIRST

    end = story.begin().made(ok=False).next()
    assert (end.reason, end.best) == ("accepted", FIRST)


def test_a_review_before_the_end_shows_the_render() -> None:
    story = Drafting(review="before_finish").turn(9).turn(9)

    action = story.next()
    assert (action.reason, action.best) == ("satisfied", SECOND)


def test_a_log_without_drafts_is_written_as_before() -> None:
    plain = ev.TurnStarted(at=1, turn=1, instruction="x", author="caller", candidates=1, first_seed=1)

    assert not {"draft", "renders"} & plain.model_dump().keys()


def test_a_view_tells_drafts_and_what_renders_them() -> None:
    shown = show("ses_1", Drafting().turn(9).turn(8).session, 9).model_dump()

    assert shown["draft"] is True
    assert [(turn.get("draft"), turn.get("renders")) for turn in shown["turns"]] == [
        (True, None),
        (None, {"turn": 1, "candidate": 1}),
    ]
    assert shown["best"] == {"turn": 2, "candidate": 1}
