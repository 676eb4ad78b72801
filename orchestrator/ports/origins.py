"""What a picture from outside said of its own origin, and what is kept of that: a caller's upload, or an editor's answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Self

from orchestrator.loop.events import Carried
from services.errors import ApiError
from services.imaging.codec import ImageLimits, digest
from services.imaging.decode_pool import DecodePool
from services.imaging.marks import strongest


@dataclass(frozen=True, slots=True)
class KeptManifest:
    """The manifests of a picture, as they are stored.

    Attributes:
        data: an ingredient's archive (`services.imaging.manifests.ingredient`).
        sha256: its digest.
    """

    data: bytes
    sha256: str


@dataclass(frozen=True, slots=True)
class Origin:
    """What a picture said of its origin, and what is kept of that; nothing of most."""

    carried: Carried | None = None
    manifest: KeptManifest | None = None

    @classmethod
    def of(cls, told: Mapping[str, Any], archive: bytes) -> Self:
        """As `DecodePool.provenance` tells it."""
        manifest = told.get("manifest") or {}
        types = [each for each in (manifest.get("digital_source_type"), told["source_type"]) if each]
        kept = KeptManifest(archive, digest(archive)) if archive else None
        carried = Carried(
            source_type=reduce(strongest, types) if types else None,
            c2pa=manifest.get("state"),
            reasons=tuple(manifest.get("reasons", ())),
            manifest=kept.sha256 if kept else None,
            bytes=len(archive),
        )
        return cls(carried, kept) if carried != Carried() else cls()


async def read_origin(
    decoder: DecodePool, data: bytes, label: str, *, limits: ImageLimits, tenant: str, anchors: str = "", bounded: bool = True
) -> Origin:
    """The origin of a file. What cannot be read is told, and refuses nothing.

    Args:
        label: `manifests.SOURCE` or `ANSWER`.
        anchors: PEM certificates that are trusted.
        bounded: refuse it when many jobs wait.

    Raises:
        ApiError: ``overloaded``, if it is bounded.
    """
    try:
        told, archive = await decoder.provenance(data, limits=limits, tenant=tenant, anchors=anchors, keep=label, bounded=bounded)
    except ApiError as exc:
        if exc.code == "overloaded":
            raise
        source_type = await _source_type(decoder, data, limits=limits, tenant=tenant, bounded=bounded)
        return Origin(Carried(source_type=source_type, c2pa="unread", reasons=(exc.message,)))
    return Origin.of(told, archive)


async def _source_type(decoder: DecodePool, data: bytes, *, limits: ImageLimits, tenant: str, bounded: bool) -> str | None:
    """What a file says in XMP, which is read where its manifests cannot be."""
    try:
        told, _ = await decoder.provenance(data, limits=limits, tenant=tenant, keep=None, bounded=bounded)
    except ApiError:
        return None
    source_type: str | None = told["source_type"]
    return source_type
