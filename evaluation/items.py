"""What is evaluated: an item is an instruction for one or more pictures; a dataset is a list of items and where results go."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from editthinker.client import ImageFormat
from editthinker.client.pictures import sniff


class DatasetError(ValueError):
    """A dataset that cannot be read: the message names the file, the row and the field."""


class PictureSource(Protocol):
    """A picture of a dataset, read when it is needed: a benchmark's pictures together do not fit into memory."""

    @property
    def name(self) -> str:
        """The picture's name for people."""

    def read(self) -> bytes:
        """Its encoded bytes.

        Raises:
            DatasetError: when it cannot be read, or is not a picture.
        """


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture in a file of its own.

    Attributes:
        otherwise: what to do if it is not there, for the error.
    """

    path: Path
    otherwise: str = ""

    @property
    def name(self) -> str:
        """The file's path."""
        return str(self.path)

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            DatasetError: when it cannot be read, or is not a picture.
        """
        try:
            data = self.path.read_bytes()
        except OSError as exc:
            fix = f"; {self.otherwise}" if self.otherwise and isinstance(exc, FileNotFoundError) else ""
            message = f"{self.path}: {exc.strerror}{fix}"
            raise DatasetError(message) from exc
        return checked(data, self.name)


def checked(data: bytes, name: str) -> bytes:
    """The bytes, if they are a picture.

    Raises:
        DatasetError: if not.
    """
    if sniff(data) is None:
        message = f"{name} is not a PNG, JPEG or WebP picture"
        raise DatasetError(message)
    return data


@contextmanager
def decoded(source: PictureSource) -> Iterator[Image.Image]:
    """A picture's pixels.

    Raises:
        DatasetError: when it cannot be read or decoded, also within the block, where Pillow reads what it needs.
    """
    data = source.read()
    try:
        with Image.open(io.BytesIO(data)) as picture:
            yield picture
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        message = f"{source.name} cannot be decoded: {str(exc) or type(exc).__name__}; make the picture again, or remove it"
        raise DatasetError(message) from exc


@dataclass(frozen=True)
class Item:
    """One question of a benchmark.

    Attributes:
        id: unique in its dataset, and the same in every run.
        instruction: what to change, in the benchmark's words.
        sources: the picture to edit, and further ones that the instruction refers to.
        group: its task type or category, by which results are averaged.
        subgroup: a finer one, or "".
        reference: what a right answer shows, in words, or "".
        reference_picture: a right answer, or None.
        extra: further fields of its row that scoring or the official scripts need.
    """

    id: str
    instruction: str
    sources: tuple[PictureSource, ...]
    group: str = "all"
    subgroup: str = ""
    reference: str = ""
    reference_picture: PictureSource | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """Names what is asked by its contents: the instruction and the pictures' bytes, as 32 hex digits.

        Raises:
            DatasetError: when a picture cannot be read.
        """
        whole = hashlib.sha256(self.instruction.encode())
        for source in self.sources:
            whole.update(hashlib.sha256(source.read()).digest())
        return whole.hexdigest()[:32]


class Dataset(Protocol):
    """A benchmark, or pictures of one's own."""

    @property
    def name(self) -> str:
        """The kind's name: the folder of its results, and what selects its aggregation."""

    @property
    def version(self) -> str:
        """Which layout and which scripts it is read for."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Its path and what else `datasets.load` was given, to open it again."""

    @property
    def items(self) -> Sequence[Item]:
        """Its items, in the order of its files."""

    @property
    def format(self) -> ImageFormat:
        """The format in which its scripts expect results."""

    def output(self, item: Item, arm: str) -> Path:
        """Where the result of an item goes, relative to the dataset's folder of results."""

    def companions(self, item: Item, arm: str) -> Mapping[Path, PictureSource]:
        """Pictures that the official scripts expect next to a result, by their relative paths."""


def unique(items: Sequence[Item], where: Path) -> tuple[Item, ...]:
    """The items, if there is at least one and no id occurs twice.

    Raises:
        DatasetError: if not.
    """
    if not items:
        message = f"{where}: there are no items"
        raise DatasetError(message)
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            message = f"{where}: the id {item.id!r} occurs twice"
            raise DatasetError(message)
        seen.add(item.id)
    return tuple(items)
