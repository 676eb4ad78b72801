"""Fallbacks: a second editor or thinker for when the first one fails."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Final, Generic, TypeVar

from orchestrator.ports import (
    ChecklistOrder,
    ChecklistReply,
    CritiqueOrder,
    CritiqueReply,
    Editor,
    EditOrder,
    EditorError,
    EditorUsage,
    EditReply,
    Thinker,
    ThinkerError,
)

log = logging.getLogger(__name__)
_Role = TypeVar("_Role", bound=Thinker | Editor)
_FAILED: Final = frozenset({"editor_unreachable", "editor_failed", "editor_bad_reply"})


class _Pair(Generic[_Role]):
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


class ThinkerWithFallback(_Pair[Thinker]):
    """`orchestrator.ports.Thinker`: asks the first, and the second if that fails for any reason.

    The first gets half of the time, so that one which does not respond leaves enough for the second.
    """

    async def critique(self, order: CritiqueOrder) -> CritiqueReply:
        """Critique a candidate. Raises the second's `ThinkerError` if both fail."""
        try:
            return await self._first.critique(replace(order, timeout_s=order.timeout_s / 2))
        except ThinkerError as exc:
            log.warning("the thinker failed (%s); asking the fallback %s", exc.code, self._name)
        reply = await self._second.critique(replace(order, timeout_s=order.timeout_s / 2))
        return replace(reply, thinker=reply.thinker or self._name)

    async def checklist(self, order: ChecklistOrder) -> ChecklistReply:
        """Write a checklist. Raises the second's `ThinkerError` if both fail."""
        try:
            return await self._first.checklist(replace(order, timeout_s=order.timeout_s / 2))
        except ThinkerError as exc:
            log.warning("the thinker failed (%s); asking the fallback %s", exc.code, self._name)
        return await self._second.checklist(replace(order, timeout_s=order.timeout_s / 2))


class EditorWithFallback(_Pair[Editor]):
    """`orchestrator.ports.Editor`: asks the first, and the second if that is away or fails.

    A request that the first refuses (its instruction, its image) is the caller's to fix and does not go to the second; nor
    does one that has used up its time.
    """

    async def edit(self, order: EditOrder, usage: EditorUsage) -> EditReply:
        """Edit. Raises the second's `EditorError` if both fail."""
        began = time.monotonic()
        try:
            return await self._first.edit(order, usage)
        except EditorError as exc:
            elapsed_s = time.monotonic() - began
            if exc.code not in _FAILED or elapsed_s >= order.timeout_s:
                raise
            log.warning("the editor failed (%s); asking the fallback %s", exc.code, self._name)
        rest = replace(order, timeout_s=order.timeout_s - elapsed_s, start_s=order.start_s - elapsed_s)
        reply = await self._second.edit(rest, usage)
        return replace(reply, editor=reply.editor or self._name)
