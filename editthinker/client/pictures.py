"""What callers give as a picture, as the part of a form: paths, bytes, open files and PIL images. Pillow is not imported."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final, Literal, Protocol, runtime_checkable

from editthinker.client.errors import InvalidImageError

ImageFormat = Literal["png", "jpeg", "webp"]
Part = tuple[str, bytes, str]
"""File name, bytes and media type."""

_PNG_MODES: Final = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"})
"""The modes that Pillow writes as PNG; others are converted to RGB."""
_URLS: Final = ("http://", "https://", "data:")


@runtime_checkable
class PILImage(Protocol):
    """The part of `PIL.Image.Image` that is used."""

    @property
    def mode(self) -> str:
        """The layout of its pixels."""
        ...

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:  # noqa: A002 - Pillow's name
        """Write it to a file."""
        ...

    def convert(self, mode: str) -> PILImage:
        """The picture in another mode."""
        ...

    def getexif(self) -> Any:
        """Its EXIF block, with the orientation."""
        ...


Picture = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | PILImage
"""The path of a picture file, encoded bytes, a file opened for reading bytes, or a PIL image."""
Pictures = Picture | Sequence[Picture]
"""One picture, or several: the first is the source, the others are references."""


def part(given: Picture, name: str) -> Part:
    """A picture as the part of a form.

    Raises:
        InvalidImageError: when it is not a picture.
        OSError: when a named file cannot be read.
    """
    label, data = _read(given, name)
    if (media_type := sniff(data)) is None:
        what = "is empty" if not data else "is not an image"
        message = f"{label} {what}; send a PNG, JPEG or WebP"
        raise InvalidImageError(message)
    return label, data, media_type


def parts(given: Pictures, name: str = "image") -> list[tuple[str, Part]]:
    """The parts of a form in openai's spelling: one picture is ``image``, several are ``image[]``.

    Raises:
        InvalidImageError, OSError: as `part`.
    """
    if not isinstance(given, list | tuple):
        return [(name, part(given, name))]  # type: ignore[arg-type]
    if not given:
        message = f"{name} is an empty list; give at least one picture"
        raise InvalidImageError(message)
    field = name if len(given) == 1 else f"{name}[]"
    return [(field, part(each, f"{name} {number}")) for number, each in enumerate(given, 1)]


def sniff(data: bytes) -> str | None:
    """The media type by the first bytes, or None when they are not those of a known image format."""
    for magic, media_type in _MAGIC:
        if data.startswith(magic):
            return media_type
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
)


def _read(given: Picture, name: str) -> tuple[str, bytes]:
    if isinstance(given, bytes | bytearray | memoryview):
        return name, bytes(given)
    if isinstance(given, str | os.PathLike):
        if isinstance(given, str) and given.startswith(_URLS):
            message = f"{name} is a URL; fetch it and give the bytes, or a path"
            raise InvalidImageError(message)
        path = Path(given)
        return path.name, path.read_bytes()
    if isinstance(given, PILImage):
        return f"{name}.png", _encoded(given)
    if callable(read := getattr(given, "read", None)):
        data = read()
        if not isinstance(data, bytes):
            message = f"{name} is a file of text; open it with mode 'rb'"
            raise InvalidImageError(message)
        label = getattr(given, "name", None)
        return (Path(label).name if isinstance(label, str) and Path(label).name else name), data
    message = f"{name} is {type(given).__name__}; give a path, bytes, an open file or a PIL image"
    raise InvalidImageError(message)


def _encoded(image: PILImage) -> bytes:
    """A PIL image as PNG. Its EXIF goes with it, because Pillow does not turn a picture by its orientation."""
    buffer = io.BytesIO()
    shown = image if image.mode in _PNG_MODES else image.convert("RGB")
    shown.save(buffer, format="PNG", exif=image.getexif())
    return buffer.getvalue()
