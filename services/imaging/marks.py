"""What a picture file says about its own origin: IPTC's Digital Source Type in XMP, and whether it carries a C2PA manifest.

Marks are written and read in the containers (PNG, JPEG, WebP) alone: pixels are neither decoded nor encoded. Files to read are
strangers', so everything that is looked at is bounded, and XML with a document type, which could define entities, is not read.

IPTC Photo Metadata Standard 2025.1, property Digital Source Type; XMP specification part 3 (ISO 16684-1, embedding); C2PA 2.2,
annex A (embedding manifests).
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final
from xml.parsers import expat

from services.imaging.alpha import has_alpha
from services.imaging.structure import TooComplexError, jpeg_segments, webp_size

VOCABULARY: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
EDITED_BY_MODEL: Final = f"{VOCABULARY}compositeWithTrainedAlgorithmicMedia"
"""IPTC: edited using generative AI."""
EDITED_BY_ALGORITHM: Final = f"{VOCABULARY}algorithmicallyEnhanced"
"""IPTC: modification or correction by algorithm; nothing in it was trained (docs/decisions/0180)."""
GENERATED: Final = f"{VOCABULARY}trainedAlgorithmicMedia"
SYNTHETIC: Final = (GENERATED, EDITED_BY_MODEL, f"{VOCABULARY}compositeSynthetic")
"""Types that say that a trained model made the picture or a part of it, the one that says most first."""

MAX_XMP: Final = 1024 * 1024
"""Bytes of a packet that is read, decompressed. Photographs have a few kilobytes, files of photo editors some hundred."""
_MAX_DEPTH: Final = 64
_MAX_CHUNKS: Final = 100_000
_MAX_TYPE: Final = 200
"""Characters of a Digital Source Type; IPTC's have at most 80."""
_MAX_URI: Final = 300
"""Characters of a namespace; Adobe's have at most 60."""
_MAX_PACKETS: Final = 4
"""Packets of one file that are read."""
_EXT: Final = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_PROPERTY: Final = f"{_EXT} DigitalSourceType"
_RESOURCE: Final = f"{_RDF} resource"
_PACKET: Final = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{rdf}">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{ext}" Iptc4xmpExt:DigitalSourceType="{source_type}"/></rdf:RDF>'
    '</x:xmpmeta><?xpacket end="r"?>'
)
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_IHDR: Final = slice(12, 16)
_PNG_AFTER_IHDR: Final = 33
_PNG_KEYWORD: Final = b"XML:com.adobe.xmp"
_PNG_C2PA: Final = b"caBX"
_JPEG_XMP: Final = b"http://ns.adobe.com/xap/1.0/\x00"
_APP0, _APP1, _APP11 = 0xE0, 0xE1, 0xEB
_JUMBF: Final = b"JP"
_JUMBF_BOX: Final = slice(12, 16)
"""Of an APP11 segment: the box's type, after the identifier, the instance and packet numbers and the box's length."""
_WEBP_XMP_FLAG, _WEBP_ALPHA_FLAG = 0x04, 0x10


@dataclass(frozen=True, slots=True)
class Splice:
    """A change of a file's bytes: `insert` in place of the `drop` bytes at `at`."""

    at: int
    drop: int
    insert: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """The marks of a file.

    Attributes:
        source_type: the Digital Source Type, a URI as a rule; None if the file tells none.
        xmp: whether the file has XMP.
        broken: why XMP of the file was not read, as a clause; None if all was.
        c2pa: bytes of its C2PA manifest store, valid or not; 0 if it has none.
    """

    source_type: str | None = None
    xmp: bool = False
    broken: str | None = None
    c2pa: int = 0


class BrokenXmpError(Exception):
    """XMP that is not read; the message is a clause."""


def strongest(made: str, carried: str | None) -> str:
    """The Digital Source Type of an edited picture: that of the edit, unless its source says more of being synthetic.

    A picture that a model generated stays one however it is edited.
    """
    ranks = {source_type: rank for rank, source_type in enumerate(SYNTHETIC)}
    return carried if carried is not None and ranks.get(carried, 9) < ranks.get(made, 9) else made


def packet(source_type: str) -> bytes:
    """An XMP packet with that Digital Source Type alone; about 450 bytes."""
    quoted = source_type.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return _PACKET.format(rdf=_RDF, ext=_EXT, source_type=quoted).encode()


def splices(head: bytes, size: int, xmp: bytes) -> tuple[Splice, ...]:
    """What inserts a packet into a file without metadata, as the stores have them.

    Args:
        head: the first bytes of the file, `services.imaging.alpha.HEAD_BYTES` of them are enough.
        size: of the whole file.
        xmp: the packet, at most 64 kB.

    Returns:
        In the order of their places; nothing for a file that is no PNG, JPEG or WebP.
    """
    if head.startswith(_PNG) and head[_PNG_IHDR] == b"IHDR":
        return (Splice(_PNG_AFTER_IHDR, 0, _png_chunk(xmp)),)
    if head.startswith(b"\xff\xd8"):
        content = _JPEG_XMP + xmp
        return (Splice(_after_jfif(head), 0, bytes((0xFF, _APP1)) + struct.pack(">H", len(content) + 2) + content),)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp_splices(head, size, xmp)
    return ()


def spliced(data: bytes, changes: Sequence[Splice]) -> bytes:
    """The bytes with the changes, which are in the order of their places."""
    parts: list[bytes | memoryview] = []
    at, view = 0, memoryview(data)
    for change in changes:
        parts += [view[at : change.at], change.insert]
        at = change.at + change.drop
    return b"".join([*parts, view[at:]]) if changes else data


def _png_chunk(xmp: bytes) -> bytes:
    # No compression, no language, no translated keyword.
    body = b"iTXt" + _PNG_KEYWORD + b"\x00\x00\x00\x00\x00" + xmp
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _after_jfif(head: bytes) -> int:
    """JFIF's segment must be the first (JFIF 1.02, page 2)."""
    if head[2:4] == bytes((0xFF, _APP0)):
        return 4 + int.from_bytes(head[4:6], "big")
    return 2


def _webp_splices(head: bytes, size: int, xmp: bytes) -> tuple[Splice, ...]:
    declared = webp_size(head)
    if declared is None or 0 in declared:
        return ()
    end = min(size, 8 + int.from_bytes(head[4:8], "little"))
    chunk = b"XMP " + struct.pack("<I", len(xmp)) + xmp + bytes(len(xmp) & 1)
    if head[12:16] == b"VP8X":
        flags = Splice(20, 1, bytes((head[20] | _WEBP_XMP_FLAG,)))
    else:
        bits = _WEBP_XMP_FLAG | (_WEBP_ALPHA_FLAG if has_alpha(head) else 0)
        sides = b"".join((side - 1).to_bytes(3, "little") for side in declared)
        flags = Splice(12, 0, b"VP8X" + struct.pack("<I", 10) + bytes((bits, 0, 0, 0)) + sides)
    grown = end - 8 + len(chunk) + len(flags.insert) - flags.drop
    return Splice(4, 4, struct.pack("<I", grown)), flags, Splice(end, size - end, chunk)


def read(data: bytes) -> Found:
    """The marks of a file; none for one that is no PNG, JPEG or WebP. Broken ones are told, and never raised."""
    found, packets = Found(), 0
    try:
        for content in _marks(data):
            if isinstance(content, int):
                found = replace(found, c2pa=found.c2pa + content)
                continue
            packets += 1
            if packets > _MAX_PACKETS:
                raise BrokenXmpError(f"the file has more than {_MAX_PACKETS} XMP packets")
            found = replace(found, xmp=True)
            found = replace(found, source_type=found.source_type or source_type_of(content))
    except (BrokenXmpError, TooComplexError) as exc:
        # The manifest may come after the XMP.
        c2pa = sum(content for content in _quietly(_marks(data, only_c2pa=True)) if isinstance(content, int))
        return replace(found, xmp=True, broken=str(exc), c2pa=c2pa)
    return found


def source_type_of(xmp: bytes) -> str | None:
    """The Digital Source Type of a packet; None if it has none.

    Raises:
        BrokenXmpError: when the packet is too large, is not XML, or is XML with a document type, whose entities could expand to
            gigabytes, or nests too deep.
    """
    if len(xmp) > MAX_XMP:
        raise BrokenXmpError(f"its XMP has more than {MAX_XMP:,} bytes")
    reader = _Reader()
    try:
        # Some writers pad with NUL, which is no XML; in UTF-16 it is half of each letter.
        reader.parser.Parse(xmp if b"\x00" in xmp[:4] else xmp.rstrip(b"\x00"), True)
    except expat.ExpatError as exc:
        raise BrokenXmpError(f"its XMP is not well-formed XML: {expat.errors.messages.get(exc.code, exc.code)}") from exc
    except (ValueError, LookupError) as exc:
        raise BrokenXmpError("its XMP is in an unknown encoding") from exc
    text = "".join(reader.found).strip()
    if not text:
        return None
    if len(text) > _MAX_TYPE or not text.isprintable():
        raise BrokenXmpError("its Digital Source Type is not one")
    return text


class _Reader:
    """Finds the property in the three forms that RDF has for it: an attribute, an element with text, and one with a resource."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._depth = self._inside = 0
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartNamespaceDeclHandler = self._namespace

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise BrokenXmpError("its XMP nests too deep")
        if _PROPERTY in attributes and not self.found:
            self.found.append(attributes[_PROPERTY])
        if name == _PROPERTY and not self.found:
            self._inside = self._depth
            if _RESOURCE in attributes:
                self.found.append(attributes[_RESOURCE])

    def _end(self, _: str) -> None:
        if self._inside == self._depth:
            self._inside = 0
        self._depth -= 1

    def _text(self, text: str) -> None:
        if self._inside and self._inside == self._depth and sum(map(len, self.found)) <= _MAX_TYPE:
            self.found.append(text)

    def _namespace(self, _: str | None, uri: str | None) -> None:
        # Expat writes it into every name with that prefix.
        if uri is not None and len(uri) > _MAX_URI:
            raise BrokenXmpError("its XMP has a namespace that is too long")

    def _refuse(self, *_: object) -> None:
        raise BrokenXmpError("its XMP has a document type, which XMP has not")


def _marks(data: bytes, *, only_c2pa: bool = False) -> Iterator[bytes | int]:
    """The XMP packets of a file, and the size of each part of a C2PA manifest store."""
    if data.startswith(_PNG):
        parts = _png_marks(data)
    elif data.startswith(b"\xff\xd8"):
        parts = _jpeg_marks(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        parts = _webp_marks(data)
    else:
        return
    for is_c2pa, content in parts:
        if is_c2pa or not only_c2pa:
            yield max(1, len(content)) if is_c2pa else _inflated(content) if data.startswith(_PNG) else content


def _quietly(parts: Iterator[bytes | int]) -> Iterator[bytes | int]:
    with contextlib.suppress(BrokenXmpError, TooComplexError):
        yield from parts


def _png_marks(data: bytes) -> Iterator[tuple[bool, bytes]]:
    at = len(_PNG)
    for _ in range(_MAX_CHUNKS):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if len(kind) < 4 or kind == b"IEND":  # noqa: PLR2004
            return
        if kind == _PNG_C2PA:
            yield True, data[at + 8 : at + 8 + size]
        elif kind == b"iTXt" and data[at + 8 : at + 9 + len(_PNG_KEYWORD)] == _PNG_KEYWORD + b"\x00":
            yield False, data[at + 9 + len(_PNG_KEYWORD) : at + 8 + size]
        at += 12 + size
    raise BrokenXmpError(f"the file has more than {_MAX_CHUNKS:,} chunks")


def _inflated(content: bytes) -> bytes:
    """The text of an iTXt chunk, after its keyword (PNG specification, section 11.3.3.4)."""
    rest = content[2:].split(b"\x00", 2)
    if len(rest) < 3:  # noqa: PLR2004 - language, translated keyword, text
        raise BrokenXmpError("its XMP is cut off")
    if not content[0]:
        return rest[2]
    try:
        return zlib.decompressobj().decompress(rest[2], MAX_XMP + 1)
    except zlib.error as exc:
        raise BrokenXmpError("its compressed XMP is broken") from exc


def _jpeg_marks(data: bytes) -> Iterator[tuple[bool, bytes]]:
    for marker, content, _ in jpeg_segments(data):
        if marker == _APP1 and content.startswith(_JPEG_XMP):
            yield False, content[len(_JPEG_XMP) :]
        elif marker == _APP11 and content.startswith(_JUMBF) and content[_JUMBF_BOX] == b"jumb":
            yield True, content


def _webp_marks(data: bytes) -> Iterator[tuple[bool, bytes]]:
    at = 12
    for _ in range(_MAX_CHUNKS):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if len(kind) < 4:  # noqa: PLR2004
            return
        if kind in {b"XMP ", b"C2PA"}:
            yield kind == b"C2PA", data[at + 8 : at + 8 + size]
        at += 8 + size + (size & 1)
    raise BrokenXmpError(f"the file has more than {_MAX_CHUNKS:,} chunks")
