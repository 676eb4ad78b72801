"""Edits with references: the pictures are those of the plain pipeline, in every order, together with other edits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from services.editor.pipelines.base import EditJob
from services.editor.pipelines.diffusion.family import Family
from services.editor.pipelines.diffusion.interleaved import InterleavedPipeline
from services.editor.pipelines.registry import DIFFUSION
from services.errors import ApiError
from tests.component.diffusion.test_families import family_of, finished, served
from tests.parity import Bench, difference, picture
from tests.unit.editor import workers

SEVERAL = {"flux2": 6, "flux2-klein": 4, "flux3-klein": 10, "qwen-image-2.1": 10, "qwen-image-edit-plus": 3}
"""Families that take several pictures, and how many; FLUX.2 [klein] KV is in test_flux2_klein, OmniGen2 in test_omnigen2."""
CLOSE = 1e-5


def job(place: int, references: int, **changes: object) -> EditJob:
    """An edit whose references have one size: only their content tells them apart."""
    more = tuple(picture(100 + place * 10 + number, (64, 64)) for number in range(references))
    made = EditJob(
        picture(place, (64, 64)), f"edit {place}", seed=place, source=str(place), parameters={"num_inference_steps": 2}
    )
    return replace(made, references=more, **changes)  # type: ignore[arg-type]  # fields of a job


def test_only_families_whose_pipelines_take_several_pictures_say_so() -> None:
    said = {name: family_of(name).capabilities.max_images for name in DIFFUSION}
    assert {name: most for name, most in said.items() if most > 1} == {**SEVERAL, "flux2-klein-kv": 4, "omnigen2": 5}


@pytest.mark.parametrize("name", SEVERAL)
def test_an_edit_with_references_is_the_plain_pipelines(name: str) -> None:
    """As many as it takes; and their order counts, although the encoder cache has seen them all."""
    bench = Bench(name)
    most = SEVERAL[name]
    jobs = [job(1, most - 1), job(1, 1), job(1, 0)]
    turned = replace(jobs[0], references=jobs[0].references[::-1])
    pictures = [bench.alone(bench.pipeline.prepare(each)) for each in (*jobs, turned, jobs[0])]

    wanted = [bench.expected(each) for each in (*jobs, turned, jobs[0])]
    assert list(map(difference, pictures, wanted)) == [0] * 5
    assert len({found.numpy().tobytes() for found in pictures}) == 4


@pytest.mark.parametrize("name", SEVERAL)
def test_edits_with_and_without_references_run_together(name: str) -> None:
    bench = Bench(name)
    jobs = [job(1, 1), job(2, 1), job(3, 0), job(4, 2)]
    pictures, _ = bench.mixed(jobs)
    assert max(difference(found, bench.expected(each)) for found, each in zip(pictures, jobs, strict=True)) <= CLOSE


@pytest.mark.parametrize("name", SEVERAL)
def test_a_repeated_edit_finds_its_pictures_in_the_encoder_cache(name: str) -> None:
    """The next turn of a session has the same ones and another text."""
    pipeline = served(name)
    finished(pipeline, job(1, 1))
    misses = pipeline.encoder_cache.misses
    finished(pipeline, job(1, 1, seed=9))
    assert pipeline.encoder_cache.misses == misses
    assert pipeline.encoder_cache.hits > 0


def test_transparent_and_large_references_are_prepared_as_the_source_is() -> None:
    pipeline: InterleavedPipeline = served("flux2-klein")
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    prepared = pipeline.prepare(replace(job(1, 0), references=(clear,)))
    assert np.asarray(prepared.references[0]).tolist() == np.full((64, 64, 3), 255).tolist()


def test_a_reference_of_an_unsupported_aspect_ratio_is_named() -> None:
    family: Family = family_of("flux2-klein")
    wrong = replace(job(1, 2), references=(Image.new("RGB", (64, 64)), Image.new("RGB", (700, 64))))
    with pytest.raises(ApiError, match=r"image\[2\] is 700x64, but flux2-klein takes at most 8:1; crop it, or pad it") as caught:
        family.check(wrong, 64 * 64)
    assert caught.value.param == "image[2]"


async def test_the_worker_takes_as_many_pictures_as_it_says() -> None:
    async with workers.running(lambda: served("flux2-klein"), max_active=1) as app, workers.client(app) as http:
        card = (await http.get("/v1/models")).json()["data"][0]
        replies = []
        for count in (1, 2, 4, 5):
            files = [("image[]", workers.png((64, 64), colour)) for colour in ("red", "green", "blue", "white", "black")[:count]]
            replies.append(
                await http.post("/v1/images/edits", data={"prompt": "x", "seed": 1, "num_inference_steps": 1}, files=files)
            )
    assert card["capabilities"]["images"] == 4
    assert [reply.status_code for reply in replies] == [200, 200, 200, 400]
    assert len({reply.json()["data"][0]["b64_json"] for reply in replies[:3]}) == 3
    error = replies[3].json()["error"]
    assert (error["code"], error["param"]) == ("invalid_value", "image")
    assert error["message"] == "image was given 5 times; flux2-klein takes 4 pictures: send no more"
