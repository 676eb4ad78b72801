"""The client of an images API: sends what the official client sends, and takes no picture that is not sound."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import io
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageChops, ImageCms, PngImagePlugin
from starlette.responses import JSONResponse, Response

from orchestrator.ports.collaborators import EditOrder, EditorUsage, EditReply, StoredImage
from orchestrator.ports.errors import EditorError
from orchestrator.upstreams.editor import Asks, HttpEditor
from orchestrator.upstreams.editor_links import EditorLinks
from orchestrator.upstreams.http import Call, HttpUpstream, Reply, RequestObserver, Upstream
from orchestrator.upstreams.liveness import Patience
from orchestrator.upstreams.registry import EditorSettings
from services.imaging.codec import inspect
from services.imaging.decode_pool import DecodePool
from services.imaging.shapes import Fit
from services.protocol.images_api import RAW_IMAGE, RAW_TIMINGS
from tests.component.orchestrator.desk import WAIT_S, Desk, asking, holding, image_reply, stored
from tests.doubles.decoding import InProcessPool
from tests.unit.imaging.pictures import SIGNATURE, chunk, opened, png, saved, scene

WIDTH, HEIGHT = 96, 64
SOURCE = saved(scene(size=(WIDTH, HEIGHT)), "PNG")
EDITED = saved(scene(size=(WIDTH, HEIGHT)).rotate(180), "PNG")
MASK = saved(Image.new("RGBA", (WIDTH, HEIGHT)), "PNG")


def order(
    instruction: str = "make it golden",
    *,
    options: Mapping[str, Any] | None = None,
    mask: bytes | None = None,
    later: bool = False,
) -> EditOrder:
    held = stored(mask) if mask is not None else None
    return EditOrder(stored(SOURCE), held, instruction, 7, "ses_1/2/1", WAIT_S, options or {}, later)


async def edit(desk: Desk, wanted: EditOrder | None = None, **options: Any) -> EditReply:
    async with asking("editor", desk.url) as upstream:
        return await HttpEditor(upstream, decoder=InProcessPool(), **options).edit(wanted or order(), EditorUsage())


async def failure(desk: Desk, wanted: EditOrder | None = None) -> EditorError:
    with pytest.raises(EditorError) as caught:
        await edit(desk, wanted)
    return caught.value


async def test_the_form_is_the_official_clients(desk: Desk) -> None:
    """Part by part what `client.images.edit` puts on the wire for the same call."""
    desk.answers = [image_reply(EDITED)]
    await edit(desk, order('Ümläut\r\n"quotes" — 日本', mask=MASK, options={"size": "96x64", "n": 1}), model="m")
    async with openai.AsyncOpenAI(api_key="k", base_url=f"{desk.url}/v1") as client:
        await client.images.edit(
            image=("image.png", SOURCE, "image/png"),
            mask=("mask.png", MASK, "image/png"),
            prompt='Ümläut\r\n"quotes" — 日本',
            model="m",
            n=1,
            size="96x64",
            response_format="b64_json",
            output_format="png",
            extra_body={"seed": 7},
        )
    ours, theirs = desk.seen

    assert sorted(ours.form, key=str) == sorted(theirs.form, key=str)
    assert (ours.method, ours.path) == (theirs.method, theirs.path) == ("POST", "/v1/images/edits")
    assert ours.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert ours.headers["idempotency-key"] == "ses_1/2/1"


async def test_only_what_was_asked_for_is_sent(desk: Desk) -> None:
    """No model, no seed where the server knows none, no mask where there is none; options as they are."""
    desk.answers = [image_reply(EDITED)]
    await edit(
        desk, order(options={"guidance_scale": 3.5, "num_inference_steps": 20}), asks=Asks(seed=False, base64=False, png=False)
    )

    names = [name for name, _ in desk.seen[0].form]
    assert names == ["prompt", "guidance_scale", "num_inference_steps", "image"]
    assert dict(desk.seen[0].form)["guidance_scale"] == "3.5"
    assert dict(desk.seen[0].form)["image"] == ("image.png", "image/png", SOURCE)


async def test_a_later_turn_is_marked_as_more_urgent(desk: Desk) -> None:
    """By RFC 9218's header, which servers that do not know it ignore."""
    desk.answers = [image_reply(EDITED), image_reply(EDITED)]
    await edit(desk, order())
    await edit(desk, order(later=True))

    assert [request.headers.get("priority") for request in desk.seen] == [None, "u=2"]


@given(prompt=st.text(min_size=1, max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_prompt_arrives_as_it_is(prompt: str) -> None:
    """Line ends, quotes, boundaries and all scripts: the form is not broken by what it carries."""
    sent: list[tuple[bytes, str]] = []

    async def keep(call: Call, _: float) -> Any:
        sent.append((b"".join([piece async for piece in call.pieces()]), call.content_type))
        assert call.size == len(sent[-1][0])
        return {"data": [{"b64_json": base64.b64encode(EDITED).decode()}]}

    asyncio.run(HttpEditor(_Answering(keep), decoder=InProcessPool()).edit(order(prompt), EditorUsage()))
    ((body, content_type),) = sent
    boundary = content_type.partition("boundary=")[2].encode()
    parts = body.split(b"--" + boundary)

    assert parts[0] == b"" and parts[-1] == b"--\r\n"
    head, _, value = parts[1].partition(b"\r\n\r\n")
    assert head == b'\r\nContent-Disposition: form-data; name="prompt"'
    assert value.removesuffix(b"\r\n").decode() == prompt


CLIENT: Any = None


class _Answering(HttpUpstream):
    """An upstream without a wire, for answers by the hundred."""

    def __init__(self, answer: Any) -> None:
        super().__init__("editor", Upstream("http://nowhere.invalid/v1"), CLIENT)
        self.answer = answer

    async def post(self, call: Call, patience: Patience, observer: RequestObserver | None = None) -> Reply:
        return Reply(await self.answer(call, patience) if callable(self.answer) else self.answer)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
async def test_a_picture_of_the_right_size_passes_untouched(desk: Desk, kind: str) -> None:
    """Not a byte is changed on the hot path."""
    data = saved(scene(size=(WIDTH, HEIGHT)), kind)
    desk.answers = [image_reply(data)]
    reply = await edit(desk)

    assert reply.image.data == data
    assert (reply.image.media_type, reply.image.width, reply.image.height) == (f"image/{kind.lower()}", WIDTH, HEIGHT)


async def test_a_workers_own_bytes_are_read(desk: Desk) -> None:
    """Asked for by Accept; the timings come in a header."""
    data = saved(scene(size=(WIDTH, HEIGHT)), "PNG")
    desk.answers = [Response(data, media_type=RAW_IMAGE, headers={RAW_TIMINGS: '{"edit_ms": 120.5}'})]
    reply = await edit(desk)

    assert RAW_IMAGE in desk.seen[0].headers["accept"]
    assert (reply.image.data, reply.timings) == (data, {"edit_ms": 120.5})


@pytest.mark.parametrize("body", [b"", b"not a picture", saved(scene(size=(WIDTH, HEIGHT)), "PNG")[:-20]])
async def test_bytes_that_are_no_picture_are_a_bad_reply(desk: Desk, body: bytes) -> None:
    """As in base64."""
    desk.answers = [Response(body, media_type=RAW_IMAGE)]

    assert (await failure(desk)).code == "editor_bad_reply"


async def test_a_data_url_is_read_as_well(desk: Desk) -> None:
    """Some servers put one where base64 belongs."""
    desk.answers = [JSONResponse({"data": [{"b64_json": "data:image/png;base64," + base64.b64encode(EDITED).decode()}]})]

    assert (await edit(desk)).image.data == EDITED


@pytest.mark.parametrize("size", [(192, 128), (48, 32), (96, 62), (99, 64), (1024, 680)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
async def test_nearly_the_same_shape_is_scaled_back(desk: Desk, size: tuple[int, int], kind: str) -> None:
    """Editors work at sizes of their own; the result has the source's."""
    desk.answers = [image_reply(saved(scene(size=size), kind))]
    reply = await edit(desk)

    assert (reply.image.width, reply.image.height) == (WIDTH, HEIGHT) == opened(reply.image.data).size
    assert reply.image.media_type == "image/png" == inspect(reply.image.data).media_type


async def test_scaling_keeps_the_picture(desk: Desk) -> None:
    """Left stays left, and transparency stays."""
    image = Image.new("RGBA", (WIDTH * 2, HEIGHT * 2), (255, 0, 0, 255))
    image.paste((0, 0, 255, 0), (WIDTH, 0, WIDTH * 2, HEIGHT * 2))
    desk.answers = [image_reply(saved(image, "PNG"))]
    result = opened((await edit(desk)).image.data)

    assert result.mode == "RGBA"
    assert result.getpixel((WIDTH // 4, HEIGHT // 2)) == (255, 0, 0, 255)
    assert result.getchannel("A").getpixel((WIDTH * 3 // 4, HEIGHT // 2)) == 0


@pytest.mark.parametrize("size", [(64, 64), (64, 96), (96, 40), (1, 1), (1, 2000)])
async def test_another_shape_is_left_alone(desk: Desk, size: tuple[int, int]) -> None:
    """A crop or a turn was meant; it is not squeezed."""
    data = saved(scene(size=size), "PNG")
    desk.answers = [image_reply(data)]
    reply = await edit(desk)

    assert reply.image.data == data
    assert (reply.image.width, reply.image.height) == size


async def test_a_size_asked_for_is_kept(desk: Desk) -> None:
    """The caller's own size is not undone; `auto` is the source's."""
    data = saved(scene(size=(192, 128)), "PNG")
    desk.answers = [image_reply(data)]

    assert (await edit(desk, order(options={"size": "192x128"}))).image.data == data
    assert (await edit(desk, order(options={"size": "auto"}))).image.width == WIDTH


def _corrupt() -> bytes:
    """Another byte in the pixels, which only the checksum shows."""
    data = bytearray(EDITED)
    data[EDITED.index(b"IDAT") + 30] ^= 0x10
    return bytes(data)


async def test_a_picture_larger_than_callers_may_send_is_taken(desk: Desk) -> None:
    """What the editor makes of a photograph may have many times its bytes: they are bounded with the reply's."""
    data = saved(Image.new("RGB", (4200, 4200)), "PNG", compress_level=0)
    assert len(data) > 50 * 1024 * 1024
    desk.answers = [image_reply(data)]
    source = stored(SOURCE)
    large = StoredImage(source.ref.model_copy(update={"width": 4200, "height": 4200}), source.load)

    assert (await edit(desk, replace(order(options={"size": "4200x4200"}), source=large))).image.data == data


async def test_an_editor_may_answer_with_twice_the_sources_pixels() -> None:
    """Or with as many as anybody may send; not with a bomb."""
    data = saved(Image.new("L", (8000, 6400)), "PNG")
    editor = HttpEditor(_Answering({}), decoder=InProcessPool())

    def of(width: int) -> EditOrder:
        source = order().source
        return replace(order(), source=StoredImage(source.ref.model_copy(update={"width": width, "height": 5000}), source.load))

    assert (await editor._received(data, of(6000)))[1].width == 8000
    with pytest.raises(EditorError):
        await editor._received(data, of(4000))


BAD_PICTURES = {
    "empty": b"",
    "text": b"hello",
    "html": b"<html></html>",
    "gif": saved(scene(), "GIF"),
    "bmp": saved(scene(), "BMP"),
    "a head": EDITED[:20],
    "half": EDITED[: len(EDITED) // 2],
    "without its end": EDITED[:-12],
    "one byte short": EDITED[:-1],
    "a changed byte": _corrupt(),
    "half a jpeg": saved(scene(size=(WIDTH, HEIGHT)), "JPEG")[:-30],
    "half a webp": saved(scene(size=(WIDTH, HEIGHT)), "WEBP")[:-30],
    "a bomb": png((60_000, 60_000), 8, 2, b"\0"),
    "no pixels": png((0, 0), 8, 2, b""),
    "no height": png((4, 0), 8, 2, b""),
    "moving": saved(scene(), "WEBP", save_all=True, append_images=[Image.new("RGB", (6, 4), "red")]),
    "another size, undecodable": SIGNATURE
    + chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH * 2, HEIGHT * 2, 8, 2, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(b"\0" * 100))
    + chunk(b"IEND", b""),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
async def test_a_picture_that_is_not_sound_is_refused(desk: Desk, name: str) -> None:
    """It never reaches the store; the loop may try again, this call does not."""
    desk.answers = [image_reply(BAD_PICTURES[name])]
    error = await failure(desk)

    assert (error.code, error.retryable) == ("editor_bad_reply", True)
    assert "editor's" in error.message
    assert len(desk.seen) == 1


async def test_this_process_reads_no_picture_of_an_editor(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow takes gigabytes or minutes for some headers; the pool's processes have limits, and this one has the secrets."""
    desk.answers = [image_reply(EDITED)]
    async with asking("editor", desk.url) as upstream:
        decoder = DecodePool()
        try:
            wanted = order()
            monkeypatch.setattr(Image, "open", None)
            reply = await HttpEditor(upstream, decoder=decoder).edit(wanted, EditorUsage())
        finally:
            await decoder.close()
    assert (reply.image.data, reply.image.width) == (EDITED, WIDTH)


BAD_BODIES: list[Any] = [
    None,
    7,
    "x",
    [],
    {},
    {"data": None},
    {"data": []},
    {"data": {}},
    {"data": {"b64_json": "AAAA"}},
    {"data": [None]},
    {"data": ["AAAA"]},
    {"data": [{}]},
    {"data": [{"b64_json": None}]},
    {"data": [{"b64_json": ""}]},
    {"data": [{"b64_json": 7}]},
    {"data": [{"b64_json": ["AAAA"]}]},
    {"data": [{"b64_json": "$$$"}]},
    {"data": [{"b64_json": "AAA"}]},
    {"data": [{"b64_json": "é"}]},
    {"data": [{"b64_json": "data:image/png,AAAA"}]},
    {"data": [{"url": 7}]},
    {"detail": "Not Found"},
    {"error": {"message": "no"}},
]


@pytest.mark.parametrize("body", BAD_BODIES, ids=json.dumps)
async def test_a_reply_without_a_picture_is_refused(desk: Desk, body: Any) -> None:
    desk.answers = [Response(json.dumps(body), media_type="application/json")]
    error = await failure(desk)

    assert (error.code, error.retryable) == ("editor_bad_reply", True)


def linked(url: str) -> Response:
    return JSONResponse({"created": 0, "data": [{"url": url}]})


@pytest.mark.parametrize("link", ["{desk}/v1/pictures/x.png", "/v1/pictures/x.png", "pictures/x.png", "{data}"])
async def test_a_link_of_a_host_that_the_operator_allows_is_fetched(desk: Desk, link: str) -> None:
    """Also in a private network and by http; a link may be relative to the editor (SGLang), or hold the picture itself."""
    data_url = f"data:image/png;base64,{base64.b64encode(EDITED).decode()}"
    desk.answers = [linked(link.format(desk=desk.url, data=data_url)), Response(EDITED, media_type="image/png")]
    host = desk.url.partition("://")[2]
    for hosts in ((host,), (host.partition(":")[0],)):
        desk.seen.clear()
        reply = await edit(desk, links=EditorLinks(f"{desk.url}/v1", hosts))

        assert opened(reply.image.data).size == (WIDTH, HEIGHT)
        assert [seen.method for seen in desk.seen] == (["POST"] if link == "{data}" else ["POST", "GET"])


@pytest.mark.parametrize(
    ("link", "hosts", "words"),
    [
        ("https://files.example/x.png", (), ["a link to files.example:443", "image_hosts"]),
        ("{desk}/v1/x.png", ("files.example",), ["a link to 127.0.0.1:", "image_hosts"]),
        ("{desk}/v1/x.png", ("127.0.0.1:1",), ["image_hosts"]),
        ("http://files.example@127.0.0.1/x.png", ("files.example",), ["127.0.0.1:80", "image_hosts"]),
        ("http://169.254.169.254/latest", ("169.254.169.254",), ["not public"]),
        ("file:///etc/passwd", ("",), ["no host"]),
        ("http://[::1/x", (), ["no host"]),
    ],
)
async def test_a_link_of_another_host_is_not_fetched(desk: Desk, link: str, hosts: tuple[str, ...], words: list[str]) -> None:
    """The message names the host and what the operator can do; nothing was asked of it."""
    desk.answers = [linked(link.format(desk=desk.url))]
    with pytest.raises(EditorError) as caught:
        await edit(desk, links=EditorLinks(f"{desk.url}/v1", hosts))

    assert (caught.value.code, caught.value.retryable) == ("editor_bad_reply", False)
    assert all(word in caught.value.message for word in words), caught.value.message
    assert len(desk.seen) == 1


@pytest.mark.parametrize(
    ("url", "given", "sent"),
    [
        ("http://localai:8080/v1", {}, True),
        ("https://api.openai.com/v1", {}, False),
        ("https://mine.openai.azure.com/openai/v1", {}, False),
        ("https://api.openai.com.example/v1", {}, True),
        ("https://api.openai.com/v1", {"response_format": "send"}, True),
        ("http://localai:8080/v1", {"response_format": "omit"}, False),
    ],
)
def test_base64_is_asked_of_all_but_those_who_refuse_the_field(url: str, given: dict[str, Any], sent: bool) -> None:  # noqa: FBT001
    assert EditorSettings(url=url, **given).asks_for_base64 is sent


keys = st.sampled_from(["data", "b64_json", "url", "timings", "created", "x"])
values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = values | st.sampled_from([base64.b64encode(EDITED).decode(), base64.b64encode(EDITED[:50]).decode()])
bodies = st.recursive(values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=10)
near = st.fixed_dictionaries({"data": st.lists(st.fixed_dictionaries({"b64_json": values}), max_size=2), "timings": bodies})


@given(body=bodies | near)
@settings(max_examples=200, deadline=None)
def test_any_reply_is_a_picture_or_an_error(body: Any) -> None:
    """No JSON value raises anything but the editor's error, and what is taken can be recorded."""
    try:
        reply = asyncio.run(HttpEditor(_Answering(body), decoder=InProcessPool()).edit(order(), EditorUsage()))
    except EditorError as exc:
        outcome = exc.code
    else:
        outcome = "taken" if reply.image.data == EDITED else "another"
        json.dumps(dict(reply.timings), allow_nan=False)
    assert outcome in {"editor_bad_reply", "taken"}


@pytest.mark.parametrize(
    ("timings", "expected"),
    [
        ({"queue_s": 0.5, "denoise_s": 2}, {"queue_s": 0.5, "denoise_s": 2.0}),
        ({"a": "fast", "b": None, "c": [1], "d": {"e": 1}, "f": True, "g": 1}, {"g": 1.0}),
        ([1, 2], {}),
        ("fast", {}),
        (None, {}),
    ],
)
async def test_timings_are_taken_where_they_are_numbers(desk: Desk, timings: Any, expected: dict[str, float]) -> None:
    """What the editor tells of itself is kept; what is no number is not."""
    desk.answers = [image_reply(EDITED, timings=timings)]

    assert (await edit(desk)).timings == expected


async def test_timings_are_bounded(desk: Desk) -> None:
    """They are recorded with every candidate, so a talkative server cannot fill the log."""
    desk.answers = [image_reply(EDITED, timings={"x" * 10_000 + str(number): 1.0 for number in range(1000)})]
    timings = (await edit(desk)).timings

    assert sum(len(name) for name in timings) < 10_000


async def test_cancelling_frees_the_editor(desk: Desk) -> None:
    """The server sees the caller leave."""
    desk.answers = [holding]
    task = asyncio.create_task(edit(desk))
    assert await asyncio.to_thread(desk.arrived.wait, WAIT_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await asyncio.to_thread(desk.left.wait, WAIT_S)


async def test_ready_asks_the_server(desk: Desk) -> None:
    """The editor is as ready as its list of models."""
    desk.answers = [JSONResponse({"data": []}), Response(status_code=503)]
    async with asking("editor", desk.url) as upstream:
        editor = HttpEditor(upstream, decoder=InProcessPool())
        assert [await editor.ready(), await editor.ready()] == [True, False]


def test_the_pictures_here_are_what_they_are_called() -> None:
    """The corrupt picture differs from the sound one in its pixels only."""
    assert zlib.crc32(_corrupt()) != zlib.crc32(EDITED) and len(_corrupt()) == len(EDITED)
    assert binascii.hexlify(_corrupt()[:30]) == binascii.hexlify(EDITED[:30])


@pytest.mark.parametrize(
    ("width", "height", "size", "most"),
    [
        (64, 64, "auto", 64 << 20),
        (7_000, 7_000, "auto", 2 * 7_000 * 7_000 * 4 * 4 // 3),
        (64, 64, "5000x5000", 2 * 5_000 * 5_000 * 4 * 4 // 3),
    ],
)
async def test_a_reply_is_bounded_by_what_an_image_of_the_session_takes(width: int, height: int, size: str, most: int) -> None:
    """A small source does not entitle an editor to a reply of the largest kind."""
    calls: list[Call] = []

    async def keep(call: Call, _: float) -> Any:
        calls.append(call)
        return {}

    source = stored(SOURCE)
    large = StoredImage(source.ref.model_copy(update={"width": width, "height": height}), source.load)
    with pytest.raises(EditorError):
        await HttpEditor(_Answering(keep), decoder=InProcessPool()).edit(
            replace(order(options={"size": size}), source=large), EditorUsage()
        )
    assert [call.max_reply for call in calls] == [most]


def with_extras() -> dict[str, bytes]:
    """Files of an editor that carry what is its own: a text, EXIF with a place, a thumbnail's profile."""
    place = Image.Exif()
    place[0x010E] = "SECRET"
    texts = PngImagePlugin.PngInfo()
    texts.add_text("parameters", "SECRET prompt, seed 1")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = scene(size=(WIDTH, HEIGHT))
    return {
        "text": saved(picture, "PNG", pnginfo=texts),
        "png exif": saved(picture, "PNG", exif=place),
        "jpeg exif": saved(picture, "JPEG", exif=place),
        "jpeg comment": saved(picture, "JPEG", comment=b"SECRET"),
        "webp": saved(picture, "WEBP", exif=place, xmp=b"SECRET"),
        "profile": saved(picture, "PNG", icc_profile=profile),
        "jpeg profile": saved(picture, "JPEG", icc_profile=profile + b"SECRET"),
        "trailing": saved(picture, "PNG") + b"SECRET",
    }


@pytest.mark.parametrize("name", sorted(with_extras()))
async def test_what_an_editors_file_carries_is_not_kept(desk: Desk, name: str) -> None:
    desk.answers = [image_reply(with_extras()[name])]
    image = (await edit(desk, order())).image

    assert b"SECRET" not in image.data and b"ICC" not in image.data and b"iCCP" not in image.data
    assert Image.open(io.BytesIO(image.data)).size == (WIDTH, HEIGHT)
    assert image.sha256 == hashlib.sha256(image.data).hexdigest()


async def test_a_picture_that_its_editor_marked_as_rotated_is_upright(desk: Desk) -> None:
    """Without the mark it would be on its side."""
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    desk.answers = [image_reply(saved(scene(size=(WIDTH, HEIGHT)).transpose(Image.Transpose.ROTATE_90), "PNG", exif=turned))]
    image = (await edit(desk, order())).image
    assert (image.width, image.height) == (WIDTH, HEIGHT)
    assert ImageChops.difference(Image.open(io.BytesIO(image.data)), scene(size=(WIDTH, HEIGHT))).getbbox() is None


@pytest.mark.parametrize(("made", "alpha"), [("RGB", "dropped"), ("opaque", "dropped"), ("RGBA", "kept")])
async def test_what_became_of_transparency_is_told(desk: Desk, made: str, alpha: str) -> None:
    """A channel that is opaque everywhere has lost it too."""
    picture = scene(size=(WIDTH, HEIGHT)).convert("RGB" if made == "RGB" else "RGBA")
    if made == "RGBA":
        picture.putpixel((0, 0), (1, 2, 3, 0))
    desk.answers = [image_reply(saved(picture, "PNG"))] * 2
    assert (await edit(desk, replace(order(), alpha=True))).alpha == alpha
    assert (await edit(desk, order())).alpha is None


@pytest.mark.parametrize("fit", ["cover", "contain"])
async def test_an_editor_that_answers_in_another_shape_is_not_stretched(desk: Desk, fit: Fit) -> None:
    """Its picture is cropped or padded to the size that was asked for."""
    square = Image.new("RGB", (100, 100), "red")
    desk.answers = [image_reply(saved(square, "PNG"))]
    reply = await edit(desk, replace(order(options={"size": "300x150"}), fit=fit))
    image = Image.open(io.BytesIO(reply.image.data))

    assert image.size == (300, 150)
    corner: Any = image.getpixel((2, 75))
    assert corner == ((255, 0, 0) if fit == "cover" else (255, 255, 255))
    assert image.getpixel((150, 75)) == (255, 0, 0)
