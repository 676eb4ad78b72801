"""Client of any OpenAI ``POST /v1/chat/completions`` server that takes images: vLLM, or an expert model by URL."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from orchestrator.loop.events import ChecklistAnswer, ChecklistQuestion
from orchestrator.ports import ChecklistOrder, ChecklistReply, CritiqueOrder, CritiqueReply, ThinkerError, Usage
from orchestrator.upstreams.constraint_probe import Constraints
from orchestrator.upstreams.http import Call, HttpUpstream
from orchestrator.upstreams.reply_contract import Prompt, ReplyContract
from orchestrator.upstreams.scaling import Pictures
from services.protocol.critique.checklist import QUESTIONS
from services.protocol.critique.formats import Constraint, Format
from services.protocol.critique.messages import Critique, Question, Template, Unparseable, messages, questions_messages
from services.protocol.critique.repair import repair_messages
from services.protocol.critique.replies import Reply, read_completions
from services.serving import genai, tracing

_LONGEST_REASONING: Final = 8_000
"""Characters of reasoning that are kept; a rambling thinker must not fill the session store."""
_NOT_WORTH_ANOTHER_TRY: Final = frozenset({"instruction_too_long"})


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a thinker is asked.

    Attributes:
        model: the server's name for the model.
        format: how the critique is written down.
        template: the prompt.
        constraint: what the server can hold its reply to; ``auto``: found out by asking.
        sampling: further fields of the request (temperature, max_tokens …), sent as they are.
        samples: critiques of each candidate, of which the mean counts.
        max_pixels: larger pictures are scaled down to it before they are sent; None sends them as they are.
    """

    model: str
    format: Format
    template: Template
    constraint: Constraint | str = "none"
    sampling: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 0, "max_tokens": 2048})
    samples: int = 1
    max_pixels: int | None = None


class HttpThinker:
    """`orchestrator.ports.Thinker` over chat completions.

    Args:
        upstream: where to post.
        dialect: how to ask.
        replied: told what became of each reply: ``ok``, ``unconstrained``, or why it could not be read.
    """

    def __init__(self, upstream: HttpUpstream, dialect: Dialect, replied: Callable[[str], None] = lambda _: None) -> None:
        self._upstream = upstream
        self._dialect = dialect
        self._replied = replied
        self._critiques = Constraints(dialect.constraint, dialect.format.constraint)
        self._checklists = Constraints(dialect.constraint, lambda kind, _: QUESTIONS.constraint(kind))
        self._pictures = Pictures(dialect.max_pixels)

    async def ready(self) -> bool:
        """Whether the thinker can be asked now."""
        return await self._upstream.ready()

    async def critique(self, order: CritiqueOrder) -> CritiqueReply:
        """The critique of one candidate: the mean of the samples that could be read.

        Raises:
            ThinkerError: when the server fails, or its reply, asked for again, holds no usable critique
                (``thinker_bad_reply``, ``thinker_refused``).
        """
        dialect = self._dialect
        questions = tuple(Question(question.kind, question.text) for question in order.questions)
        pictures = [await self._pictures.fit(order.source), await self._pictures.fit(order.candidate)]

        def asked(urls: Sequence[str]) -> list[dict[str, Any]]:
            pair = (urls[0], urls[1])
            return messages(order.instruction, order.turn_instruction, dialect.template, urls=pair, questions=questions)

        def read(reply: Reply) -> Critique | Unparseable:
            return dialect.format.parse(reply, questions)

        def conforms(reply: Reply, kind: Constraint) -> bool:
            return dialect.format.conforms(reply, kind, questions)

        def repair(before: list[dict[str, Any]], reply: str, wrong: Unparseable) -> list[dict[str, Any]]:
            return repair_messages(before, reply, wrong, dialect.format, questions)

        written = ReplyContract(asked, repair, read, conforms)
        usable, usage, repaired = await self._ask(Prompt(written, pictures), self._critiques, order.timeout_s, questions)
        return replace(_mean(usable), usage=usage, repaired=repaired)

    async def checklist(self, order: ChecklistOrder) -> ChecklistReply:
        """The questions of a session.

        Raises:
            ThinkerError: as `critique`.
        """
        pictures = [await self._pictures.fit(order.source)]

        def asked(urls: Sequence[str]) -> list[dict[str, Any]]:
            return questions_messages(order.instruction, self._dialect.template, url=urls[0])

        def repair(before: list[dict[str, Any]], reply: str, wrong: Unparseable) -> list[dict[str, Any]]:
            return repair_messages(before, reply, wrong, QUESTIONS)

        written = ReplyContract(asked, repair, QUESTIONS.parse, QUESTIONS.conforms)
        usable, usage, _ = await self._ask(Prompt(written, pictures), self._checklists, order.timeout_s, (), samples=1)
        return ChecklistReply(tuple(ChecklistQuestion(kind=each.kind, text=each.text) for each in usable[0]), usage)

    async def _ask(
        self,
        prompt: Prompt[Any],
        constraints: Constraints,
        timeout_s: float,
        questions: tuple[Question, ...],
        *,
        samples: int | None = None,
    ) -> tuple[list[Any], Usage, bool]:
        """What the replies say, what they cost, and whether a second request was needed to get it."""
        ends = time.monotonic() + timeout_s
        count = self._dialect.samples if samples is None else samples
        replies, usage = await self._complete(prompt, constraints, timeout_s, questions, count)
        read = [self._read(prompt, reply) for reply in replies]
        usable = [found for found in read if not isinstance(found, Unparseable)]
        if usable:
            return usable, usage, False
        first, wrong = replies[0], read[0]
        # Shown its own reply and what is wrong with it; of a reply without a message there is nothing to show.
        shown = first.content or first.reasoning if isinstance(first, Reply) else ""
        again = prompt.again(shown, wrong)
        replies, more = await self._complete(again, constraints, max(0.0, ends - time.monotonic()), questions, 1)
        found = self._read(prompt, replies[0])
        if isinstance(found, Unparseable):
            raise _unreadable(found)
        return [found], usage + more, True

    async def _complete(
        self, prompt: Prompt[Any], constraints: Constraints, timeout_s: float, questions: tuple[Question, ...], samples: int
    ) -> tuple[list[Reply | Unparseable], Usage]:
        """The replies of one request, held to what the server is known, or found, to enforce."""
        ends = time.monotonic() + timeout_s
        while True:
            kind = constraints.kind
            fields = {"model": self._dialect.model, **self._dialect.sampling, **constraints.fields(kind, questions)}
            if samples > 1:
                fields["n"] = samples
            body = prompt.body(fields)
            call = Call("/chat/completions", body, "application/json", {})
            try:
                with tracing.span(f"chat {self._dialect.model}", "client", genai.asked(fields)) as span:
                    completion = (await self._upstream.post(call, max(0.0, ends - time.monotonic()))).json
                    span.annotate(genai.answered(completion))
            except ThinkerError as exc:
                if constraints.refused(kind, exc):
                    continue
                raise
            replies = list(read_completions(completion))
            # One that was cut at its token limit proves nothing either way.
            whole = [reply for reply in replies if not isinstance(reply, Reply) or reply.finish_reason != "length"]
            enforced = all(isinstance(reply, Reply) and prompt.written.conforms(reply, kind) for reply in whole)
            if whole and not constraints.saw(kind, enforced=enforced) and kind != "none":
                self._replied("unconstrained")
            return replies, _usage(completion)

    def _read(self, prompt: Prompt[Any], reply: Reply | Unparseable) -> Any:
        found = reply if isinstance(reply, Unparseable) else prompt.written.read(reply)
        self._replied(found.reason if isinstance(found, Unparseable) else "ok")
        return found


def _unreadable(wrong: Unparseable) -> ThinkerError:
    message = f"the thinker's reply holds no usable critique: {wrong.reason}"
    message += f" ({wrong.detail})" if wrong.detail else ""
    if wrong.reason == "refusal":
        return ThinkerError("thinker_refused", message)
    return ThinkerError("thinker_bad_reply", message, retryable=wrong.reason not in _NOT_WORTH_ANOTHER_TRY)


def _mean(critiques: Sequence[Critique]) -> CritiqueReply:
    """The mean of the scores; the words of the critique whose overall score is closest to the mean of them."""
    semantic = [critique.semantic for critique in critiques]
    quality = [critique.quality for critique in critiques]
    middle = statistics.fmean(critique.overall for critique in critiques)
    words = min(critiques, key=lambda critique: abs(critique.overall - middle))
    return CritiqueReply(
        round(statistics.fmean(semantic), 3),
        round(statistics.fmean(quality), 3),
        words.reasoning[:_LONGEST_REASONING],
        words.instruction,
        answers=tuple(
            ChecklistAnswer(number=answer.number, kind=answer.kind, answer=answer.answer, reason=answer.reason)
            for answer in words.answers
        ),
        samples=len(critiques),
        semantic_spread=round(statistics.pstdev(semantic), 3),
        quality_spread=round(statistics.pstdev(quality), 3),
    )


def _usage(completion: Any) -> Usage:
    usage = completion.get("usage") if isinstance(completion, dict) else None
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), _count(cached))


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
