"""Creates sessions from requests: check the fields, fetch and check the images, store them, record the first event."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Generic, TypeVar

import orjson
from opentelemetry import trace
from starlette.requests import Request

from orchestrator.api.compatibility import Compatibility, settle
from orchestrator.api.edit_bodies import read_edit_body
from orchestrator.api.fields import (
    NEW_FIELDS,
    OUTPUT_FIELDS,
    Deadlines,
    ImagesEditFields,
    SessionFields,
    Sources,
    check,
    first_event,
)
from orchestrator.egress.fetch import Reserve, fetch_image
from orchestrator.egress.resolver import NameResolver
from orchestrator.loop.events import SessionCreated
from orchestrator.ports.collaborators import Catalogue, Clock, image_ref
from orchestrator.ports.errors import PortError, StorageUnavailableError
from orchestrator.ports.origins import Origin, read_origin
from orchestrator.ports.stores import Blob, Bounds, Created, Folders, Idempotency, Sessions
from services.errors import ApiError
from services.imaging import shapes
from services.imaging.codec import CheckedImage, ImageLimits, from_base64
from services.imaging.decode_pool import DecodePool
from services.imaging.manifests import SOURCE
from services.protocol.images_api import INPUT_FACTOR, EditFields, EditForm, pixels_of, source_and_references
from services.serving import logs, tracing

_Fields = TypeVar("_Fields", ImagesEditFields, SessionFields)
_MAX_SEED = 2**31
REPLAYED: Final = {"idempotent-replayed": "true"}
"""The header of an answer about a session that an earlier request created."""
_URLS_S: Final = 60.0
"""Seconds after which no further URL of a request is fetched: each may take 20, and there may be 17."""
_PAIR: Final = re.compile(r"metadata\[(.*)\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Tenant:
    """The tenant of a new session, its bounds, and its grant of use for training, if it has one."""

    name: str
    bounds: Bounds
    training: str | None = None


@dataclass(frozen=True, slots=True)
class Pictures:
    """The encoded pictures of a request: the source, the mask, and the references in the caller's order."""

    source: bytes
    mask: bytes | None = None
    references: tuple[bytes, ...] = ()

    @property
    def all(self) -> tuple[bytes, ...]:
        """The source and its references."""
        return (self.source, *self.references)


@dataclass(frozen=True, slots=True)
class _Digests:
    """The digests of a request's pictures as they were received; of the mask, empty if there is none."""

    source: str
    mask: str = ""
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Received(Generic[_Fields]):
    """A request that was read: its fields, its pictures, and the names of fields that are not honoured."""

    fields: _Fields
    pictures: Pictures
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Intake:
    """Creates sessions.

    Attributes:
        catalogue_now: returns the editors and thinkers that callers can name.
        deadlines: of sessions.
        limits: of a picture; all of a request have `INPUT_FACTOR` times as many bytes at most.
        decoder: decodes what callers send, in other processes.
        resolver: resolves the host names of callers' URLs.
        compatibility: whether fields that cannot be honoured are refused, or left out and named.
        anchors: PEM certificates whose C2PA manifests are trusted.
    """

    sessions: Sessions
    folders: Folders
    clock: Clock
    catalogue_now: Callable[[], Catalogue]
    deadlines: Deadlines
    limits: ImageLimits
    decoder: DecodePool = field(default_factory=DecodePool)
    resolver: NameResolver = field(default_factory=NameResolver)
    compatibility: Compatibility = "strict"
    anchors: str = ""

    @property
    def catalogue(self) -> Catalogue:
        """The editors and thinkers that callers can name, as configured now."""
        return self.catalogue_now()

    async def receive(self, request: Request, model: type[_Fields], tenant: str, reserve: Reserve) -> Received[_Fields]:
        """The validated fields and the pictures of a request; pictures behind URLs are fetched once the fields are right.

        Args:
            reserve: waits until so many bytes of images that were not files of the body may be held.
        """
        form: EditForm = await read_edit_body(request, model, max_file_bytes=self.limits.max_bytes)
        source_and_references(form.images)
        has_mask = form.mask is not None
        right = partial(check, catalogue=self.catalogue, deadlines=self.deadlines, images=len(form.images), has_mask=has_mask)
        fields, ignored = settle(model, _with_metadata(form.fields), right, self.compatibility)
        self._check_size(fields.size)
        return Received(fields, await self._pictures(form, tenant, reserve), ignored)

    def _check_size(self, size: str) -> None:
        """Refuse a size at which no candidate could be checked or scaled, before an edit is paid for."""
        width, height = pixels_of(size) or (0, 0)
        most = ImageLimits(
            0, max(ImageLimits().max_pixels, self.limits.max_pixels), max(ImageLimits().max_side, self.limits.max_side)
        )
        if width * height > most.max_pixels or max(width, height) > most.max_side:
            message = f"size: at most {most.max_pixels:,} pixels in all and {most.max_side:,} a side; ask for a smaller picture"
            raise ApiError("invalid_value", message, param="size")

    async def _pictures(self, form: EditForm, tenant: str, reserve: Reserve) -> Pictures:
        """The pictures of a form as bytes; texts are read or fetched, one after the other."""
        given = [*form.images, *([] if form.mask is None else [form.mask])]
        most, size = INPUT_FACTOR * self.limits.max_bytes, 0
        ends = asyncio.get_running_loop().time() + _URLS_S
        read: list[bytes] = []
        for number, picture in enumerate(given):
            param = "mask" if number == len(form.images) else "image" if len(form.images) == 1 else f"image[{number}]"
            if number and isinstance(picture, str) and _is_remote(picture) and asyncio.get_running_loop().time() >= ends:
                message = f"{param}: the URLs before it took more than {_URLS_S:g} seconds; send the images themselves"
                raise ApiError("url_unreachable", message, param=param)
            read.append(picture if isinstance(picture, bytes) else await self._image(picture, param, tenant, reserve))
            size += len(read[-1])
            if size > most:
                message = f"{param}: the pictures have more than {most:,} bytes together; send smaller ones"
                raise ApiError("image_too_large", message, param="image")
        mask = None if form.mask is None else read.pop()
        source, references = source_and_references(read)
        return Pictures(source, mask, references)

    async def create(
        self,
        fields: ImagesEditFields | SessionFields,
        pictures: Pictures,
        tenant: Tenant,
        *,
        key: str | None,
        waits: bool = False,
        webhook: str = "",
    ) -> Created:
        """Store the images and record the session; a repeat under the same key returns the session created before.

        Args:
            waits: whether the caller waits for the session. Without a key nobody else can get its result, so it ends when its
                caller is gone, and a repeat after a replica's shutdown returns the session of that caller.
            webhook: the record of the endpoint that is notified of this session alone.

        Raises:
            ApiError: for an image that is not accepted, or a key that was used for another request.
        """
        images, mask, received = await self._check(pictures, tenant.name)
        origins = [await self._origin(*pair, tenant.name) for pair in zip(pictures.all, images, strict=True)]
        images[0], mask = await self._in_shape(images[0], mask, fields, tenant.name)
        source, *references = map(image_ref, images)
        carried = {image.sha256: kept.carried for image, kept in zip(images, origins, strict=True) if kept.carried}
        sources = Sources(source, image_ref(mask) if mask else None, tuple(references), images[0].alpha, carried)
        seed = secrets.randbelow(_MAX_SEED)
        event = first_event(fields, sources, self.catalogue, self.deadlines, now=self.clock.now(), seed=seed, tenant=tenant.name)
        event = event.model_copy(update={"training": None if fields.training else tenant.training})
        same = Idempotency(key or "", _fingerprint(fields, received), _former_fingerprint(fields, received))
        idempotency = same if key or waits else None
        kept = [each.manifest for each in origins if each.manifest]
        created = await self._record([*images, *([mask] if mask else []), *kept], event, idempotency, tenant.bounds, webhook)
        if not same.fits(created):
            message = "Idempotency-Key: it was used for another request; use a new key for a new request"
            raise ApiError("idempotency_key_reused", message, param="Idempotency-Key")
        logs.bind(session_id=created.session_id, tenant=event.tenant)
        # A linked trace: that of the session continues after this request.
        current = trace.get_current_span()
        current.set_attribute("editthinker.session_id", created.session_id)
        current.add_link(tracing.session_context(created.session_id))
        return created

    async def _image(self, text: str, param: str, tenant: str, reserve: Reserve) -> bytes:
        if _is_remote(text):
            limit, resolver = self.limits.max_bytes, self.resolver
            return await fetch_image(text, max_bytes=limit, param=param, tenant=tenant, resolver=resolver, reserve=reserve)
        # As bytes in addition to the text, which counts as the body.
        await reserve(len(text) * 3 // 4)
        return await asyncio.to_thread(from_base64, text, param=param)

    async def _check(self, pictures: Pictures, tenant: str) -> tuple[list[CheckedImage], CheckedImage | None, _Digests]:
        """Decode the pictures, once for the whole session: those that are passed on, and the digests of those received.

        One after the other, so that a request takes one place among those that wait to be decoded.
        """
        images, digests, size = [], [], 0
        for number, data in enumerate((pictures.source, *pictures.references)):
            param = "image" if not pictures.references else f"image[{number}]"
            digest, image = await self.decoder.check(data, limits=self.limits, param=param, tenant=tenant)
            images.append(image)
            digests.append(digest)
            size += len(image.data)
            if size > INPUT_FACTOR * self.limits.max_bytes:
                # They may have grown, by being encoded again.
                most = INPUT_FACTOR * self.limits.max_bytes
                message = f"image: the pictures have more than {most:,} bytes together, as they are stored; send smaller ones"
                raise ApiError("image_too_large", message, param="image")
        if pictures.mask is None:
            return images, None, _Digests(digests[0], references=tuple(digests[1:]))
        size_of_source = (images[0].width, images[0].height)
        digest, mask = await self.decoder.check_mask(pictures.mask, size_of_source, limits=self.limits, tenant=tenant)
        return images, mask, _Digests(digests[0], digest, tuple(digests[1:]))

    async def _origin(self, received: bytes, image: CheckedImage, tenant: str) -> Origin:
        """What a picture says of its origin, which `_check` removed from it."""
        if not image.marked:
            return Origin()
        return await read_origin(self.decoder, received, SOURCE, limits=self.limits, tenant=tenant, anchors=self.anchors)

    async def _in_shape(
        self, source: CheckedImage, mask: CheckedImage | None, fields: ImagesEditFields | SessionFields, tenant: str
    ) -> tuple[CheckedImage, CheckedImage | None]:
        """Source and mask in the shape of the size that is asked for, so that no editor stretches them, and the thinker compares
        pictures of one shape. Their digests stay those of what was received.
        """
        size = pixels_of(fields.size)
        if size is None:
            return source, mask
        left, top, right, bottom = shapes.frame((source.width, source.height), size, fields.fit)
        width, height = right - left, bottom - top
        if width * height > self.limits.max_pixels or max(width, height) > self.limits.max_side:
            message = f"size: padded to its shape, the image would have {width}x{height} pixels; choose another, or cover"
            raise ApiError("invalid_value", message, param="size")
        framed = await self.decoder.frame(source, size, fields.fit, param="image", tenant=tenant)
        if mask is not None:
            mask = await self.decoder.frame(mask, size, fields.fit, param="mask", tenant=tenant, is_mask=True)
            if not mask.alpha:
                message = (
                    f"mask: of what may change, size={fields.size} leaves nothing: the image is cropped to that shape in its "
                    "middle; send fit=contain, which pads it, or another size"
                )
                raise ApiError("invalid_value", message, param="mask")
        return framed, mask

    async def _record(
        self,
        images: Sequence[Blob],
        event: SessionCreated,
        idempotency: Idempotency | None,
        bounds: Bounds,
        webhook: str = "",
    ) -> Created:
        """Store the images of a session, then record it. After a crash in between, `sweep` finds the folder."""
        session_id = f"ses_{secrets.token_hex(16)}"
        for image in images:
            await self.folders.put(session_id, image)
        try:
            created = await self.sessions.create(session_id, event, idempotency, bounds, webhook)
        except StorageUnavailableError:
            # The session may exist, although the answer was lost.
            raise
        except PortError:
            await self._drop(session_id)
            raise
        if created.session_id != session_id:
            await self._drop(session_id)
        return created

    async def _drop(self, session_id: str) -> None:
        with contextlib.suppress(StorageUnavailableError):
            await self.folders.remove(session_id)


def _is_remote(text: str) -> bool:
    """Whether the text of a picture is a URL that is to be fetched."""
    return "://" in text[:16]


def _with_metadata(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A form's fields with its ``metadata[key]`` collected, which is how clients send an object in a form."""
    found = {name: _PAIR.fullmatch(name) for name in fields}
    pairs = {match[1]: fields[name] for name, match in found.items() if match}
    rest: dict[str, Any] = {name: text for name, text in fields.items() if not found[name]}
    if pairs and rest.get("metadata") is not None:
        message = "metadata was given more than once, as metadata and as metadata[key]; send one of them"
        raise ApiError("invalid_value", message, param="metadata")
    return {**rest, "metadata": pairs} if pairs else rest


def idempotency_key(request: Request) -> str | None:
    """The caller's ``Idempotency-Key``, checked."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 1 <= len(key) <= 255 or not key.isprintable():  # noqa: PLR2004
        raise ApiError("invalid_value", "Idempotency-Key: 1 to 255 printable characters", param="Idempotency-Key")
    return key


def _fingerprint(fields: ImagesEditFields | SessionFields, received: _Digests) -> str:
    """Of a request: the fields that it sets, and the digests of its pictures as they were received.

    How the result is sent is not part of it: a repeat may ask for another format. Fields at their defaults are not either, so
    that versions with more or fewer fields agree.
    """
    # Stored in Redis with the caller's key: it must not change between versions.
    given = fields.model_dump(mode="json", exclude_defaults=True, exclude=set(OUTPUT_FIELDS))
    parts = ("2", orjson.dumps(given, option=orjson.OPT_SORT_KEYS).decode(), *_digests(received))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _former_fingerprint(fields: ImagesEditFields | SessionFields, received: _Digests) -> str:
    """As version 0.1 made it: of all its fields."""
    new = NEW_FIELDS if isinstance(fields, EditFields) else {*NEW_FIELDS, "quality"}
    if isinstance(fields, ImagesEditFields):
        fields = fields.model_copy(update={"output_format": fields.output_format or "png"})
    parts = (fields.model_dump_json(exclude=set(new)), *_digests(received))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _digests(received: _Digests) -> tuple[str, ...]:
    # The references last: without any it is what it was before there were some.
    return (received.source, received.mask, *received.references)
