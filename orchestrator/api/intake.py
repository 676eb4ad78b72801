"""Creates sessions from requests: parse the form or JSON, check the images, store them, record the first event."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import orjson
from opentelemetry import trace
from starlette.requests import Request

from orchestrator.api.fields import (
    NEW_FIELDS,
    OUTPUT_FIELDS,
    Deadlines,
    ImagesEditFields,
    SessionFields,
    SessionJson,
    Sources,
    check,
    first_event,
)
from orchestrator.egress.fetch import Reserve, fetch_image
from orchestrator.egress.resolver import NameResolver
from orchestrator.loop.events import SessionCreated
from orchestrator.ports.collaborators import Catalogue, Clock, image_ref
from orchestrator.ports.errors import PortError, StorageUnavailableError
from orchestrator.ports.stores import Bounds, Created, Folders, Idempotency, Sessions
from services.errors import ApiError
from services.imaging import shapes
from services.imaging.codec import CheckedImage, ImageLimits, from_base64
from services.imaging.decode_pool import DecodePool
from services.protocol.images_api import pixels_of, read_form, single_image, validate
from services.serving import logs, tracing
from services.serving.middleware import read_json
from services.serving.multipart import open_form

_Fields = TypeVar("_Fields", ImagesEditFields, SessionFields)
_MAX_SEED = 2**31
_PAIR: Final = re.compile(r"metadata\[(.*)\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Tenant:
    """The tenant of a new session, and its bounds."""

    name: str
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class Intake:
    """Creates sessions.

    Attributes:
        catalogue_now: returns the editors and thinkers that callers can name.
        deadlines: of sessions.
        limits: of a source image or mask.
        decoder: decodes what callers send, in other processes.
        resolver: resolves the host names of callers' URLs.
    """

    sessions: Sessions
    folders: Folders
    clock: Clock
    catalogue_now: Callable[[], Catalogue]
    deadlines: Deadlines
    limits: ImageLimits
    decoder: DecodePool = field(default_factory=DecodePool)
    resolver: NameResolver = field(default_factory=NameResolver)

    @property
    def catalogue(self) -> Catalogue:
        """The editors and thinkers that callers can name, as configured now."""
        return self.catalogue_now()

    async def from_form(self, request: Request, model: type[_Fields]) -> tuple[_Fields, bytes, bytes | None]:
        """The validated fields, the source and the mask of a multipart request."""
        kind = request.headers.get("content-type", "").lower()
        if not kind.startswith("multipart/form-data"):
            message = "send multipart/form-data with a file part `image` and a text field `prompt` (/v1/sessions takes JSON too)"
            raise ApiError("unsupported_media_type", message, param="image")
        async with open_form(request, max_files=20, max_fields=100, max_file_bytes=self.limits.max_bytes) as form:
            read = await read_form(form)
        fields = validate(model, _with_metadata(read.fields))
        source = single_image(read)
        check(fields, self.catalogue, self.deadlines, has_mask=read.mask is not None)
        return fields, source, read.mask

    async def from_json(self, request: Request, tenant: str, reserve: Reserve) -> tuple[SessionFields, bytes, bytes | None]:
        """The validated fields, the source and the mask of a JSON request, whose images are base64 or URLs.

        Args:
            reserve: waits until so many bytes of images behind URLs may be held.
        """
        body: Any = await read_json(request)
        if not isinstance(body, dict):
            raise ApiError("invalid_json", "the body must be a JSON object")
        given = validate(SessionJson, body)
        fields = validate(SessionFields, {key: value for key, value in body.items() if key not in {"image", "mask"}})
        check(fields, self.catalogue, self.deadlines, has_mask=given.mask is not None)
        source = await self._image(given.image, "image", tenant, reserve)
        mask = await self._image(given.mask, "mask", tenant, reserve) if given.mask else None
        return fields, source, mask

    async def create(
        self,
        fields: ImagesEditFields | SessionFields,
        source: bytes,
        mask: bytes | None,
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
        images = [await self._check(source, "image", tenant.name)]
        if mask is not None:
            images.append(await self._check(mask, "mask", tenant.name))
        if mask is not None and (images[0][1].width, images[0][1].height) != (images[1][1].width, images[1][1].height):
            raise ApiError("invalid_image", "mask: it must have the size of image", param="mask")
        images = await self._in_shape(images, fields, tenant.name)
        refs = [image_ref(image) for _, image in images]
        sources = Sources(refs[0], refs[1] if mask is not None else None, images[0][1].alpha)
        seed = secrets.randbelow(_MAX_SEED)
        event = first_event(fields, sources, self.catalogue, self.deadlines, now=self.clock.now(), seed=seed, tenant=tenant.name)
        received = [digest for digest, _ in images]
        same = Idempotency(key or "", _fingerprint(fields, received), _former_fingerprint(fields, received))
        idempotency = same if key or waits else None
        created = await self._record([image for _, image in images], event, idempotency, tenant.bounds, webhook)
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
        if "://" in text[:16]:
            limit, resolver = self.limits.max_bytes, self.resolver
            return await fetch_image(text, max_bytes=limit, param=param, tenant=tenant, resolver=resolver, reserve=reserve)
        return await asyncio.to_thread(from_base64, text, param=param)

    async def _check(self, data: bytes, param: str, tenant: str) -> tuple[str, CheckedImage]:
        """Decode an image, once for the whole session: the digest of what was received, and the image that is passed on."""
        return await self.decoder.check(data, limits=self.limits, param=param, tenant=tenant)

    async def _in_shape(
        self, images: list[tuple[str, CheckedImage]], fields: ImagesEditFields | SessionFields, tenant: str
    ) -> list[tuple[str, CheckedImage]]:
        """Source and mask in the shape of the size that is asked for, so that no editor stretches them, and the thinker compares
        pictures of one shape. Their digests stay those of what was received.
        """
        size = pixels_of(fields.size)
        if size is None:
            return images
        source = images[0][1]
        left, top, right, bottom = shapes.frame((source.width, source.height), size, fields.fit)
        if (right - left) * (bottom - top) > self.limits.max_pixels or max(right - left, bottom - top) > self.limits.max_side:
            message = (
                f"size: padded to its shape, the image would have {right - left}x{bottom - top} pixels; choose another, or cover"
            )
            raise ApiError("invalid_value", message, param="size")
        made = []
        for (received, image), param in zip(images, ("image", "mask"), strict=False):
            is_mask = param == "mask"
            framed = await self.decoder.frame(image, size, fields.fit, param=param, tenant=tenant, is_mask=is_mask)
            made.append((received, framed))
        return made

    async def _record(
        self,
        images: Sequence[CheckedImage],
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


def _with_metadata(fields: Mapping[str, str]) -> dict[str, Any]:
    """A form's fields with its ``metadata[key]`` collected, which is how clients send an object in a form."""
    found = {name: _PAIR.fullmatch(name) for name in fields}
    pairs = {match[1]: fields[name] for name, match in found.items() if match}
    rest: dict[str, Any] = {name: text for name, text in fields.items() if not found[name]}
    return {**rest, "metadata": pairs} if pairs else rest


def idempotency_key(request: Request) -> str | None:
    """The caller's ``Idempotency-Key``, checked."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 1 <= len(key) <= 255 or not key.isprintable():  # noqa: PLR2004
        raise ApiError("invalid_value", "Idempotency-Key: 1 to 255 printable characters", param="Idempotency-Key")
    return key


def _fingerprint(fields: ImagesEditFields | SessionFields, received: Sequence[str]) -> str:
    """Of a request: the fields that it sets, and the digests of its source and mask as they were received.

    How the result is sent is not part of it: a repeat may ask for another format. Fields at their defaults are not either, so
    that versions with more or fewer fields agree.
    """
    # Stored in Redis with the caller's key: it must not change between versions.
    source, mask = [*received, ""][:2]
    given = fields.model_dump(mode="json", exclude_defaults=True, exclude=set(OUTPUT_FIELDS))
    parts = ("2", orjson.dumps(given, option=orjson.OPT_SORT_KEYS).decode(), source, mask)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _former_fingerprint(fields: ImagesEditFields | SessionFields, received: Sequence[str]) -> str:
    """As version 0.1 made it: of all its fields."""
    source, mask = [*received, ""][:2]
    if isinstance(fields, ImagesEditFields):
        fields = fields.model_copy(update={"output_format": fields.output_format or "png"})
    parts = (fields.model_dump_json(exclude=set(NEW_FIELDS)), source, mask)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
