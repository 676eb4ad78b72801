"""Strict multipart forms: complete, bounded, and with texts in UTF-8.

python-multipart's parser with callbacks of its own, because Starlette's accepts a form that breaks off (without its last
part) and decodes text that is not UTF-8 as Latin-1.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from tempfile import SpooledTemporaryFile
from typing import Final

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from services.errors import ApiError

log = logging.getLogger(__name__)
_FULL_RETRY_S: Final = 30.0
_MAX_TEXT: Final = 1024 * 1024
"""Bytes of a text field without a picture; Starlette's default."""
_SPOOL_SIZE: Final = 1024 * 1024
"""Bytes of a file that are held in memory before it is moved to disk; Starlette's default."""


@contextlib.asynccontextmanager
async def open_form(
    request: Request,
    *,
    max_files: int = 20,
    max_fields: int = 100,
    max_file_bytes: int | None = None,
    may_be_picture: Callable[[str], bool] = lambda _name: False,
) -> AsyncIterator[FormData]:
    """The form of a request whose type is ``multipart/form-data``; its files are closed afterwards.

    Args:
        max_file_bytes: of each file, checked as it arrives.
        may_be_picture: whether a text of that name may hold a picture as base64, and be as long as one.

    Raises:
        ApiError: ``unsupported_media_type`` for another charset, ``invalid_multipart`` for a form that is malformed, too large
            or incomplete, ``invalid_value`` for a text that is not UTF-8, ``image_too_large`` for a file that is larger than
            `max_file_bytes`, ``storage_full`` when there is no space for it.
    """
    content_type = request.headers["content-type"]
    check_charset(content_type)
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if boundary is None:
        raise _unreadable("Missing boundary in multipart.")
    parts = _Parts(max_files, max_fields, max_file_bytes, may_be_picture)
    try:
        async with contextlib.aclosing(request.stream()) as stream:
            await parts.read(stream, boundary)
        yield FormData(parts.items)
    finally:
        parts.close()


class _Parts:
    """The parts of a form, in the order of their ends, collected by the parser's callbacks."""

    def __init__(
        self, max_files: int, max_fields: int, max_file_bytes: int | None, may_be_picture: Callable[[str], bool]
    ) -> None:
        self.items: list[tuple[str, str | UploadFile]] = []
        self._max_files = max_files
        self._max_fields = max_fields
        self._max_file_bytes = max_file_bytes
        self._may_be_picture = may_be_picture
        self._max_picture_text = _MAX_TEXT + (max_file_bytes or 0) * 4 // 3
        self._complete = False
        self._files: list[UploadFile] = []
        self._fields = 0
        self._unwritten: list[tuple[UploadFile, bytes]] = []
        """Writing may block on a disk, so it happens between the parser's calls, on a thread."""
        # Of the current part:
        self._headers: dict[bytes, bytes] = {}
        self._header = b""
        self._value = b""
        self._name = ""
        self._file: UploadFile | None = None
        self._size = 0
        self._text = bytearray()

    async def read(self, stream: AsyncIterator[bytes], boundary: bytes) -> None:
        """Read all parts, files to their start.

        Raises:
            ApiError: as `open_form`.
        """
        try:
            parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
            async for chunk in stream:
                parser.write(chunk)
                with _on_disk():
                    for file, data in self._unwritten:
                        await file.write(data)
                self._unwritten.clear()
        except FormParserError as exc:
            raise _unreadable("Invalid multipart data.") from exc
        if not self._complete:
            message = "the form was cut short: its closing boundary is missing; send it again, whole"
            raise ApiError("invalid_multipart", message)
        with _on_disk():
            for file in self._files:
                await file.seek(0)

    def close(self) -> None:
        """Close the files, those of unfinished parts too."""
        for file in self._files:
            # What is buffered may not fit on the disk.
            with contextlib.suppress(OSError):
                file.file.close()

    def _on_part_begin(self) -> None:
        self._headers = {}
        self._file = None
        self._size = 0
        self._text = bytearray()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"name" not in options:
            raise _unreadable('The Content-Disposition header field "name" must be provided.')
        self._name = options[b"name"].decode("utf-8", "replace")
        if b"filename" in options or self._headers.get(b"content-type", b"").strip().lower().startswith(b"image/"):
            if len(self._files) == self._max_files:
                raise _unreadable(f"Too many files. Maximum number of files is {self._max_files}.")
            spooled = SpooledTemporaryFile(max_size=_SPOOL_SIZE)  # noqa: SIM115 - closed with the form
            self._file = UploadFile(spooled, size=0, filename=options.get(b"filename", b"").decode("utf-8", "replace"))  # type: ignore[arg-type]
            self._files.append(self._file)
        else:
            self._fields += 1
            if self._fields > self._max_fields:
                raise _unreadable(f"Too many fields. Maximum number of fields is {self._max_fields}.")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._size += end - start
            if self._max_file_bytes is not None and self._size > self._max_file_bytes:
                name = self._name.partition("[")[0]
                message = f"{name} is larger than the {self._max_file_bytes:,} bytes accepted here; send a smaller file"
                raise ApiError("image_too_large", message, param=name)
            self._unwritten.append((self._file, data[start:end]))
            return
        if len(self._text) + end - start > (self._max_picture_text if self._may_be_picture(self._name) else _MAX_TEXT):
            fix = 'A file has filename="photo.png" in its Content-Disposition; without it, it is a text.'
            raise _unreadable(f"Part exceeded maximum size of {_MAX_TEXT // 1024}KB. {fix}")
        self._text += data[start:end]

    def _on_part_end(self) -> None:
        if self._file is not None:
            self.items.append((self._name, self._file))
            return
        try:
            self.items.append((self._name, self._text.decode()))
        except UnicodeDecodeError as exc:
            fix = 'send the form\'s texts in UTF-8, and a file as a part with filename="photo.png" (curl: -F image=@photo.png)'
            message = f"{self._name}: it has no file name, so it is a text, and is not valid UTF-8; {fix}"
            raise ApiError("invalid_value", message, param=self._name) from exc

    def _on_end(self) -> None:
        self._complete = True


@contextlib.contextmanager
def _on_disk() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        log.warning("temporary files cannot be written: %s", exc)
        message = "there is no space for uploads on this server; nothing was stored: send it again later"
        raise ApiError("storage_full", message, retry_after=_FULL_RETRY_S) from exc


def _unreadable(why: str) -> ApiError:
    return ApiError("invalid_multipart", f"the form cannot be read: {why}")


def check_charset(content_type: str) -> None:
    """Check that the declared charset is UTF-8.

    Raises:
        ApiError: ``unsupported_media_type`` for any other. It is never looked up among Python's codecs, of which some
            (punycode, idna) take hours for a megabyte.
    """
    # Parsed as the boundary is, so that the two readings cannot differ.
    charset = parse_options_header(content_type)[1].get(b"charset", b"utf-8")
    if charset.lower() not in {b"utf-8", b"utf8", b"us-ascii"}:
        raise ApiError("unsupported_media_type", "the form's texts must be UTF-8; leave the charset out")
