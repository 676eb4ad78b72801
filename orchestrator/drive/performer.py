"""Performs one job of a session: an edit or a critique. What went wrong comes back as an event, never as an exception."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import stamina

from orchestrator.loop import events as ev
from orchestrator.loop.policy import ChecklistJob, CritiqueJob, EditJob
from orchestrator.loop.session import Session
from orchestrator.ports import (
    Blobs,
    ChecklistOrder,
    Clock,
    CritiqueOrder,
    Editor,
    EditOrder,
    EditReply,
    PortError,
    StorageUnavailable,
    StoredImage,
    Thinker,
    Usage,
)

Job = EditJob | CritiqueJob | ChecklistJob
_Role = TypeVar("_Role")
_PATIENTLY: Final = stamina.AsyncRetryingCaller(attempts=5, timeout=30.0)
_NOT_AT_WORK: Final = ("_overloaded", "_unreachable", "_refused")
_GRACE_S: Final = 1.0
"""At the deadline the driver stops its jobs. A call that timed out by itself at the same moment would be cancelled
twice, and then its connection is not closed and the editor works on."""


@dataclass(frozen=True, slots=True)
class Performer:
    """The collaborators of every session, by the names the configuration gives them.

    Attributes:
        pace: seconds that an edit takes at that editor, lately; 0 while that is not known.
    """

    editors: Mapping[str, Editor]
    thinkers: Mapping[str, Thinker]
    blobs: Blobs
    clock: Clock
    pace: Callable[[str], float] = lambda _: 0.0

    async def perform(
        self, session_id: str, session: Session, job: Job, *, resumed: bool = False, sent: Callable[[], None] = lambda: None
    ) -> ev.Event:
        """Carry the job out and return its outcome event.

        Args:
            resumed: whether an earlier driver began it.
            sent: called when an edit goes out to the editor, after its wait for a place there.
        """
        if isinstance(job, EditJob):
            return await self._edit(session_id, session, job, resumed=resumed, sent=sent)
        if isinstance(job, ChecklistJob):
            return await self._checklist(session_id, session, job)
        return await self._critique(session_id, session, job)

    async def _edit(
        self, session_id: str, session: Session, job: EditJob, *, resumed: bool, sent: Callable[[], None]
    ) -> ev.Edited | ev.EditFailed:
        began: float | None = None

        def goes_out() -> None:
            nonlocal began
            began = self.clock.now()
            sent()

        try:
            reply = await self._ask_editor(session_id, session, job, goes_out)
            sha256 = await self._store(session_id, reply.data)
        except PortError as exc:
            now = self.clock.now()
            # What the caller can do nothing about, and a store that is away, may well pass.
            return ev.EditFailed(
                at=now,
                turn=job.turn,
                candidate=job.candidate,
                attempt=job.attempt,
                code=exc.code,
                message=exc.message,
                retryable=exc.retryable,
                editor_seconds=0.0 if exc.code.endswith(_NOT_AT_WORK) or began is None else max(0.0, now - began),
            )
        now = self.clock.now()
        image = ev.ImageRef(
            sha256=sha256, media_type=reply.media_type, bytes=len(reply.data), width=reply.width, height=reply.height
        )
        return ev.Edited(
            at=now,
            turn=job.turn,
            candidate=job.candidate,
            image=image,
            editor_seconds=_editor_seconds(reply, now - (now if began is None else began)),
            timings=dict(reply.timings),
            repeated=resumed and not reply.replayed,
            editor=reply.editor,
        )

    async def _ask_editor(self, session_id: str, session: Session, job: EditJob, sent: Callable[[], None]) -> EditReply:
        created = session.created
        left = created.limits.deadline_at - self.clock.now()
        order = EditOrder(
            source=self._stored(session_id, created.source),
            mask=self._stored(session_id, created.mask) if created.mask else None,
            instruction=job.instruction,
            seed=job.seed,
            key=f"{session_id}/{job.key}",
            timeout_s=left + _GRACE_S,
            options=created.editor_options,
            later=job.turn > 1,
            sent=sent,
        )
        return await _named(self.editors, created.editor, "editor").edit(order)

    async def _critique(self, session_id: str, session: Session, job: CritiqueJob) -> ev.Critiqued | ev.CritiqueFailed:
        began = self.clock.now()
        created = session.created
        try:
            order = CritiqueOrder(
                source=self._stored(session_id, created.source),
                candidate=self._stored(session_id, job.image),
                original_instruction=created.instruction,
                instruction=job.instruction,
                timeout_s=created.limits.deadline_at - began + _GRACE_S,
                questions=session.checklist.questions,
            )
            reply = await _named(self.thinkers, created.thinker, "thinker").critique(order)
        except PortError as exc:
            return ev.CritiqueFailed(turn=job.turn, candidate=job.candidate, **self._failure(job, exc, began))
        now = self.clock.now()
        return ev.Critiqued(
            at=now,
            turn=job.turn,
            candidate=job.candidate,
            semantic=reply.semantic,
            quality=reply.quality,
            reasoning=reply.reasoning,
            instruction=reply.instruction,
            answers=reply.answers,
            samples=reply.samples,
            semantic_spread=reply.semantic_spread,
            quality_spread=reply.quality_spread,
            thinker=reply.thinker,
            repaired=reply.repaired,
            thinker_seconds=max(0.0, now - began),
            **_tokens(reply.usage),
        )

    async def _checklist(self, session_id: str, session: Session, job: ChecklistJob) -> ev.ChecklistMade | ev.ChecklistFailed:
        began = self.clock.now()
        created = session.created
        try:
            timeout_s = created.limits.deadline_at - began + _GRACE_S
            order = ChecklistOrder(self._stored(session_id, created.source), created.instruction, timeout_s)
            reply = await _named(self.thinkers, created.thinker, "thinker").checklist(order)
        except PortError as exc:
            return ev.ChecklistFailed(**self._failure(job, exc, began))
        now = self.clock.now()
        seconds = max(0.0, now - began)
        return ev.ChecklistMade(at=now, questions=reply.questions, thinker_seconds=seconds, **_tokens(reply.usage))

    def _failure(self, job: CritiqueJob | ChecklistJob, exc: PortError, began: float) -> dict[str, Any]:
        """What is told of a thinker that failed."""
        now = self.clock.now()
        told = {"code": exc.code, "message": exc.message, "retryable": exc.retryable}
        return {"at": now, "attempt": job.attempt, "thinker_seconds": max(0.0, now - began), **told}

    def _stored(self, session_id: str, ref: ev.ImageRef) -> StoredImage:
        return StoredImage(ref, lambda: self._load(session_id, ref.sha256))

    async def _load(self, session_id: str, sha256: str) -> bytes:
        return await _PATIENTLY(StorageUnavailable, self.blobs.get, session_id, sha256)

    async def _store(self, session_id: str, data: bytes) -> str:
        return await _PATIENTLY(StorageUnavailable, self.blobs.put, session_id, data)


def _tokens(usage: Usage) -> dict[str, Any]:
    return dataclasses.asdict(usage)


def _editor_seconds(reply: EditReply, elapsed: float) -> float:
    """What the editor says it worked; by our clock, which counts its queue too, where it says nothing."""
    told = reply.timings.get("edit_ms")
    return max(0.0, elapsed) if told is None else min(max(0.0, told / 1000), max(0.0, elapsed))


def _named(roles: Mapping[str, _Role], name: str, role: str) -> _Role:
    if name not in roles:
        code = "editor_unreachable" if role == "editor" else "thinker_unreachable"
        raise PortError(code, f"the {role} {name!r} is not configured on this replica")
    return roles[name]
