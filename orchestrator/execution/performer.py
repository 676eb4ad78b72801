"""Performs one job of a session: a preparation, an edit, a critique, a comparison, a refinement, a checklist. Failures are
returned as events, not raised.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

import stamina

from orchestrator.loop import events as ev
from orchestrator.loop.actions import (
    ChecklistJob,
    CompareJob,
    CritiqueJob,
    EditJob,
    Job,
    PrepareJob,
    PreviewJob,
    RefineJob,
    VerifyJob,
)
from orchestrator.loop.choosing import improves
from orchestrator.loop.preparing import prepare_until
from orchestrator.loop.rejecting import wants_preview
from orchestrator.loop.session import Session
from orchestrator.loop.spending import latest_start
from orchestrator.ports.collaborators import (
    ChecklistOrder,
    Clock,
    CompareOrder,
    Comparer,
    CritiqueOrder,
    CritiquePrompt,
    CritiqueReply,
    Editor,
    EditOrder,
    EditorUsage,
    Judge,
    PrepareOrder,
    Preparer,
    Prompting,
    StoredImage,
    Thinker,
    Usage,
    image_ref,
)
from orchestrator.ports.errors import PortError, StorageUnavailableError
from orchestrator.ports.stores import Blob, Blobs
from services.errors import ApiError
from services.imaging.codec import CheckedImage, ImageInfo, encode
from services.imaging.decode_pool import DecodePool
from services.imaging.masks import of_boxes
from services.imaging.shapes import enlarges, nearly
from services.protocol.critique.messages import Judgement
from services.protocol.images_api import pixels_of

log = logging.getLogger(__name__)
_Role = TypeVar("_Role")
_STORAGE_RETRIES: Final = stamina.AsyncRetryingCaller(attempts=5, timeout=30.0)
# Bounds on what an event keeps of a reply, so that nobody fills Redis by making a thinker ramble or an editor explain itself.
_MAX_REFINED_BYTES: Final = 8 * 1024
"""Of a refined instruction, unless the caller's own is longer; the paper's thinker writes 100 to 1,000 bytes."""
_MAX_REASONING_BYTES: Final = 8 * 1024
_MAX_REPLY_BYTES: Final = 16 * 1024
"""Of a reply that is kept for training: 2,048 tokens, the default of a thinker, are 8 to 10 KiB of English."""
_MAX_TEXT_BYTES: Final = 1024
"""Of an error's message, a checklist's question and the reason of an answer, each."""
_MAX_TIMINGS: Final = 32
_MAX_TIMING_NAME: Final = 64
_GRACE_S: Final = 1.0
"""Added to a call's timeout. The driver stops its jobs at the deadline; a call that timed out at the same moment would be
cancelled twice, its connection would stay open, and the editor would go on working."""


@dataclass(frozen=True, slots=True)
class Performer:
    """Performs the jobs of all sessions with the editors, thinkers and judges by their configured names.

    Attributes:
        judges: those that are no thinkers.
        edit_s: seconds that an edit currently takes at an editor; 0 while that is not known.
        prompt_tokens: how many tokens of an instruction an editor reads; None while that is not known.
        decoder: scales the results.
        preparers: rewrite instructions; the thinkers can, too.
        made: is handed each picture that was made, with its tenant.
    """

    editors: Mapping[str, Editor]
    thinkers: Mapping[str, Thinker]
    blobs: Blobs
    clock: Clock
    edit_s: Callable[[str], float] = lambda _: 0.0
    prompt_tokens: Callable[[str], int | None] = lambda _: None
    decoder: DecodePool = field(default_factory=DecodePool)
    preparers: Mapping[str, Preparer] = field(default_factory=dict)
    judges: Mapping[str, Judge | Comparer] = field(default_factory=dict)
    made: Callable[[str, bytes], None] = lambda _tenant, _data: None

    async def perform(
        self,
        session_id: str,
        session: Session,
        job: Job,
        usage: EditorUsage,
        *,
        resumed: bool = False,
        report: Callable[[ev.Event], None] = lambda _: None,
    ) -> ev.Event:
        """Carry the job out and return its outcome event.

        Args:
            session_id: the session of the job.
            session: its state.
            job: what to do.
            usage: gets the editor time of an edit while it runs, so that it is known if the edit is cancelled.
            resumed: whether an earlier driver started it.
            report: is handed what happens before the outcome.
        """
        if isinstance(job, EditJob):
            previewed = partial(self._previewed, session_id, job, report) if wants_preview(session, job.turn) else None
            return await self._edit(session_id, session, job, usage, previewed, resumed=resumed)
        if isinstance(job, PrepareJob):
            return await self._prepare(session_id, session, job)
        if isinstance(job, ChecklistJob):
            return await self._checklist(session_id, session, job)
        if isinstance(job, CompareJob):
            return await self._compare(session_id, session, job)
        if isinstance(job, RefineJob):
            return await self._refine(session_id, session, job)
        if isinstance(job, PreviewJob):
            return await self._critique_preview(session_id, session, job)
        return await self._critique(session_id, session, job)

    async def _prepare(self, session_id: str, session: Session, job: PrepareJob) -> ev.Prepared | ev.PrepareFailed:
        began = self.clock.now()
        created = session.created
        tokens = self.prompt_tokens(created.editor)
        left_s = prepare_until(session, self.edit_s(created.editor)) - began
        try:
            if left_s <= 0:
                raise PortError("thinker_timeout", "the time that is left is for the edits")
            order = PrepareOrder(
                self._stored(session_id, created.source),
                created.instruction,
                left_s,
                created.tenant,
                self._all_stored(session_id, created.references),
                self._mask(session_id, created),
                tokens,
            )
            reply = await self._preparer(created.preparer or "").prepare(order)
            _check_length(reply.instruction, created.instruction, tokens)
        except PortError as exc:
            return ev.PrepareFailed(**self._failure(job, exc, began))
        now = self.clock.now()
        seconds = max(0.0, now - began)
        return ev.Prepared(
            at=now, instruction=reply.instruction, thinker=reply.thinker, thinker_seconds=seconds, **_tokens(reply.usage)
        )

    def _preparer(self, name: str) -> Preparer:
        found = self.preparers[name] if name in self.preparers else _named(self.thinkers, name, "thinker")
        if not isinstance(found, Preparer):
            raise PortError("thinker_misconfigured", f"the thinker {name!r} does not rewrite instructions")
        return found

    async def _previewed(self, session_id: str, job: EditJob, report: Callable[[ev.Event], None], image: CheckedImage) -> None:
        """Store and report an unfinished picture; an edit goes on without one that cannot be stored."""
        try:
            await self._store(session_id, image)
        except PortError as exc:
            log.warning("an unfinished picture of session %s was not stored: %s", session_id, exc.message)
            return
        report(ev.Previewed(at=self.clock.now(), turn=job.turn, candidate=job.candidate, image=image_ref(image)))

    async def _edit(
        self,
        session_id: str,
        session: Session,
        job: EditJob,
        usage: EditorUsage,
        previewed: Callable[[CheckedImage], Awaitable[None]] | None,
        *,
        resumed: bool,
    ) -> ev.Edited | ev.EditFailed:
        try:
            order = self._edit_order(session_id, session, job, previewed, resumed=resumed)
            reply = await _named(self.editors, session.created.editor, "editor").edit(order, usage)
            await self._store(session_id, reply.image)
            if reply.origin.manifest is not None:
                await self._store(session_id, reply.origin.manifest)
            if not reply.unchanged:
                self.made(session.created.tenant, reply.image.data)
        except PortError as exc:
            return ev.EditFailed(
                at=self.clock.now(),
                turn=job.turn,
                candidate=job.candidate,
                attempt=job.attempt,
                code=exc.code,
                message=cut(exc.message, _MAX_TEXT_BYTES),
                retryable=exc.retryable,
                editor_seconds=usage.seconds,
            )
        now = self.clock.now()
        return ev.Edited(
            at=now,
            turn=job.turn,
            candidate=job.candidate,
            image=image_ref(reply.image),
            # A replay reports work that our clock did not measure; it cannot be older than the session.
            editor_seconds=min(usage.seconds, max(0.0, now - session.created.at)) if reply.replayed else usage.seconds,
            timings=_bounded_timings(reply.timings),
            repeated=resumed and not reply.replayed,
            editor=reply.editor,
            outside_mask=reply.outside_mask,
            alpha=reply.alpha,
            unchanged=reply.unchanged,
            not_understood=reply.not_understood,
            trained=reply.trained,
            carried=reply.origin.carried,
        )

    def _edit_order(
        self,
        session_id: str,
        session: Session,
        job: EditJob,
        previewed: Callable[[CheckedImage], Awaitable[None]] | None,
        *,
        resumed: bool,
    ) -> EditOrder:
        created, now = session.created, self.clock.now()
        former = improves(session, ev.CandidateRef(turn=job.turn, candidate=job.candidate))
        # A resumed edit may be finished already at the editor.
        start_s = math.inf if resumed else latest_start(session, self.edit_s(created.editor), draft=job.draft) - now
        return EditOrder(
            source=self._stored(session_id, created.source),
            mask=self._mask(session_id, created),
            instruction=job.instruction,
            seed=job.seed,
            key=f"{session_id}/{job.key}",
            timeout_s=created.limits.deadline_at - now + _GRACE_S,
            start_s=start_s,
            session_id=session_id,
            tenant=created.tenant,
            options=created.editor_options,
            later=job.turn > 1,
            references=self._all_stored(session_id, created.references),
            fit=created.fit,
            alpha=created.alpha,
            boxes=former.places if former else (),
            draft=job.draft,
            on_preview=previewed,
        )

    async def _critique(self, session_id: str, session: Session, job: CritiqueJob | VerifyJob) -> ev.Event:
        began = self.clock.now()
        number = job.number if isinstance(job, VerifyJob) else 1
        try:
            moved = await self._outside_places(session_id, session, job)
            reply = await self._request_critique(session_id, session, job, number, moved)
        except PortError as exc:
            failed = ev.VerifyFailed if isinstance(job, VerifyJob) else ev.CritiqueFailed
            return failed(turn=job.turn, candidate=job.candidate, **self._failure(job, exc, began))
        now = self.clock.now()
        outcome = ev.Verified if isinstance(job, VerifyJob) else partial(ev.Critiqued, outside_places=moved)
        # The next instruction is the thinker's to write; it is asked for it once one is needed.
        refined = reply.refined_instruction if session.created.scorer == session.created.thinker else None
        return outcome(
            at=now,
            turn=job.turn,
            candidate=job.candidate,
            semantic=reply.semantic,
            quality=reply.quality,
            reasoning=cut(reply.reasoning, _MAX_REASONING_BYTES),
            instruction=_bounded_instruction(refined, session.created.instruction),
            answers=tuple(answer.model_copy(update={"reason": cut(answer.reason, _MAX_TEXT_BYTES)}) for answer in reply.answers),
            places=reply.places,
            samples=reply.samples,
            semantic_spread=reply.semantic_spread,
            quality_spread=reply.quality_spread,
            thinker=reply.thinker,
            repaired=reply.repaired,
            **_for_training(session.created, reply),
            thinker_seconds=max(0.0, now - began),
            **_tokens(reply.usage),
        )

    async def critique_prompt(
        self, session_id: str, before: Session, event: ev.Critiqued | ev.Verified | ev.Refined
    ) -> CritiquePrompt:
        """The request that a critique answered, made again.

        Args:
            session_id: the session of the critique.
            before: its state before the critique was recorded.
            event: the critique.

        Raises:
            PortError: ``thinker_misconfigured`` where the model is not configured any more, or its critiques are not one
                request; ``session_unreadable`` for a critique of no candidate.
        """
        created, ref = before.created, ev.CandidateRef(turn=event.turn, candidate=event.candidate)
        candidate = before.candidate(ref)
        if candidate is None or candidate.image is None:
            raise PortError("session_unreadable", f"turn {ref.turn} has no image of candidate {ref.candidate}")
        moved = event.outside_places if isinstance(event, ev.Critiqued) else candidate.outside_places
        scores = candidate.scores if isinstance(event, ev.Refined) else None
        judgement = Judgement(scores.semantic, scores.quality, candidate.reasoning) if scores else None
        job = RefineJob(ref.turn, ref.candidate, 1, before.turns[ref.turn - 1].instruction, candidate.image)
        order = self._order(session_id, before, job, judgement=judgement, moved=moved)
        name = created.thinker if isinstance(event, ev.Refined) else created.scorer
        model = self._judge(name)
        if not isinstance(model, Prompting):
            raise PortError("thinker_misconfigured", f"the critiques of {name!r} are not one request")
        return await model.critique_prompt(order, event.thinker)

    async def _request_critique(
        self,
        session_id: str,
        session: Session,
        shown: CritiqueJob | VerifyJob | PreviewJob | None,
        number: int,
        moved: ev.OutsideMask | None = None,
    ) -> CritiqueReply:
        """The judge's critique of a candidate, or of the source as if it were one (None)."""
        name = session.created.scorer
        judge = self._judge(name)
        if not isinstance(judge, Judge):
            # It did when the session began.
            raise PortError("thinker_unreachable", f"the judge {name!r} does not score pictures on this replica", retryable=False)
        return await judge.critique(self._order(session_id, session, shown, number, moved=moved))

    async def _critique_preview(
        self, session_id: str, session: Session, job: PreviewJob
    ) -> ev.PreviewCritiqued | ev.PreviewFailed:
        began = self.clock.now()
        try:
            reply = await self._request_critique(session_id, session, job, 1)
        except PortError as exc:
            return ev.PreviewFailed(turn=job.turn, candidate=job.candidate, **self._failure(job, exc, began))
        now = self.clock.now()
        refined = reply.refined_instruction if session.created.scorer == session.created.thinker else None
        return ev.PreviewCritiqued(
            at=now,
            turn=job.turn,
            candidate=job.candidate,
            semantic=reply.semantic,
            quality=reply.quality,
            instruction=_bounded_instruction(refined, session.created.instruction),
            thinker=reply.thinker,
            thinker_seconds=max(0.0, now - began),
            **_tokens(reply.usage),
        )

    def _order(
        self,
        session_id: str,
        session: Session,
        shown: CritiqueJob | VerifyJob | RefineJob | PreviewJob | None,
        number: int = 1,
        judgement: Judgement | None = None,
        moved: ev.OutsideMask | None = None,
    ) -> CritiqueOrder:
        created = session.created
        candidate = session.candidate(ev.CandidateRef(turn=shown.turn, candidate=shown.candidate)) if shown else None
        return CritiqueOrder(
            source=self._stored(session_id, created.source),
            candidate=self._stored(session_id, shown.image if shown else created.source),
            instruction=created.instruction,
            turn_instruction=shown.instruction if shown else created.instruction,
            timeout_s=created.limits.deadline_at - self.clock.now() + _GRACE_S,
            questions=session.checklist.questions,
            tenant=created.tenant,
            references=self._all_stored(session_id, created.references),
            mask=self._mask(session_id, created),
            outside_mask=candidate.outside_mask if candidate else None,
            prompt_tokens=self.prompt_tokens(created.editor),
            number=number,
            outside_places=moved,
            judgement=judgement,
        )

    async def _refine(self, session_id: str, session: Session, job: RefineJob) -> ev.Refined | ev.RefineFailed:
        began, created = self.clock.now(), session.created
        candidate = session.candidate(ev.CandidateRef(turn=job.turn, candidate=job.candidate))
        scores = candidate.scores if candidate else None
        try:
            judgement = Judgement(scores.semantic, scores.quality, candidate.reasoning) if candidate and scores else None
            moved = candidate.outside_places if candidate else None
            order = self._order(session_id, session, job, judgement=judgement, moved=moved)
            reply = await _named(self.thinkers, created.thinker, "thinker").critique(order)
        except PortError as exc:
            return ev.RefineFailed(turn=job.turn, candidate=job.candidate, **self._failure(job, exc, began))
        now = self.clock.now()
        return ev.Refined(
            at=now,
            turn=job.turn,
            candidate=job.candidate,
            instruction=_bounded_instruction(reply.refined_instruction, created.instruction),
            reasoning=cut(reply.reasoning, _MAX_REASONING_BYTES),
            thinker=reply.thinker,
            repaired=reply.repaired,
            **_for_training(created, reply),
            thinker_seconds=max(0.0, now - began),
            **_tokens(reply.usage),
        )

    def _judge(self, name: str) -> Judge | Comparer:
        return self.judges[name] if name in self.judges else _named(self.thinkers, name, "judge")

    async def _outside_places(self, session_id: str, session: Session, job: CritiqueJob | VerifyJob) -> ev.OutsideMask | None:
        """How a candidate differs from the one that it was to improve, outside of the places that were pointed at there.

        None, and a log record, where it cannot be measured: a critique without it is better than none.
        """
        ref = ev.CandidateRef(turn=job.turn, candidate=job.candidate)
        known, former = session.candidate(ref), improves(session, ref)
        if known is not None and known.critiques:
            return known.outside_places
        if former is None or known is None or former.image is None or former.draft != known.draft:
            return None
        if not nearly((former.image.width, former.image.height), (job.image.width, job.image.height)):
            return None
        boxes = [(place.left, place.top, place.right, place.bottom) for place in former.places]
        before, after = await self._load(session_id, former.image.sha256), await self._load(session_id, job.image.sha256)
        try:
            mask = await asyncio.to_thread(lambda: encode(of_boxes(boxes), "png"))
            found = await self.decoder.outside(before, mask, after, param="the candidate", tenant=session.created.tenant)
        except ApiError as exc:
            log.warning("what a candidate of session %s changed was not measured: %s", session_id, exc.message)
            return None
        return None if found is None else ev.OutsideMask(changed=found.changed, difference=found.difference)

    async def _compare(self, session_id: str, session: Session, job: CompareJob) -> ev.Compared | ev.CompareFailed:
        began = self.clock.now()
        choosing = session.created.choosing
        try:
            judge = self._judge(session.created.comparer)
            if choosing and choosing.compares and isinstance(judge, Comparer):
                told = await self._compare_pair(session_id, session, job, judge)
            else:
                told = await self._compare_scores(session_id, session, job)
        except PortError as exc:
            return ev.CompareFailed(first=job.first, second=job.second, **self._failure(job, exc, began))
        now = self.clock.now()
        return told.model_copy(update={"at": now, "thinker_seconds": max(0.0, now - began)})

    async def _compare_pair(self, session_id: str, session: Session, job: CompareJob, judge: Comparer) -> ev.Compared:
        created = session.created
        first, second = _picture(session, job.first), _picture(session, job.second)
        order = CompareOrder(
            source=self._stored(session_id, created.source),
            first=self._stored(session_id, first),
            second=self._stored(session_id, second),
            instruction=created.instruction,
            timeout_s=created.limits.deadline_at - self.clock.now() + _GRACE_S,
            tenant=created.tenant,
            references=self._all_stored(session_id, created.references),
            mask=self._mask(session_id, created),
        )
        reply = await judge.compare(order)
        return ev.Compared(
            at=0.0,
            first=job.first,
            second=job.second,
            winner=reply.winner,
            by="pair",
            reasoning=cut(reply.reasoning, _MAX_REASONING_BYTES),
            thinker=reply.thinker,
            **_tokens(reply.usage),
        )

    async def _compare_scores(self, session_id: str, session: Session, job: CompareJob) -> ev.Compared:
        """The score of a candidate against that of the untouched source."""
        if job.second is not None:
            # Between candidates, further critiques decide instead; a session that began with another judge may still ask.
            raise PortError("thinker_unreachable", "this judge does not compare two pictures", retryable=False)
        reply = await self._request_critique(session_id, session, None, 1)
        known = session.candidate(job.first)
        scores = known.scores if known else None
        nothing = math.sqrt(reply.semantic * reply.quality)
        gap = (scores.overall if scores else 0.0) - nothing
        return ev.Compared(
            at=0.0,
            first=job.first,
            second=None,
            winner="first" if gap > 0 else "second" if gap < 0 else "tie",
            by="scores",
            reasoning=cut(reply.reasoning, _MAX_REASONING_BYTES),
            thinker=reply.thinker,
            **_tokens(reply.usage),
        )

    async def _checklist(self, session_id: str, session: Session, job: ChecklistJob) -> ev.ChecklistMade | ev.ChecklistFailed:
        began = self.clock.now()
        created = session.created
        try:
            timeout_s = created.limits.deadline_at - began + _GRACE_S
            order = ChecklistOrder(
                self._stored(session_id, created.source),
                created.instruction,
                timeout_s,
                created.tenant,
                self._all_stored(session_id, created.references),
                self._mask(session_id, created),
            )
            judge = self._judge(created.scorer)
            if not isinstance(judge, Judge):
                raise PortError("thinker_unreachable", f"the judge {created.scorer!r} writes no checklist on this replica")
            reply = await judge.checklist(order)
        except PortError as exc:
            return ev.ChecklistFailed(**self._failure(job, exc, began))
        now = self.clock.now()
        seconds = max(0.0, now - began)
        questions = tuple(
            question.model_copy(update={"text": cut(question.text, _MAX_TEXT_BYTES)}) for question in reply.questions
        )
        return ev.ChecklistMade(at=now, questions=questions, thinker_seconds=seconds, **_tokens(reply.usage))

    async def scaled(
        self, session_id: str, session: Session, results: Sequence[ev.CandidateRef]
    ) -> tuple[ev.ImageRef | None, ...]:
        """For each result whose picture is to be larger: that picture, scaled and stored. Repeating it stores the same again."""
        made: dict[str, ev.ImageRef | None] = {}
        for ref in results:
            image = _unscaled(session, ref)
            if image is not None and image.sha256 not in made:
                made[image.sha256] = await self._scaled(session_id, session.created, image)
        images = [_unscaled(session, ref) for ref in results]
        return tuple(None if image is None else made[image.sha256] for image in images)

    async def _scaled(self, session_id: str, created: ev.SessionCreated, image: ev.ImageRef) -> ev.ImageRef | None:
        """None, and a log record, if it fails: a small picture is a better answer than none."""
        width, height = _answer_size(created)
        try:
            data = await self._load(session_id, image.sha256)
            data = await self.decoder.resize(data, (width, height), param="the result", tenant=created.tenant)
            scaled = await asyncio.to_thread(CheckedImage.hashed, data, ImageInfo("image/png", width, height))
            await self._store(session_id, scaled)
            self.made(created.tenant, scaled.data)
        except (PortError, ApiError) as exc:
            log.warning("a result of session %s keeps its size: %s", session_id, exc.message)
            return None
        return image_ref(scaled)

    def _failure(self, job: Job, exc: PortError, began: float) -> dict[str, Any]:
        """The fields that the events of both failures share."""
        now = self.clock.now()
        failure = {"code": exc.code, "message": cut(exc.message, _MAX_TEXT_BYTES), "retryable": exc.retryable}
        return {"at": now, "attempt": job.attempt, "thinker_seconds": max(0.0, now - began), **failure}

    def _stored(self, session_id: str, ref: ev.ImageRef) -> StoredImage:
        return StoredImage(ref, lambda: self._load(session_id, ref.sha256))

    def _all_stored(self, session_id: str, refs: Iterable[ev.ImageRef]) -> tuple[StoredImage, ...]:
        return tuple(self._stored(session_id, ref) for ref in refs)

    def _mask(self, session_id: str, created: ev.SessionCreated) -> StoredImage | None:
        return self._stored(session_id, created.mask) if created.mask else None

    async def _load(self, session_id: str, sha256: str) -> bytes:
        try:
            return await self.blobs.get(session_id, sha256)
        except StorageUnavailableError:
            return await _STORAGE_RETRIES(StorageUnavailableError, self.blobs.get, session_id, sha256)

    async def _store(self, session_id: str, image: Blob) -> None:
        try:
            await self.blobs.put(session_id, image)
        except StorageUnavailableError:
            await _STORAGE_RETRIES(StorageUnavailableError, self.blobs.put, session_id, image)


def needs_scaling(session: Session, results: Iterable[ev.CandidateRef]) -> bool:
    """Whether the picture of one of these results is to be larger."""
    return any(_unscaled(session, ref) for ref in results)


def _unscaled(session: Session, ref: ev.CandidateRef) -> ev.ImageRef | None:
    """A result's picture, if it has the answer's shape and not its size."""
    candidate = session.candidate(ref)
    image = candidate.image if candidate else None
    if image is None or not enlarges((image.width, image.height), _answer_size(session.created)):
        return None
    return image


def _answer_size(created: ev.SessionCreated) -> tuple[int, int]:
    return pixels_of(str(created.editor_options.get("size", "auto"))) or (created.source.width, created.source.height)


def _picture(session: Session, ref: ev.CandidateRef | None) -> ev.ImageRef:
    """A candidate's picture; the source for None."""
    candidate = session.candidate(ref) if ref else None
    return candidate.image if candidate and candidate.image else session.created.source


def cut(text: str, most_bytes: int) -> str:
    """A text of at most so many UTF-8 bytes, and an ellipsis where it was cut."""
    raw = text.encode()
    return text if len(raw) <= most_bytes else f"{raw[: most_bytes - 3].decode('utf-8', 'ignore')}…"


def _bounded_instruction(refined: str | None, given: str) -> str | None:
    """A refined instruction; None, which keeps the turn's, for one that is too long: half of one asks for other things."""
    most_bytes = max(_MAX_REFINED_BYTES, len(given.encode()))
    return None if refined is None or len(refined.encode()) > most_bytes else refined


def _check_length(rewritten: str, given: str, tokens: int | None) -> None:
    """Refuse an instruction that the editor would refuse, or a session's log would: the caller's own is better than its half."""
    # Every word is a token at least. What is too long in spite of that is the editor's to refuse.
    words, size, most = len(rewritten.split()), len(rewritten.encode()), max(_MAX_REFINED_BYTES, len(given.encode()))
    if tokens is not None and words > tokens:
        message = f"the rewritten instruction has {words:,} words, and the editor reads {tokens:,} tokens"
        raise PortError("thinker_bad_reply", message)
    if size > most:
        raise PortError("thinker_bad_reply", f"the rewritten instruction has {size:,} bytes, and may have {most:,}")


def _bounded_timings(timings: Mapping[str, float]) -> dict[str, float]:
    named = ((name, seconds) for name, seconds in timings.items() if len(name) <= _MAX_TIMING_NAME)
    return dict(itertools.islice(named, _MAX_TIMINGS))


def _tokens(usage: Usage) -> dict[str, Any]:
    return dataclasses.asdict(usage)


def _for_training(created: ev.SessionCreated, reply: CritiqueReply) -> dict[str, Any]:
    """What an event keeps of a reply in sessions that may be used for training."""
    if created.training is None or not reply.text or reply.prompt is None or len(reply.text.encode()) > _MAX_REPLY_BYTES:
        return {}
    return {"reply": reply.text, "prompt": reply.prompt}


def _named(roles: Mapping[str, _Role], name: str, role: str) -> _Role:
    if name not in roles:
        code = "editor_unreachable" if role == "editor" else "thinker_unreachable"
        raise PortError(code, f"the {role} {name!r} is not configured on this replica")
    return roles[name]
