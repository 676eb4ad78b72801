"""Client of any OpenAI ``POST /v1/chat/completions`` server that takes images: vLLM, or an expert model by URL."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from orchestrator.loop.events import ChecklistAnswer, ChecklistQuestion, OutsideMask, Place
from orchestrator.ports.collaborators import (
    ChecklistOrder,
    ChecklistReply,
    CritiqueOrder,
    CritiquePrompt,
    CritiqueReply,
    PrepareOrder,
    PrepareReply,
)
from orchestrator.upstreams.chat import ChatModel, unreadable
from orchestrator.upstreams.constraint_probe import ConstraintProbe
from orchestrator.upstreams.http import HttpUpstream
from orchestrator.upstreams.liveness import Patience
from orchestrator.upstreams.reply_contract import EncodedSources, ReplyContract
from orchestrator.upstreams.scaling import Pictures
from services.imaging.decode_pool import DecodePool
from services.protocol.critique.constraints import Constraint
from services.protocol.critique.formats import QUESTIONS, Format
from services.protocol.critique.messages import Critique, Extras, Strayed, Unparseable, messages, questions_messages
from services.protocol.critique.prompts import Template
from services.protocol.critique.questions import Question
from services.protocol.critique.special_tokens import without_tokens
from services.protocol.rewriting import REWRITERS, Rewriter, default_prompt

MAX_REASONING: Final = 8_000
"""Characters of reasoning that are stored, so that a rambling thinker does not fill the session store."""
AGAIN_TEMPERATURE: Final = 0.7
"""Of a further critique by a thinker that is asked at temperature 0, where it would repeat itself (EditScore samples at 0.7)."""


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
        rewriter: how it is asked to rewrite an instruction before the first edit.
        rewriting_prompt: the prompt of that.
        places: whether critiques are asked to point at places.
    """

    model: str
    format: Format
    template: Template
    constraint: Constraint | str = "none"
    sampling: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 0, "max_tokens": 2048})
    samples: int = 1
    max_pixels: int | None = None
    rewriter: Rewriter = REWRITERS["template"]
    rewriting_prompt: str = field(default_factory=default_prompt)
    places: bool = False


class HttpThinker:
    """`orchestrator.ports.collaborators.Thinker` and `Preparer` over chat completions.

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
        self._chat = ChatModel(upstream, dialect.model, dialect.sampling, on_reply)
        self._dialect = dialect
        self._critiques = ConstraintProbe(dialect.constraint, dialect.format.bind(places=dialect.places))
        self._checklists = ConstraintProbe(dialect.constraint, QUESTIONS)
        # The makers' own models think before they answer, which a constraint would forbid.
        constraint = "none" if dialect.rewriter.is_system else dialect.constraint
        self._rewrites = ConstraintProbe(constraint, dialect.rewriter.format)
        self._pictures = Pictures(dialect.max_pixels, decoder or DecodePool())
        self._sources = EncodedSources()

    async def ready(self) -> bool:
        """Whether the thinker accepts requests now."""
        return await self._chat.ready()

    @property
    def is_open(self) -> bool:
        """Whether it has stopped answering, and is not asked now."""
        return self._chat.is_open

    async def critique(self, order: CritiqueOrder, patience: Patience | None = None) -> CritiqueReply:
        """The critique of one candidate: the mean of the samples that could be read.

        Raises:
            ThinkerError: when the server fails, or neither its reply nor the repaired one holds a usable critique
                (``thinker_bad_reply``, ``thinker_refused``).
        """
        patience = patience or Patience.of(order.timeout_s)
        contract = await self._contract(order)
        # Only its instruction counts where another judge has scored.
        samples = 1 if order.judgement else self._dialect.samples
        answers = await self._chat.ask(contract, self._critiques, patience, samples)
        reply = _mean(answers.values, answers.texts)
        return replace(reply, usage=answers.usage, repaired=answers.repaired, prompt=contract.digest())

    async def critique_prompt(self, order: CritiqueOrder, by: str | None = None) -> CritiquePrompt:  # noqa: ARG002 - it has no fallback
        """The request for a critique, as it is configured now.

        Raises:
            ThinkerError: when a picture cannot be scaled.
        """
        contract = await self._contract(order)
        messages = contract.messages([str(number) for number in range(len(contract.pictures))])
        return CritiquePrompt(messages, contract.pictures, contract.digest())

    async def _contract(self, order: CritiqueOrder) -> ReplyContract[Critique]:
        """The request for a critique, and the format of its reply."""
        questions = tuple(Question(question.kind, question.text) for question in order.questions)
        pictures = await self._pictures.of_session(
            order.source, order.references, order.mask, order.tenant, candidate=order.candidate
        )
        pictures.append(await self._pictures.fit(order.candidate, order.tenant))
        extras = Extras(
            len(order.references),
            order.mask is not None,
            strayed(order.outside_mask),
            order.prompt_tokens,
            self._dialect.places,
            strayed(order.outside_places),
            order.judgement,
        )
        template = self._dialect.template

        def build(urls: Sequence[str]) -> list[dict[str, Any]]:
            return messages(order.instruction, order.turn_instruction, template, urls=urls, questions=questions, extras=extras)

        greedy = self._dialect.sampling.get("temperature") == 0
        sampling = {"temperature": AGAIN_TEMPERATURE} if order.number > 1 and greedy else {}
        form = self._dialect.format.bind(questions, places=self._dialect.places)
        return ReplyContract(form, build, pictures, self._sources, sampling)

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
        (questions, *_), usage, *_ = await self._chat.ask(contract, self._checklists, patience, 1)
        return ChecklistReply(tuple(ChecklistQuestion(kind=each.kind, text=each.text) for each in questions), usage)

    async def prepare(self, order: PrepareOrder, patience: Patience | None = None) -> PrepareReply:
        """The instruction, rewritten for an editor. An unreadable reply is not repaired: rewriters know no other conversation.

        Raises:
            ThinkerError: when the server fails, or its reply holds no instruction; retryable where another may differ.
        """
        patience = patience or Patience.of(order.timeout_s)
        rewriter, prompt = self._dialect.rewriter, self._dialect.rewriting_prompt
        mask = None if rewriter.is_system else order.mask
        if rewriter.is_system:
            # Each as large as in the model's training.
            pictures = [await self._pictures.fit(picture, order.tenant) for picture in (order.source, *order.references)]
        else:
            pictures = await self._pictures.of_session(order.source, order.references, mask, order.tenant)
        extras = Extras(len(order.references), mask is not None, prompt_tokens=order.prompt_tokens)

        def build(urls: Sequence[str]) -> list[dict[str, Any]]:
            return rewriter.messages(prompt, order.instruction, urls, extras)

        contract = ReplyContract(rewriter.format, build, pictures, self._sources, wanted="instruction")
        (reply,), usage = await self._chat.complete(contract, self._rewrites, patience, 1)
        result = self._chat.parse(contract, reply)
        if isinstance(result, Unparseable):
            error = unreadable(result, contract.wanted)
            error.retryable = error.retryable and self._dialect.sampling.get("temperature") != 0
            raise error
        return PrepareReply(result, usage)


def strayed(outside: OutsideMask | None) -> Strayed | None:
    """What was measured, as a request tells it."""
    return None if outside is None else Strayed(outside.changed, outside.difference)


def _mean(critiques: Sequence[Critique], replies: Sequence[str]) -> CritiqueReply:
    """The mean of the scores, with the texts of the critique whose overall score is closest to the mean overall score."""
    semantic = [critique.semantic for critique in critiques]
    quality = [critique.quality for critique in critiques]
    middle = statistics.fmean(critique.overall for critique in critiques)
    texts, text = min(zip(critiques, replies, strict=True), key=lambda pair: abs(pair[0].overall - middle))
    # It enters the editor's model next. An editor refuses a NUL or a special token, and what a picture made the thinker write
    # must not end the session.
    refined = without_tokens(texts.refined_instruction or "").strip() or None
    return CritiqueReply(
        round(statistics.fmean(semantic), 3),
        round(statistics.fmean(quality), 3),
        texts.reasoning[:MAX_REASONING],
        refined,
        answers=tuple(
            ChecklistAnswer(number=answer.number, kind=answer.kind, answer=answer.answer, reason=answer.reason)
            for answer in texts.answers
        ),
        places=tuple(
            Place(left=place.left, top=place.top, right=place.right, bottom=place.bottom, word=place.word)
            for place in texts.places
        ),
        samples=len(critiques),
        semantic_spread=_spread(semantic),
        quality_spread=_spread(quality),
        text=text,
    )


def _spread(scores: Sequence[float]) -> float:
    # `statistics` adds fractions, which takes longer than everything else here.
    return round(statistics.pstdev(scores), 3) if len(scores) > 1 else 0.0
