"""Client of any OpenAI ``POST /v1/images/edits`` server: our worker, vLLM-Omni, SGLang, OpenAI itself."""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from PIL import Image

from orchestrator.loop.events import TOO_LATE
from orchestrator.ports import EditOrder, EditorError, EditReply, StoredImage
from orchestrator.request_timing import RequestTiming
from orchestrator.upstreams.adaptive_limit import AdaptiveLimit, Slot
from orchestrator.upstreams.http import Call, HttpUpstream, Lazy, Reply
from services.errors import ApiError
from services.imaging.codec import UNLIMITED, CheckedImage, ImageInfo, ImageLimits, decode, encode, from_base64, inspect
from services.imaging.containers import is_complete

_PARAM: Final = "the editor's image"
_MOST_TIMINGS: Final = 32
_LONGEST_TIMING: Final = 64
_AHEAD: Final = {"priority": "u=2"}
"""RFC 9218: one level more urgent than a request that says nothing."""
_ROUNDED_UP: Final = 2
"""How many times the source's pixels an editor may answer with, where that is more than anybody may send."""
_ASPECT_TOLERANCE: Final = 0.04
"""Editors round sizes to multiples of 8 to 64; a picture of nearly the source's shape is scaled back to its size."""


class HttpEditor:
    """`orchestrator.ports.Editor` over the Images API.

    Args:
        upstream: where to post.
        model: the server's name for the model, or None to leave the field out.
        send_seed: whether the server knows the extension field ``seed``.
        gate: bounds the edits in flight; without one there is no bound.
    """

    def __init__(
        self, upstream: HttpUpstream, *, model: str | None = None, send_seed: bool = True, gate: AdaptiveLimit | None = None
    ) -> None:
        self._upstream = upstream
        self._model = model
        self._send_seed = send_seed
        self._gate = gate

    async def ready(self) -> bool:
        """Whether the editor can be asked now."""
        return await self._upstream.ready()

    async def edit(self, order: EditOrder) -> EditReply:
        """Edit the source once; the time at the gate counts.

        Raises:
            EditorError: when no sound image came back.
        """
        fields: dict[str, Any] = {"prompt": order.instruction, **order.options}
        if self._model:
            fields["model"] = self._model
        if self._send_seed:
            fields["seed"] = order.seed
        boundary = secrets.token_hex(16)
        files = [("image", order.source)]
        if order.mask is not None:
            files.append(("mask", order.mask))
        body = _multipart(boundary, fields, files)
        headers = {"idempotency-key": order.key, **(_AHEAD if order.later else {})}
        call = Call("/images/edits", body, f"multipart/form-data; boundary={boundary}", headers)
        earlier = len(order.tries)
        reply = await self._post(call, order)
        _charge(order.tries[earlier:], reply)
        data = _image_of(reply.json)
        info = _sound(data, order.source.ref.width * order.source.ref.height)
        if order.options.get("size") in {None, "auto"}:
            data, info = await _at_source_size(data, info, order.source.ref.width, order.source.ref.height)
        return EditReply(CheckedImage.hashed(data, info), _timings(reply.json), _replayed(reply))

    async def _post(self, call: Call, order: EditOrder) -> Reply:
        if self._gate is None:
            return await self._upstream.post(call, order.timeout_s, tries=order.tries)
        ends, patience_s = time.monotonic() + order.timeout_s, max(0.0, min(order.start_s, order.timeout_s))
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(patience_s):
                    place = await stack.enter_async_context(self._gate.place(later=order.later, session_id=order.session_id))
            except TimeoutError as exc:
                if order.start_s < order.timeout_s:
                    message = "no place was free at the editor in time for an edit before the deadline; raise deadline_s"
                    raise EditorError(TOO_LATE, message) from exc
                message = f"no place was free at the editor within {patience_s:.1f} s"
                raise EditorError("editor_timeout", message, retryable=True) from exc
            left = ends - time.monotonic()
            reply = await self._upstream.post(call, left, lambda: place.refused(time.monotonic()), order.tries)
            _tell(place, reply)
            return reply


def _tell(place: Slot, reply: Reply) -> None:
    """How long the edit stood in the pool: in its worker's line, and before it got there. A replay says nothing of either."""
    if _replayed(reply):
        return
    timings = _timings(reply.json)
    waited: float | None = None
    if "queue_ms" in timings and "total_ms" in timings:
        outside = max(0.0, reply.elapsed_s - timings["total_ms"] / 1000)
        waited = min(reply.elapsed_s, max(0.0, timings["queue_ms"] / 1000) + outside)
    place.answered(elapsed_s=reply.elapsed_s, waited_s=waited, now=time.monotonic())


def _charge(tries: Sequence[RequestTiming], reply: Reply) -> None:
    """What the editor says it worked, where it does, in place of our clock, which counts its line too."""
    told_ms = _timings(reply.json).get("edit_ms")
    if told_ms is None or not tries:
        return
    told_s = max(0.0, told_ms / 1000)
    if _replayed(reply):
        # That is all work under this key, whoever asked first: another replica, or a try before this one.
        for each in tries:
            each.worked_s = 0.0
    else:
        told_s = min(told_s, tries[-1].seconds)
    tries[-1].worked_s = told_s


def _replayed(reply: Reply) -> bool:
    return reply.headers.get("idempotent-replayed", "").lower() == "true"


def _multipart(boundary: str, fields: Mapping[str, Any], files: list[tuple[str, StoredImage]]) -> list[bytes | Lazy]:
    """The form in pieces; the images are loaded as they are sent."""
    parts: list[bytes | Lazy] = []
    for name, value in fields.items():
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        parts += [head.encode(), str(value).encode("utf-8", "replace"), b"\r\n"]
    for name, image in files:
        media_type = image.ref.media_type
        suffix = media_type.removeprefix("image/")
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.{suffix}"\r\n'
            f"Content-Type: {media_type}\r\n\r\n"
        )
        parts += [head.encode(), Lazy(image.ref.bytes, image.load), b"\r\n"]
    parts.append(f"--{boundary}--\r\n".encode())
    return parts


def _image_of(reply: Any) -> bytes:
    images = reply.get("data") if isinstance(reply, dict) else None
    first = images[0] if isinstance(images, list) and images else None
    text = first.get("b64_json") if isinstance(first, dict) else None
    if not isinstance(text, str) or not text:
        raise EditorError("editor_bad_reply", "the editor's reply has no data[0].b64_json", retryable=True)
    try:
        return from_base64(text)
    except ApiError as exc:
        raise EditorError("editor_bad_reply", "the editor's image is not valid base64", retryable=True) from exc


def _sound(data: bytes, source_pixels: int) -> ImageInfo:
    """Header and structure of an image, without decoding a pixel; its bytes were bounded with the reply's."""
    most = max(ImageLimits().max_pixels, _ROUNDED_UP * source_pixels)
    try:
        info = inspect(data, limits=replace(UNLIMITED, max_pixels=most), param=_PARAM)
    except ApiError as exc:
        raise EditorError("editor_bad_reply", exc.message, retryable=True) from exc
    if not is_complete(data):
        raise EditorError("editor_bad_reply", "the editor's image is truncated or corrupt", retryable=True)
    return info


async def _at_source_size(data: bytes, info: ImageInfo, width: int, height: int) -> tuple[bytes, ImageInfo]:
    """The image at the source's size when it has (nearly) its shape; a deliberate crop or turn stays as it is."""
    same = (info.width, info.height) == (width, height)
    aspect = (info.width / info.height) / (width / height)
    if same or abs(aspect - 1) > _ASPECT_TOLERANCE:
        return data, info

    def scale() -> bytes:
        return encode(decode(data, limits=UNLIMITED, param=_PARAM).resize((width, height), Image.Resampling.LANCZOS), "png")

    try:
        scaled = await asyncio.to_thread(scale)
    except ApiError as exc:
        raise EditorError("editor_bad_reply", exc.message, retryable=True) from exc
    return scaled, ImageInfo("image/png", width, height)


def _timings(reply: Any) -> dict[str, float]:
    """What the editor tells of its own time, in bounds: it is recorded with every candidate."""
    timings = reply.get("timings") if isinstance(reply, dict) else None
    if not isinstance(timings, dict):
        return {}
    named = {str(name): value for name, value in timings.items() if len(str(name)) <= _LONGEST_TIMING}
    numbers = {name: float(value) for name, value in named.items() if type(value) in {int, float} and math.isfinite(value)}
    return dict(list(numbers.items())[:_MOST_TIMINGS])
