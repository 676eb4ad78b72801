"""A tiny ChronoEdit: latents with a time axis, and a video whose last frame is the edited picture."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from diffusers import AutoencoderKLWan, ChronoEditPipeline, ChronoEditTransformer3DModel, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.chronoedit import pipeline_chronoedit
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from tests.tiny.tokenizers import t5_encoder, t5_tokenizer

_CHANNELS = 4
_WIDTH = 32


def build(*, seed: int = 0) -> Any:
    """The pipeline, in float32 on the CPU, with weights of this seed."""
    if not hasattr(pipeline_chronoedit, "ftfy"):
        # It repairs broken Unicode, and is not among the tests' packages.
        pipeline_chronoedit.ftfy = SimpleNamespace(fix_text=str)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = AutoencoderKLWan(
            base_dim=4,
            z_dim=_CHANNELS,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
            latents_mean=[0.1] * _CHANNELS,
            latents_std=[1.2] * _CHANNELS,
        ).eval()
        sight = CLIPVisionConfig(
            hidden_size=_WIDTH, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=16
        )
        transformer = ChronoEditTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            # The noise, the source, and which of four frames are the source's.
            in_channels=2 * _CHANNELS + 4,
            out_channels=_CHANNELS,
            text_dim=_WIDTH,
            freq_dim=32,
            ffn_dim=32,
            num_layers=2,
            image_dim=_WIDTH,
            added_kv_proj_dim=24,
        ).eval()
        pipeline = ChronoEditPipeline(
            tokenizer=t5_tokenizer(),
            text_encoder=t5_encoder(_WIDTH),
            image_encoder=CLIPVisionModel(sight).eval(),
            image_processor=CLIPImageProcessor(crop_size=32, size=32),
            transformer=transformer,
            vae=vae,
            scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
