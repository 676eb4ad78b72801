"""Client of any OpenAI ``POST /v1/chat/completions`` server that takes images: vLLM, or an expert model by URL."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from orchestrator.loop.events import ChecklistAnswer, ChecklistQuestion
from orchestrator.ports.collaborators import ChecklistOrder, ChecklistReply, CritiqueOrder, CritiqueReply, Usage
from orchestrator.ports.errors import ThinkerError
from orchestrator.upstreams.constraint_probe import ConstraintProbe
from orchestrator.upstreams.http import Call, HttpUpstream
from orchestrator.upstreams.liveness import Patience
from orchestrator.upstreams.reply_contract import EncodedSources, ReplyContract
from orchestrator.upstreams.scaling import Pictures
from services.imaging.decode_pool import DecodePool
from services.protocol.critique.constraints import Constraint
from services.protocol.critique.formats import QUESTIONS, Format
from services.protocol.critique.messages import Critique, Extras, Strayed, Unparseable, messages, questions_messages
from services.protocol.critique.prompts import Template
from services.protocol.critique.questions import Question
from services.protocol.critique.replies import Reply, read_completions
from services.protocol.critique.special_tokens import without_tokens
from services.serving import tracing

_MAX_REASONING: Final = 8_000
"""Characters of reasoning that are stored, so that a rambling thinker does not fill the session store."""
_CUT: Final = frozenset({"length", "content_filter"})
"""Reasons to end a reply before its form is complete."""
_NOT_RETRYABLE: Final = frozenset({"instruction_too_long"})
_AGAIN_TEMPERATURE: Final = 0.7
"""Of a further critique by a thinker that is asked at temperature 0, where it would repeat itself (EditScore samples at 0.7)."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How to send requests to a thinker.

    Attributes:
        model: the server's name for the model.
        format: of its critiques.
        template: the prompt.
        constraint: the one that the server enforces on its replies; ``auto`` finds it by trying.
        sampling: further fields of the request (temperature, max_tokens …), sent unchanged.
        samples: critiques of each candidate; the mean of their scores counts.
        max_pixels: larger pictures are scaled down to it before they are sent; None sends them unchanged.
    """

    model: str
    format: Format
    template: Template
    constraint: Constraint | str = "none"
    sampling: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 0, "max_tokens": 2048})
    samples: int = 1
    max_pixels: int | None = None


class HttpThinker:
    """`orchestrator.ports.collaborators.Thinker` over chat completions.

    Args:
        upstream: where to post.
        dialect: how to send requests.
        decoder: scales pictures; one of its own if absent.
        on_reply: called with the outcome of each reply: ``ok``, ``unconstrained``, or why it could not be read.
    """

    def __init__(
        self,
        upstream: HttpUpstream,
        dialect: Dialect,
        on_reply: Callable[[str], None] = lambda _: None,
        decoder: DecodePool | None = None,
    ) -> None:
        self._upstream = upstream
        self._dialect = dialect
        self._on_reply = on_reply
        self._critiques = ConstraintProbe(dialect.constraint, dialect.format.bind())
        self._checklists = ConstraintProbe(dialect.constraint, QUESTIONS)
        self._pictures = Pictures(dialect.max_pixels, decoder or DecodePool())
        self._sources = EncodedSources()

    async def ready(self) -> bool:
        """Whether the thinker accepts requests now."""
        return await self._upstream.ready()

    @property
    def is_open(self) -> bool:
        """Whether it has stopped answering, and is not asked now."""
        return self._upstream.health.is_open

    async def critique(self, order: CritiqueOrder, patience: Patience | None = None) -> CritiqueReply:
        """The critique of one candidate: the mean of the samples that could be read.

        Raises:
            ThinkerError: when the server fails, or neither its reply nor the repaired one holds a usable critique
                (``thinker_bad_reply``, ``thinker_refused``).
        """
        patience = patience or Patience.of(order.timeout_s)
        questions = tuple(Question(question.kind, question.text) for question in order.questions)
        pictures = await self._pictures.of_session(
            order.source, order.references, order.mask, order.tenant, candidate=order.candidate
        )
        pictures.append(await self._pictures.fit(order.candidate, order.tenant))
        outside = order.outside_mask
        strayed = None if outside is None else Strayed(outside.changed, outside.difference)
        extras = Extras(len(order.references), order.mask is not None, strayed, order.prompt_tokens, order.judgement)
        template = self._dialect.template

        def build(urls: Sequence[str]) -> list[dict[str, Any]]:
            return messages(order.instruction, order.turn_instruction, template, urls=urls, questions=questions, extras=extras)

        greedy = self._dialect.sampling.get("temperature") == 0
        sampling = {"temperature": _AGAIN_TEMPERATURE} if order.number > 1 and greedy else {}
        contract = ReplyContract(self._dialect.format.bind(questions), build, pictures, self._sources, sampling)
        # Only its instruction counts where another judge has scored.
        samples = 1 if order.judgement else self._dialect.samples
        critiques, usage, repaired = await self._request(contract, self._critiques, patience, samples)
        return replace(_mean(critiques), usage=usage, repaired=repaired)

    async def checklist(self, order: ChecklistOrder, patience: Patience | None = None) -> ChecklistReply:
        """The questions of a session.

        Raises:
            ThinkerError: as `critique`.
        """
        patience = patience or Patience.of(order.timeout_s)
        pictures = await self._pictures.of_session(order.source, order.references, order.mask, order.tenant)
        extras = Extras(len(order.references), order.mask is not None)

        def build(urls: Sequence[str]) -> list[dict[str, Any]]:
            return questions_messages(order.instruction, self._dialect.template, urls=urls, extras=extras)

        contract = ReplyContract(QUESTIONS, build, pictures, self._sources)
        (questions, *_), usage, _ = await self._request(contract, self._checklists, patience, 1)
        return ChecklistReply(tuple(ChecklistQuestion(kind=each.kind, text=each.text) for each in questions), usage)

    async def _request(
        self, contract: ReplyContract[_T], probe: ConstraintProbe, patience: Patience, samples: int
    ) -> tuple[list[_T], Usage, bool]:
        """What the replies hold, the tokens used, and whether it took a second, repairing request."""
        replies, usage = await self._complete(contract, probe, patience, samples)
        usable: list[_T] = []
        failures: list[Unparseable] = []
        for reply in replies:
            result = self._parse(contract, reply)
            if isinstance(result, Unparseable):
                failures.append(result)
            else:
                usable.append(result)
        if usable:
            return usable, usage, False
        # A reply without a message has no text to show.
        first = replies[0]
        shown = first.content or first.reasoning if isinstance(first, Reply) else ""
        repair = contract.repair(shown, failures[0])
        replies, more = await self._complete(repair, probe, patience, 1)
        result = self._parse(contract, replies[0])
        if isinstance(result, Unparseable):
            raise _unreadable(result)
        return [result], usage + more, True

    async def _complete(
        self, contract: ReplyContract[Any], probe: ConstraintProbe, patience: Patience, samples: int
    ) -> tuple[list[Reply | Unparseable], Usage]:
        """The replies of one request, under the constraint that the server is known, or found, to enforce."""
        refusals: dict[Constraint, ThinkerError] = {}
        for kind in probe.kinds():
            try:
                completion = await self._post(contract, kind, samples, patience)
            except ThinkerError as exc:
                if not probe.may_be_refused(kind, exc):
                    raise
                refusals[kind] = exc
                continue
            probe.refused(refusals)
            replies = list(read_completions(completion, samples))
            proofs = [reply for reply in replies if _is_whole(reply)]
            enforced = all(isinstance(reply, Reply) and contract.format.conforms(reply, kind) for reply in proofs)
            if proofs and not probe.observed(kind, enforced=enforced) and kind != "none":
                self._on_reply("unconstrained")
            return replies, _usage(completion)
        raise AssertionError("the last kind is none, whose refusal is raised")  # pragma: no cover

    async def _post(self, contract: ReplyContract[Any], kind: Constraint, samples: int, patience: Patience) -> Any:
        """The JSON of a chat completion."""
        fields = {"model": self._dialect.model, **self._dialect.sampling, **contract.format.constraint(kind)}
        if samples > 1:
            fields["n"] = samples
        call = Call("/chat/completions", contract.body(fields), "application/json", {})
        with tracing.span(f"chat {self._dialect.model}", "client", tracing.chat_request(fields)) as span:
            completion = (await self._upstream.post(call, patience)).json
            span.set_attributes(tracing.chat_response(completion))
        return completion

    def _parse(self, contract: ReplyContract[_T], reply: Reply | Unparseable) -> _T | Unparseable:
        result = reply if isinstance(reply, Unparseable) else contract.format.parse(reply)
        self._on_reply(result.reason if isinstance(result, Unparseable) else "ok")
        return result


def _is_whole(reply: Reply | Unparseable) -> bool:
    """Whether a reply proves something about the constraint: one that was cut, filtered or refused does not."""
    if isinstance(reply, Unparseable):
        return True
    return reply.finish_reason not in _CUT and not reply.refusal


def _unreadable(unparseable: Unparseable) -> ThinkerError:
    message = f"the thinker's reply holds no usable critique: {unparseable.reason}"
    message += f" ({unparseable.detail})" if unparseable.detail else ""
    if unparseable.reason == "refusal":
        return ThinkerError("thinker_refused", message)
    return ThinkerError("thinker_bad_reply", message, retryable=unparseable.reason not in _NOT_RETRYABLE)


def _mean(critiques: Sequence[Critique]) -> CritiqueReply:
    """The mean of the scores, with the texts of the critique whose overall score is closest to the mean overall score."""
    semantic = [critique.semantic for critique in critiques]
    quality = [critique.quality for critique in critiques]
    middle = statistics.fmean(critique.overall for critique in critiques)
    texts = min(critiques, key=lambda critique: abs(critique.overall - middle))
    # It enters the editor's model next. An editor refuses a NUL or a special token, and what a picture made the thinker write
    # must not end the session.
    refined = without_tokens(texts.refined_instruction or "").strip() or None
    return CritiqueReply(
        round(statistics.fmean(semantic), 3),
        round(statistics.fmean(quality), 3),
        texts.reasoning[:_MAX_REASONING],
        refined,
        answers=tuple(
            ChecklistAnswer(number=answer.number, kind=answer.kind, answer=answer.answer, reason=answer.reason)
            for answer in texts.answers
        ),
        samples=len(critiques),
        semantic_spread=_spread(semantic),
        quality_spread=_spread(quality),
    )


def _spread(scores: Sequence[float]) -> float:
    # `statistics` adds fractions, which takes longer than everything else here.
    return round(statistics.pstdev(scores), 3) if len(scores) > 1 else 0.0


def _usage(completion: Any) -> Usage:
    usage = completion.get("usage") if isinstance(completion, dict) else None
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), _count(cached))


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
