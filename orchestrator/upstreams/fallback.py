"""A thinker, or an editor, that is asked when another fails."""

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
    EditReply,
    Thinker,
    ThinkerError,
)

log = logging.getLogger(__name__)
_Role = TypeVar("_Role", bound=Thinker | Editor)
_FAILED: Final = frozenset({"editor_unreachable", "editor_failed", "editor_bad_reply"})


class _Pair(Generic[_Role]):
    """The first, and the second that is asked when it fails.

    Args:
        first: the session's own.
        second: its fallback.
        name: of the second, as it is configured; told with what it makes.
    """

    def __init__(self, first: _Role, second: _Role, name: str) -> None:
        self._first = first
        self._second = second
        self._name = name

    async def ready(self) -> bool:
        """Whether one of them can be asked now."""
        return await self._first.ready() or await self._second.ready()


class ThinkerWithFallback(_Pair[Thinker]):
    """`orchestrator.ports.Thinker`: the first, and when it fails for whatever reason, the second.

    The first gets half of the time that there is, so that one which does not answer leaves enough for the other.
    """

    async def critique(self, order: CritiqueOrder) -> CritiqueReply:
        """Critique. Raises `ThinkerError`, the second's, when both fail."""
        try:
            return await self._first.critique(replace(order, timeout_s=order.timeout_s / 2))
        except ThinkerError as exc:
            log.warning("the thinker failed (%s); %s is asked instead", exc.code, self._name)
        reply = await self._second.critique(replace(order, timeout_s=order.timeout_s / 2))
        return replace(reply, thinker=reply.thinker or self._name)

    async def checklist(self, order: ChecklistOrder) -> ChecklistReply:
        """Write the questions. Raises `ThinkerError`, the second's, when both fail."""
        try:
            return await self._first.checklist(replace(order, timeout_s=order.timeout_s / 2))
        except ThinkerError as exc:
            log.warning("the thinker failed (%s); %s is asked instead", exc.code, self._name)
        return await self._second.checklist(replace(order, timeout_s=order.timeout_s / 2))


class EditorWithFallback(_Pair[Editor]):
    """`orchestrator.ports.Editor`: the first, and when it is away or fails, the second.

    What the first refuses (the wish, the picture) is the caller's to mend, and is not asked of the second; nor is what took
    all the time there was.
    """

    async def edit(self, order: EditOrder) -> EditReply:
        """Edit. Raises `EditorError`, the second's, when both fail."""
        began = time.monotonic()
        try:
            return await self._first.edit(order)
        except EditorError as exc:
            gone = time.monotonic() - began
            if exc.code not in _FAILED or gone >= order.timeout_s:
                raise
            log.warning("the editor failed (%s); %s is asked instead", exc.code, self._name)
        reply = await self._second.edit(replace(order, timeout_s=order.timeout_s - gone, start_s=order.start_s - gone))
        return replace(reply, editor=reply.editor or self._name)
