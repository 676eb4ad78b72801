"""FLUX 3 Image [klein] (Black Forest Labs): `Flux3DistilledAutoBlocks`, the step-distilled model.

diffusers 0.42 has modular blocks for it and no pipeline class. The blocks run as they are, one after the other: text encoder,
VAE encoder, denoising, decoding; the first two are methods here, so that their results are cached. Distilled: 16 steps, no
guidance, no negative prompt. It takes up to ten pictures, the source first. Sizes: as `services.editor.pipelines.flux2`, so that
no picture is scaled, padded or cropped again. Prompts are padded to a multiple of 80 tokens, which the model attends to: edits
share a pass if theirs have one padded length.

The block of the prompt upsampler is left out. The maker says not to use the model without an upsampled prompt: a thinker, or
the maker's own upsampler in front of this worker, writes it, with boxes as JSON on a grid of 0 to 1000.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import Flux3DistilledAutoBlocks, Flux3DistilledModularPipeline, ModularPipeline
from diffusers.modular_pipelines.flux3.decoders import Flux3DecodeStep
from huggingface_hub import snapshot_download
from PIL import Image

from services.editor.pipelines.base import Capabilities, EditJob, Range
from services.editor.pipelines.diffusion.calls import Collation
from services.editor.pipelines.diffusion.family import Family
from services.editor.pipelines.diffusion.text_limit import Text, counted
from services.editor.pipelines.flux2 import aspect, reduced, size, to_vae

MAX_IMAGES = 10
"""github.com/black-forest-labs/flux-3-image-klein, README."""


class Flux3KleinPipeline(Flux3DistilledModularPipeline):  # type: ignore[misc,unused-ignore]  # diffusers is not typed
    """The modular pipeline with the call that other pipelines have, and its encoders as methods."""

    _unpatchify_latents = staticmethod(Flux3DecodeStep._unpatchify_latents)  # noqa: SLF001 - for previews

    def encode_prompt(self, prompt: str) -> Any:
        """The embeddings of a prompt."""
        return self._run("text_encoder", "prompt_embeds", prompt=prompt)

    def _encode_vae_image(self, images: list[Image.Image]) -> Any:
        return self._run("vae_encoder", "image_cond_latents", image=images)

    def __call__(  # noqa: PLR0913 - as pipelines have it
        self,
        *,
        prompt: str,
        image: list[Image.Image],
        height: int,
        width: int,
        num_inference_steps: int,
        generator: torch.Generator,
        output_type: str,
        return_dict: bool,
    ) -> tuple[Any]:
        """The pictures of one edit, in a tuple."""
        del return_dict
        latents = self._run(
            "denoise",
            "latents",
            prompt_embeds=self.encode_prompt(prompt),
            image_cond_latents=self._encode_vae_image(image),
            height=height,
            width=width,
            num_inference_steps=num_inference_steps,
            generator=generator,
        )
        return (self._run("decode", "images", latents=latents, output_type=output_type),)

    def set_progress_bar_config(self, **config: Any) -> None:
        """As the pipelines have it; the base class reaches the outermost blocks only."""
        waiting = [self._blocks]  # the property is a copy
        while waiting:
            block = waiting.pop()
            waiting += list(getattr(block, "sub_blocks", {}).values())
            if hasattr(block, "set_progress_bar_config"):
                block.set_progress_bar_config(**config)

    def _run(self, name: str, output: str, **inputs: Any) -> Any:
        """The output of one of the pipeline's blocks, run with this pipeline's components."""
        part = copy.copy(self)
        part.__dict__["_blocks"] = self.blocks.sub_blocks[name]
        return ModularPipeline.__call__(part, output=output, **inputs)


def blocks() -> Any:
    """The distilled model's blocks, without its prompt upsampler."""
    made = Flux3DistilledAutoBlocks()
    made.sub_blocks.pop("prompt_upsampler")
    return made


def load(model: str, dtype: torch.dtype, revision: str | None = None) -> Any:
    """Load the pipeline from a folder or hub id.

    Raises:
        OSError: when the model, or one of its components, cannot be found or downloaded.
    """
    local = Path(model).is_dir()
    folder = model if local else snapshot_download(model, revision=revision, ignore_patterns=["prompt_upsampler*/*"])
    pipe = blocks().init_pipeline(folder)
    # A component that cannot be loaded is a warning to diffusers.
    pipe.load_components(dtype=dtype)
    if pipe.null_component_names:
        missing = ", ".join(sorted(pipe.null_component_names))
        raise OSError(f"{model} has components that could not be loaded: {missing}; the log above says why")
    return pipe


def _one_call(pipe: Any) -> Family:
    pipe.__class__ = Flux3KleinPipeline
    return FAMILY


def _in_template(processor: Any, text: str) -> int:
    """The tokens of a prompt as its block wraps it."""
    turn = [{"role": "user", "content": text}]
    return counted(processor, processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))


def _arguments(job: EditJob, pixels: int) -> dict[str, Any]:
    width, height = size(job, pixels)
    pictures = [replace(job, image=image) for image in (job.image, *job.references)]
    return {
        "image": [each.image.resize(reduced(each, pixels), Image.Resampling.LANCZOS) for each in pictures],
        "prompt": job.prompt,
        "num_inference_steps": int(job.parameters["num_inference_steps"]),
        "height": height,
        "width": width,
    }


FAMILY = Family(
    name="flux3-klein",
    capabilities=Capabilities(
        max_images=MAX_IMAGES,
        partial_images=3,
        parameters={"num_inference_steps": Range(1, 100, 16, whole=True)},
        boxes=True,
    ),
    call=_arguments,
    collations={
        "hidden_states": Collation.CAT,
        "timestep": Collation.CAT,
        "target_timestep": Collation.CAT,
        "encoder_hidden_states": Collation.CAT,
        "image_cond_hidden_states": Collation.CAT,
        "txt_ids": Collation.SAME,
        "img_ids": Collation.SAME,
        "image_cond_ids": Collation.SAME,
    },
    size=size,
    reduces=reduced,
    aspect=aspect,
    to_vae=to_vae,
    step_caches=frozenset(),
    text=Text(("tokenizer",), 8192, _in_template),
    load=load,
    on_load=_one_call,
    licence="FLUX Kommunity License; read it before commercial use",
)
