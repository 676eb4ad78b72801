"""What comes back: in the format and the shape that was asked for, without what the editor's file carries."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx
import pytest
from PIL import ExifTags, Image, ImageChops, ImageDraw, PngImagePlugin
from starlette.responses import JSONResponse

from tests.doubles.upstreams import Script, picture


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def ask(api: httpx.Client, source: bytes, **fields: str) -> tuple[dict[str, Any], Image.Image]:
    """The reply, and its picture."""
    reply = api.post("/v1/images/edits", files={"image": source}, data={"prompt": "x", "max_turns": "1", **fields})
    assert reply.status_code == 200, reply.text
    return reply.json(), Image.open(io.BytesIO(base64.b64decode(reply.json()["data"][0]["b64_json"])))


SOURCE = Image.open(io.BytesIO(picture(64, 48)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_result_has_the_format_of_its_source_unless_another_is_asked_for(api: httpx.Client, kind: str) -> None:
    reply, image = ask(api, encoded(SOURCE, kind))
    assert (image.format, reply["output_format"]) == (kind, kind.lower())
    reply, image = ask(api, encoded(SOURCE, kind), output_format="webp", output_compression="50")
    assert (image.format, reply["output_format"]) == ("WEBP", "webp")


def test_a_rotated_jpeg_comes_back_as_one_although_it_is_stored_as_png(api: httpx.Client) -> None:
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    reply, image = ask(api, encoded(SOURCE, "JPEG", exif=turned))
    assert (image.format, image.size, reply["size"]) == ("JPEG", (48, 64), "48x64")


def test_a_compression_belongs_to_the_format_of_the_source(api: httpx.Client) -> None:
    _, image = ask(api, encoded(SOURCE, "JPEG"), output_compression="10")
    assert image.format == "JPEG"
    refused = api.post("/v1/images/edits", files={"image": picture()}, data={"prompt": "x", "output_compression": "10"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "output_compression")


def test_a_stream_has_the_format_of_the_source_too(api: httpx.Client) -> None:
    stream = api.post(
        "/v1/images/edits", files={"image": encoded(SOURCE, "JPEG")}, data={"prompt": "x", "max_turns": "1", "stream": "true"}
    )
    assert stream.text.count('"output_format":"jpeg"') == 2


def test_nothing_of_an_editors_file_reaches_the_caller(api: httpx.Client, script: Script) -> None:
    """Neither in the reply nor at the candidate's link."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("workflow", "SECRET")
    carried = base64.b64encode(encoded(SOURCE, "PNG", pnginfo=texts)).decode()
    script.edit_fault = lambda _: JSONResponse({"created": 0, "data": [{"b64_json": carried}]})
    reply, image = ask(api, picture(64, 48))
    assert image.info == {}
    stored = api.get(f"/v1/sessions/{reply['session_id']}/turns/1/candidates/1/image").content
    assert b"SECRET" not in stored
    assert ImageChops.difference(Image.open(io.BytesIO(stored)), SOURCE).getbbox() is None


def test_lost_transparency_is_told_in_the_reply_the_view_and_the_events(api: httpx.Client) -> None:
    """The double answers RGB, as diffusion editors do."""
    source = SOURCE.convert("RGBA")
    source.putpixel((5, 5), (0, 0, 0, 0))
    reply, _ = ask(api, encoded(source, "PNG"))
    assert reply["data"][0]["alpha"] == "dropped"
    path = f"/v1/sessions/{reply['session_id']}"
    assert api.get(path).json()["turns"][0]["candidates"][0]["alpha"] == "dropped"
    assert '"alpha":"dropped"' in api.get(f"{path}/events").text

    reply, _ = ask(api, encoded(SOURCE.convert("RGBA"), "PNG"))
    assert "alpha" not in reply["data"][0]


@pytest.mark.parametrize(("fit", "framed"), [("cover", (48, 48)), ("contain", (64, 64))])
def test_another_shape_is_cropped_or_padded_before_anybody_sees_it(
    api: httpx.Client, script: Script, fit: str, framed: tuple[int, int]
) -> None:
    """Editor and thinker get the source in the shape that was asked for, and a disc in it stays one."""
    disc = Image.new("RGB", (64, 48))
    ImageDraw.Draw(disc).ellipse((20, 12, 43, 35), fill="white")
    reply, image = ask(api, encoded(disc, "PNG"), size="128x128", fit=fit)

    assert (image.size, reply["size"]) == ((128, 128), "128x128")
    assert "fit" not in script.edits[0]
    source = Image.open(io.BytesIO(api.get(f"/v1/sessions/{reply['session_id']}/source").content))
    assert source.size == framed
    seen = [part["image_url"]["url"] for part in script.critiques[0]["messages"][-1]["content"] if part["type"] == "image_url"]
    shown = [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in seen]
    assert [each.width / each.height for each in shown] == [1, 1]
    box = image.convert("L").point(lambda value: 255 * (value > 127)).crop((8, 20, 120, 108)).getbbox()
    assert box
    assert abs((box[2] - box[0]) - (box[3] - box[1])) <= 2


def test_a_fit_needs_a_size_and_padding_has_the_limits_of_a_picture(api: httpx.Client) -> None:
    def refused(**fields: str) -> dict[str, Any]:
        reply = api.post("/v1/images/edits", files={"image": picture(2000, 20)}, data={"prompt": "x", **fields})
        assert reply.status_code == 400
        error: dict[str, Any] = reply.json()["error"]
        return error

    assert refused(fit="contain")["param"] == "fit"
    assert refused(fit="contain", size="1x9000")["param"] == "size"
    assert refused(fit="stretch", size="10x10")["param"] == "fit"
