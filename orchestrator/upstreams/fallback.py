"""Fallbacks: a second editor, thinker or judge for when the first one fails, asked within the same time."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, Generic, TypeVar

from orchestrator.ports.collaborators import (
    ChecklistOrder,
    ChecklistReply,
    CompareOrder,
    CompareReply,
    CritiqueOrder,
    CritiquePrompt,
    CritiqueReply,
    EditOrder,
    EditorUsage,
    EditReply,
    PrepareOrder,
    PrepareReply,
    Prompting,
)
from orchestrator.ports.errors import PortError, ThinkerError
from orchestrator.upstreams.editor import HttpEditor
from orchestrator.upstreams.liveness import Patience
from orchestrator.upstreams.pairwise import ComparingThinker, PairwiseJudge
from orchestrator.upstreams.reward_model import ComparingRewardModel, RewardModel
from orchestrator.upstreams.scorer import HttpScorer
from orchestrator.upstreams.thinker import HttpThinker

log = logging.getLogger(__name__)

_Comparing = ComparingThinker | ComparingRewardModel | PairwiseJudge
_Scoring = HttpThinker | HttpScorer | RewardModel
_Role = TypeVar("_Role", bound=HttpEditor | _Scoring | _Comparing)
_Reply = TypeVar("_Reply")
_FAILED: Final = frozenset({"editor_unreachable", "editor_failed", "editor_bad_reply", "editor_timeout", "editor_overloaded"})


class _WithFallback(Generic[_Role]):
    """An upstream and its fallback.

    Args:
        first: the one that the session names.
        second: the fallback.
        name: the configured name of the fallback, which its replies carry.
    """

    def __init__(self, first: _Role, second: _Role, name: str) -> None:
        self._first = first
        self._second = second
        self._name = name

    async def ready(self) -> bool:
        """Whether one of them accepts requests now."""
        return await self._first.ready() or await self._second.ready()

    async def _ask(
        self,
        patience: Patience,
        ask: Callable[[_Role, Patience], Awaitable[_Reply]],
        may_pass_on: Callable[[PortError], bool] = lambda _: True,
    ) -> tuple[_Reply, str | None]:
        """The first reply, and the name of the fallback if it gave it. Raises the second's error if both fail."""
        if not self._first.is_open:
            try:
                return await ask(self._first, patience.with_others(True)), None
            except PortError as exc:
                if not may_pass_on(exc) or not patience.left_s():
                    raise
                log.warning("an upstream failed (%s); asking the fallback %s", exc.code, self._name)
        return await ask(self._second, patience.with_others(False)), self._name


class ThinkerWithFallback(_WithFallback[_Scoring]):
    """`orchestrator.ports.collaborators.Thinker` or `Judge`: asks the first, and the second if that fails for any reason."""

    async def critique(self, order: CritiqueOrder) -> CritiqueReply:
        """Critique a candidate. Raises the second's `ThinkerError` if both fail."""
        patience = Patience.of(order.timeout_s)
        reply, name = await self._ask(patience, lambda thinker, left: thinker.critique(order, left))
        return replace(reply, thinker=reply.thinker or name)

    async def critique_prompt(self, order: CritiqueOrder, by: str | None = None) -> CritiquePrompt:
        """The request for a critique. Raises `ThinkerError` for a model whose critiques are not one request."""
        model = self._first if by is None else self._second
        if not isinstance(model, Prompting):
            raise ThinkerError("thinker_misconfigured", "this judge's critiques are not one request", kind="refused")
        return await model.critique_prompt(order, None if by in {None, self._name} else by)

    async def checklist(self, order: ChecklistOrder) -> ChecklistReply:
        """Write a checklist. Raises the second's `ThinkerError` if both fail."""
        reply, _ = await self._ask(Patience.of(order.timeout_s), lambda thinker, left: thinker.checklist(order, left))
        return reply

    async def prepare(self, order: PrepareOrder) -> PrepareReply:
        """Rewrite an instruction. Raises the second's `ThinkerError` if both fail."""

        def ask(thinker: _Scoring, left: Patience) -> Awaitable[PrepareReply]:
            if not isinstance(thinker, HttpThinker):
                raise ThinkerError("thinker_misconfigured", "this thinker writes no instructions", kind="refused")
            return thinker.prepare(order, left)

        reply, name = await self._ask(Patience.of(order.timeout_s), ask)
        return replace(reply, thinker=reply.thinker or name)


class ComparingThinkerWithFallback(ThinkerWithFallback):
    """The same where both compare as well."""

    async def compare(self, order: CompareOrder) -> CompareReply:
        """Compare two pictures. Raises the second's `ThinkerError` if both fail."""

        def ask(judge: _Scoring, left: Patience) -> Awaitable[CompareReply]:
            assert isinstance(judge, _Comparing)
            return judge.compare(order, left)

        reply, name = await self._ask(Patience.of(order.timeout_s), ask)
        return replace(reply, thinker=reply.thinker or name)


class ComparerWithFallback(_WithFallback[PairwiseJudge]):
    """`orchestrator.ports.collaborators.Comparer`: asks the first, and the second if that fails for any reason."""

    async def compare(self, order: CompareOrder) -> CompareReply:
        """Compare two pictures. Raises the second's `ThinkerError` if both fail."""
        reply, name = await self._ask(Patience.of(order.timeout_s), lambda judge, left: judge.compare(order, left))
        return replace(reply, thinker=reply.thinker or name)


def with_fallback(first: _Scoring, second: _Scoring, name: str) -> ThinkerWithFallback:
    """Of two that score; it compares if both do."""
    both = isinstance(first, _Comparing) and isinstance(second, _Comparing)
    return (ComparingThinkerWithFallback if both else ThinkerWithFallback)(first, second, name)


class EditorWithFallback(_WithFallback[HttpEditor]):
    """`orchestrator.ports.collaborators.Editor`: asks the first, and the second if that is away, silent or fails.

    A request that the first refuses (its instruction, its image) is the caller's to fix and does not go to the second; nor
    does one that has used up its time.
    """

    async def edit(self, order: EditOrder, usage: EditorUsage) -> EditReply:
        """Edit. Raises the second's `EditorError` if both fail."""
        patience = Patience.of(order.timeout_s, order.start_s)
        reply, name = await self._ask(
            patience, lambda editor, left: editor.edit(order, usage, left), lambda error: error.code in _FAILED
        )
        return replace(reply, editor=reply.editor or name)
