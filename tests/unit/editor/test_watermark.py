"""A watermark of another package marks edited pictures; one that fails fails the edit."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from services.editor.pipelines import EditJob, EditResult
from services.editor.pipelines.watermark import load
from tests.unit.editor.workers import HeldPipeline, client, post, running

_MODULE = """
from PIL import Image, ImageChops

def corner(picture):
    picture.putpixel((0, 0), (1, 2, 3) if picture.mode == "RGB" else (1, 2, 3, 255))
    return picture

def failing(picture):
    raise RuntimeError("out of ink")

def shrinking(picture):
    return picture.resize((1, 1))

constant = 5
"""
_ENTRIES = """
[editthinker.watermarks]
corner = our_watermarks:corner
failing = our_watermarks:failing
shrinking = our_watermarks:shrinking
constant = our_watermarks:constant
missing = our_watermarks:missing
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package as an installer leaves it."""
    (tmp_path / "our_watermarks.py").write_text(_MODULE)
    facts = tmp_path / "our_watermarks-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: our-watermarks\nVersion: 1\n")
    (facts / "entry_points.txt").write_text(_ENTRIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("our_watermarks", None)


def opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


class Inverting(HeldPipeline):
    """Changes every pixel, unless it is asked for nothing."""

    def edit(self, job: EditJob) -> EditResult:
        super().edit(job)
        return EditResult(job.image if job.prompt == "nothing" else ImageChops.invert(job.image), (), ())


async def test_edited_pictures_are_marked_and_an_unchanged_one_is_not() -> None:
    async with running(Inverting, watermark="corner") as app, client(app) as http:
        edited = (await post(http)).json()["data"][0]
        assert not edited["unchanged"] and opened(edited["b64_json"]).getpixel((0, 0)) == (1, 2, 3)
        same = (await post(http, prompt="nothing")).json()["data"][0]
        assert same["unchanged"] and opened(same["b64_json"]).getpixel((0, 0)) != (1, 2, 3)


@pytest.mark.parametrize(("name", "reason"), [("failing", "its log says why"), ("shrinking", "same size and mode")])
async def test_an_unmarked_picture_is_never_answered(name: str, reason: str) -> None:
    async with running(Inverting, watermark=name) as app, client(app) as http:
        reply = await post(http)
        assert reply.status_code == 422 and reply.json()["error"]["code"] == "edit_failed"
        assert reason in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("name", "reason"), [("none", "corner"), ("missing", "cannot be loaded"), ("constant", "not a function")]
)
def test_a_watermark_that_is_not_there_refuses_to_start(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        load(name)
