"""OmniGen2's family, with a double that has the arguments and the loop of the repository's pipeline."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from services.editor.pipelines.base import EditJob
from services.editor.pipelines.diffusion.interleaved import InterleavedEdit, InterleavedPipeline
from services.editor.pipelines.diffusion.loading import serve
from services.editor.pipelines.loading import load
from services.editor.pipelines.omnigen2 import FAMILY
from services.editor.pipelines.tuning import Tuning
from tests.parity import WORKING_PIXELS, Recorder, difference, picture


class Transformer(torch.nn.Module):
    """Takes the source's latents as a list of lists, and answers with a bare tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        text_hidden_states: torch.Tensor,
        freqs_cis: list[torch.Tensor],
        text_attention_mask: torch.Tensor,
        ref_image_hidden_states: list[list[torch.Tensor]] | None = None,
    ) -> torch.Tensor:
        seen = 0.0 if ref_image_hidden_states is None else _seen(ref_image_hidden_states)
        said = (text_hidden_states * text_attention_mask).sum() + freqs_cis[0].sum()
        answer: torch.Tensor = self.mix(hidden_states).tanh() * (1 + timestep.view(-1, 1, 1, 1)) + seen + said.sin()
        return answer


def _seen(pictures: list[list[torch.Tensor]]) -> torch.Tensor:
    """Something that depends on every picture of the only sample, and on their order."""
    (of_one,) = pictures
    return torch.stack([picture.mean() * (1 + place) for place, picture in enumerate(of_one)]).sum()


class Scheduler:
    """Flow matching from 0 (noise) to 1 (picture), without `sigmas`; it counts its own steps."""

    order = 1

    def set_timesteps(self, steps: int) -> None:
        self.timesteps = torch.linspace(0, 1, steps + 1)[:-1]
        self._ends = torch.cat([self.timesteps, torch.ones(1)])
        self._place = 0

    def step(self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, *, return_dict: bool = True) -> Any:
        width = self._ends[self._place + 1] - self._ends[self._place]
        self._place += 1
        return (sample + width * model_output,)


class PipelineDouble:
    """`OmniGen2Pipeline` as far as it is used: lists, three calls a step, a random source, and no tuple returned."""

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.transformer = Transformer()
        self.scheduler = Scheduler()

    def to(self, device: torch.device) -> PipelineDouble:
        return self

    def set_progress_bar_config(self, *, disable: bool) -> None:
        pass

    def maybe_free_model_hooks(self) -> None:
        pass

    def encode_vae(self, img: torch.Tensor) -> torch.Tensor:
        return img + 0.1 * torch.randn(img.shape)

    def encode_prompt(self, prompt: str, *, guided: bool, negative_prompt: str | None = None, **_: Any) -> tuple[Any, ...]:
        texts = [prompt, negative_prompt or ""] if guided else [prompt]
        embedded = [torch.tensor([[float(ord(letter)) for letter in text + " "]]) / 100 for text in texts]
        return tuple(part for text in embedded for part in (text, torch.ones_like(text))) + (None, None) * (not guided)

    @torch.no_grad()
    def __call__(
        self,
        *,
        prompt: str,
        negative_prompt: str | None = None,
        max_sequence_length: int | None = None,
        input_images: list[Any] | None = None,
        height: int | None = None,
        width: int | None = None,
        max_pixels: int = 1024 * 1024,
        max_input_image_side_length: int = 1024,
        align_res: bool = True,
        num_inference_steps: int = 28,
        text_guidance_scale: float = 4.0,
        image_guidance_scale: float = 1.0,
        generator: torch.Generator | None = None,
        output_type: str | None = "pil",
        return_dict: bool = True,
    ) -> Any:
        assert input_images is not None and height is not None and width is not None and not align_res
        # As upstream's prepare_image: one item a prompt, which is a picture or a list of them.
        (given,) = input_images
        given = given if isinstance(given, list) else [given]
        for each in given:
            assert each.width * each.height <= max_pixels and max(each.size) <= max_input_image_side_length
            assert not any(side % 16 for side in each.size)
        assert not width % 16 and not height % 16 and width * height <= max_pixels
        text, mask, negative, negative_mask = self.encode_prompt(
            prompt, guided=text_guidance_scale > 1, negative_prompt=negative_prompt, max_sequence_length=max_sequence_length
        )
        pixels = [torch.tensor(list(each.tobytes()), dtype=torch.float32).view(1, each.height, each.width, 3) for each in given]
        seen = [[self.encode_vae(each.permute(0, 3, 1, 2) / 127.5 - 1).squeeze(0) for each in pixels]]
        latents = torch.randn((1, 3, height, width), generator=generator)
        self.scheduler.set_timesteps(num_inference_steps)
        frequencies = [torch.ones(2)]
        for t in self.scheduler.timesteps:
            at = t.expand(1)
            predicted = self.transformer(latents, at, text, frequencies, mask, ref_image_hidden_states=seen)
            if text_guidance_scale > 1:
                neither = (latents, at, negative, frequencies, negative_mask)
                if image_guidance_scale > 1:
                    shown = self.transformer(*neither, ref_image_hidden_states=seen)
                    blind = self.transformer(*neither, ref_image_hidden_states=None)
                    predicted = blind + image_guidance_scale * (shown - blind) + text_guidance_scale * (predicted - shown)
                else:
                    blind = self.transformer(*neither, ref_image_hidden_states=None)
                    predicted = blind + text_guidance_scale * (predicted - blind)
            latents = self.scheduler.step(predicted, t, latents, return_dict=False)[0]
        assert output_type == "pt" and not return_dict
        return (latents / 2 + 0.5).clamp(0, 1)


JOBS = (
    EditJob(picture(1, (64, 64)), "make it blue", seed=1, source="1", parameters={"num_inference_steps": 3}),
    EditJob(
        picture(2, (96, 40)),
        "snow everywhere",
        seed=2,
        source="2",
        negative_prompt="ugly",
        parameters={"num_inference_steps": 5, "image_guidance_scale": 1},
    ),
    EditJob(
        picture(3, (64, 64)),
        "x",
        seed=3,
        size=(40, 80),
        source="3",
        parameters={"num_inference_steps": 4, "guidance_scale": 1},
    ),
)


def with_references(*seeds: int) -> EditJob:
    """The first job with pictures of one size, and one of another."""
    sizes = ((64, 64), (64, 64), (40, 96))
    return replace(JOBS[0], references=tuple(picture(seed, sizes[seed % 3]) for seed in seeds))


@pytest.fixture
def device() -> Recorder:
    return Recorder("cpu")


@pytest.fixture(params=[False, True], ids=["one thread", "overlap"])
def served(device: Recorder, request: pytest.FixtureRequest) -> InterleavedPipeline:
    tuning = Tuning(device="cpu", pixels=WORKING_PIXELS, overlap=bool(request.param))
    return serve(FAMILY, PipelineDouble(), device, tuning)


def plain(job: EditJob) -> torch.Tensor:
    """The picture (3, H, W) of the unmodified pipeline, with the global generator seeded as the family does."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(job.seed)
        pictures: torch.Tensor = PipelineDouble()(
            **FAMILY.arguments(job, WORKING_PIXELS), generator=generator, output_type="pt", return_dict=False
        )
    return pictures[0]


def finish(served: InterleavedPipeline, *edits: InterleavedEdit) -> None:
    """Advance the edits in turn until all are finished."""
    while running := [edit for edit in edits if edit.result is None and edit.error is None]:
        for edit in running:
            served.advance([edit])


def test_an_edit_alone_is_the_plain_pipelines(served: InterleavedPipeline, device: Recorder) -> None:
    for job in JOBS:
        edit = served.open(job)
        finish(served, edit)
        assert difference(device.exact(edit), plain(job)) == 0


def test_references_and_their_order_reach_the_pipeline(served: InterleavedPipeline, device: Recorder) -> None:
    jobs = [with_references(6), with_references(6, 7), with_references(7, 6), with_references(8, 6), JOBS[0]]
    pictures = []
    for job in jobs:
        edit = served.open(served.prepare(job))
        finish(served, edit)
        pictures.append(device.exact(edit))
    assert len({found.numpy().tobytes() for found in pictures}) == 5
    assert FAMILY.capabilities.max_images == 5
    again = served.open(served.prepare(jobs[1]))
    finish(served, again)
    assert difference(device.exact(again), pictures[1]) == 0


@pytest.mark.parametrize("references", [(6,), (6, 7), (8, 6), (9, 8, 7, 6)])
def test_an_edit_with_references_is_the_plain_pipelines(
    served: InterleavedPipeline, device: Recorder, references: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every picture's encoding draws the same noise in the service; here, none at all.
    monkeypatch.setattr(PipelineDouble, "encode_vae", lambda _, img: img)
    job = with_references(*references)
    edit = served.open(served.prepare(job))
    finish(served, edit)
    assert difference(device.exact(edit), plain(job)) == 0


def test_interleaved_edits_are_the_plain_pipelines_and_none_is_batched(served: InterleavedPipeline, device: Recorder) -> None:
    edits = [served.open(job) for job in JOBS]
    for edit in edits:
        served.advance([edit])
    assert [edit.group for edit in edits] == [None] * 3
    finish(served, *edits)
    assert [difference(device.exact(edit), plain(job)) for edit, job in zip(edits, JOBS, strict=True)] == [0, 0, 0]


def test_a_cancelled_edit_leaves_nothing_behind(served: InterleavedPipeline, device: Recorder) -> None:
    cancelled, edit = served.open(JOBS[1]), served.open(JOBS[0])
    for _ in range(3):
        served.advance([cancelled])
    served.advance([edit])
    served.close(cancelled)
    finish(served, edit)
    assert difference(device.exact(edit), plain(JOBS[0])) == 0


def test_the_seed_determines_the_picture_and_the_global_generator_does_not(served: InterleavedPipeline, device: Recorder) -> None:
    pictures = []
    for seed, source in ((1, "one"), (1, "two"), (2, "three")):
        torch.rand(seed)  # something else in the process draws numbers
        before = torch.random.get_rng_state()
        edit = served.open(replace(JOBS[0], seed=seed, source=source))
        finish(served, edit)
        assert torch.equal(torch.random.get_rng_state(), before)
        pictures.append(device.exact(edit))
    assert difference(pictures[0], pictures[1]) == 0
    assert difference(pictures[0], pictures[2]) > 0.1


@pytest.mark.parametrize(("place", "calls"), [(0, 9), (1, 10), (2, 4)])
def test_the_scales_determine_the_calls_per_step(served: InterleavedPipeline, place: int, calls: int) -> None:
    edit = served.open(JOBS[place])
    finish(served, edit)
    assert (edit.calls, edit.calls_done) == (calls, calls)
    assert edit.step == edit.steps


@pytest.mark.parametrize("place", range(3))
def test_the_family_s_size_is_the_picture_s(place: int) -> None:
    height, width = plain(JOBS[place]).shape[1:]
    assert FAMILY.size(JOBS[place], WORKING_PIXELS) == (width, height)
    assert width * height <= WORKING_PIXELS


def test_without_the_repository_the_error_says_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "omnigen2", None)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "OmniGen2Pipeline", "_diffusers_version": "0.33.1"}))
    with pytest.raises(ValueError, match="VectorSpaceLab/OmniGen2"):
        load("auto", str(tmp_path), Tuning(device="cpu"))
