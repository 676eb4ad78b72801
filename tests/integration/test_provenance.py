"""Pictures say that they were edited, by every road and in every format, and an independent reader reads it."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from services.imaging import marks
from services.imaging.containers import strip_metadata
from tests.doubles.exiftool import source_type
from tests.doubles.upstreams import Script, picture
from tests.integration.conftest import Start
from tests.integration.test_takeover import until

FORMATS = ["png", "jpeg", "webp"]


def edit(api: httpx.Client, data: bytes | None = None, **fields: object) -> httpx.Response:
    files = {"image": ("a.png", data or picture(), "image/png")}
    reply = api.post("/v1/images/edits", files=files, data={"prompt": "x", **{k: str(v) for k, v in fields.items()}})
    assert reply.status_code == 200, reply.text
    return reply


def session(api: httpx.Client, data: bytes | None = None, **fields: object) -> dict[str, Any]:
    files = {"image": ("a.png", data or picture(), "image/png")}
    made = api.post("/v1/sessions", files=files, data={"prompt": "x", **{k: str(v) for k, v in fields.items()}}).json()
    until(lambda: api.get(f"/v1/sessions/{made['id']}").json()["finished_at"])
    found: dict[str, Any] = api.get(f"/v1/sessions/{made['id']}").json()
    return found


def pixels(data: bytes) -> tuple[str, tuple[int, int], bytes]:
    image = Image.open(io.BytesIO(data))
    return image.mode, image.size, image.tobytes()


def is_marked(folder: Path, data: bytes) -> None:
    """An independent reader finds the mark, ours finds the same, and the pixels are those of the file without it."""
    assert source_type(folder, data) == marks.EDITED_BY_MODEL == marks.read(data).source_type
    bare = strip_metadata(data)
    assert bare is not None and pixels(bare) == pixels(data)


@pytest.mark.parametrize("kind", FORMATS)
def test_results_are_marked_inline_and_behind_links(kind: str, api: httpx.Client, tmp_path: Path) -> None:
    inline = edit(api, output_format=kind, n=2).json()["data"]
    linked = edit(api, output_format=kind, n=2, response_format="url").json()["data"]
    data = [base64.b64decode(each["b64_json"]) for each in inline] + [api.get(each["url"]).content for each in linked]
    assert len(data) == 4
    for each in data:
        assert Image.open(io.BytesIO(each)).format == kind.upper()
        is_marked(tmp_path, each)


@pytest.mark.parametrize("kind", FORMATS)
def test_partial_images_and_the_completed_event_are_marked(kind: str, api: httpx.Client, tmp_path: Path) -> None:
    text = edit(api, output_format=kind, stream="true", partial_images=2).text
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    assert [event["type"].rpartition(".")[2] for event in events] == ["partial_image", "partial_image", "completed"]
    for event in events:
        is_marked(tmp_path, base64.b64decode(event["b64_json"]))


def test_candidates_and_results_are_marked_and_inputs_are_not(api: httpx.Client, tmp_path: Path) -> None:
    found = session(api)
    for turn in found["turns"]:
        for kind in (None, *FORMATS):
            query = {"format": kind} if kind else {}
            is_marked(tmp_path, api.get(turn["candidates"][0]["image"]["url"], params=query).content)
    is_marked(tmp_path, api.get(found["urls"]["image"]).content)
    assert api.get(found["source"]["url"]).content == picture()


def test_marked_pictures_keep_conditional_and_range_requests(api: httpx.Client) -> None:
    url = session(api)["urls"]["image"]
    for query in ({}, {"format": "jpeg"}, {"format": "webp", "compression": "40"}):
        whole = api.get(url, params=query)
        assert int(whole.headers["content-length"]) == len(whole.content)
        tag = whole.headers["etag"]
        assert api.get(url, params=query, headers={"if-none-match": tag}).status_code == 304
        for given, start, end in (("0-9", 0, 10), ("20-60", 20, 61), ("-50", len(whole.content) - 50, None), ("300-", 300, None)):
            part = api.get(url, params=query, headers={"range": f"bytes={given}", "if-range": tag})
            assert part.status_code == 206 and part.content == whole.content[start:end]
        past = api.get(url, params=query, headers={"range": f"bytes={len(whole.content)}-"})
        assert past.status_code == 416 and past.headers["content-range"] == f"bytes */{len(whole.content)}"


def test_an_answer_that_is_the_source_is_not_called_edited(api: httpx.Client, script: Script) -> None:
    from starlette.responses import JSONResponse  # noqa: PLC0415 - next to what it makes

    same = {"b64_json": base64.b64encode(picture()).decode(), "unchanged": True}
    script.edit_fault = lambda _: JSONResponse({"created": 0, "data": [same]})
    found = session(api)
    assert found["unchanged"] and api.get(found["urls"]["image"]).content == picture()


def test_an_editor_that_is_no_model_is_told_apart(api: httpx.Client, script: Script, tmp_path: Path) -> None:
    from starlette.responses import JSONResponse  # noqa: PLC0415 - as above

    made = {"b64_json": base64.b64encode(picture(shade=3)).decode(), "unchanged": False}
    script.edit_fault = lambda _: JSONResponse({"created": 0, "data": [made]}, headers={"x-trained": "false"})
    data = api.get(session(api)["urls"]["image"]).content
    assert source_type(tmp_path, data) == marks.EDITED_BY_ALGORITHM


def test_the_operator_can_turn_marks_off(start_orchestrator: Start, tmp_path: Path) -> None:
    server = start_orchestrator(EDITTHINKER_MARKS="off")
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as api:
        assert source_type(tmp_path, api.get(session(api)["urls"]["image"]).content) is None


def test_marks_survive_a_takeover(start_orchestrator: Start, tmp_path: Path) -> None:
    """Another replica, which has none of the first one's memory, serves the same bytes."""
    first = start_orchestrator()
    with httpx.Client(base_url=first.url, timeout=30, trust_env=False) as api:
        url = session(api)["urls"]["image"]
        before = api.get(url)
    first.kill()
    again = start_orchestrator()
    with httpx.Client(base_url=again.url, timeout=30, trust_env=False) as api:
        after = api.get(url)
    assert after.content == before.content and after.headers["etag"] == before.headers["etag"]
    is_marked(tmp_path, after.content)
