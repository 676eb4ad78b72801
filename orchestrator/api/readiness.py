"""Which editors and thinkers can be asked now; asked at most every two seconds, however many want to know."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from orchestrator.ports import Editor, Thinker

_GOOD_FOR_S: Final = 2.0


class Checks:
    """The last answers of every collaborator.

    Args:
        editors, thinkers: by name, as they are configured now.
    """

    def __init__(self, editors: Mapping[str, Editor], thinkers: Mapping[str, Thinker]) -> None:
        self._editors = editors
        self._thinkers = thinkers
        self._asking = asyncio.Lock()
        self._at = float("-inf")
        self._answers: dict[str, bool] = {}

    async def answers(self) -> Mapping[str, bool]:
        """Whether each can be asked, as ``editor:<name>`` and ``thinker:<name>``."""
        async with self._asking:
            names = [*(f"editor:{name}" for name in self._editors), *(f"thinker:{name}" for name in self._thinkers)]
            if time.monotonic() - self._at > _GOOD_FOR_S or self._answers.keys() != set(names):
                roles: list[Editor | Thinker] = [*self._editors.values(), *self._thinkers.values()]
                found = await asyncio.gather(*(role.ready() for role in roles))
                self._answers, self._at = dict(zip(names, found, strict=True)), time.monotonic()
            return self._answers
