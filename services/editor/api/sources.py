"""Sources kept for the next edits of the same session, so that a file is sent once and not with each turn.

A key is a secret between a caller and this worker: with it, anybody can have the picture edited. So it is not the picture's
digest, which others may know. Nothing tells a key that was never used from one whose source was dropped.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from cachetools import LRUCache
from fastapi import Request

from services.errors import ApiError
from services.protocol.images_api import SOURCE_KEPT, SOURCE_KEY, EditForm

_KEY: Final = re.compile(r"[0-9a-f]{64}")


class KeptSources:
    """The latest sources by key, within a limit of bytes.

    Args:
        most_bytes: of all of them; 0 keeps none.
    """

    def __init__(self, most_bytes: int) -> None:
        self._kept: LRUCache[str, bytes] = LRUCache(most_bytes, getsizeof=len)

    def complete(self, request: Request, form: EditForm) -> tuple[EditForm, dict[str, str]]:
        """The form with its source, which is kept if it has a key; and the headers of the reply.

        Raises:
            ApiError: ``source_unknown`` when the file was left out and is not here; ``invalid_value`` for a malformed key.
        """
        key = request.headers.get(SOURCE_KEY)
        if key is None:
            return form, {}
        if not _KEY.fullmatch(key):
            raise ApiError("invalid_value", f"{SOURCE_KEY} must be 64 hexadecimal digits; draw them at random", param=SOURCE_KEY)
        if not form.images:
            kept = self._kept.get(key)
            if kept is None:
                message = f"no source is kept under this {SOURCE_KEY}; send the file as `image` with the same key"
                raise ApiError("source_unknown", message, param="image")
            return replace(form, images=(kept,)), {SOURCE_KEPT: "true"}
        source = form.images[0]
        if len(form.images) > 1 or isinstance(source, str) or len(source) > self._kept.maxsize:
            return form, {}
        self._kept[key] = source
        return form, {SOURCE_KEPT: "true"}
