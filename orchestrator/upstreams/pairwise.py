"""Comparisons of two pictures by a vision-language model, in both orders."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from orchestrator.loop.events import Winner
from orchestrator.ports.collaborators import CompareOrder, CompareReply, StoredImage, Usage
from orchestrator.upstreams.chat import ChatModel
from orchestrator.upstreams.constraint_probe import ConstraintProbe
from orchestrator.upstreams.http import HttpUpstream
from orchestrator.upstreams.liveness import Patience
from orchestrator.upstreams.reply_contract import EncodedSources, ReplyContract
from orchestrator.upstreams.scaling import Pictures
from orchestrator.upstreams.thinker import Dialect, HttpThinker
from services.imaging.decode_pool import DecodePool
from services.protocol.critique.constraints import Constraint
from services.protocol.critique.messages import Extras, pair_messages
from services.protocol.critique.pairs import PAIRWISE, Comparison
from services.protocol.critique.prompts import Template

_MAX_REASONING: Final = 8_000
_SWAPPED: Final[Mapping[Winner, Winner]] = {"first": "second", "second": "first", "tie": "tie"}


@dataclass(frozen=True, slots=True)
class PairDialect:
    """How to ask for comparisons; the fields are those of `orchestrator.upstreams.thinker.Dialect`."""

    model: str
    template: Template
    constraint: Constraint | str
    sampling: Mapping[str, Any]
    max_pixels: int | None = None


@dataclass(frozen=True, slots=True)
class Opinion:
    """The answer to one order of the two pictures: which of those shown is better, as ``first`` and ``second`` were shown."""

    winner: Winner
    reasoning: str = ""
    usage: Usage = field(default_factory=Usage)


async def in_both_orders(
    ask: Callable[[StoredImage, StoredImage], Awaitable[Opinion]], pair: Sequence[StoredImage]
) -> CompareReply:
    """Ask about two pictures in both orders at the same time; where the answers differ, it is a tie.

    Models prefer a place as well as a picture (GenArena, arXiv 2602.06013): one order alone would tell the two apart by that.

    Raises:
        ThinkerError: when one of the two fails; the other is then cancelled.
    """
    first, second = pair
    try:
        async with asyncio.TaskGroup() as group:
            tasks = group.create_task(_awaited(ask(first, second))), group.create_task(_awaited(ask(second, first)))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    straight, swapped = (task.result() for task in tasks)
    usage = straight.usage + swapped.usage
    if straight.winner == _SWAPPED[swapped.winner]:
        return CompareReply(straight.winner, straight.reasoning[:_MAX_REASONING], usage)
    reasons = [text[: _MAX_REASONING // 2] for text in (straight.reasoning, swapped.reasoning)]
    both = f"In one order: {reasons[0]}\nIn the other, with the names exchanged: {reasons[1]}" if any(reasons) else ""
    return CompareReply("tie", both, usage)


async def _awaited(asked: Awaitable[Opinion]) -> Opinion:
    return await asked


class PairwiseJudge:
    """`orchestrator.ports.collaborators.Comparer` over chat completions, in the format `pairwise`.

    Args:
        upstream: where to post.
        dialect: how to send requests.
        on_reply: called with the outcome of each reply.
        decoder: scales pictures.
    """

    def __init__(
        self, upstream: HttpUpstream, dialect: PairDialect, on_reply: Callable[[str], None], decoder: DecodePool
    ) -> None:
        self._chat = ChatModel(upstream, dialect.model, dialect.sampling, on_reply)
        self._template = dialect.template
        self._probe = ConstraintProbe(dialect.constraint, PAIRWISE)
        self._pictures = Pictures(dialect.max_pixels, decoder)
        self._sources = EncodedSources()

    async def ready(self) -> bool:
        """Whether the judge accepts requests now."""
        return await self._chat.ready()

    @property
    def is_open(self) -> bool:
        """Whether it has stopped answering, and is not asked now."""
        return self._chat.is_open

    async def compare(self, order: CompareOrder, patience: Patience | None = None) -> CompareReply:
        """The preference that holds in both orders; a tie otherwise.

        Raises:
            ThinkerError: when the server fails, or its reply names no winner, also after it was requested again.
        """
        patience = patience or Patience.of(order.timeout_s)
        pictures, pair = await shown(self._pictures, order)
        extras = Extras(len(order.references), order.mask is not None)

        def build(urls: Sequence[str]) -> list[dict[str, Any]]:
            return pair_messages(order.instruction, self._template, urls=urls, extras=extras)

        async def ask(first: StoredImage, second: StoredImage) -> Opinion:
            shown_now = [*pictures, first, second]
            contract: ReplyContract[Comparison] = ReplyContract(PAIRWISE, build, shown_now, self._sources, wanted="comparison")
            (found, *_), usage, *_ = await self._chat.ask(contract, self._probe, patience, 1)
            winner: Winner = "tie" if found.winner == "tie" else "first" if found.winner == "A" else "second"
            return Opinion(winner, found.reasoning, usage)

        return await in_both_orders(ask, pair)


async def shown(pictures: Pictures, order: CompareOrder) -> tuple[list[StoredImage], list[StoredImage]]:
    """The pictures of a comparison: the source with its references and area, and the two that are compared."""
    # The source at the size of the candidates, which an editor may have made smaller.
    common = await pictures.of_session(order.source, order.references, order.mask, order.tenant, candidate=order.first)
    pair = [
        common[0] if each.ref.sha256 == order.source.ref.sha256 else await pictures.fit(each, order.tenant)
        for each in (order.first, order.second)
    ]
    return common, pair


class ComparingThinker(HttpThinker):
    """A thinker, or a judge that scores, which compares two pictures too.

    Args:
        pairs: compares.
        upstream, dialect, on_reply, decoder: as of `HttpThinker`.
    """

    def __init__(
        self,
        pairs: PairwiseJudge,
        upstream: HttpUpstream,
        dialect: Dialect,
        on_reply: Callable[[str], None],
        decoder: DecodePool,
    ) -> None:
        super().__init__(upstream, dialect, on_reply, decoder)
        self._pairs = pairs

    async def compare(self, order: CompareOrder, patience: Patience | None = None) -> CompareReply:
        """As `PairwiseJudge.compare`."""
        return await self._pairs.compare(order, patience)
