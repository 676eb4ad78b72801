"""Client of an OpenAI ``POST /v1/images/edits`` server: our worker, vLLM-Omni, SGLang, OpenAI itself."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from orchestrator.loop.events import TOO_LATE, Alpha, OutsideMask
from orchestrator.ports.collaborators import EditOrder, EditorUsage, EditReply, RequestTiming, StoredImage
from orchestrator.ports.errors import EditorError
from orchestrator.ports.origins import Origin, read_origin
from orchestrator.upstreams.adaptive_limit import AdaptiveLimit, Slot
from orchestrator.upstreams.editor_links import EditorLinks
from orchestrator.upstreams.http import Call, HttpUpstream, Lazy, Reply, RequestObserver
from orchestrator.upstreams.kept_sources import UNKNOWN, KeptSources
from orchestrator.upstreams.liveness import Patience
from services.errors import ApiError
from services.imaging import shapes
from services.imaging.codec import UNLIMITED, CheckedImage, ImageInfo, ImageLimits, from_base64
from services.imaging.decode_pool import DecodePool
from services.imaging.manifests import ANSWER
from services.protocol.critique.places import Place, top_first
from services.protocol.images_api import MAX_IMAGES, RAW_IMAGE, SOURCE_KEY, TRAINED, pixels_of

log = logging.getLogger(__name__)

_PARAM: Final = "the editor's image"
_NATIVE: Final = "native_size"
_DRAFT: Final = "draft"
_PREVIEWS: Final = 2
"""Spread evenly over the steps: the first comes after a third of them."""
_REFUSED: Final = frozenset({400, 422})
_MAX_TIMINGS: Final = 32
_MAX_PHRASES: Final = 16
_MAX_PHRASE: Final = 200
"""Characters."""
_MAX_LORAS: Final = 1000
_MAX_TIMING_NAME: Final = 64
_LATER_TURN: Final = {"priority": "u=2"}
"""RFC 9218, section 4.1: one level more urgent than the default, u=3."""
_ACCEPT: Final = f"application/json, {RAW_IMAGE}"
"""Our own workers answer with the picture's bytes; the base64 and JSON of a megapixel cost more than its checks."""
_MAX_GROWTH: Final = 2
"""Pixels of an edited image at most, as a multiple of the source's, where that is above the limit for uploads."""
_BYTES_PER_PIXEL: Final = 4
"""RGBA without compression."""
_MIN_REPLY_BOUND: Final = 64 * 1024 * 1024
"""An uncompressed image of 12 megapixels in base64; the largest that models of 2026 make are PNGs of 16."""


@dataclass(frozen=True, slots=True)
class Told:
    """What an editor tells of itself: whether it takes a mask, how many pictures an edit takes, how many tokens of a prompt it
    reads and the area at which it edits (None if it cannot answer at its native size), which LoRAs a request may name, whether
    a prompt may end with boxes, drafts, how many unfinished pictures an edit sends, whether the seed makes no difference, and
    whether a trained model makes its pictures. What it does not tell is None.
    """

    mask: bool = False
    images: int = 1
    prompt_tokens: int | None = None
    loras: frozenset[str] | None = None
    native_pixels: int | None = None
    boxes: bool = False
    draft: bool = False
    partial_images: int = 0
    deterministic: bool = False
    trained: bool = True


@dataclass(frozen=True, slots=True)
class Asks:
    """Which optional fields the requests to an editor have: some servers refuse fields that they do not know.

    Attributes:
        seed: ``seed``, an extension.
        base64: ``response_format``, without which some servers answer links.
        png: ``output_format``: SGLang answers JPEG otherwise, which would be encoded twice.
        boxes: whether an instruction ends with the order's boxes now.
        learn: asks the editor what it takes, if that is not known yet: other fields depend on it.
    """

    seed: bool = True
    base64: bool = True
    png: bool = True
    boxes: Callable[[], bool] = lambda: False
    learn: Callable[[], Awaitable[None]] | None = None


class HttpEditor:
    """`orchestrator.ports.collaborators.Editor` over the Images API.

    Args:
        upstream: where to post.
        model: the server's name for the model, or None to leave the field out.
        asks: the optional fields of its requests.
        links: fetches pictures that the server answers as links; refuses all if absent.
        limit: bounds the edits in flight; unbounded if None.
        decoder: checks and scales images; one of its own if absent.
        told: what is known of the editor: of its `native_pixels`, `draft` and `partial_images` use is made.
    """

    def __init__(
        self,
        upstream: HttpUpstream,
        *,
        model: str | None = None,
        asks: Asks | None = None,
        links: EditorLinks | None = None,
        limit: AdaptiveLimit | None = None,
        decoder: DecodePool | None = None,
        told: Callable[[], Told] = Told,
    ) -> None:
        self._told = told
        self._upstream = upstream
        self._model = model
        self._asks = asks or Asks()
        self._links = links or EditorLinks("")
        self._limit = limit
        self._decoder = decoder or DecodePool()
        self._sources = KeptSources()

    async def ready(self) -> bool:
        """Whether the editor accepts requests now."""
        return await self._upstream.ready()

    @property
    def is_open(self) -> bool:
        """Whether it has stopped answering, and is not asked now."""
        return self._upstream.health.is_open

    async def capabilities(self) -> Told | None:
        """What the editor's list of models says of the model in use; None if it does not answer."""
        models = await self._upstream.models()
        if models is None:
            return None
        named = [model for model in models if isinstance(model, dict) and self._model in {None, model.get("id")}]
        found = named[0].get("capabilities") if named else None
        if not isinstance(found, dict):
            return Told()
        images = found.get("images")
        most = images if isinstance(images, int) and not isinstance(images, bool) else 1
        loras = found.get("loras")
        names = frozenset(itertools.islice(map(str, loras), _MAX_LORAS)) if isinstance(loras, dict) else None
        tokens, pixels = (_positive(found.get(name)) for name in ("prompt_tokens", "native_pixels"))
        return Told(
            mask=found.get("mask") is True,
            images=min(max(1, most), MAX_IMAGES),
            prompt_tokens=tokens,
            loras=names,
            native_pixels=pixels,
            boxes=found.get("boxes") is True,
            draft=found.get("draft") is True,
            partial_images=_positive(found.get("partial_images")) or 0,
            deterministic=found.get("deterministic") is True,
            trained=found.get("trained") is not False,
        )

    async def edit(self, order: EditOrder, usage: EditorUsage, patience: Patience | None = None) -> EditReply:
        """Edit the source once; the time queued for a slot counts toward its time.

        Args:
            order: the edit.
            usage: gets its editor time.
            patience: what is left of the order's time, if other editors were asked before.

        Raises:
            EditorError: if no valid image came back.
        """
        patience = patience or Patience.of(order.timeout_s, order.start_s)
        if self._asks.learn is not None:
            # An edit that another replica began is sent as it was then: for other fields its key would be refused.
            await self._asks.learn()
        small = self._small(order)
        requests = _Requests(usage)
        try:
            requests.draft = small == _DRAFT
            reply, max_reply = await self._request(order, self._fields(order, small), requests, patience)
        except EditorError as exc:
            # Behind a balancer another worker, of an earlier version, may have got it than the one that told.
            if small is None or exc.status not in _REFUSED or small not in exc.message:
                raise
            small, requests.draft = None, False
            reply, max_reply = await self._request(order, self._fields(order, small), requests, patience)
        requests.reported(reply)
        file = await self._image_of(reply, order, max_reply)
        data, info, transparent = await self._received(file, order)
        # Where nothing was removed there were no marks.
        origin = Origin() if data is file else await self._origin(file, order)
        data, info = await self._at_size(data, info, order, small=small is not None)
        # That of a draft, which is blurred, would be a change everywhere.
        outside = None if small == _DRAFT else await self._outside_mask(data, info, order)
        alpha = alpha_of(of_source=order.alpha, of_candidate=transparent)
        made = CheckedImage.hashed(data, info)
        return EditReply(
            made,
            _timings(reply.json),
            _replayed(reply),
            outside_mask=outside,
            alpha=alpha,
            unchanged=await self._unchanged(reply, data, info, order),
            not_understood=_not_understood(reply.json),
            trained=_trained(reply, self._told()),
            origin=origin,
        )

    async def _unchanged(self, reply: Reply, data: bytes, info: ImageInfo, order: EditOrder) -> bool:
        """Whether the picture is the source. Our own workers know; a small picture cannot be compared."""
        told = _first_of(reply.json).get("unchanged")
        if reply.raw is not None or isinstance(told, bool):
            return told is True
        if (info.width, info.height) != (order.source.ref.width, order.source.ref.height):
            return False
        source = await order.source.load()
        try:
            return data == source or await self._decoder.same(source, data, param=_PARAM, tenant=order.tenant)
        except ApiError as exc:
            raise EditorError("editor_bad_reply", exc.message, retryable=True) from exc

    def _small(self, order: EditOrder) -> str | None:
        """The field by which the picture comes smaller than it is wanted: of a draft, or of one that would be scaled up.

        No native size with a mask: where it is closed the picture has the source's own pixels.
        """
        told = self._told()
        if order.draft and told.draft:
            return _DRAFT
        pixels = told.native_pixels
        width, height = _wanted_size(order)
        return _NATIVE if pixels is not None and width * height > pixels and order.mask is None else None

    def _fields(self, order: EditOrder, small: str | None) -> dict[str, Any]:
        fields: dict[str, Any] = {"prompt": self._prompt(order), **order.options}
        if self._model:
            fields["model"] = self._model
        if self._asks.seed:
            fields["seed"] = order.seed
        if self._asks.base64:
            fields["response_format"] = "b64_json"
        if self._asks.png:
            fields["output_format"] = "png"
        if small is not None:
            fields[small] = "true"
        if self._previews(order):
            fields |= {"stream": "true", "partial_images": min(_PREVIEWS, self._told().partial_images)}
        return fields

    def _previews(self, order: EditOrder) -> bool:
        return order.on_preview is not None and self._told().partial_images > 0

    async def _previewed(self, event: dict[str, Any], order: EditOrder) -> None:
        """Hand on the first unfinished picture. One that is not valid is passed over: the edit goes on without it."""
        text = event.get("b64_json")
        if order.on_preview is None or not isinstance(text, str):
            return
        try:
            data, info, _ = await self._received(await asyncio.to_thread(from_base64, text), order)
        except (ApiError, EditorError) as exc:
            log.warning("an unfinished picture of edit %s was not valid: %s", order.key, exc.message)
            return
        await order.on_preview(CheckedImage.hashed(data, info))

    def _prompt(self, order: EditOrder) -> str:
        """The instruction, with the order's boxes at its end for an editor that is handed them."""
        if not order.boxes or not self._asks.boxes():
            return order.instruction
        boxes = (Place(box.left, box.top, box.right, box.bottom, box.word) for box in order.boxes)
        return f"{order.instruction}\n{top_first(boxes)}"

    async def _request(
        self, order: EditOrder, fields: Mapping[str, Any], requests: _Requests, patience: Patience
    ) -> tuple[Reply, int]:
        """The reply, and the most bytes that it may have."""
        boundary = secrets.token_hex(16)
        # As OpenAI's own client names them: a list has brackets.
        files = [("image[]", image) for image in (order.source, *order.references)]
        if not order.references:
            files = [("image", order.source)]
        if order.mask is not None:
            files.append(("mask", order.mask))
        body = _multipart(boundary, fields, files)
        key = self._sources.key(order) if len(files) == 1 else None
        headers = {"idempotency-key": order.key, "accept": _ACCEPT, **(_LATER_TURN if order.later else {})}
        headers |= {SOURCE_KEY: key} if key else {}
        most = _max_reply(order)
        previewed = _FirstPreview(partial(self._previewed, order=order)) if self._previews(order) else None
        call = Call("/images/edits", body, f"multipart/form-data; boundary={boundary}", headers, most, previewed)
        named = replace(call, body=_multipart(boundary, fields, [])) if key and self._sources.is_kept(key) else None
        return await self._post(call, named, order, requests, patience), most

    async def _outside_mask(self, data: bytes, info: ImageInfo, order: EditOrder) -> OutsideMask | None:
        """What the edit changed outside the mask; None without one, or for a picture of another shape than the source."""
        source_size = (order.source.ref.width, order.source.ref.height)
        if order.mask is None or not shapes.nearly((info.width, info.height), source_size):
            return None
        source, mask = await order.source.load(), await order.mask.load()
        try:
            found = await self._decoder.outside(source, mask, data, param=_PARAM, tenant=order.tenant)
        except ApiError as exc:
            raise EditorError("editor_bad_reply", exc.message, retryable=True) from exc
        return None if found is None else OutsideMask(changed=found.changed, difference=found.difference)

    async def _image_of(self, reply: Reply, order: EditOrder, max_bytes: int | None) -> bytes:
        """The image: the body itself, base64 in its JSON, or behind a link."""
        if reply.raw is not None:
            return reply.raw
        first = _first_of(reply.json)
        text, link = first.get("b64_json"), first.get("url")
        if not (isinstance(text, str) and text) and isinstance(link, str) and link:
            text = link
            if not link.startswith("data:"):
                return await self._links.fetch(link, tenant=order.tenant, max_bytes=max_bytes or _MIN_REPLY_BOUND)
        if not isinstance(text, str) or not text:
            raise EditorError("editor_bad_reply", "the editor's reply has no data[0].b64_json", retryable=True)
        try:
            return await asyncio.to_thread(from_base64, text)
        except ApiError as exc:
            raise EditorError("editor_bad_reply", "the editor's image is not valid base64", retryable=True) from exc

    async def _received(self, data: bytes, order: EditOrder) -> tuple[bytes, ImageInfo, bool]:
        """An image whose header and structure were checked, without metadata: the editor's texts, EXIF and profiles are not for
        callers. The limit on replies bounds its bytes.
        """
        max_pixels = max(ImageLimits().max_pixels, _MAX_GROWTH * order.source.ref.width * order.source.ref.height)
        limits = replace(UNLIMITED, max_pixels=max_pixels)
        try:
            return await self._decoder.receive(data, limits=limits, param=_PARAM, tenant=order.tenant, alpha=order.alpha)
        except ApiError as exc:
            raise EditorError("editor_bad_reply", exc.message, retryable=True) from exc

    async def _origin(self, file: bytes, order: EditOrder) -> Origin:
        """What an answer says of its origin: other services sign their pictures. An edit that was paid for is not refused."""
        return await read_origin(self._decoder, file, ANSWER, limits=UNLIMITED, tenant=order.tenant, bounded=False)

    async def _at_size(self, data: bytes, info: ImageInfo, order: EditOrder, *, small: bool) -> tuple[bytes, ImageInfo]:
        """The image at the size that was asked for, cropped or padded if the editor gave it another shape.

        Without one it is scaled to the source's size if it has nearly its shape; a deliberate crop or rotation stays. A draft, or
        one of the editor's native size, is scaled up when the session ends.
        """
        made, wanted = (info.width, info.height), _wanted_size(order)
        asked, rounded = _size_of(order), shapes.nearly(made, wanted)
        if small and shapes.enlarges(made, wanted):
            return data, info
        if made == wanted or not (rounded or asked):
            return data, info
        fit = None if rounded else order.fit
        width, height = wanted
        try:
            scaled = await self._decoder.resize(data, wanted, param=_PARAM, tenant=order.tenant, fit=fit)
        except ApiError as exc:
            raise EditorError("editor_bad_reply", exc.message, retryable=True) from exc
        return scaled, ImageInfo("image/png", width, height)

    async def _post(self, call: Call, named: Call | None, order: EditOrder, requests: _Requests, patience: Patience) -> Reply:
        if self._limit is None:
            return await self._send(call, named, patience, requests)
        to_start_s = patience.to_start_s()
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(to_start_s):
                    waiting = self._limit.slot(later=order.later, session_id=order.session_id, tenant=order.tenant)
                    requests.slot = await stack.enter_async_context(waiting)
            except TimeoutError as exc:
                if patience.start_by < patience.ends:
                    message = "no slot was free at the editor in time for an edit before the deadline; raise deadline_s"
                    raise EditorError(TOO_LATE, message) from exc
                message = f"no slot was free at the editor within {to_start_s:.1f} s"
                raise EditorError("editor_timeout", message, retryable=True) from exc
            reply = await self._send(call, named, patience, requests)
            _report_times(requests.slot, reply, draft=requests.draft)
            return reply

    async def _send(self, call: Call, named: Call | None, patience: Patience, requests: _Requests) -> Reply:
        """The reply to the call that only names its source, if there is one and the worker has it; else to the whole call."""
        key = call.headers.get(SOURCE_KEY, "")
        if named is not None:
            try:
                reply = await self._upstream.post(named, patience, requests)
            except EditorError as exc:
                if exc.status != UNKNOWN:
                    raise
                self._sources.missed(key)
            else:
                self._sources.found()
                return reply
        reply = await self._upstream.post(call, patience, requests)
        if key:
            self._sources.answered(key, reply.headers)
        return reply


class _FirstPreview:
    """Hands on the first unfinished picture of an edit, over all its requests, and no other."""

    def __init__(self, then: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        self._then = then
        self._seen = False

    async def __call__(self, event: dict[str, Any]) -> None:
        if not self._seen and event.get("partial_image_index") == 0:
            self._seen = True
            await self._then(event)


class _Requests(RequestObserver):
    """The requests of one call to one editor: adds their times to the edit's usage, and reports rejections to its slot."""

    def __init__(self, usage: EditorUsage) -> None:
        self._usage = usage
        self._timings: list[RequestTiming] = []
        self.slot: Slot | None = None
        self.draft = False
        """Whether they ask for a draft."""

    def request_started(self) -> RequestTiming:
        self._timings.append(self._usage.start_request())
        return self._timings[-1]

    def rejected(self) -> None:
        if self.slot is not None:
            self.slot.rejected(time.monotonic())

    def reported(self, reply: Reply) -> None:
        """Use the time that the editor reports, if it does: our clock also counts the time in its queue."""
        edit_ms = _timings(reply.json).get("edit_ms")
        if edit_ms is None or not self._timings:
            return
        edit_s = max(0.0, edit_ms / 1000)
        if _replayed(reply):
            # It covers all work under this idempotency key: by requests before this one, or of another replica.
            for timing in self._timings:
                timing.reported_s = 0.0
        else:
            edit_s = min(edit_s, self._timings[-1].seconds)
        self._timings[-1].reported_s = edit_s


def _report_times(slot: Slot, reply: Reply, *, draft: bool) -> None:
    """Report the edit's times to its slot: the queue time is that in the worker's queue, and before it reached the worker. The
    times of a replay are those of another request.
    """
    if _replayed(reply):
        return
    timings = _timings(reply.json)
    queue_s: float | None = None
    if "queue_ms" in timings and "total_ms" in timings:
        before_worker_s = max(0.0, reply.elapsed_s - timings["total_ms"] / 1000)
        queue_s = min(reply.elapsed_s, max(0.0, timings["queue_ms"] / 1000) + before_worker_s)
    slot.completed(elapsed_s=reply.elapsed_s, queue_s=queue_s, draft=draft)


def _trained(reply: Reply, told: Told) -> bool:
    """Whether a trained model made the picture, as the reply or the editor's list of models says; otherwise one did."""
    said = reply.headers.get(TRAINED, "").lower()
    return said == "true" if said in {"true", "false"} else told.trained


def _replayed(reply: Reply) -> bool:
    return reply.headers.get("idempotent-replayed", "").lower() == "true"


def _multipart(boundary: str, fields: Mapping[str, Any], files: list[tuple[str, StoredImage]]) -> list[bytes | Lazy]:
    """The form in pieces; the images are loaded when they are sent."""
    parts: list[bytes | Lazy] = []
    for name, value in fields.items():
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        parts += [head.encode(), str(value).encode("utf-8", "replace"), b"\r\n"]
    for number, (name, image) in enumerate(files):
        media_type = image.ref.media_type
        stem = f"image-{number + 1}" if name == "image[]" else name
        filename = f"{stem}.{media_type.removeprefix('image/')}"
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
            f"Content-Type: {media_type}\r\n\r\n"
        )
        parts += [head.encode(), Lazy(image.ref.bytes, image.load), b"\r\n"]
    parts.append(f"--{boundary}--\r\n".encode())
    return parts


def _max_reply(order: EditOrder) -> int:
    """Bytes of a reply with an image of the session: `_MAX_GROWTH` times the pixels of its source or size, uncompressed, in
    base64. Models that always answer at their own size make more of a small source, so there is a floor.
    """
    ref = order.source.ref
    width, height = _size_of(order) or (0, 0)
    return max(_MIN_REPLY_BOUND, _MAX_GROWTH * max(ref.width * ref.height, width * height) * _BYTES_PER_PIXEL * 4 // 3)


def _size_of(order: EditOrder) -> tuple[int, int] | None:
    """The size that the caller asked for."""
    return pixels_of(str(order.options.get("size", "auto")))


def _wanted_size(order: EditOrder) -> tuple[int, int]:
    """The size that the caller's picture will have: the one asked for, or the source's."""
    return _size_of(order) or (order.source.ref.width, order.source.ref.height)


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def alpha_of(*, of_source: bool, of_candidate: bool) -> Alpha | None:
    """What became of the source's transparency: a candidate without any has lost it, however the editor filled it."""
    if not of_source:
        return None
    return "kept" if of_candidate else "dropped"


def _first_of(reply: Any) -> dict[str, Any]:
    images = reply.get("data") if isinstance(reply, dict) else None
    first = images[0] if isinstance(images, list) and images else None
    return first if isinstance(first, dict) else {}


def _not_understood(reply: Any) -> tuple[str, ...]:
    """What of the instruction the editor says it did not carry out; bounded, since it is recorded."""
    phrases = reply.get("not_understood") if isinstance(reply, dict) else None
    if not isinstance(phrases, list):
        return ()
    texts = [" ".join(phrase.split())[:_MAX_PHRASE] for phrase in phrases if isinstance(phrase, str)]
    return tuple(text for text in texts if text)[:_MAX_PHRASES]


def _timings(reply: Any) -> dict[str, float]:
    """The times that the editor reports; bounded, since they are recorded with every candidate."""
    timings = reply.get("timings") if isinstance(reply, dict) else None
    if not isinstance(timings, dict):
        return {}
    named = {str(name): value for name, value in timings.items() if len(str(name)) <= _MAX_TIMING_NAME}
    numbers = {name: float(value) for name, value in named.items() if type(value) in {int, float} and math.isfinite(value)}
    return dict(list(numbers.items())[:_MAX_TIMINGS])
