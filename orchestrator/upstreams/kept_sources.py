"""Sources that an editor's workers keep, so that a session's source is sent once to a worker and not with each turn.

A source goes by a key: the HMAC of its session and digest under a secret of this process. Nobody can guess it: a stranger who
knows a picture's digest cannot have that picture edited, and no session can name another's. A worker says in its reply that it
keeps the source; servers that say nothing are always sent the file. Behind a balancer the next turn may reach another worker,
which answers 412. That costs a request, so after each such answer twice as many edits in a row are sent with the file.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from typing import Final

from cachetools import LRUCache

from orchestrator.ports.collaborators import EditOrder
from services.protocol.images_api import SOURCE_KEPT

_MIN_BYTES: Final = 64 * 1024
"""A smaller file costs no more than its absence."""
_MAX_KEYS: Final = 10_000
_MAX_PAUSE: Final = 64
"""Edits sent with the file before the next try by key."""
UNKNOWN: Final = 412


class KeptSources:
    """What is known of the sources at one editor."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._kept: LRUCache[str, bool] = LRUCache(_MAX_KEYS)
        self._misses = 0
        self._pause = 0

    def key(self, order: EditOrder) -> str | None:
        """The key of an order's source; None where it is not worth one."""
        source = order.source.ref
        if not order.session_id or source.bytes < _MIN_BYTES:
            return None
        return hmac.digest(self._secret, f"{order.session_id}/{source.sha256}".encode(), "sha256").hex()

    def is_kept(self, key: str) -> bool:
        """Whether the next edit may leave the file out."""
        if key not in self._kept:
            return False
        if self._pause:
            self._pause -= 1
            return False
        return True

    def found(self) -> None:
        """An edit without its file was answered."""
        self._misses = 0

    def missed(self, key: str) -> None:
        """A worker did not have it."""
        self._kept.pop(key, None)
        self._misses += 1
        self._pause = min(_MAX_PAUSE, 2 ** min(self._misses, 16))

    def answered(self, key: str, headers: Mapping[str, str]) -> None:
        """An edit with its file was answered."""
        if headers.get(SOURCE_KEPT) == "true":
            self._kept[key] = True
