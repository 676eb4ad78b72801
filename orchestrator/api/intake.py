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
from services.imaging.codec import CheckedImage, ImageLimits, from_base64
from services.imaging.decode_pool import DecodePool
from services.protocol.images_api import INPUT_FACTOR, read_form, source_and_references, validate
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
class Pictures:
    """The encoded pictures of a request: the source, the mask, and the references in the caller's order."""

    source: bytes
    mask: bytes | None = None
    references: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class _Received:
    """The digests of a request's pictures as they were received; of the mask, empty if there is none."""

    source: str
    mask: str = ""
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Intake:
    """Creates sessions.

    Attributes:
        catalogue_now: returns the editors and thinkers that callers can name.
        deadlines: of sessions.
        limits: of a picture; all of a request have `INPUT_FACTOR` times as many bytes at most.
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

    async def from_form(self, request: Request, model: type[_Fields]) -> tuple[_Fields, Pictures]:
        """The validated fields and the pictures of a multipart request."""
        kind = request.headers.get("content-type", "").lower()
        if not kind.startswith("multipart/form-data"):
            message = "send multipart/form-data with a file part `image` and a text field `prompt` (/v1/sessions takes JSON too)"
            raise ApiError("unsupported_media_type", message, param="image")
        async with open_form(request, max_files=20, max_fields=100, max_file_bytes=self.limits.max_bytes) as form:
            read = await read_form(form)
        fields = validate(model, _with_metadata(read.fields))
        source, references = source_and_references(read.images)
        pictures = Pictures(source, read.mask, references)
        check(fields, self.catalogue, self.deadlines, images=len(read.images), has_mask=read.mask is not None)
        return fields, pictures

    async def from_json(self, request: Request, tenant: str, reserve: Reserve) -> tuple[SessionFields, Pictures]:
        """The validated fields and the pictures of a JSON request, whose images are base64 or URLs.

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
        return fields, Pictures(source, mask)

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
        source, *references = map(image_ref, images)
        sources = Sources(source, image_ref(mask) if mask else None, tuple(references))
        seed = secrets.randbelow(_MAX_SEED)
        event = first_event(fields, sources, self.catalogue, self.deadlines, now=self.clock.now(), seed=seed, tenant=tenant.name)
        same = Idempotency(key or "", _fingerprint(fields, received), _former_fingerprint(fields, received))
        idempotency = same if key or waits else None
        created = await self._record([*images, *([mask] if mask else [])], event, idempotency, tenant.bounds, webhook)
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

    async def _check(self, pictures: Pictures, tenant: str) -> tuple[list[CheckedImage], CheckedImage | None, _Received]:
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
            return images, None, _Received(digests[0], references=tuple(digests[1:]))
        size_of_source = (images[0].width, images[0].height)
        digest, mask = await self.decoder.check_mask(pictures.mask, size_of_source, limits=self.limits, tenant=tenant)
        return images, mask, _Received(digests[0], digest, tuple(digests[1:]))

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


def _fingerprint(fields: ImagesEditFields | SessionFields, received: _Received) -> str:
    """Of a request: the fields that it sets, and the digests of its pictures as they were received.

    How the result is sent is not part of it: a repeat may ask for another format. Fields at their defaults are not either, so
    that versions with more or fewer fields agree.
    """
    # Stored in Redis with the caller's key: it must not change between versions.
    given = fields.model_dump(mode="json", exclude_defaults=True, exclude=set(OUTPUT_FIELDS))
    parts = ("2", orjson.dumps(given, option=orjson.OPT_SORT_KEYS).decode(), *_digests(received))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _former_fingerprint(fields: ImagesEditFields | SessionFields, received: _Received) -> str:
    """As version 0.1 made it: of all its fields."""
    parts = (fields.model_dump_json(exclude=set(NEW_FIELDS)), *_digests(received))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _digests(received: _Received) -> tuple[str, ...]:
    # The references last: without any it is what it was before there were some.
    return (received.source, received.mask, *received.references)
