"""Signs served pictures with C2PA manifests: in processes of their own, once for each picture and encoding.

The processes are the decode pool's kind, so that what a stranger's manifest does to the native library cannot stop the server.
They get no uploads, only what this server encoded and the archives of manifests. The key is read there, from the operator's file.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final, Literal

from orchestrator.api.made_once import MadeOnce
from services.errors import ApiError
from services.imaging.decode_pool import DecodePool
from services.imaging.manifests import ANSWER, SOURCE, Credentials

log = logging.getLogger(__name__)
CACHE_BYTES: Final = 64 * 1024 * 1024
_SIGN_S: Final = 30.0
"""With the wait for a process. A signing URL has ten seconds to answer."""
_RETRY_S: Final = 5
_GENERATOR: Final = {"name": "EditThinker Serving", "version": version("editthinker")}
Outcome = Literal["signed", "failed", "unsigned"]


@dataclass(frozen=True, slots=True)
class Claim:
    """What a manifest says in addition to the picture's source having been opened.

    Attributes:
        action: what was done, as an action of C2PA 2.2, section 18.13.
        source_type: the media type of the source.
        manifest: digest of the source's own manifests in the session's folder; None if it came without.
        answer: that of the manifests of the editor's answer.
    """

    action: Mapping[str, Any]
    source_type: str
    manifest: str | None = None
    answer: str | None = None

    @property
    def archives(self) -> list[str]:
        """The digests of the manifests that the new one refers to."""
        return [digest for digest in (self.manifest, self.answer) if digest]

    def definition(self) -> dict[str, Any]:
        """The manifest before it is signed. It has no instruction, no name of a caller, and no thumbnail."""
        actions = [{"action": "c2pa.opened", "parameters": {"ingredientIds": [SOURCE]}}]
        if self.answer:
            actions.append({"action": "c2pa.placed", "parameters": {"ingredientIds": [ANSWER]}})
        listed = {"actions": [*actions, dict(self.action)], "allActionsIncluded": True}
        source = {"title": SOURCE, "relationship": "parentOf", "label": SOURCE, "format": self.source_type}
        return {
            "claim_generator_info": [_GENERATOR],
            "assertions": [{"label": "c2pa.actions.v2", "data": listed}],
            **({} if self.manifest else {"ingredients": [source]}),
        }


@dataclass(slots=True)
class Signer:
    """Signs pictures.

    Attributes:
        pool: runs the library, with nothing else to do.
        credentials: who signs.
        required: whether a picture that cannot be signed is an error; it is served with the other marks otherwise.
        counted: is told how each attempt ended.
        cache_bytes: signed pictures that are kept, by the picture and its encoding.
        timeout_s: of one signature.
    """

    pool: DecodePool
    credentials: Credentials
    required: bool = True
    counted: Callable[[Outcome], None] = lambda _: None
    cache_bytes: int = CACHE_BYTES
    timeout_s: float = _SIGN_S
    _made: MadeOnce = field(init=False)

    def __post_init__(self) -> None:
        self._made = MadeOnce(self.cache_bytes)

    async def signed(
        self, name: tuple[str, ...], picture: bytes, claim: Claim, load: Callable[[str], Awaitable[bytes]], *, tenant: str
    ) -> bytes:
        """The picture with a manifest; without one where that failed and is not required.

        Args:
            name: of the picture and its encoding: a repeat gets the same bytes while they are kept.
            picture: encoded, with its other marks.
            claim: what the manifest says.
            load: reads the source's manifests by their digest.
            tenant: whose job it is.

        Raises:
            ApiError: ``signing_failed``, ``overloaded``.
            PortError: when the source's manifests cannot be read.
        """
        try:
            return await self._made.get(name, lambda: self._sign(picture, claim, load, tenant))
        except ApiError as exc:
            if self.required or exc.code != "signing_failed":
                raise
            self.counted("unsigned")
            return picture

    async def _sign(self, picture: bytes, claim: Claim, load: Callable[[str], Awaitable[bytes]], tenant: str) -> bytes:
        archives = [await load(digest) for digest in claim.archives]
        try:
            async with asyncio.timeout(self.timeout_s):
                made = await self.pool.sign(picture, archives, claim.definition(), self.credentials, tenant=tenant)
        except (ApiError, TimeoutError) as exc:
            if isinstance(exc, ApiError) and exc.code == "overloaded":
                raise
            self.counted("failed")
            # The reason may name the operator's files, so the caller is not told.
            reason = exc.message if isinstance(exc, ApiError) else f"it took more than {self.timeout_s:g} seconds"
            log.warning("a picture was not signed: %s", reason)
            raise ApiError("signing_failed", "the picture could not be signed; retry later", retry_after=_RETRY_S) from exc
        self.counted("signed")
        return made
