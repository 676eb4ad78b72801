"""Early rejection: which running edit is stopped for its unfinished picture, and what that costs."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.view import show
from orchestrator.loop import events as ev
from orchestrator.loop.actions import CritiqueJob, EditJob, PreviewJob, RejectEdit, StartTurn, Work
from orchestrator.loop.policy import decide
from orchestrator.loop.rejecting import wants_preview
from orchestrator.loop.session import Session, fold
from tests.unit.loop.worlds import IMAGE

BLURRED = IMAGE.model_copy(update={"sha256": "b" * 64, "bytes": 7})


class Rejecting:
    """A session that rejects early, built event by event."""

    def __init__(self, *, results: int = 1, reject_early: bool = True, noise: float | None = None, **limits: Any) -> None:
        choosing = None if noise is None else ev.Choosing(noise=noise, weight=100.0, confirmations=8)
        checked = ev.Limits.model_validate({"deadline_at": 1e6, "patience": 5, **limits})
        created = ev.SessionCreated(
            at=0,
            version=4,
            source=IMAGE,
            instruction="golden",
            editor="e",
            thinker="t",
            limits=checked,
            results=results,
            reject_early=reject_early,
            choosing=choosing,
        )
        self.events: list[ev.Event] = [created]
        self.refines = False
        """Whether critiques of unfinished pictures propose an instruction: the judge is the thinker."""

    @property
    def session(self) -> Session:
        return fold(self.events)

    def next(self) -> Any:
        return decide(self.session, 1.0)

    def begin(self) -> Rejecting:
        """Record the turn that `decide` wants, and its edits' intents."""
        action = self.next()
        assert isinstance(action, StartTurn), action
        turn = ev.TurnStarted(
            at=1,
            turn=action.turn,
            instruction=action.instruction,
            author=action.author,
            candidates=action.candidates,
            first_seed=action.first_seed,
        )
        self.events.append(turn)
        for job in self.next().jobs:
            assert isinstance(job, EditJob)
            self.events.append(
                ev.EditStarted(
                    at=1,
                    turn=job.turn,
                    candidate=job.candidate,
                    attempt=job.attempt,
                    key=job.key,
                    seed=job.seed,
                    allowance_s=job.allowance_s,
                )
            )
        return self

    def preview(self, score: float | None, *, turn: int, candidate: int = 1) -> Rejecting:
        """An unfinished picture, and its scores."""
        place: dict[str, Any] = {"at": 2, "turn": turn, "candidate": candidate}
        self.events.append(ev.Previewed(**place, image=BLURRED))
        if score is not None:
            refined = f"golden, unfinished {turn}" if self.refines else None
            scores: dict[str, Any] = {"semantic": score, "quality": score}
            self.events.append(ev.PreviewCritiqued(**place, **scores, thinker_seconds=0.5, instruction=refined))
        return self

    def edited(self, score: float, *, turn: int, candidate: int = 1) -> Rejecting:
        """The finished picture, and its scores."""
        place: dict[str, Any] = {"at": 3, "turn": turn, "candidate": candidate}
        self.events.append(ev.Edited(**place, image=IMAGE, editor_seconds=3.0))
        refined = f"golden {turn}"
        self.events.append(ev.Critiqued(**place, semantic=score, quality=score, reasoning="", instruction=refined))
        return self


def second_turn(first: float = 7.0, seen: float = 5.0, **options: Any) -> Rejecting:
    """A first candidate whose unfinished picture had `seen`, and the second one's edit."""
    return Rejecting(**options).begin().preview(seen, turn=1).edited(first, turn=1).begin()


def test_an_unfinished_picture_is_critiqued_while_the_edit_goes_on() -> None:
    action = Rejecting().begin().preview(None, turn=1).next()
    assert isinstance(action, Work)
    edit, preview = action.jobs
    assert isinstance(edit, EditJob) and edit.started
    assert preview == PreviewJob(1, 1, 1, "golden", BLURRED)


def test_the_first_edit_is_finished_however_it_looks() -> None:
    """There is nothing better yet, and nothing that tells what an unfinished picture is worth."""
    (job,) = Rejecting().begin().preview(0.0, turn=1).next().jobs
    assert isinstance(job, EditJob)


def test_one_that_promises_less_than_the_best_so_far_is_rejected() -> None:
    """Unfinished pictures gained two points before; this one would come to 4."""
    assert second_turn().preview(2.0, turn=2).next() == RejectEdit(2, 1)


@pytest.mark.parametrize("seen", [4.5, 5.0, 9.0])
def test_one_that_may_become_the_best_goes_on(seen: float) -> None:
    (job,) = second_turn().preview(seen, turn=2).next().jobs
    assert isinstance(job, EditJob)


def test_a_noisy_judge_rejects_less() -> None:
    seen = 3.5
    assert isinstance(second_turn(noise=0.0).preview(seen, turn=2).next(), RejectEdit)
    assert isinstance(second_turn(noise=2.0).preview(seen, turn=2).next(), Work)


def test_nothing_is_rejected_while_more_results_are_asked_for() -> None:
    (job,) = second_turn(results=2, max_turns=3).preview(0.0, turn=2).next().jobs
    assert isinstance(job, EditJob)


def test_a_critique_that_failed_rejects_nothing_and_is_not_repeated() -> None:
    state = second_turn().preview(None, turn=2)
    failure: dict[str, Any] = {"attempt": 1, "code": "thinker_failed", "message": "x", "retryable": True}
    state.events.append(ev.PreviewFailed(at=2, turn=2, candidate=1, **failure))
    (job,) = state.next().jobs
    assert isinstance(job, EditJob)


def test_a_finished_edit_needs_no_critique_of_its_unfinished_picture() -> None:
    state = Rejecting().begin().preview(None, turn=1)
    state.events.append(ev.Edited(at=3, turn=1, candidate=1, image=IMAGE, editor_seconds=3.0))
    (job,) = state.next().jobs
    assert isinstance(job, CritiqueJob)


def test_the_next_turn_follows_a_rejected_edit() -> None:
    """Also if the replica died before the edit was stopped; its reserved seconds are free, and it does not satisfy or win."""
    state = second_turn(budget_editor_s=10).preview(2.0, turn=2)
    state.events.append(ev.EditRejected(at=3, turn=2, candidate=1))
    action = state.next()
    assert isinstance(action, StartTurn)
    assert (action.turn, action.instruction) == (3, "golden 1")  # nothing better was written since
    state.events.append(
        ev.EditFailed(at=3, turn=2, candidate=1, attempt=1, code=ev.SUPERSEDED, message="", retryable=False, editor_seconds=1.0)
    )
    assert state.next() == action
    session = state.session
    assert session.totals.editor_seconds == 4.0
    assert session.totals.thinker_seconds == 1.0
    view = show("ses_1", session, len(state.events))
    shown = view.turns[1].candidates[0]
    assert (shown.status, shown.image) == ("rejected", None)
    assert shown.preview and shown.preview.scores and shown.preview.scores.overall == 2.0


@pytest.mark.parametrize("noise", [None, 1.0], ids=["single scores", "choosing"])
def test_a_rejected_edits_instruction_is_refined_and_not_repeated(noise: float | None) -> None:
    """By the critique of its unfinished picture: the other refinements were tried."""
    state = Rejecting(noise=noise)
    state.refines = True
    state.begin().preview(5.0, turn=1).edited(7.0, turn=1).begin().preview(0.0, turn=2)
    assert state.next() == RejectEdit(2, 1)
    state.events.append(ev.EditRejected(at=3, turn=2, candidate=1))
    action = state.next()
    assert isinstance(action, StartTurn)
    assert (action.instruction, action.author) == ("golden, unfinished 2", "thinker")


def test_the_critique_of_a_finished_picture_replaces_that_of_the_unfinished_one() -> None:
    state = Rejecting()
    state.refines = True
    state.begin().preview(5.0, turn=1).edited(7.0, turn=1)
    assert state.next().instruction == "golden 1"


def test_unfinished_pictures_count_as_the_sessions_bytes() -> None:
    before = Rejecting().begin().session.image_bytes
    assert Rejecting().begin().preview(None, turn=1).session.image_bytes == before + BLURRED.bytes


def test_sessions_that_do_not_ask_for_it_want_no_unfinished_pictures() -> None:
    assert wants_preview(Rejecting().begin().session, 1)
    assert not wants_preview(Rejecting(reject_early=False).begin().session, 1)


def test_an_edit_in_full_of_a_draft_is_not_rejected() -> None:
    state = Rejecting()
    state.events.append(ev.TurnStarted(at=1, turn=1, instruction="g", author="caller", candidates=1, first_seed=0, draft=True))
    render = ev.TurnStarted(
        at=1,
        turn=2,
        instruction="g",
        author="caller",
        candidates=1,
        first_seed=0,
        renders=ev.CandidateRef(turn=1, candidate=1),
    )
    state.events.append(render)
    assert not wants_preview(state.session, 2)
