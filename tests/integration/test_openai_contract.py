"""OpenAI's contract beyond the official client: bodies as other clients send them, fields that cannot be honoured, replies."""

from __future__ import annotations

import base64
import io
import json
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import openai
import pytest
from PIL import Image
from starlette.responses import JSONResponse

from tests.doubles.processes import Process
from tests.doubles.upstreams import Script, picture
from tests.integration.conftest import Start

PNG = picture()
DATA_URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
TWO = [DATA_URL, DATA_URL]


def error(reply: httpx.Response) -> dict[str, Any]:
    assert reply.status_code >= 400, reply.text
    found: dict[str, Any] = reply.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    return found


def size_of(text: str) -> tuple[int, int]:
    return Image.open(io.BytesIO(base64.b64decode(text))).size


# --- bodies ----------------------------------------------------------------------------------------------------------

JSON_PICTURES: list[dict[str, Any]] = [
    {"images": [{"image_url": DATA_URL}]},
    {"images": [DATA_URL]},
    {"images": [{"image_url": {"url": DATA_URL}}]},
    {"image": DATA_URL},
    {"image": DATA_URL.partition(",")[2]},
    {"image": [DATA_URL]},
    {"image": {"image_url": DATA_URL}},
    {"image_url": DATA_URL},
    {"url": [DATA_URL]},
    {"url": DATA_URL.replace("data:", "DATA:").replace(";base64", ";BASE64")},
]


@pytest.mark.parametrize("pictures", JSON_PICTURES, ids=lambda given: json.dumps(given)[:30])
@pytest.mark.parametrize("path", ["/v1/images/edits", "/v1/sessions"])
def test_json_bodies(api: httpx.Client, script: Script, path: str, pictures: dict[str, Any]) -> None:
    """As OpenAI's API takes them, and as the peers do; null is absence."""
    body = {
        "prompt": "x",
        "max_turns": 1,
        "n": None,
        "seed": None,
        "size": None,
        "user": None,
        "style": None,
        "markup": None,
        **pictures,
    }
    reply = api.post(path, json=body, headers={"prefer": "wait=20"})

    assert reply.status_code == 200, reply.text
    assert len(script.edits) == 1 and script.edits[0]["prompt"] == "x"
    if path == "/v1/images/edits":
        assert size_of(reply.json()["data"][0]["b64_json"]) == (32, 24)


@pytest.mark.parametrize("name", ["url", "image_url", "url[]", "image_url[]", "image"])
@pytest.mark.parametrize("kind", ["multipart", "urlencoded"])
def test_pictures_by_url_in_a_form(api: httpx.Client, script: Script, name: str, kind: str) -> None:
    """vLLM-Omni and SGLang take `url`; a form without a file may be urlencoded."""
    fields = {"prompt": "wärmer", "max_turns": "1", name: DATA_URL}
    parts = {key: (None, value) for key, value in fields.items()}
    given: dict[str, Any] = {"files": parts} if kind == "multipart" else {"data": fields}
    reply = api.post("/v1/images/edits", **given)

    assert reply.request.headers["content-type"].startswith("multipart" if kind == "multipart" else "application/x-www")
    assert reply.status_code == 200, reply.text
    assert script.edits[0]["prompt"] == "wärmer"


@pytest.mark.parametrize("path", ["/v1/images/edits", "/v1/sessions"])
def test_one_picture_is_one_picture_whichever_way_it_comes(api: httpx.Client, script: Script, path: str) -> None:
    """The same request in another kind of body is a repeat; several pictures are refused in one place."""
    headers = {"idempotency-key": "k", "prefer": "wait=20"}
    first = api.post(path, files={"image": PNG}, data={"prompt": "x", "max_turns": "1"}, headers=headers)
    second = api.post(path, json={"images": [{"image_url": DATA_URL}], "prompt": "x", "max_turns": 1}, headers=headers)
    third = api.post(path, data={"url": DATA_URL, "prompt": "x", "max_turns": "1"}, headers=headers)

    names = {reply.json().get("session_id") or reply.json()["id"] for reply in (first, second, third)}
    assert len(names) == 1 and len(script.edits) == 1
    assert [reply.headers.get("idempotent-replayed") for reply in (first, second, third)] == [None, "true", "true"]
    several = [
        api.post(path, json={"images": TWO, "prompt": "x"}),
        api.post(path, json={"image": TWO, "prompt": "x"}),
        api.post(path, json={"image": DATA_URL, "url": DATA_URL, "prompt": "x"}),
        api.post(path, content=urlencode({"url": TWO, "prompt": "x"}, doseq=True), headers=FORM),
        api.post(path, files=[("image", PNG), ("url", (None, DATA_URL))], data={"prompt": "x"}),
    ]
    for reply in several:
        assert (reply.status_code, error(reply)["param"]) == (400, "image"), reply.text
        assert "2 pictures were sent" in error(reply)["message"]


FORM = {"content-type": "application/x-www-form-urlencoded"}
BAD_BODIES: list[tuple[str, dict[str, Any], str, list[str]]] = [
    ("file id", {"json": {"prompt": "x", "images": [{"file_id": "file-1"}]}}, "images", ["image_url", "stores no files"]),
    ("number", {"json": {"prompt": "x", "image": 7}}, "image", ["https URL", "data URL", "base64"]),
    ("empty", {"json": {"prompt": "x", "image": ""}}, "image", ["https URL"]),
    ("object", {"json": {"prompt": "x", "image": {"b64": "x"}}}, "image", ["image_url"]),
    ("none", {"json": {"prompt": "x"}}, "image", ["file part", "images: [{", "image_url"]),
    ("no pictures", {"json": {"prompt": "x", "images": []}}, "image", ["image is missing"]),
    ("mask", {"json": {"prompt": "x", "image": DATA_URL, "mask": [7]}}, "mask", ["image_url"]),
    ("http", {"json": {"prompt": "x", "image": "http://example.com/x.png"}}, "image", ["https"]),
    ("private", {"json": {"prompt": "x", "url": "https://127.0.0.1/x.png"}}, "image", ["not public"]),
    ("unknown", {"json": {"prompt": "x", "image": DATA_URL, "max_turn": None}}, "max_turn", ["did you mean max_turns?"]),
    ("urlencoded", {"content": b"prompt=%ff&url=x", "headers": FORM}, None, ["UTF-8"]),  # type: ignore[list-item]
    ("urlencoded bytes", {"content": b"prompt=\xff", "headers": FORM}, None, ["UTF-8"]),  # type: ignore[list-item]
    ("many", {"content": "&".join(f"a{n}=1" for n in range(101)), "headers": FORM}, None, ["100 fields"]),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("given", "param", "words"), [case[1:] for case in BAD_BODIES], ids=[case[0] for case in BAD_BODIES])
def test_a_wrong_body_says_what_to_send(
    api: httpx.Client, script: Script, given: dict[str, Any], param: str | None, words: list[str]
) -> None:
    for path in ("/v1/images/edits", "/v1/sessions"):
        reply = api.post(path, **given)
        assert (reply.status_code, error(reply)["param"]) == (400, param), reply.text
        assert all(word in error(reply)["message"] for word in words), reply.text
    assert script.edits == []


def test_another_kind_of_body(api: httpx.Client) -> None:
    for kind in ("text/plain", "image/png"):
        reply = api.post("/v1/images/edits", content=PNG, headers={"content-type": kind})
        assert reply.status_code == 415
        assert "multipart/form-data" in error(reply)["message"] and "application/json" in error(reply)["message"]


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["file", "images", "image_file", "picture", "reference_image", "image_url"])
def test_a_file_under_another_name(api: httpx.Client, name: str) -> None:
    reply = api.post("/v1/images/edits", files={name: ("a.png", PNG)}, data={"prompt": "x"})

    assert (reply.status_code, error(reply)["param"]) == (400, name)
    assert "the file part image" in error(reply)["message"]


def part(name: str, value: bytes, more: str = "") -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"


def form(api: httpx.Client, *parts: bytes) -> httpx.Response:
    headers = {"content-type": "multipart/form-data; boundary=b"}
    return api.post("/v1/images/edits", content=b"".join(parts) + b"--b--\r\n", headers=headers)


def test_a_part_without_a_file_name(api: httpx.Client) -> None:
    """It is a file where its type says so, and otherwise the message says what makes it one."""
    prompt = part("prompt", b"x") + part("max_turns", b"1")
    typed = part("image", PNG).replace(b"\r\n\r\n", b"\r\nContent-Type: image/png\r\n\r\n", 1)

    assert form(api, typed, prompt).status_code == 200
    plain = error(form(api, part("image", PNG), prompt))
    assert plain["param"] == "image" and 'filename="photo.png"' in plain["message"]
    large = error(form(api, part("image", PNG + bytes(2_000_000)), prompt))
    assert 'filename="photo.png"' in large["message"]


@pytest.mark.parametrize("name", ["url", "image"])
def test_a_picture_as_text_may_be_as_large_as_a_file(api: httpx.Client, name: str) -> None:
    """Other texts are bounded at a megabyte."""
    buffer = io.BytesIO()
    Image.effect_noise((1400, 1400), 100).save(buffer, "PNG")
    text = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    prompt = part("prompt", b"x") + part("max_turns", b"1")

    assert len(text) > 2_000_000
    assert form(api, part(name, text.encode()), prompt).status_code == 200
    assert error(form(api, part("user", text.encode()), prompt))["code"] == "invalid_multipart"


def test_an_empty_file_input_of_a_browser_is_absent(api: httpx.Client) -> None:
    """Browsers send optional inputs that were left empty without a file name and without content."""
    empty = part("mask", b"", '; filename=""') + part("image[]", b"", '; filename=""')
    prompt = part("prompt", b"x") + part("max_turns", b"1")

    assert form(api, part("image", PNG, '; filename="a.png"'), empty, prompt).status_code == 200
    assert error(form(api, empty, prompt))["message"].startswith("image is missing")


# --- quality, background, and fields that cannot be honoured -----------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "edits", "quality"),
    [
        ({"quality": "low"}, 1, "low"),
        ({"quality": "low", "n": "2"}, 2, "low"),
        ({"quality": "medium"}, 2, "medium"),
        ({"quality": "high"}, 3, "high"),
        ({"quality": "auto"}, 3, "high"),
        ({"quality": "standard"}, 3, "high"),
        ({"quality": "high", "strategy": "single"}, 1, "low"),
        ({"quality": "high", "max_turns": "2"}, 2, "medium"),
        ({}, 3, "high"),
    ],
)
def test_quality_is_how_much_is_tried(
    api: httpx.Client, script: Script, fields: dict[str, str], edits: int, quality: str
) -> None:
    """The reply says what was done, in the same words; explicit fields win over high, which is the default."""
    reply = api.post("/v1/images/edits", files={"image": PNG}, data={"prompt": "x", **fields})

    assert (reply.status_code, reply.json()["quality"], len(script.edits)) == (200, quality, edits), reply.text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"quality": "low", "strategy": "best_of_n"}, ["strategy=single", "strategy=best_of_n"]),
        ({"quality": "low", "max_turns": "3"}, ["strategy=single", "max_turns=3"]),
        ({"quality": "low", "candidates": "4"}, ["candidates=4"]),
        ({"quality": "medium", "max_turns": "5"}, ["max_turns=2", "max_turns=5"]),
        ({"quality": "medium", "strategy": "single"}, ["max_turns=2", "strategy=single"]),
        ({"quality": "xhigh"}, ["high", "think_best_of_n"]),
    ],
)
def test_a_quality_that_contradicts_explicit_fields_is_refused(
    api: httpx.Client, fields: dict[str, str], words: list[str]
) -> None:
    found = error(api.post("/v1/images/edits", files={"image": PNG}, data={"prompt": "x", **fields}))

    assert found["param"] == "quality" and all(word in found["message"] for word in words), found


def transparent() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGBA", (32, 24), (200, 0, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("fields", "told", "mode"),
    [
        ({}, "transparent", "RGBA"),
        ({"background": "auto"}, "transparent", "RGBA"),
        ({"background": "opaque"}, "opaque", "RGB"),
        ({"background": "opaque", "output_format": "webp"}, "opaque", "RGB"),
        ({"output_format": "jpeg"}, "opaque", "RGB"),
        ({"background": "opaque", "response_format": "url"}, "opaque", "RGB"),
    ],
)
def test_background(api: httpx.Client, script: Script, fields: dict[str, str], told: str, mode: str) -> None:
    """`opaque` is laid on white, also behind a link; the reply says what the picture is."""
    script.edit_fault = lambda _: JSONResponse({"created": 0, "data": [{"b64_json": base64.b64encode(transparent()).decode()}]})
    reply = api.post("/v1/images/edits", files={"image": PNG}, data={"prompt": "x", "max_turns": "1", **fields}).json()
    item = reply["data"][0]
    data = httpx.get(item["url"], trust_env=False).content if "url" in item else base64.b64decode(item["b64_json"])
    image = Image.open(io.BytesIO(data))

    assert (reply["background"], image.mode) == (told, mode)
    if told == "opaque":
        assert image.convert("L").getpixel((5, 5)) == 255


def test_usage_is_the_thinkers(api: httpx.Client, orchestrator: Process) -> None:
    """Tokens of the whole session, and the images that were made; in a stream the events add up to it."""
    with openai.OpenAI(base_url=f"{orchestrator.url}/v1", api_key="none") as client:
        extra = {"moderation": "auto"}
        reply = client.images.edit(image=PNG, prompt="x", safety_identifier="end-user-7", user="u", extra_body=extra)
        events = list(client.images.edit(image=PNG, prompt="x", n=2, stream=True))

    usage = reply.usage
    assert usage is not None and usage.output_tokens_details is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (300, 60, 360)
    assert (usage.input_tokens_details.text_tokens, usage.input_tokens_details.image_tokens) == (300, 0)
    assert usage.output_tokens_details.text_tokens == 60
    assert (usage.model_extra or {})["image_count"] == 3
    assert (reply.quality, reply.background, reply.size, reply.output_format) == ("high", "opaque", "32x24", "png")
    assert reply.safety_identifier == "end-user-7"
    session = api.get(f"/v1/sessions/{(reply.model_extra or {})['session_id']}").json()
    assert session["user"] == "end-user-7"
    done = [event for event in events if event.type == "image_edit.completed"]
    assert len(done) == 2
    total = api.get(f"/v1/sessions/{(done[0].model_extra or {})['session_id']}").json()["totals"]
    assert sum(event.usage.total_tokens for event in done) == total["prompt_tokens"] + total["completion_tokens"] > 0
    assert {(event.quality, event.background, event.size) for event in events} == {("high", "opaque", "32x24")}


# --- lenient ----------------------------------------------------------------------------------------------------------

FOREIGN = {"style": "vivid", "input_fidelity": "high", "enhance_prompt": "true", "num_inference_steps": "20", "x y": "1"}


def test_a_strict_server_refuses_and_a_lenient_one_names_what_it_cannot_honour(
    api: httpx.Client, start_orchestrator: Start, script: Script
) -> None:
    """In the reply, in a header, in a stream, and in the answer that creates a session; nothing of it reaches the editor."""
    for name, value in FOREIGN.items():
        refused = error(api.post("/v1/images/edits", files={"image": PNG}, data={"prompt": "x", name: value}))
        assert refused["param"] == name and name in refused["message"]
    server = start_orchestrator(EDITTHINKER_COMPATIBILITY="lenient")
    data = {"prompt": "x", "max_turns": "1", "user": "u", **FOREIGN}
    with httpx.Client(base_url=server.url, timeout=20, trust_env=False) as lenient:
        whole = lenient.post("/v1/images/edits", files={"image": PNG}, data=data)
        stream = lenient.post("/v1/images/edits", files={"image": PNG}, data={**data, "stream": "true"})
        created = lenient.post("/v1/sessions", files={"image": PNG}, data={**data, "output_format": "png"})
        shown = lenient.get(created.headers["location"]).json()
        quality = lenient.post("/v1/images/edits", files={"image": PNG}, data={"prompt": "x", "quality": "low", "max_turns": "2"})
        clean = lenient.post("/v1/images/edits", files={"image": PNG}, data={"prompt": "x", "max_turns": "1"})
        kept = [
            lenient.post("/v1/images/edits", files={"image": PNG}, data={"prompt": "x", "max_turn": "3"}),
            lenient.post("/v1/images/edits", files={"image": PNG}, data={"prompt": "x", "review": "each_turn"}),
            lenient.post("/v1/images/edits", files={"image": PNG, "mask": PNG}, data={"prompt": "x"}),
            lenient.post("/v1/images/edits", files={"image": PNG}, data={"prompt": "x", "reference_image": "https://x/y.png"}),
            lenient.post("/v1/images/edits", files={"image": PNG}, data={"prompt": "x", "output_format": "gif"}),
        ]

    assert set(whole.json()["ignored"]) == set(FOREIGN)
    assert set(whole.headers["editthinker-ignored"].split(", ")) == {quote(name) for name in FOREIGN}
    assert stream.headers["editthinker-ignored"] == whole.headers["editthinker-ignored"]
    assert '"ignored":["style"' in stream.text
    assert set(created.json()["ignored"]) == {*FOREIGN, "output_format"} and "ignored" not in shown
    assert (quality.json()["ignored"], quality.json()["quality"]) == (["quality"], "medium")
    assert "ignored" not in clean.json() and "editthinker-ignored" not in clean.headers
    assert not FOREIGN.keys() & script.edits[0].keys()
    assert [error(reply)["param"] for reply in kept] == ["max_turn", "review", "mask", "reference_image", "output_format"]


def test_what_an_editor_declares_is_passed_on_to_it(start_orchestrator: Start, upstreams: str, script: Script) -> None:
    """OpenAI's own fields, to an editor that takes them; and an alias is a name of it."""
    editor = {
        "url": f"{upstreams}/editor/v1",
        "parameters": ["background", "input_fidelity", "moderation", "complexity"],
        "aliases": ["gpt-image-1", "openai/gpt-image-2"],
    }
    server = start_orchestrator(EDITTHINKER_EDITORS=json.dumps({"able": editor}))
    fields = {"background": "transparent", "input_fidelity": "high", "moderation": "low", "complexity": "medium"}
    data = {"prompt": "x", "max_turns": "1", "model": "gpt-image-1"}
    with httpx.Client(base_url=server.url, timeout=20, trust_env=False) as api:
        reply = api.post("/v1/images/edits", files={"image": PNG}, data={**data, **fields})
        jpeg = api.post("/v1/images/edits", files={"image": PNG}, data={**data, **fields, "output_format": "jpeg"})
        session = api.get(f"/v1/sessions/{reply.json()['session_id']}").json()
        listed = api.get("/v1/models").json()
        alias = api.get("/v1/models/openai/gpt-image-2").json()
        unknown = api.post("/v1/images/edits", files={"image": PNG}, data={"prompt": "x", "model": "gpt-image-9"})

    assert reply.status_code == 200, reply.text
    assert {name: script.edits[0][name] for name in fields} == fields
    assert script.edits[0]["response_format"] == "b64_json"
    assert session["editor"] == "able"
    assert error(jpeg)["param"] == "background"
    assert [model["id"] for model in listed["data"]] == ["able", "gpt-image-1", "openai/gpt-image-2"]
    assert (alias["alias_of"], alias["ready"], alias["owned_by"]) == ("able", True, "editor")
    assert "alias_of" not in listed["data"][0]
    assert unknown.status_code == 404
    assert all(name in error(unknown)["message"] for name in ("able", "gpt-image-1"))


# --- paths -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("POST", "/images/edits", 404, "base URL"),
        ("POST", "/v1/images/edits/", 404, "slash"),
        ("POST", "/v1/images/generations", 404, "POST /v1/images/edits"),
        ("POST", "/v1/responses", 404, "POST /v1/images/edits"),
        ("POST", "/v1/chat/completions", 404, "POST /v1/images/edits"),
        ("POST", "/openai/deployments/g/images/edits?api-version=2025-04-01-preview", 404, "Azure"),
        ("GET", "/v1/images/edits", 405, "send POST"),
        ("GET", "/v1/models/", 404, "slash"),
    ],
)
def test_a_wrong_path_says_what_to_change(api: httpx.Client, method: str, path: str, status: int, words: str) -> None:
    reply = api.request(method, path, headers={"api-key": "x"})

    assert (reply.status_code, reply.headers["x-should-retry"]) == (status, "false")
    assert words in error(reply)["message"]


@pytest.mark.parametrize("path", [f"/v1/sessions/{'x' * 201}", f"/v1/webhooks/{'x' * 201}", "/v1/sessions?limit=x"])
def test_a_wrong_parameter_of_a_path_is_told_without_a_pattern(api: httpx.Client, path: str) -> None:
    message = error(api.get(path))["message"]

    assert "pattern" not in message and "^" not in message and len(message) < 200, message


def test_health_under_both_names(api: httpx.Client) -> None:
    assert api.get("/health?x=1").json() == api.get("/healthz").json() == {"status": "ok"}


def test_a_picture_in_json_that_fills_the_budget_is_taken(start_orchestrator: Start, script: Script) -> None:
    """Its text counts as the body and its bytes in addition; the request does not wait for itself."""
    process = start_orchestrator(EDITTHINKER_UPLOAD_BYTES=str(1024 * 1024))
    noise = Image.effect_noise((900, 900), 90)
    file = io.BytesIO()
    noise.save(file, "PNG")
    text = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    with httpx.Client(base_url=process.url, timeout=60, trust_env=False) as client:
        reply = client.post("/v1/images/edits", json={"prompt": "x", "images": [{"image_url": text}], "max_turns": 1})
    assert reply.status_code == 200, reply.text
