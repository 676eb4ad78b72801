"""Client of a judge that only gives scores, over the same chat completions as `orchestrator.upstreams.thinker`.

Two requests make a critique: how well the instruction was followed, and how sound the picture is. It has no refined instruction,
so a session whose thinker it is tries the same instruction with other seeds.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.ports.collaborators import ChecklistOrder, ChecklistReply, CritiqueOrder, CritiqueReply
from orchestrator.ports.errors import ThinkerError
from orchestrator.upstreams.chat import ChatModel
from orchestrator.upstreams.constraint_probe import AUTO, ConstraintProbe
from orchestrator.upstreams.http import HttpUpstream
from orchestrator.upstreams.liveness import Patience
from orchestrator.upstreams.reply_contract import EncodedSources, ReplyContract
from orchestrator.upstreams.scaling import Pictures
from orchestrator.upstreams.thinker import AGAIN_TEMPERATURE, MAX_REASONING, strayed
from services.imaging.decode_pool import DecodePool
from services.protocol.critique.constraints import Constraint
from services.protocol.critique.digit import FIX
from services.protocol.critique.messages import Extras, messages
from services.protocol.critique.prompts import Template
from services.protocol.critique.score_formats import ScoreFormat, quality_messages
from services.protocol.critique.scores import Rating

_UNKNOWN_FIELD: Final = frozenset({400, 422, 501})


@dataclass(frozen=True, slots=True)
class ScoreDialect:
    """How to send requests to a judge that only gives scores; fields as in `orchestrator.upstreams.thinker.Dialect`.

    Attributes:
        template: the prompt of the first request, about the instruction.
        quality: the prompt of the second request, about the picture.
    """

    model: str
    format: ScoreFormat
    template: Template
    quality: str
    constraint: Constraint | str
    sampling: Mapping[str, Any]
    samples: int = 1
    max_pixels: int | None = None


class HttpScorer:
    """`orchestrator.ports.collaborators.Thinker` that gives scores, and no refined instruction.

    Args:
        upstream, dialect, on_reply, decoder: as for `orchestrator.upstreams.thinker.HttpThinker`.
    """

    def __init__(
        self,
        upstream: HttpUpstream,
        dialect: ScoreDialect,
        on_reply: Callable[[str], None] = lambda _: None,
        decoder: DecodePool | None = None,
    ) -> None:
        self._dialect = dialect
        self._chat = ChatModel(upstream, dialect.model, dialect.sampling, on_reply)
        constraint = "none" if dialect.constraint == AUTO and not dialect.format.constrained else dialect.constraint
        self._probe = ConstraintProbe(constraint, dialect.format.reply_format)
        self._pictures = Pictures(dialect.max_pixels, decoder or DecodePool())
        self._sources = EncodedSources()

    async def ready(self) -> bool:
        """Whether the judge accepts requests now."""
        return await self._chat.ready()

    @property
    def is_open(self) -> bool:
        """Whether it has stopped answering, and is not asked now."""
        return self._chat.is_open

    async def critique(self, order: CritiqueOrder, patience: Patience | None = None) -> CritiqueReply:
        """The scores of one candidate: the means of the samples that could be read. The refined instruction is None.

        Raises:
            ThinkerError: when the server fails, or a reply and the repaired one hold no score (``thinker_bad_reply``,
                ``thinker_refused``).
        """
        patience = patience or Patience.of(order.timeout_s)
        shown = await self._pictures.of_session(
            order.source, order.references, order.mask, order.tenant, candidate=order.candidate
        )
        candidate = await self._pictures.fit(order.candidate, order.tenant)
        extras = Extras(
            len(order.references),
            order.mask is not None,
            strayed=strayed(order.outside_mask),
            moved=strayed(order.outside_places),
        )

        def followed(urls: Sequence[str]) -> list[dict[str, Any]]:
            return messages(order.instruction, order.turn_instruction, self._dialect.template, urls=urls, extras=extras)

        def sound(urls: Sequence[str]) -> list[dict[str, Any]]:
            return quality_messages(self._dialect.quality, urls[0])

        sampling, form = self._sampling(order.number), self._dialect.format.reply_format
        asked = (
            ReplyContract(form, followed, [*shown, candidate], self._sources, sampling),
            ReplyContract(form, sound, [candidate], self._sources, sampling),
        )
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._chat.ask(contract, self._probe, patience, self._dialect.samples))
                    for contract in asked
                ]
        except ExceptionGroup as failed:
            # Of two failures either says why there is no critique; what is no failure of the judge comes first.
            errors = sorted(failed.exceptions, key=lambda exc: isinstance(exc, ThinkerError))
            raise self._explained(errors[0]) from None
        (semantic, used, repaired, _), (quality, more, also, _) = (task.result() for task in tasks)
        return CritiqueReply(
            round(statistics.fmean(rating.score for rating in semantic), 3),
            round(statistics.fmean(rating.score for rating in quality), 3),
            f"Instruction: {_reasons(semantic)}\nPicture: {_reasons(quality)}"[:MAX_REASONING],
            None,
            usage=used + more,
            samples=min(len(semantic), len(quality)),
            semantic_spread=_spread(semantic),
            quality_spread=_spread(quality),
            repaired=repaired or also,
        )

    async def checklist(self, order: ChecklistOrder, patience: Patience | None = None) -> ChecklistReply:  # noqa: ARG002
        """Nothing: a judge that only gives scores writes no questions.

        Raises:
            ThinkerError: always.
        """
        raise ThinkerError("thinker_misconfigured", f"the format {self._dialect.format.name} writes no checklist", kind="refused")

    def _sampling(self, number: int) -> dict[str, Any]:
        """The fields of a request that are not as configured."""
        fields = dict(self._dialect.format.request)
        if "max_tokens" in fields and "max_completion_tokens" in self._dialect.sampling:
            fields["max_completion_tokens"] = fields.pop("max_tokens")
        greedy = self._dialect.sampling.get("temperature") == 0
        if self._dialect.format.sampled and greedy and number > 1:
            fields["temperature"] = AGAIN_TEMPERATURE
        return fields

    def _explained(self, error: Exception) -> Exception:
        """The error; with the fix where a server refuses the field ``logprobs``."""
        refused = isinstance(error, ThinkerError) and error.status in _UNKNOWN_FIELD and "logprob" in error.message.lower()
        if refused and "logprobs" in self._dialect.format.request:
            return ThinkerError("thinker_misconfigured", f"{FIX}. It said: {error}", kind="refused", status=error.status)  # type: ignore[attr-defined]
        return error


def _reasons(ratings: Sequence[Rating]) -> str:
    """The words and marks of the rating that is closest to the mean."""
    middle = statistics.fmean(rating.score for rating in ratings)
    rating = min(ratings, key=lambda each: abs(each.score - middle))
    marks = ", ".join(f"{mark:g}" for mark in rating.marks)
    return f"[{marks}] {rating.reasoning}".strip() if marks else rating.reasoning


def _spread(ratings: Sequence[Rating]) -> float:
    return round(statistics.pstdev([rating.score for rating in ratings]), 3) if len(ratings) > 1 else 0.0
