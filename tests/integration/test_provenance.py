"""Pictures say that they were edited, by every road and in every format, and an independent reader reads it."""

from __future__ import annotations

import base64
import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from redis.asyncio import Redis
from typer.testing import CliRunner

from editthinker import EditThinker
from editthinker.cli.app import app as cli
from orchestrator.store.made import RedisMadeLog
from orchestrator.store.scripts import KeySpace
from services.imaging import marks
from services.imaging.containers import strip_metadata
from tests.doubles.exiftool import source_type
from tests.doubles.processes import Process
from tests.doubles.upstreams import Script, picture
from tests.integration.conftest import Start
from tests.integration.test_takeover import until
from tests.unit.imaging.pictures import chunk

FORMATS = ["png", "jpeg", "webp"]


def edit(api: httpx.Client, data: bytes | None = None, **fields: object) -> httpx.Response:
    files = {"image": ("a.png", data or picture(), "image/png")}
    reply = api.post("/v1/images/edits", files=files, data={"prompt": "x", **{k: str(v) for k, v in fields.items()}})
    assert reply.status_code == 200, reply.text
    return reply


def session(api: httpx.Client, data: bytes | None = None, **fields: object) -> dict[str, Any]:
    files = {"image": ("a.png", data or picture(), "image/png")}
    # Large files are read at a low priority.
    form = {"prompt": "x", **{k: str(v) for k, v in fields.items()}}
    made = api.post("/v1/sessions", files=files, data=form, timeout=120).json()
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


def check(api: httpx.Client, data: bytes, **headers: str) -> dict[str, Any]:
    # Large files are read at a low priority.
    reply = api.post("/v1/provenance", content=data, headers={"content-type": "image/png", **headers}, timeout=120)
    assert reply.status_code == 200, reply.text
    told: dict[str, Any] = reply.json()
    return told


def is_known(api: httpx.Client, data: bytes) -> bool:
    return bool(check(api, data)["made_here"] == "yes")


def resaved(data: bytes, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).save(buffer, kind, **options)
    return buffer.getvalue()


def test_a_picture_made_here_is_known_again(api: httpx.Client) -> None:
    """As it was served, in every format; without its marks; and saved again without loss. Nothing else is claimed."""
    found = session(api)
    url = found["urls"]["image"]
    served = api.get(url).content
    until(partial(is_known, api, served))
    told = check(api, served)
    assert told["says_ai"] and told["iptc"] == {"digital_source_type": marks.EDITED_BY_MODEL, "error": None}
    assert told["c2pa"] is None and told["tampered"] == []
    for kind in ("jpeg", "webp"):
        data = api.get(url, params={"format": kind, "compression": 60}).content
        until(partial(is_known, api, data))
        saved_again = check(api, resaved(data))
        assert saved_again["made_here"] == "yes"
        assert saved_again["tampered"] == ["this server made the picture and marked it; the mark was removed or changed"]
    bare = strip_metadata(served)
    assert bare is not None
    for stripped in (bare, resaved(bare, compress_level=9)):
        told = check(api, stripped)
        assert told["made_here"] == "yes" and told["tampered"] and not told["says_ai"]
    assert check(api, resaved(served, "JPEG", quality=50))["made_here"] == "not known"
    assert check(api, picture())["made_here"] == "not known"


def test_the_picture_may_come_as_a_form(api: httpx.Client) -> None:
    reply = api.post("/v1/provenance", files={"image": ("a.png", picture(), "image/png")})
    assert reply.status_code == 200
    assert reply.json() == {
        "object": "provenance",
        "says_ai": False,
        "iptc": None,
        "c2pa": None,
        "tampered": [],
        "made_here": "not known",
    }


def test_what_is_no_picture_is_refused_in_words(api: httpx.Client) -> None:
    def refused(status: int, code: str, **request: Any) -> None:
        reply = api.post("/v1/provenance", **request)
        assert (reply.status_code, reply.json()["error"]["code"]) == (status, code), reply.text

    refused(400, "missing_parameter", content=b"")
    refused(400, "invalid_image", content=b"no picture")
    refused(400, "invalid_image", content=picture()[:60])
    refused(415, "unsupported_media_type", json={"image": "x"})
    refused(400, "unknown_parameter", files={"picture": ("a.png", picture(), "image/png")})


def png_with(chunks: bytes) -> bytes:
    data = picture()
    return data[:33] + chunks + data[33:]


def jumbf(size: int, content: bytes = b"") -> bytes:
    """A manifest store that says it is that long."""
    return size.to_bytes(4, "big") + b"jumb" + content


HOSTILE = {
    "a store of zeros": chunk(b"caBX", bytes(1000)),
    "a store that promises gigabytes": chunk(b"caBX", jumbf(2**32 - 1)),
    "boxes within boxes": chunk(b"caBX", b"".join(jumbf(8 * (20_000 - n)) for n in range(20_000))),
    "many stores": chunk(b"caBX", jumbf(8)) * 500,
    "a store of 40 MB": chunk(b"caBX", jumbf(40_000_000, bytes(39_999_992))),
    "an empty store": chunk(b"caBX", b""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_manifests_are_told_and_the_picture_is_still_edited(name: str, api: httpx.Client) -> None:
    data = png_with(HOSTILE[name])
    told = check(api, data)
    assert told["c2pa"]["state"] in {"invalid", "unread"} and told["c2pa"]["reasons"]
    found = session(api, data)
    assert found["status"] == "succeeded" and found["source"]["carried"]["c2pa"] == told["c2pa"]["state"]


def test_a_picture_of_60_mb_of_manifests_is_refused_before_it_is_read(api: httpx.Client) -> None:
    data = png_with(chunk(b"caBX", jumbf(60_000_000, bytes(59_999_992))))
    files = {"image": ("a.png", data, "image/png")}
    for reply in (
        api.post("/v1/provenance", content=data, headers={"content-type": "image/png"}, timeout=120),
        api.post("/v1/provenance", files=files, timeout=120),
        api.post("/v1/sessions", files=files, data={"prompt": "x"}, timeout=120),
    ):
        assert reply.status_code in {400, 413} and reply.json()["error"]["code"] in {"image_too_large", "request_too_large"}


def test_a_mark_that_was_changed_is_told(api: httpx.Client) -> None:
    """To one that no picture of this server has."""
    data = api.get(session(api)["urls"]["image"]).content
    until(partial(is_known, api, data))
    bare = strip_metadata(data)
    assert bare is not None
    other = f"{marks.VOCABULARY}digitalCapture"
    told = check(api, marks.spliced(bare, marks.splices(bare[:4096], len(bare), marks.packet(other))))
    assert told["iptc"]["digital_source_type"] == other and not told["says_ai"]
    assert told["tampered"] == ["this server made the picture and marked it; the mark was removed or changed"]


def test_hostile_xmp_is_told_and_the_picture_is_still_edited(api: httpx.Client) -> None:
    bomb = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>")
    told = check(api, png_with(bomb))
    assert told["iptc"]["digital_source_type"] is None and "document type" in told["iptc"]["error"]
    assert session(api, png_with(bomb))["status"] == "succeeded"


def test_an_uploads_source_type_is_kept(api: httpx.Client, tmp_path: Path) -> None:
    data = marks.spliced(picture(), marks.splices(picture()[:4096], len(picture()), marks.packet(marks.GENERATED)))
    found = session(api, data)
    assert found["source"]["carried"] == {"digital_source_type": marks.GENERATED, "c2pa": None, "reasons": []}
    assert source_type(tmp_path, api.get(found["source"]["url"]).content) == marks.GENERATED
    assert source_type(tmp_path, api.get(found["source"]["url"], params={"format": "webp"}).content) == marks.GENERATED
    assert source_type(tmp_path, api.get(found["urls"]["image"]).content) == marks.GENERATED


async def test_tenants_never_see_what_was_made_for_others(redis: Process) -> None:
    """And what is older than it is kept for is not known."""
    now = [1000.0]
    client = Redis(port=redis.port, db=3)
    log = RedisMadeLog(client, KeySpace("test:"), lambda: now[0], 100)
    await log.add("ann", [b"a" * 32, b"b" * 32])
    assert await log.knows("ann", [b"x" * 32, b"b" * 32]) and not await log.knows("bob", [b"a" * 32])
    now[0] += 101
    assert not await log.knows("ann", [b"a" * 32])
    await log.add("ann", [b"c" * 32])
    assert await client.zcard("test:made:ann") == 1
    await client.flushdb()
    await client.aclose()


def test_the_command_line_tells_the_same_in_words(api: httpx.Client, tmp_path: Path) -> None:
    data = api.get(session(api)["urls"]["image"]).content
    until(partial(is_known, api, data))
    path = tmp_path / "a.png"
    path.write_bytes(data)
    for arguments, last in (([], "C2PA: none"), (["--server", str(api.base_url)], "made by this server: yes")):
        done = CliRunner().invoke(cli, ["provenance", str(path), *arguments])
        assert done.exit_code == 0, done.output
        lines = done.stdout.splitlines()
        assert lines[0] == "a mark says that AI made or edited it" and lines[1] == f"IPTC: {marks.EDITED_BY_MODEL}"
        assert lines[-1] == last
    with EditThinker(str(api.base_url)) as client:
        assert client.provenance(path).made_here == "yes"


def test_a_development_certificate_is_one_command(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["certificate", str(tmp_path / "new")])
    assert done.exit_code == 0 and f"EDITTHINKER_C2PA_KEY={tmp_path / 'new' / 'key.pem'}" in done.stdout
    assert (tmp_path / "new" / "key.pem").stat().st_mode & 0o77 == 0
    again = CliRunner().invoke(cli, ["certificate", str(tmp_path / "new")])
    assert again.exit_code == 2 and "exists" in again.stderr
