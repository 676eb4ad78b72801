"""Multipart forms, read strictly: all of them arrived, and their texts are UTF-8.

Starlette's parser takes a form that breaks off for one that ended, less its last part, and reads what is no UTF-8 as Latin-1.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from services.errors import ApiError


@contextlib.asynccontextmanager
async def received(request: Request, *, max_files: int = 1000, max_fields: int = 1000) -> AsyncIterator[FormData]:
    """The form of a request whose type is ``multipart/form-data``; its files are closed afterwards.

    Raises:
        ApiError: ``unsupported_media_type`` for another charset, ``invalid_multipart`` for a form that is broken or cut short,
            ``invalid_value`` for a text that is no UTF-8.
    """
    check_charset(request.headers["content-type"])
    async with contextlib.aclosing(request.stream()) as stream:
        parser = _Parser(request.headers, stream, max_files=max_files, max_fields=max_fields)
        try:
            form = await parser.parse()
        except MultiPartException as exc:
            raise ApiError("invalid_multipart", f"the form cannot be read: {exc.message}") from exc
    try:
        if not parser.ended:
            message = "the form was cut short: its closing boundary is missing; send it again, whole"
            raise ApiError("invalid_multipart", message)
        yield form
    finally:
        await form.close()


class _Parser(MultiPartParser):
    ended = False

    def on_end(self) -> None:
        self.ended = True

    def on_part_end(self) -> None:
        part = self._current_part
        if part.file is not None:
            super().on_part_end()
            return
        try:
            text = part.data.decode()
        except UnicodeDecodeError as exc:
            name = part.field_name
            raise ApiError("invalid_value", f"{name}: it is not valid UTF-8; send the form's texts in UTF-8", param=name) from exc
        self.items.append((part.field_name, text))


def check_charset(content_type: str) -> None:
    """See that the texts are said to be UTF-8; Python's other codecs would be tried on whatever a caller sends.

    Raises:
        ApiError: ``unsupported_media_type``. Some codecs (punycode, idna) take hours over a megabyte.
    """
    # The reading of the form's own parser, so that nothing is read otherwise there.
    charset = parse_options_header(content_type)[1].get(b"charset", b"utf-8")
    if charset.lower() not in {b"utf-8", b"utf8", b"us-ascii"}:
        raise ApiError("unsupported_media_type", "the form's texts must be UTF-8; leave the charset out")
