"""A VAE that the pipeline would cast around each use is refused when the model is loaded."""

from __future__ import annotations

import pytest
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline

from services.editor.pipelines.diffusion.device import Device
from services.editor.pipelines.diffusion.generic import family_for
from services.editor.pipelines.diffusion.loading import serve
from services.editor.pipelines.instruct_pix2pix_xl import FAMILY
from services.editor.pipelines.tuning import Tuning
from tests.tiny.instruct_pix2pix_xl import build


def test_a_vae_that_overflows_in_float16_is_refused_and_bfloat16_is_named() -> None:
    pipe = build().to(torch.float16)
    assert pipe.vae.config.force_upcast
    with pytest.raises(ValueError, match="bfloat16"):
        serve(FAMILY, pipe, Device("cpu"), Tuning(device="cpu"))


def test_so_is_that_of_another_pipeline_that_casts_it() -> None:
    """Two edits would use it at the same time, one of them in the other's dtype."""
    parts = build().to(torch.float16).components
    pipe = StableDiffusionXLImg2ImgPipeline(**parts)
    with pytest.raises(ValueError, match="bfloat16"):
        serve(family_for(pipe), pipe, Device("cpu"), Tuning(device="cpu"))


def test_a_vae_that_supports_float16_is_served_in_it() -> None:
    pipe = build().to(torch.float16)
    pipe.vae.register_to_config(force_upcast=False)
    assert serve(FAMILY, pipe, Device("cpu"), Tuning(device="cpu")).name == "instruct-pix2pix-xl"
