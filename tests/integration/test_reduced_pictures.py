"""Pictures of a session, reduced for a reader that shows them small: `max_side`."""

from __future__ import annotations

import io
from pathlib import Path

import httpx
from PIL import Image

from services.imaging import marks
from tests.doubles.signing import Certificate
from tests.doubles.upstreams import Script, picture
from tests.integration.conftest import Start
from tests.integration.test_pictures import create as create_with_pictures
from tests.integration.test_pictures import editors, finished, mask

SIZE = (640, 480)


def session(api: httpx.Client) -> str:
    """The path of a finished session, whose source is of 640 x 480."""
    files = {"image": ("a.png", picture(*SIZE), "image/png")}
    made = api.post("/v1/sessions", files=files, data={"prompt": "x", "max_turns": "1"}, headers={"prefer": "wait=60"})
    assert made.status_code == 200, made.text
    return f"/v1/sessions/{made.json()['id']}"


def opened(reply: httpx.Response) -> Image.Image:
    assert reply.status_code == 200, reply.text
    return Image.open(io.BytesIO(reply.content))


def test_every_picture_of_a_session_is_reduced(start_orchestrator: Start, script: Script, upstreams: str) -> None:
    server = start_orchestrator(EDITTHINKER_EDITORS=editors(upstreams))
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as api:
        made = create_with_pictures(api, [picture(*SIZE), picture(*SIZE)], mask(SIZE), max_turns=1)
        all_reduced(api, f"/v1/sessions/{finished(api, made.json()['id'])['id']}")


def all_reduced(api: httpx.Client, path: str) -> None:
    candidate = f"{path}/turns/1/candidates/1"
    for url in (f"{path}/source", f"{path}/references/1", f"{path}/image", f"{candidate}/image", f"{candidate}/answer"):
        small = opened(api.get(url, params={"max_side": 64}))
        assert (small.size, small.format) == ((64, 48), "PNG"), url
        assert opened(api.get(url, params={"max_side": 128, "format": "webp"})).size == (128, 96)
    clear = opened(api.get(f"{path}/mask", params={"max_side": 64}))
    assert clear.size == (64, 48) and clear.mode == "RGBA"
    assert (clear.getpixel((4, 4)), clear.getpixel((60, 44))) == ((0, 0, 0, 0), (0, 0, 0, 255))


def test_each_size_has_its_own_tag_and_a_small_picture_the_one_it_has(api: httpx.Client, script: Script) -> None:
    path = session(api)
    url = f"{path}/image"
    whole, first, second, ample = (api.get(url, params=each) for each in ({}, _side(64), _side(65), _side(640)))
    tags = [reply.headers["etag"] for reply in (whole, first, second)]
    assert len(set(tags)) == 3 and ample.headers["etag"] == tags[0] and ample.content == whole.content
    assert first.headers["cache-control"] == whole.headers["cache-control"] == "private, max-age=31536000, immutable"
    repeat = api.get(url, params=_side(64), headers={"if-none-match": tags[1]})
    assert repeat.status_code == 304
    part = api.get(url, params=_side(64), headers={"range": "bytes=10-29", "if-range": tags[1]})
    assert part.status_code == 206 and part.content == first.content[10:30]


def test_a_reduced_picture_says_what_the_whole_one_says(api: httpx.Client, script: Script) -> None:
    path = session(api)
    for params in (_side(64), {**_side(64), "format": "jpeg"}, {**_side(64), "format": "webp"}):
        assert marks.read(api.get(f"{path}/image", params=params).content).source_type == marks.EDITED_BY_MODEL
        assert marks.read(api.get(f"{path}/source", params=params).content).source_type is None


def test_a_reduced_picture_is_signed_where_pictures_are(start_orchestrator: Start, script: Script, tmp_path: Path) -> None:
    certificate = Certificate.made(tmp_path)
    server = start_orchestrator(**certificate.settings)
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as api:
        reply = api.get(f"{session(api)}/image", params={**_side(64), "format": "webp"})
    assert certificate.read(reply.content, "image/webp")[0] == "Trusted"
    assert opened(reply).size == (64, 48)


def test_a_size_out_of_bounds_is_refused_by_name(api: httpx.Client, script: Script) -> None:
    path = session(api)
    for wrong in ("63", "2049", "0", "-1", "1e2", "large", ""):
        reply = api.get(f"{path}/image", params={"max_side": wrong})
        error = reply.json()["error"]
        assert (reply.status_code, error["param"]) == (400, "max_side") and error["message"].startswith("max_side"), error


def _side(pixels: int) -> dict[str, str]:
    return {"max_side": str(pixels)}
