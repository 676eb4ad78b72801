"""References and masks on the wire: to editors as the official client sends them, to thinkers within a budget; and what editors
tell of themselves.
"""

from __future__ import annotations

import base64
import io
import json
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image, ImageDraw
from starlette.responses import JSONResponse, Response

from orchestrator.loop.events import OutsideMask
from orchestrator.ports.collaborators import ChecklistOrder, CritiqueOrder, EditOrder, EditorUsage
from orchestrator.ports.errors import EditorError
from orchestrator.upstreams.editor import HttpEditor, Told
from orchestrator.upstreams.pool import UpstreamPool, http_client
from orchestrator.upstreams.registry import Registry
from orchestrator.upstreams.thinker import HttpThinker
from services.imaging import masks
from services.protocol.critique.formats import FORMATS
from services.protocol.critique.messages import read
from tests.component.orchestrator.desk import WAIT_S, Desk, asking, image_reply, stored
from tests.component.orchestrator.test_thinker_client import CRITIQUE, completion, dialect
from tests.doubles.decoding import InProcessPool
from tests.unit.imaging.pictures import SIGNATURE, chunk, saved, scene

SIZE = (96, 64)
SOURCE = saved(scene(size=SIZE), "PNG")
REFERENCES = [saved(scene(size=SIZE).rotate(90 * turns), "PNG") for turns in (1, 2)]


def mask() -> Image.Image:
    image = Image.new("RGBA", SIZE, (0, 0, 0, 255))
    ImageDraw.Draw(image).rectangle((0, 0, 31, 31), fill=(0, 0, 0, 0))
    return image


MASK = saved(mask(), "PNG")


def order(**changes: Any) -> EditOrder:
    made = EditOrder(stored(SOURCE), None, "x", 7, "ses_1/1/1", WAIT_S, references=tuple(map(stored, REFERENCES)))
    return replace(made, **changes)


async def edit(desk: Desk, wanted: EditOrder) -> Any:
    async with asking("editor", desk.url) as upstream:
        return await HttpEditor(upstream, decoder=InProcessPool()).edit(wanted, EditorUsage())


async def test_a_list_of_pictures_is_sent_as_the_official_client_sends_it(desk: Desk) -> None:
    desk.answers = [image_reply(SOURCE)]
    await edit(desk, order(mask=stored(MASK)))
    named = [(f"image-{number}.png", data, "image/png") for number, data in enumerate([SOURCE, *REFERENCES], 1)]
    async with openai.AsyncOpenAI(api_key="k", base_url=f"{desk.url}/v1") as client:
        await client.images.edit(
            image=named,
            mask=("mask.png", MASK, "image/png"),
            prompt="x",
            response_format="b64_json",
            output_format="png",
            extra_body={"seed": 7},
        )
    ours, theirs = desk.seen
    assert sorted(ours.form, key=str) == sorted(theirs.form, key=str)
    assert [part[1][2] for part in ours.form if part[0] == "image[]"] == [SOURCE, *REFERENCES]


async def test_what_changed_outside_the_mask_is_measured(desk: Desk) -> None:
    """In the whole picture, after it was brought back to the source's size."""
    edited = Image.open(io.BytesIO(SOURCE)).convert("RGB")
    edited.paste("red", (0, 0, 32, 32))
    elsewhere = edited.copy()
    elsewhere.paste("red", (64, 0, 96, 64))
    answers = [edited, elsewhere, elsewhere.resize((48, 32), Image.Resampling.BOX), elsewhere.resize((96, 96))]
    desk.answers = [image_reply(saved(answer, "PNG")) for answer in answers]
    found = [(await edit(desk, order(mask=stored(MASK)))).outside_mask for _ in answers]

    assert found[0] == OutsideMask(changed=0, difference=0)
    assert found[1] is not None and 0.3 < found[1].changed < 0.6
    assert found[2] is not None and found[2].changed >= found[1].changed
    assert found[3] is None
    desk.reset()
    desk.answers = [image_reply(saved(elsewhere, "PNG"))]
    assert (await edit(desk, order())).outside_mask is None


async def test_a_picture_that_cannot_be_measured_is_a_bad_reply(desk: Desk) -> None:
    """Its header and its checksums are right, and its pixels are not."""
    header = struct.pack(">IIBBBBB", *SIZE, 8, 2, 0, 0, 0)
    broken = SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", b"no deflate stream") + chunk(b"IEND", b"")
    desk.answers = [image_reply(broken)]
    for mask in (None, stored(MASK)):
        with pytest.raises(EditorError) as caught:
            await edit(desk, order(mask=mask))
        assert (caught.value.code, caught.value.retryable) == ("editor_bad_reply", True)


GOOD = completion(FORMATS["editthinker"].bind().render(CRITIQUE))


def images(body: bytes) -> list[Image.Image]:
    content = json.loads(body)["messages"][0]["content"]
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    return [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]


async def test_references_and_area_share_the_budget_of_one_picture(desk: Desk) -> None:
    """However many there are, the tokens of a request are bounded; and each is made once for all turns."""
    desk.answers = [JSONResponse(GOOD)]
    pool = InProcessPool()
    wanted = CritiqueOrder(
        stored(SOURCE), stored(SOURCE), "x", "y", WAIT_S, references=tuple(map(stored, REFERENCES)), mask=stored(MASK)
    )
    async with asking("thinker", desk.url) as upstream:
        thinker = HttpThinker(upstream, dialect(max_pixels=3_000), decoder=pool)
        await thinker.critique(wanted)
        # What is cached needs no decoder.
        pool._queue = None  # type: ignore[assignment,method-assign]
        await thinker.critique(replace(wanted, turn_instruction="z", outside_mask=OutsideMask(changed=0.25, difference=8)))
    first, second = (images(seen.body) for seen in desk.seen)
    areas = [image.width * image.height for image in first]
    assert len(areas) == 5 and 2_500 < areas[0] <= 3_000 and all(800 < area <= 1_000 for area in areas[1:4])
    assert [image.tobytes() for image in first] == [image.tobytes() for image in second]
    bodies = [read(json.loads(seen.body)["messages"], [FORMATS["editthinker"].template()]) for seen in desk.seen]
    assert [body.strayed and body.strayed.changed for body in bodies] == [None, 0.25]


async def test_a_thinker_is_told_how_long_an_instruction_the_editor_reads(desk: Desk) -> None:
    """Behind the pictures, and only where the editor says so; the checklist does not need it."""
    desk.answers = [JSONResponse(GOOD)]
    wanted = CritiqueOrder(stored(SOURCE), stored(SOURCE), "x", "y", WAIT_S)
    async with asking("thinker", desk.url) as upstream:
        thinker = HttpThinker(upstream, dialect(), decoder=InProcessPool())
        await thinker.critique(wanted)
        await thinker.critique(replace(wanted, prompt_tokens=75))
    plain, told = (json.loads(seen.body)["messages"][0]["content"] for seen in desk.seen)
    assert plain[:-1] == told[:-1] and told[-1]["text"].endswith(plain[-1]["text"])
    assert told[-1]["text"].startswith("The editor reads at most 75 tokens of an instruction, about 56 English words, ")
    assert read([{"role": "user", "content": told}], [FORMATS["editthinker"].template()]).prompt_tokens == 75


async def test_an_edit_that_failed_by_its_own_fault_is_not_repeated(desk: Desk) -> None:
    """The worker's 422 ``edit_failed`` names the field; another try would fail the same way."""
    desk.answers = [JSONResponse({"error": {"code": "edit_failed", "param": "prompt", "message": "change the prompt"}}, 422)]
    with pytest.raises(EditorError, match="change the prompt") as caught:
        await edit(desk, order())
    assert (caught.value.code, caught.value.retryable, len(desk.seen)) == ("editor_refused", False, 1)


async def test_without_a_budget_references_are_sent_unchanged(desk: Desk) -> None:
    desk.answers = [JSONResponse(GOOD)]
    wanted = CritiqueOrder(
        stored(SOURCE), stored(SOURCE), "x", "y", WAIT_S, references=tuple(map(stored, REFERENCES)), mask=stored(MASK)
    )
    async with asking("thinker", desk.url) as upstream:
        await HttpThinker(upstream, dialect(max_pixels=None), decoder=InProcessPool()).critique(wanted)
    shown = images(desk.seen[0].body)
    for image, data in zip(shown[:3], [SOURCE, *REFERENCES], strict=True):
        assert np.array_equal(np.asarray(image), np.asarray(Image.open(io.BytesIO(data))))
    area = masks.overlay(Image.open(io.BytesIO(SOURCE)).convert("RGB"), mask())
    assert np.array_equal(np.asarray(shown[3]), np.asarray(area))


async def test_the_checklist_is_written_with_all_pictures(desk: Desk) -> None:
    """A question may be about a reference."""
    questions = {"change": ["Is the hat there?", "Is it red?"], "keep": ["Is the cat as it was?"]}
    desk.answers = [JSONResponse(completion(json.dumps(questions)))]
    async with asking("thinker", desk.url) as upstream:
        made = await HttpThinker(upstream, dialect("checklist"), decoder=InProcessPool()).checklist(
            ChecklistOrder(stored(SOURCE), "x", WAIT_S, "", tuple(map(stored, REFERENCES)), stored(MASK))
        )
    assert len(images(desk.seen[0].body)) == 4
    assert [question.text for question in made.questions[:3]] == [*questions["change"], *questions["keep"]]


def listed(*models: dict[str, Any]) -> Response:
    return JSONResponse({"object": "list", "data": list(models)})


@pytest.mark.parametrize(
    ("answer", "model", "told"),
    [
        (listed({"id": "a", "capabilities": {"images": 3, "mask": True}}), None, Told(True, 3)),
        (listed({"id": "a"}, {"id": "b", "capabilities": {"images": 4}}), "b", Told(False, 4)),
        (listed({"id": "a", "capabilities": {"images": 4}}), "b", Told()),
        (listed({"id": "a", "capabilities": {"images": 99}}), None, Told(False, 16)),
        (listed({"id": "a", "capabilities": {"images": "many", "mask": "yes"}}), None, Told()),
        (listed({"id": "a", "capabilities": {"prompt_tokens": 75}}), None, Told(prompt_tokens=75)),
        (listed({"id": "a", "capabilities": {"prompt_tokens": 0}}), None, Told()),
        (listed({"id": "a", "capabilities": {"prompt_tokens": True}}), None, Told()),
        (listed({"id": "a", "capabilities": {"loras": {"x": 1.0, "y": 0.5}}}), None, Told(loras=frozenset("xy"))),
        (listed({"id": "a", "capabilities": {"loras": {}}}), None, Told(loras=frozenset())),
        (listed({"id": "a", "capabilities": {"loras": "all"}}), None, Told()),
        (listed({"id": "a", "capabilities": [1]}), None, Told()),
        (listed(), None, Told()),
        (JSONResponse(["x"]), None, Told()),
        (Response("no such route", 404), None, Told()),
        (Response("<html>"), None, Told()),
        (Response("starting", 503), None, None),
    ],
)
async def test_an_editors_list_of_models_tells_what_it_takes(
    desk: Desk, answer: Response, model: str | None, told: Told | None
) -> None:
    """A server that says nothing takes one picture and no mask; one that does not answer is asked again."""
    desk.answers = [answer]
    async with asking("editor", desk.url) as upstream:
        assert await HttpEditor(upstream, model=model).capabilities() == told


class _Unobserved:
    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


async def test_what_editors_take_is_learned_where_the_settings_do_not_say(desk: Desk) -> None:
    desk.answers = [Response("starting", 503), listed({"id": "a", "capabilities": {"images": 3, "mask": True}})]
    url = f"{desk.url}/v1"
    editors = {"said": {"url": url, "images": 2, "mask": False}, "asked": {"url": url}, "half": {"url": url, "mask": False}}
    thinker = {"url": url, "model": "m"}
    thinkers = {"t": {**thinker, "images": 4}, "backed": {**thinker, "fallback": "t"}, "any": thinker}
    registry = Registry.model_validate({"editors": editors, "thinkers": thinkers})
    async with http_client() as client:
        pool = UpstreamPool(lambda: registry, client, _Unobserved(), InProcessPool())

        def known() -> dict[str, tuple[bool | None, int | None]]:
            return {name: (takes.mask, takes.images) for name, takes in pool.catalogue().editors.items()}

        assert known() == {"said": (False, 2), "asked": (None, None), "half": (False, None)}
        assert pool.catalogue().thinker_images == {"t": 4, "backed": 4}
        await pool.learn(again=False)
        await pool.learn(again=False)
        assert known() == {"said": (False, 2), "asked": (True, 3), "half": (False, 3)}
        asked = len(desk.seen)
        await pool.learn(again=False)
        assert len(desk.seen) == asked
        await pool.learn(again=True)
        assert len(desk.seen) == asked + 3  # what settings do not say: the area at which they edit


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({"images": 3}, {"images": 2}, r"takes fewer images \(2 of 3\)"),
        ({"mask": True}, {"mask": False}, "takes no mask"),
    ],
)
def test_a_fallback_that_is_configured_to_take_less_is_refused(first: dict[str, Any], second: dict[str, Any], words: str) -> None:
    editors = {"a": {"url": "http://a/v1", "fallback": "b", **first}, "b": {"url": "http://b/v1", **second}}
    thinkers = {"t": {"url": "http://t/v1", "model": "m"}}
    with pytest.raises(ValueError, match=words):
        Registry.model_validate({"editors": editors, "thinkers": thinkers})
    Registry.model_validate({"editors": {**editors, "b": {"url": "http://b/v1"}}, "thinkers": thinkers})
