"""Bad input: a clear error that names the field and the fix, never a stack trace, never a session."""

from __future__ import annotations

import base64
import io
import socket
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.doubles.processes import Process
from tests.doubles.upstreams import Script, picture

PNG = picture()
PROMPT = {"prompt": "x"}


def encoded(mode: str, kind: str, size: tuple[int, int] = (20, 30), **options: Any) -> bytes:
    """A picture of some mode and format."""
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind, **options)
    return buffer.getvalue()


def animated() -> bytes:
    """A WebP of two frames."""
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


FIELDS = [
    ({"prompt": ""}, "prompt"),
    ({"prompt": "  \n"}, "prompt"),
    ({"prompt": "x" * 32_001}, "prompt"),
    ({}, "prompt"),
    ({**PROMPT, "n": "0"}, "n"),
    ({**PROMPT, "n": "eleven"}, "n"),
    ({**PROMPT, "n": "3", "max_turns": "1", "candidates": "1"}, "n"),
    ({**PROMPT, "size": "12"}, "size"),
    ({**PROMPT, "model": "nobody"}, "model"),
    ({**PROMPT, "thinker": "nobody"}, "thinker"),
    ({**PROMPT, "strategy": "guess"}, "strategy"),
    ({**PROMPT, "strategy": "single", "max_turns": "3"}, "max_turns"),
    ({**PROMPT, "max_turns": "0"}, "max_turns"),
    ({**PROMPT, "semantic_threshold": "11"}, "semantic_threshold"),
    ({**PROMPT, "deadline_s": "-1"}, "deadline_s"),
    ({**PROMPT, "deadline_s": "1e99"}, "deadline_s"),
    ({**PROMPT, "deadline_s": "nan"}, "deadline_s"),
    ({**PROMPT, "budget_edits": "1", "n": "2"}, "budget_edits"),
    ({**PROMPT, "seed": "-5"}, "seed"),
    ({**PROMPT, "num_inference_steps": "20"}, "num_inference_steps"),
    ({**PROMPT, "negative_prompt": "blur"}, "negative_prompt"),
    ({**PROMPT, "max_turn": "3"}, "max_turn"),
    ({**PROMPT, "response_format": "jpeg"}, "response_format"),
    ({**PROMPT, "output_format": "gif"}, "output_format"),
    ({**PROMPT, "output_compression": "101"}, "output_compression"),
    ({**PROMPT, "quality": "best"}, "quality"),
    ({**PROMPT, "quality": "max"}, "quality"),
    ({**PROMPT, "quality": "low", "strategy": "think"}, "quality"),
    ({**PROMPT, "background": "transparent"}, "background"),
    ({**PROMPT, "input_fidelity": "high"}, "input_fidelity"),
    ({**PROMPT, "moderation": "low"}, "moderation"),
    ({**PROMPT, "style": "vivid"}, "style"),
    ({**PROMPT, "review": "each_turn"}, "review"),
    ({**PROMPT, "stream": "perhaps"}, "stream"),
    ({**PROMPT, "partial_images": "4"}, "partial_images"),
]


@pytest.mark.parametrize(("fields", "param"), FIELDS, ids=str)
def test_a_wrong_field_is_named(api: httpx.Client, script: Script, fields: dict[str, str], param: str) -> None:
    """400 (404 for an unknown model), the field in `param`, and nothing is edited."""
    reply = api.post("/v1/images/edits", files={"image": PNG}, data=fields)
    error = reply.json()["error"]

    assert reply.status_code == (404 if param == "model" else 400), reply.text
    assert error["param"] == param
    assert error["message"].startswith(param)
    assert set(error) == {"message", "type", "param", "code"}
    assert reply.headers["x-request-id"]
    assert script.edits == []


def test_a_misspelt_field_is_met_with_the_right_one(api: httpx.Client) -> None:
    """Did you mean?"""
    reply = api.post("/v1/images/edits", files={"image": PNG}, data={**PROMPT, "num_inference_step": "4"})

    assert "did you mean num_inference_steps?" in reply.json()["error"]["message"]


BAD_IMAGES = {
    "empty": b"",
    "text": b"hello",
    "truncated": PNG[:-30],
    "gif": encoded("P", "GIF"),
    "bmp": encoded("RGB", "BMP"),
    "animated": animated(),
    "a bomb": PNG[:16] + (60_000).to_bytes(4, "big") * 2 + PNG[24:],
    "too many pixels": encoded("1", "PNG", (8000, 8000)),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_wrong_image_is_refused(api: httpx.Client, name: str) -> None:
    """The bytes decide, not the declared type."""
    reply = api.post("/v1/images/edits", files={"image": ("a.png", BAD_IMAGES[name], "image/png")}, data=PROMPT)

    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"] == "image"


GOOD_IMAGES = {
    "cmyk": encoded("CMYK", "JPEG"),
    "16 bit": encoded("I;16", "PNG"),
    "palette": encoded("P", "PNG"),
    "rgba": encoded("RGBA", "PNG"),
    "grey": encoded("L", "JPEG"),
    "1x1": encoded("RGB", "PNG", (1, 1)),
    "1x20000": encoded("RGB", "PNG", (1, 20_000)),
    "webp": encoded("RGB", "WEBP"),
}


@pytest.mark.parametrize("name", GOOD_IMAGES)
def test_an_unusual_image_is_edited(api: httpx.Client, name: str) -> None:
    """It comes back at the source's size."""
    reply = api.post("/v1/images/edits", files={"image": ("a.bin", GOOD_IMAGES[name], "x/y")}, data=PROMPT)

    assert reply.status_code == 200, reply.text
    image = Image.open(io.BytesIO(base64.b64decode(reply.json()["data"][0]["b64_json"])))
    assert image.size == Image.open(io.BytesIO(GOOD_IMAGES[name])).size


def test_an_exif_rotated_photo_is_upright(api: httpx.Client) -> None:
    """Width and height are those a viewer shows."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20)).save(buffer, "JPEG", exif=exif)
    reply = api.post("/v1/images/edits", files={"image": buffer.getvalue()}, data=PROMPT)

    assert reply.json()["size"] == "20x40"


def test_files_and_texts_in_each_others_place(api: httpx.Client) -> None:
    """An image as text, a prompt as a file, two images, two prompts, no image."""
    cases: list[tuple[dict[str, Any], str]] = [
        ({"data": {**PROMPT, "image": "abc"}, "files": {"x": ("", b"")}}, "image"),
        ({"files": {"image": PNG, "prompt": ("p.txt", b"x")}}, "prompt"),
        ({"files": [("image", PNG), ("image[]", PNG)], "data": PROMPT}, "image"),
        ({"files": {"image": PNG}, "data": {"prompt": ["a", "b"]}}, "prompt"),
        ({"files": {"mask": PNG}, "data": PROMPT}, "image"),
        ({"files": {"image": PNG, "mask": PNG}, "data": PROMPT}, "mask"),
    ]
    for request, param in cases:
        reply = api.post("/v1/images/edits", **request)
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, param), reply.text


def test_a_body_of_the_wrong_kind(api: httpx.Client) -> None:
    """JSON where a form is due, a form without boundary, a form cut short, broken JSON, a list."""
    bodies: list[tuple[str, dict[str, str], bytes, int]] = [
        ("/v1/images/edits", {"content-type": "application/json"}, b"{}", 400),
        ("/v1/images/edits", {}, b"", 415),
        ("/v1/images/edits", {"content-type": "multipart/form-data"}, b"x", 400),
        ("/v1/images/edits", {"content-type": "multipart/form-data; boundary=b"}, b"--b\r\nContent-Disposition: for", 400),
        ("/v1/sessions", {"content-type": "application/json"}, b"{", 400),
        ("/v1/sessions", {"content-type": "application/json"}, b"[]", 400),
        ("/v1/sessions", {"content-type": "application/json"}, b"\xff\xfe", 400),
        ("/v1/sessions", {"content-type": "application/json"}, b'{"prompt": "x"}', 400),
    ]
    for path, headers, body, status in bodies:
        reply = api.post(path, content=body, headers=headers)
        assert reply.status_code == status, (path, headers, reply.text)
        assert reply.json()["error"]["message"]


def part(name: str, value: bytes, more: str = "") -> bytes:
    """One part of a form with the boundary `b`."""
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"


FORM = part("image", PNG, '; filename="a.png"') + part("prompt", b"make it warm") + part("max_turns", b"1") + b"--b--\r\n"


@pytest.mark.parametrize("cut", [3, 5, 7, 9, 20, 60, 120])
@pytest.mark.parametrize("path", ["/v1/images/edits", "/v1/sessions"])
def test_a_form_that_is_cut_short_is_refused(api: httpx.Client, script: Script, path: str, cut: int) -> None:
    """A field that did not arrive is not a field that was not sent."""
    reply = api.post(path, content=FORM[:-cut], headers={"content-type": "multipart/form-data; boundary=b"})

    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_multipart"), reply.text
    assert "closing boundary" in reply.json()["error"]["message"]
    assert script.edits == []


@pytest.mark.parametrize("end", [b"--b--\r\n", b"--b--", b"--b--\r\nepilogue"])
def test_a_form_ends_with_its_boundary(api: httpx.Client, end: bytes) -> None:
    """With a line end, without, and with what RFC 2046 allows behind it."""
    body = FORM.removesuffix(b"--b--\r\n") + end
    reply = api.post("/v1/images/edits", content=body, headers={"content-type": "multipart/form-data; boundary=b"})

    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize(
    "text",
    [part("user", b"caf\xe9"), part("user", "日本".encode("shift_jis"), "\r\nContent-Type: text/plain; charset=shift_jis")],
    ids=["latin-1", "shift_jis"],
)
def test_a_field_that_is_not_utf_8_is_named(api: httpx.Client, script: Script, text: bytes) -> None:
    """It is not read as if it were something else."""
    reply = api.post("/v1/images/edits", content=text + FORM, headers={"content-type": "multipart/form-data; boundary=b"})
    error = reply.json()["error"]

    assert (reply.status_code, error["code"], error["param"]) == (400, "invalid_value", "user"), reply.text
    assert "UTF-8" in error["message"]
    assert script.edits == []


def test_json_sessions(api: httpx.Client) -> None:
    """Base64 and data URLs work; unknown fields, wrong types and private URLs do not."""
    text = base64.b64encode(PNG).decode()
    for image in (text, f"data:image/png;base64,{text}"):
        reply = api.post("/v1/sessions", json={"image": image, "prompt": "x", "max_turns": 1}, headers={"Prefer": "wait=20"})
        assert reply.status_code == 200, reply.text
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"image": text, "promt": "x", "prompt": "x"}, "promt"),
        ({"image": text, "prompt": 7}, "prompt"),
        ({"image": ["x"], "prompt": "x"}, "image"),
        ({"image": "!!!", "prompt": "x"}, "image"),
        ({"image": "http://example.org/a.png", "prompt": "x"}, "image"),
        ({"image": "https://127.0.0.1/a.png", "prompt": "x"}, "image"),
        ({"image": "https://[::ffff:10.0.0.1]/a.png", "prompt": "x"}, "image"),
        ({"image": "https://localhost/a.png", "prompt": "x"}, "image"),
        ({"image": "file:///etc/passwd", "prompt": "x"}, "image"),
    ]
    for body, param in wrong:
        reply = api.post("/v1/sessions", json=body)
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, param), reply.text


def test_a_body_larger_than_allowed(start_orchestrator: Any) -> None:
    """Counted while it arrives, so a chunked upload without a length is stopped too."""
    process: Process = start_orchestrator(EDITTHINKER_MAX_IMAGE_BYTES="100000")

    def chunks() -> Any:
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(64):
            yield b"x" * 200_000

    headers = {"content-type": "multipart/form-data; boundary=b"}
    with httpx.Client(base_url=process.url, trust_env=False) as client:
        file = client.post("/v1/images/edits", content=chunks(), headers=headers)
        reply = client.post("/v1/sessions", content=chunks(), headers={"content-type": "application/json"})
        big = client.post("/v1/images/edits", files={"image": PNG + b"x" * 200_000}, data=PROMPT)
    assert reply.status_code == 413
    assert reply.json()["error"]["code"] == "request_too_large"
    for refused in (file, big):
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "image_too_large")


def test_an_upload_that_breaks_off_makes_no_session(api: httpx.Client, orchestrator: Process) -> None:
    """The client goes away in the middle of its image."""
    head = b"POST /v1/images/edits HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n"
    head += b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    with socket.create_connection(("127.0.0.1", orchestrator.port)) as connection:
        connection.sendall(head + b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nabc')
    assert api.get("/v1/sessions").json()["data"] == []


def test_what_does_not_exist(api: httpx.Client) -> None:
    """An unknown id is 404, never "done"; so is an unknown path, and a wrong method is 405."""
    for path in (
        "/v1/sessions/ses_" + "0" * 32,
        "/v1/sessions/nope",
        "/v1/sessions/nope/image",
        "/v1/sessions/x/events",
        "/nope",
    ):
        reply = api.get(path)
        assert reply.status_code == 404, path
        assert reply.json()["error"]["code"] in {"session_not_found", "not_found"}
    assert api.post("/v1/sessions/nope/cancel").status_code == 404
    assert api.delete("/v1/sessions/nope").status_code == 404
    assert api.put("/v1/images/edits").status_code == 405
