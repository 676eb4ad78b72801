"""Random worlds for the loop: an editor and a thinker that succeed, fail, stall or answer late, and people who
cancel or speak at any moment. A world carries out what `decide` says and records what came of it, like the driver."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from orchestrator.loop import events as ev
from orchestrator.loop.actions import (
    Action,
    AskReview,
    ChecklistJob,
    CompareJob,
    CritiqueJob,
    EditJob,
    Finish,
    PrepareJob,
    PreviewJob,
    RefineJob,
    RejectEdit,
    Rest,
    StartTurn,
    VerifyJob,
    Wait,
    Work,
)
from orchestrator.loop.choosing import best
from orchestrator.loop.policy import decide
from orchestrator.loop.session import Session, apply, fold

IMAGE = ev.ImageRef(sha256="0" * 64, media_type="image/png", bytes=1, width=4, height=3)
STEPS = 2_000

scores = st.sampled_from([0.0, 2.0, 5.0, 7.0, 7.5, 8.0, 9.0, 10.0])
choosings = st.builds(
    ev.Choosing,
    noise=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    weight=st.sampled_from([0.2, 20.0]),
    confirmations=st.integers(1, 3),
    compares=st.booleans(),
)


@st.composite
def created(draw: st.DrawFn) -> ev.SessionCreated:
    """A session of any strategy and limits; time starts at 0."""
    strategies: list[ev.Strategy] = ["think", "single", "best_of_n", "think_best_of_n", "adaptive"]
    strategy = draw(st.sampled_from(strategies))
    limits = ev.Limits(
        max_turns=1 if strategy == "single" else draw(st.integers(1, 5)),
        candidates=draw(st.integers(1, 3)),
        semantic_threshold=draw(st.sampled_from([5.0, 8.0, 10.0])),
        quality_threshold=draw(st.sampled_from([5.0, 8.0])),
        patience=draw(st.integers(1, 3)),
        deadline_at=draw(st.sampled_from([5.0, 50.0, 1e6])),
        budget_edits=draw(st.none() | st.integers(1, 6)),
        budget_editor_s=draw(st.none() | st.floats(0.5, 20)),
        edit_attempts=draw(st.integers(1, 3)),
        critique_attempts=draw(st.integers(1, 3)),
    )
    return ev.SessionCreated(
        at=0.0,
        source=IMAGE,
        instruction="make it golden",
        editor="e",
        thinker="t",
        judge=draw(st.sampled_from([None, None, "j"])),
        judge_scores=draw(st.booleans()),
        strategy=strategy,
        review=draw(st.sampled_from(["never", "each_turn", "before_finish"])),
        limits=limits,
        results=draw(st.integers(1, min(3, limits.max_turns * limits.candidates))),
        seed=7,
        checklist=draw(st.booleans()),
        choosing=draw(st.none() | choosings),
        preparer=draw(st.sampled_from([None, None, "p"])),
        draft=draw(st.booleans()),
        reject_early=draw(st.booleans()),
    )


Job = EditJob | CritiqueJob | ChecklistJob | VerifyJob | CompareJob | RefineJob | PrepareJob | PreviewJob


def place_of(job: Job) -> tuple[str, int, int]:
    """A job's identity within its session."""
    if isinstance(job, ChecklistJob | PrepareJob):
        return type(job).__name__, 0, 0
    if isinstance(job, CompareJob):
        return type(job).__name__, job.first.turn, job.first.candidate
    return type(job).__name__, job.turn, job.candidate


@dataclass
class World:
    """One session in a random world."""

    draw: st.DataObject
    events: list[ev.Event]
    now: float = 0.0
    patience_of_people: int = 4
    started: dict[tuple[str, int, int], float] = field(default_factory=dict)

    @property
    def session(self) -> Session:
        """Folded at every step, so that each step is also a crash and a resume."""
        return fold(self.events)

    def run(self) -> Session:
        """Until the end."""
        for _ in range(STEPS):
            action = decide(self.session, self.now)
            if isinstance(action, Rest):
                return self.session
            self.carry_out(action)
        raise AssertionError("the session does not end")

    def carry_out(self, action: Action) -> None:
        """What the driver would do with an action."""
        session = self.session
        wanted = {place_of(job) for job in action.jobs} if isinstance(action, Work) else set()
        if isinstance(action, RejectEdit):
            self.record(ev.EditRejected(at=self.now, turn=action.turn, candidate=action.candidate))
            return
        if dropped := [key for key in self.started if key not in wanted]:
            for key in dropped:
                self.drop(key)
            return
        match action:
            case StartTurn():
                self.record(
                    ev.TurnStarted(
                        at=self.now,
                        turn=action.turn,
                        instruction=action.instruction,
                        author=action.author,
                        candidates=action.candidates,
                        first_seed=action.first_seed,
                        draft=action.draft,
                        renders=action.renders,
                    )
                )
            case AskReview():
                self.record(ev.ReviewRequested(at=self.now, turn=action.turn, best=action.best, reason=action.reason))
            case Finish():
                self.record(
                    ev.Finished(
                        at=self.now,
                        reason=action.reason,
                        best=action.best,
                        results=action.results,
                        error=action.error,
                        preferred=action.preferred,
                        totals=session.totals,
                    )
                )
            case Wait():
                self.wait(session)
            case Work(jobs):
                self.work(jobs)

    def record(self, event: ev.Event) -> None:
        self.events.append(event)

    def drop(self, key: tuple[str, int, int]) -> None:
        kind, turn, candidate = key
        began = self.started.pop(key)
        if kind == "EditJob":
            known = self.session.candidate(ev.CandidateRef(turn=turn, candidate=candidate))
            assert known
            self.record(
                ev.EditFailed(
                    at=self.now,
                    turn=turn,
                    candidate=candidate,
                    attempt=known.attempts,
                    code="session_cancelled",
                    message="",
                    retryable=False,
                    editor_seconds=self.now - began,
                )
            )

    def wait(self, session: Session) -> None:
        """People speak a few times, then the deadline comes."""
        if self.patience_of_people > 0 and self.draw.draw(st.booleans()):
            self.speak(session)
        else:
            self.now = session.created.limits.deadline_at

    def speak(self, session: Session) -> None:
        self.patience_of_people -= 1
        actions: list[ev.FeedbackAction] = ["instruct"]
        if session.review:
            actions.append("go_on")
        if best(session):
            actions += ["accept", "pick"]
        action = self.draw.draw(st.sampled_from(actions))
        top = best(session)
        self.record(
            ev.FeedbackGiven(
                at=self.now,
                action=action,
                turn=top.turn if action == "pick" and top else None,
                candidate=top.candidate if action == "pick" and top else None,
                instruction="rather blue" if action == "instruct" else None,
            )
        )

    def work(self, jobs: tuple[Job, ...]) -> None:
        for job in jobs:
            if isinstance(job, EditJob) and not job.started:
                self.record(
                    ev.EditStarted(
                        at=self.now,
                        turn=job.turn,
                        candidate=job.candidate,
                        attempt=job.attempt,
                        key=job.key,
                        seed=job.seed,
                        allowance_s=job.allowance_s,
                    )
                )
                return
            if isinstance(job, PrepareJob) and not job.started:
                self.record(ev.PrepareStarted(at=self.now, attempt=job.attempt))
                return
        for job in jobs:
            self.started.setdefault(place_of(job), self.now)
        happening = self.draw.draw(st.sampled_from(["end", "end", "end", "end", "speak", "cancel", "crash"]))
        if happening == "speak" and self.patience_of_people > 0:
            self.speak(self.session)
        elif happening == "cancel" and self.patience_of_people > 0:
            self.record(ev.CancelRequested(at=self.now))
        elif happening == "crash":
            self.started.clear()
        else:
            self.end(self.draw.draw(st.sampled_from(jobs)))

    def end(self, job: Job) -> None:
        took = self.draw.draw(st.sampled_from([0.1, 1.0, 4.0]))
        began = self.started.pop(place_of(job))
        self.now = max(self.now, began + took)
        outcome = self.draw.draw(st.sampled_from(["good", "good", "good", "broken", "refused"]))
        failure: dict[str, Any] = {"attempt": job.attempt, "code": "x", "message": "x", "retryable": outcome == "broken"}
        if isinstance(job, PrepareJob):
            rewritten = self.draw.draw(st.sampled_from(["a golden scene", "make it golden"]))
            prepared = ev.Prepared(at=self.now, instruction=rewritten, thinker_seconds=took)
            self.record(prepared if outcome == "good" else ev.PrepareFailed(at=self.now, **failure, thinker_seconds=took))
            return
        if isinstance(job, ChecklistJob):
            questions = (ev.ChecklistQuestion(kind="change", text="Is it golden?"),)
            made = ev.ChecklistMade(at=self.now, questions=questions)
            self.record(made if outcome == "good" else ev.ChecklistFailed(at=self.now, **failure))
            return
        if isinstance(job, CompareJob):
            pair: dict[str, Any] = {"at": self.now, "first": job.first, "second": job.second}
            winners: list[ev.Winner] = ["first", "second", "tie"]
            winner = self.draw.draw(st.sampled_from(winners))
            compared = ev.Compared(**pair, winner=winner, by="pair")
            self.record(compared if outcome == "good" else ev.CompareFailed(**pair, **failure))
            return
        place: dict[str, Any] = {"at": self.now, "turn": job.turn, "candidate": job.candidate}
        if isinstance(job, PreviewJob):
            semantic, quality = self.draw.draw(scores), self.draw.draw(scores)
            seen = ev.PreviewCritiqued(**place, semantic=semantic, quality=quality)
            self.record(seen if outcome == "good" else ev.PreviewFailed(**place, **failure))
        elif isinstance(job, EditJob):
            seconds = took
            if self.session.created.reject_early and self.draw.draw(st.booleans()):
                # Its unfinished picture first; the edit goes on.
                self.started[place_of(job)] = began
                self.record(ev.Previewed(**place, image=IMAGE))
                return
            if outcome == "good":
                self.record(ev.Edited(**place, image=IMAGE, editor_seconds=seconds))
            else:
                self.record(ev.EditFailed(**place, **failure, editor_seconds=seconds))
        elif isinstance(job, RefineJob):
            refined = self.draw.draw(st.sampled_from([None, job.instruction, f"{job.instruction}!"]))
            heard = ev.Refined(**place, instruction=refined)
            self.record(heard if outcome == "good" else ev.RefineFailed(**place, **failure))
        elif outcome == "good":
            refined = self.draw.draw(st.sampled_from([None, job.instruction, f"{job.instruction}!"]))
            if self.session.created.scorer != self.session.created.thinker:
                refined = None
            semantic, quality = self.draw.draw(scores), self.draw.draw(scores)
            kind = ev.Verified if isinstance(job, VerifyJob) else ev.Critiqued
            self.record(kind(**place, semantic=semantic, quality=quality, reasoning="", instruction=refined))
        else:
            failed = ev.VerifyFailed if isinstance(job, VerifyJob) else ev.CritiqueFailed
            self.record(failed(**place, **failure))


def refold(events: list[ev.Event], cut: int) -> Session:
    """Fold a prefix, then apply the rest."""
    session = fold(events[:cut])
    for event in events[cut:]:
        session = apply(session, event)
    return session
