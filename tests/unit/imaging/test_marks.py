"""Marks are written without touching pixels, and read from hostile files without harm."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from services.imaging import marks
from services.imaging.alpha import HEAD_BYTES
from services.imaging.codec import OutputFormat, encode
from services.imaging.containers import strip_metadata
from tests.unit.imaging.pictures import SIGNATURE, chunk, opened, scene

FORMATS: tuple[OutputFormat, ...] = ("png", "jpeg", "webp")
PACKET = marks.packet(marks.EDITED_BY_MODEL)


def marked(data: bytes, xmp: bytes = PACKET) -> bytes:
    return marks.spliced(data, marks.splices(data[:HEAD_BYTES], len(data), xmp))


def xmp_of(text: str) -> bytes:
    """A packet whose description has this inside."""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
        'xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
        f"{text}</rdf:RDF></x:xmpmeta>"
    ).encode()


def png_with(xmp: bytes, *, compressed: bool = False, before: bytes = b"") -> bytes:
    data = encode(scene(), "png")
    text = zlib.compress(xmp) if compressed else xmp
    content = b"XML:com.adobe.xmp\0" + bytes((compressed, 0)) + b"\0\0" + text
    return data[:33] + before + chunk(b"iTXt", content) + data[33:]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_marked_picture_has_the_same_pixels_and_tells_its_type(kind: OutputFormat, mode: str) -> None:
    data = encode(scene(mode, (33, 17)), kind)
    made = marked(data)

    assert opened(made).tobytes() == opened(data).tobytes() and opened(made).mode == opened(data).mode
    assert marks.read(made) == marks.Found(marks.EDITED_BY_MODEL, xmp=True)
    assert len(made) - len(data) < 512


@pytest.mark.parametrize("kind", FORMATS)
def test_pillow_reads_the_packet_byte_for_byte(kind: OutputFormat) -> None:
    image = Image.open(io.BytesIO(marked(encode(scene(), kind))))
    image.load()
    told = image.info.get("xmp") or image.info["XML:com.adobe.xmp"]
    assert (told.encode() if isinstance(told, str) else told) == PACKET


def test_a_lossless_webp_with_alpha_keeps_it() -> None:
    buffer = io.BytesIO()
    scene("RGBA").save(buffer, "WEBP", lossless=True)
    made = marked(buffer.getvalue())
    assert opened(made).tobytes() == opened(buffer.getvalue()).tobytes()
    assert marks.read(made).source_type == marks.EDITED_BY_MODEL


@pytest.mark.parametrize("kind", FORMATS)
def test_a_mark_is_metadata_like_any_other(kind: OutputFormat) -> None:
    """What the stores would make of a marked upload is unmarked, and is marked as the file without was."""
    data = encode(scene(), kind)
    bare = strip_metadata(marked(data))
    assert bare is not None and not marks.read(bare).xmp
    assert opened(marked(bare)).tobytes() == opened(data).tobytes()


def test_a_jfif_segment_stays_the_first() -> None:
    made = marked(encode(scene(), "jpeg"))
    assert made[2:4] == b"\xff\xe0" and made[6:10] == b"JFIF"


def test_another_file_is_left_as_it_is() -> None:
    assert marked(b"GIF89a" + bytes(40)) == b"GIF89a" + bytes(40)


@pytest.mark.parametrize(
    "text",
    [
        '<rdf:Description i:DigitalSourceType="urn:a"/>',
        "<rdf:Description><i:DigitalSourceType> urn:a </i:DigitalSourceType></rdf:Description>",
        '<rdf:Description><i:DigitalSourceType rdf:resource="urn:a"/></rdf:Description>',
        "<rdf:Description><i:DigitalSourceType>urn&#58;a</i:DigitalSourceType></rdf:Description>",
    ],
)
def test_every_form_of_the_property_is_read(text: str) -> None:
    assert marks.source_type_of(xmp_of(text)) == "urn:a"


def test_a_property_of_another_namespace_is_not_read() -> None:
    assert marks.source_type_of(xmp_of('<rdf:Description xmlns:o="urn:o" o:DigitalSourceType="urn:a"/>')) is None


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_packets_of_other_encodings_are_read(encoding: str) -> None:
    text = xmp_of('<rdf:Description i:DigitalSourceType="urn:a"/>').decode()
    assert marks.source_type_of(text.encode(encoding)) == "urn:a"


BOMB = (
    b'<!DOCTYPE x [<!ENTITY a "'
    + b"a" * 1000
    + b'">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + n, (b"&%c;" % (97 + n)) * 50) for n in range(8))
    + b"]><x>&i;</x>"
)
HOSTILE = {
    "an entity bomb": (BOMB, "document type"),
    "an external entity": (b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><x/>', "document type"),
    "not XML": (b"{}", "well-formed"),
    "nothing": (b"", "well-formed"),
    "invalid UTF-8": (b"<x>\xff\xfe\xfa</x>", "well-formed"),
    "an unknown encoding": (b'<?xml version="1.0" encoding="klingon"?><x/>', "unknown encoding"),
    "truncated": (PACKET[:200], "well-formed"),
    "a long namespace": (f'<a xmlns:p="{"u" * 100_000}">{"<p:b/>" * 9_000}</a>'.encode(), "namespace that is too long"),
    "deep": (b"<x>" * 100 + b"</x>" * 100, "nests too deep"),
    "long": (xmp_of(f'<rdf:Description i:DigitalSourceType="{"a" * 5000}"/>'), "is not one"),
    "control characters": (xmp_of('<rdf:Description i:DigitalSourceType="a&#8238;b"/>'), "is not one"),
    "large": (b"<x>" + b" " * marks.MAX_XMP + b"</x>", "more than"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("compressed", [False, True])
def test_hostile_xmp_is_told(name: str, *, compressed: bool) -> None:
    xmp, reason = HOSTILE[name]
    found = marks.read(png_with(xmp, compressed=compressed))
    assert found.source_type is None and found.xmp and found.broken is not None
    assert reason in found.broken


def test_compressed_xmp_that_grows_without_end_is_not_inflated_whole() -> None:
    found = marks.read(png_with(b"<x>" + b" " * 50_000_000, compressed=True))
    assert found.broken is not None and "more than" in found.broken


def test_compressed_xmp_that_is_no_deflate_stream_is_told() -> None:
    data = encode(scene(), "png")
    broken = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + b"\xff" * 20)
    assert marks.read(data[:33] + broken + data[33:]).broken == "its compressed XMP is broken"


def test_a_chunk_that_promises_more_than_there_is_ends_the_reading() -> None:
    data = SIGNATURE + struct.pack(">I", 2**31 - 1) + b"iTXtXML:com.adobe.xmp\0"
    assert marks.read(data).broken is not None


def test_many_packets_are_told_and_the_first_type_counts() -> None:
    data = encode(scene(), "png")
    content = b"XML:com.adobe.xmp\0\0\0\0\0"
    many = [chunk(b"iTXt", content + xmp_of(f'<rdf:Description i:DigitalSourceType="urn:{n}"/>')) for n in range(9)]
    found = marks.read(data[:33] + b"".join(many) + chunk(b"caBX", b"x") + data[33:])
    assert found.source_type == "urn:0" and found.broken is not None and "packets" in found.broken
    assert found.c2pa


def test_a_file_of_tiny_chunks_is_given_up() -> None:
    data = SIGNATURE + chunk(b"tEXt", b"") * 101_000
    assert "chunks" in str(marks.read(data).broken)


@given(st.binary(max_size=300), st.sampled_from([SIGNATURE, b"\xff\xd8\xff\xe1", b"RIFF\x00\x10\x00\x00WEBP"]))
def test_reading_never_raises(tail: bytes, head: bytes) -> None:
    marks.read(head + tail)


@given(st.integers(0, 600), st.integers(0, 255), st.sampled_from(FORMATS))
def test_a_changed_byte_of_a_marked_file_never_raises(at: int, value: int, kind: OutputFormat) -> None:
    made = bytearray(marked(encode(scene(), kind)))
    made[at % len(made)] = value
    marks.read(bytes(made))
    marks.splices(bytes(made), len(made), PACKET)


def test_a_generated_source_stays_one_and_a_model_says_more_than_an_algorithm() -> None:
    assert marks.strongest(marks.EDITED_BY_MODEL, marks.GENERATED) == marks.GENERATED
    assert marks.strongest(marks.EDITED_BY_ALGORITHM, marks.EDITED_BY_MODEL) == marks.EDITED_BY_MODEL
    assert marks.strongest(marks.EDITED_BY_MODEL, f"{marks.VOCABULARY}digitalCapture") == marks.EDITED_BY_MODEL
    assert marks.strongest(marks.EDITED_BY_ALGORITHM, None) == marks.EDITED_BY_ALGORITHM


def test_quotes_and_angle_brackets_in_a_type_stay_text() -> None:
    hostile = 'urn:"/><rdf:Description a="<&'
    assert marks.source_type_of(marks.packet(hostile)) == hostile
