"""The loop delivers what the fields promise: a session without failures returns as many images as were requested."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.fields import SessionFields, Sources, first_event
from orchestrator.loop import events as ev
from orchestrator.loop.actions import ChecklistJob, CompareJob, CritiqueJob, EditJob, Finish, PrepareJob, StartTurn, Work
from orchestrator.loop.policy import decide
from orchestrator.loop.session import Session, fold
from services.errors import ApiError
from services.protocol.images_api import validate
from tests.unit.orchestrator.test_fields import CATALOGUE, DEADLINES, SOURCE, asked


def play(created: ev.SessionCreated, scores: list[tuple[float, float]]) -> Session:
    """The session in a world where nothing fails."""
    log: list[ev.Event] = [created]
    for _ in range(5_000):
        session = fold(log)
        action = decide(session, created.at)
        place: dict[str, Any] = {"at": created.at}
        match action:
            case Finish():
                log.append(
                    ev.Finished(**place, reason=action.reason, best=action.best, results=action.results, totals=session.totals)
                )
                return fold(log)
            case StartTurn():
                log.append(
                    ev.TurnStarted(
                        **place,
                        turn=action.turn,
                        instruction=action.instruction,
                        author=action.author,
                        candidates=action.candidates,
                        first_seed=action.first_seed,
                    )
                )
            case Work(jobs):
                job = jobs[0]
                assert not isinstance(job, ChecklistJob | CompareJob | PrepareJob)
                place |= {"turn": job.turn, "candidate": job.candidate}
                if isinstance(job, EditJob) and not job.started:
                    log.append(ev.EditStarted(**place, attempt=job.attempt, key=job.key, seed=job.seed))
                elif isinstance(job, EditJob):
                    log.append(ev.Edited(**place, image=SOURCE, editor_seconds=1.0))
                else:
                    assert isinstance(job, CritiqueJob)
                    semantic, quality = scores[len(log) % len(scores)]
                    log.append(
                        ev.Critiqued(
                            **place, semantic=semantic, quality=quality, reasoning="", instruction=f"{job.instruction} +"
                        )
                    )
            case _:
                raise AssertionError(action)
    raise AssertionError("the session does not end")


@given(given_=asked, scores=st.lists(st.sampled_from([(0.0, 0.0), (5.0, 5.0), (9.0, 9.0), (10.0, 10.0)]), min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_what_is_accepted_can_be_delivered(given_: dict[str, Any], scores: list[tuple[float, float]]) -> None:
    """For all valid fields, a session without failures returns as many images as were requested."""
    fields = validate(SessionFields, {**given_, "model": "able", "thinker": None})
    try:
        created = first_event(fields, Sources(SOURCE, None), CATALOGUE, DEADLINES, now=0.0, seed=1)
    except ApiError as exc:
        refused = exc.param
        assert refused in {"n", "budget_edits", "candidates", "max_turns", "deadline_s"}
        return
    finished = play(created, scores).finished

    assert finished is not None
    assert len(finished.results) == given_["n"]
    assert created.limits.max_turns * created.limits.candidates >= given_["n"]
