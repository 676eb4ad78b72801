"""``python -P -m services.imaging.decode_worker MEMORY_BYTES BUFFER light|heavy``: decodes strangers' pictures for `DecodePool`.

The process has no secrets in its environment, no writable files, and limits on its memory and on the CPU time of each job. It
reads one job a line on standard input, as JSON, and writes one reply a line. Encoded pictures and pixels go through the file
descriptor that the parent gave it, so that neither side parses the other's objects.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from PIL import Image

from services.errors import ApiError
from services.imaging import codec, manifests, marks, masks, shapes
from services.imaging.codec import UNLIMITED, ImageLimits, MediaType, OpenedImage
from services.imaging.containers import content_digest, is_complete
from services.imaging.sameness import pixel_digest, same_pixels
from services.imaging.structure import webp_size

TOO_MUCH_MEMORY: Final = "takes too much memory to decode; send a smaller picture, or an 8-bit PNG or baseline JPEG"
LIGHT_S: Final = 0.3
"""Estimated CPU seconds above which a job is heavy; those of a telephone's photograph of 12 megapixels are 0.2."""
LIGHT_BYTES: Final = 320 * 1024 * 1024
"""Memory above which it is, so that what light jobs take together stays small."""
_ENCODE_PIXEL_S: Final = 60e-9
_OPEN_FILES: Final = 32
_NICE: Final = 15
_PR_SET_PDEATHSIG: Final = 1
BASE_BYTES: Final = 128 * 1024 * 1024
"""Of the process without a picture, and the strips that are converted."""
DECODED_BYTES: Final[dict[MediaType, int]] = {"image/webp": 16, "image/png": 12, "image/jpeg": 12}
"""For each pixel at most, the result included. WebP's decoder holds two canvases and a copy; a progressive JPEG holds its
coefficients. Measured 2026-11-29 with Pillow 13: 793, 476 and 602 MiB for 50 megapixels."""


class _HeavyError(Exception):
    """A job that was sent as a light one is not."""


def _open(data: bytes, args: dict[str, Any], *, encoded_pixels: int = 0) -> OpenedImage:
    """The image with its header read, unless decoding takes too much memory, or more time than a light job has.

    Args:
        data: the encoded image.
        args: of the operation.
        encoded_pixels: pixels that are encoded in any case; -1 for those of the image.
    """
    if (declared := webp_size(data)) is not None:
        _check_memory("image/webp", declared[0] * declared[1])
    opened = codec.open_image(data, limits=ImageLimits(*args["limits"]), param=args["param"])
    pixels = opened.info.width * opened.info.height
    _check_memory(opened.info.media_type, pixels)
    encode_s = (pixels if encoded_pixels < 0 else encoded_pixels) * _ENCODE_PIXEL_S
    memory = pixels * DECODED_BYTES[opened.info.media_type]
    if args["light"] and (opened.work_s + encode_s > LIGHT_S or memory > LIGHT_BYTES):
        raise _HeavyError
    return opened


def _check_memory(media_type: MediaType, pixels: int) -> None:
    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if limit != resource.RLIM_INFINITY and pixels * DECODED_BYTES[media_type] > limit - BASE_BYTES:
        raise MemoryError


def _check(data: bytes, args: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    opened = _open(data, args)
    received = codec.digest(data)
    checked = codec.check_image(opened, received)
    info = {"media_type": checked.media_type, "width": checked.width, "height": checked.height, "sha256": checked.sha256}
    unchanged = checked.data is data
    found = marks.read(data)
    marked = bool(found.xmp or found.c2pa)
    facts = {"received": received, "unchanged": unchanged, "alpha": checked.alpha, "marked": marked, **info}
    return facts, b"" if unchanged else checked.data


def _receive(data: bytes, args: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    opened = codec.open_image(data, limits=ImageLimits(*args["limits"]), param=args["param"])
    if codec.is_bare(opened) and not args["alpha"]:
        info = opened.info
        facts = {"media_type": info.media_type, "width": info.width, "height": info.height, "unchanged": True, "alpha": False}
        return facts, b""
    if not is_complete(data):
        raise ApiError("invalid_image", f"{args['param']} is truncated or corrupt", param=args["param"])
    checked = codec.check_image(replace(_open(data, args), limits=UNLIMITED))
    unchanged = checked.data is data
    facts = {"media_type": checked.media_type, "width": checked.width, "height": checked.height, "unchanged": unchanged}
    return {**facts, "alpha": checked.alpha}, b"" if unchanged else checked.data


def _transcode(data: bytes, args: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    side = args["max_side"]
    _open(data, args, encoded_pixels=side**2 if side else -1)
    wanted = (args["format"], args["compression"])
    return {}, codec.transcode(data, *wanted, opaque=args["opaque"], max_side=side, param=args["param"])


def _resize(data: bytes, args: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    width, height = args["size"]
    _open(data, args, encoded_pixels=width * height)
    image = codec.decode(data, limits=UNLIMITED, param=args["param"])
    if args["fit"]:
        image = shapes.framed(image, (width, height), args["fit"])
    return {}, codec.encode(image.resize((width, height), Image.Resampling.LANCZOS), "png")


def _frame(data: bytes, args: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    _open(data, args, encoded_pixels=args["pixels"])
    image = codec.decode(data, limits=UNLIMITED, param=args["param"])
    made = shapes.framed(image, tuple(args["size"]), args["fit"], is_mask=args["is_mask"])
    return {"width": made.width, "height": made.height, "alpha": codec.is_transparent(made)}, codec.encode(made, "png")


def _reduce(data: bytes, args: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    _open(data, args, encoded_pixels=args["max_pixels"])
    image = codec.reduced(data, args["max_pixels"], limits=UNLIMITED, param=args["param"])
    return {"width": image.width, "height": image.height}, codec.encode(image, "png")


def _pixels(data: bytes, args: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    _open(data, args)
    image = codec.reduced(data, args["max_pixels"] or sys.maxsize, limits=UNLIMITED, param=args["param"])
    return {"mode": image.mode, "width": image.width, "height": image.height}, image.tobytes()


def _mask(data: bytes, args: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    reply, made = _check(data, args)
    masks.check(codec.decode(made or data, limits=UNLIMITED, param=args["param"]), tuple(args["size"]), param=args["param"])
    return reply, made


def _overlay(data: bytes, args: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    source, mask = _reduced(data, args, min(args["max_pixels"], masks.WORKING_PIXELS))
    image = masks.overlay(source, mask)
    return {"width": image.width, "height": image.height}, codec.encode(image, "png")


def _outside(data: bytes, args: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    source, mask, candidate = _reduced(data, args, masks.WORKING_PIXELS)
    found = masks.outside(source, mask, candidate)
    return {"outside": None if found is None else [found.changed, found.difference]}, b""


def _same(data: bytes, args: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    source, edited = _reduced(data, args, sys.maxsize)
    return {"same": same_pixels(source, edited)}, b""


def _provenance(data: bytes, args: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Marks and digests of a file, and with ``keep``, a label, the archive of its manifests."""
    found = marks.read(data)
    told: dict[str, Any] = {"source_type": found.source_type, "xmp": found.xmp, "broken": found.broken, "c2pa": bool(found.c2pa)}
    archive = b""
    if found.c2pa and args["keep"] is not None:
        told["manifest"], archive = _manifest(data, found.c2pa, args)
    if args["digests"]:
        _open(data, args)
        image = codec.decode(data, limits=ImageLimits(*args["limits"]), param=args["param"])
        told["digests"] = [content_digest(data).hex(), pixel_digest(image).hex()]
    return told, archive


def _manifest(data: bytes, size: int, args: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    unread = {"state": "unread"}
    if not manifests.supported():
        return {**unread, "reasons": ["this server reads no C2PA manifests: it runs without editthinker[c2pa]"]}, b""
    if size > manifests.MAX_MANIFEST:
        return {**unread, "reasons": [f"the manifests have more than {manifests.MAX_MANIFEST:,} bytes"]}, b""
    media_type = codec.sniff(data) or ""
    try:
        told = manifests.summary(data, media_type, args["anchors"])
        return told, manifests.ingredient(data, media_type, args["keep"]) if args["keep"] else b""
    except manifests.ManifestError as exc:
        return {"state": "invalid", "reasons": [str(exc)]}, b""


def _sign(data: bytes, args: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    picture, *archives = _pieces(data, args["sizes"])
    credentials = manifests.Credentials(**args["credentials"])
    try:
        return {}, manifests.sign(picture, codec.sniff(picture) or "", args["definition"], archives, credentials)
    except manifests.ManifestError as exc:
        return {"refused": str(exc)}, b""


def _pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    """Several files, one after the other in `data`."""
    whole, at, pieces = memoryview(data), 0, []
    for size in sizes:
        pieces.append(bytes(whole[at : at + size]))
        at += size
    return pieces


def _reduced(data: bytes, args: dict[str, Any], max_pixels: int) -> list[Image.Image]:
    """Several pictures, one after the other in `data`, each decoded and scaled down to so many pixels."""
    pieces = _pieces(data, args["sizes"])
    for piece in pieces:
        _open(piece, args)
    return [codec.reduced(piece, max_pixels, limits=UNLIMITED, param=args["param"]) for piece in pieces]


_OPERATIONS: Final[dict[str, Callable[[bytes, dict[str, Any]], tuple[dict[str, Any], bytes]]]] = {
    "check": _check,
    "receive": _receive,
    "frame": _frame,
    "transcode": _transcode,
    "resize": _resize,
    "reduce": _reduce,
    "pixels": _pixels,
    "mask": _mask,
    "overlay": _overlay,
    "outside": _outside,
    "same": _same,
    "provenance": _provenance,
    "sign": _sign,
}


def answer(request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """The reply to a job and its bytes."""
    try:
        return _OPERATIONS[request["operation"]](data, request["args"])
    except _HeavyError:
        return {"heavy": True}, b""
    except ApiError as exc:
        return {"error": [exc.code, exc.message, exc.param]}, b""
    except MemoryError:
        if request["args"]["light"]:
            return {"heavy": True}, b""
        param = request["args"]["param"]
        return {"error": ["image_too_large", f"{param} {TOO_MUCH_MEMORY}", param]}, b""


def _restrict(memory_bytes: int) -> None:
    # Neither more memory, nor core dumps, nor files; `RLIMIT_FSIZE` bounds the shared buffer.
    for kind, value in (
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_FSIZE, memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
    ):
        resource.setrlimit(kind, (value, value))


def _give_way() -> None:
    """Leave the processors to the server and its light jobs."""
    os.nice(_NICE)
    # Linux shares a desktop's processors between login sessions, and this process has one of its own.
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(f"{_NICE}")


def _die_with_parent() -> None:
    """End even within a job, which would go on for its whole time after a server's crash."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _limit_cpu(seconds: float) -> None:
    """SIGXCPU ends this process once it has used so many more seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def main() -> None:
    """Serve jobs until the parent closes standard input."""
    memory_bytes, buffer = int(sys.argv[1]), int(sys.argv[2])
    _die_with_parent()
    if sys.argv[3] == "heavy":
        _give_way()
    _restrict(memory_bytes)
    sys.stdout.write(f"{json.dumps({'ready': True})}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        request = json.loads(line)
        _limit_cpu(request["cpu_s"])
        data = os.pread(buffer, request["size"], 0) if request["size"] else b""
        os.ftruncate(buffer, 0)
        reply, out = answer(request, data)
        # Freed before the reply, because the parent counts the memory of both.
        del data
        at = 0
        while at < len(out):
            at += os.pwrite(buffer, memoryview(out)[at:], at)
        sys.stdout.write(f"{json.dumps({**reply, 'size': len(out)})}\n")
        sys.stdout.flush()
        del out


if __name__ == "__main__":
    main()
