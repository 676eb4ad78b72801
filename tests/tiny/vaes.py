"""Tiny VAEs that several families share."""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderKL, AutoencoderKLQwenImage


def flux_vae(channels: int) -> Any:
    """As FLUX.1's: a factor of 8, with a shift."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 4, 4),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.1159,
        scaling_factor=0.3611,
    ).eval()


def qwen_vae(channels: int) -> Any:
    """As Qwen-Image's: a video VAE, with a mean and a deviation for each channel."""
    return AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=channels,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1 * channel - 0.2 for channel in range(channels)],
        latents_std=[1.0 + 0.25 * channel for channel in range(channels)],
    ).eval()
