"""The published architectures with random weights, made on the device from their configurations: nothing is downloaded.

Text encoders are not measured: they are replaced by fixed embeddings of a realistic length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped,unused-ignore]
from diffusers import (
    AutoencoderKL,
    AutoencoderKLQwenImage,
    AutoencoderKLQwenImage21,
    FlowMatchEulerDiscreteScheduler,
    FluxKontextPipeline,
    FluxTransformer2DModel,
    QwenImage21Pipeline,
    QwenImage21Transformer2DModel,
    QwenImageEditPipeline,
    QwenImageTransformer2DModel,
)
from PIL import Image
from torch import nn

SIDE, TINY_SIDE = 1024, 64
_QWEN_TEXT, _T5_TEXT = 300, 512
_SPREAD = 0.02


@dataclass(frozen=True, slots=True)
class Model:
    """An editing model to measure.

    Attributes:
        pipeline_class: of diffusers; the registry knows its family.
        steps: as published.
        parameters: of every job, in addition to the steps.
        make: (tiny, device, dtype) to the pipeline.
    """

    name: str
    pipeline_class: str
    steps: int
    parameters: Mapping[str, float]
    make: Callable[[bool, torch.device, torch.dtype], Any]

    def pipeline(self, tiny: bool, device: torch.device, dtype: torch.dtype) -> Any:  # noqa: FBT001 - as `make`
        """The pipeline, the same at every call."""
        torch.manual_seed(0)  # for the VAE, which is initialised by its constructor
        return self.make(tiny, device, dtype)


def random_weights(make: Callable[[], Any], device: torch.device, dtype: torch.dtype) -> Any:
    """A model with weights drawn on the device; its buffers are those that the constructor computes."""
    with init_empty_weights():
        model = make()
    generator = torch.Generator(device).manual_seed(0)
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            weight = torch.empty(parameter.shape, device=device, dtype=dtype).normal_(0, _SPREAD, generator=generator)
            module.register_parameter(name, nn.Parameter(weight, requires_grad=False))
    return model.to(device=device, dtype=dtype).eval()


def _kontext(tiny: bool, device: torch.device, dtype: torch.dtype) -> Any:  # noqa: FBT001 - as `Model.make`
    size: dict[str, Any] = {"num_layers": 19, "num_single_layers": 38, "num_attention_heads": 24, "attention_head_dim": 128}
    text, pooled, widths = 4096, 768, (128, 256, 512, 512)
    if tiny:
        size = {"num_layers": 1, "num_single_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16}
        size |= {"axes_dims_rope": (4, 4, 8)}
        text, pooled, widths = 32, 32, (8, 8, 8, 8)
    transformer = random_weights(
        lambda: FluxTransformer2DModel(
            in_channels=64, joint_attention_dim=text, pooled_projection_dim=pooled, guidance_embeds=True, **size
        ),
        device,
        dtype,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=widths,
        layers_per_block=2,
        latent_channels=16,
        norm_num_groups=min(32, widths[0]),
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=0.3611,
        shift_factor=0.1159,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=4096, shift=3.0
    )
    pipe = FluxKontextPipeline(
        scheduler=scheduler,
        vae=vae.to(device, dtype).eval(),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=transformer,
    )
    embedded = _normal((1, _T5_TEXT, text), device, dtype)
    answer = (embedded, _normal((1, pooled), device, dtype), torch.zeros(_T5_TEXT, 3, device=device, dtype=dtype))
    return _without_text(pipe, answer)


def _qwen(tiny: bool, device: torch.device, dtype: torch.dtype) -> Any:  # noqa: FBT001 - as `Model.make`
    size: dict[str, Any] = {
        "num_layers": 60,
        "num_attention_heads": 24,
        "attention_head_dim": 128,
        "axes_dims_rope": (16, 56, 56),
    }
    text, vae_size = 3584, {}
    if tiny:
        size = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16, "axes_dims_rope": (8, 4, 4)}
        text, vae_size = 16, {"base_dim": 8, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    transformer = random_weights(
        lambda: QwenImageTransformer2DModel(
            patch_size=2, in_channels=64, out_channels=16, joint_attention_dim=text, guidance_embeds=False, **size
        ),
        device,
        dtype,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=0.9,
        base_image_seq_len=256,
        max_image_seq_len=8192,
        shift=1.0,
        shift_terminal=0.02,
        time_shift_type="exponential",
    )
    pipe = QwenImageEditPipeline(
        scheduler=scheduler,
        vae=AutoencoderKLQwenImage(**vae_size).to(device, dtype).eval(),
        text_encoder=None,
        tokenizer=None,
        processor=None,
        transformer=transformer,
    )
    return _without_text(pipe, (_normal((1, _QWEN_TEXT, text), device, dtype), None))


class _NoText:
    """The part of a processor that the constructor of Qwen-Image-2.1's pipeline reads."""

    tokenizer: Any = property(lambda self: self)

    def apply_chat_template(self, *_: Any, **__: Any) -> list[list[int]]:
        return [[0]]

    def encode(self, _: str) -> list[int]:
        return [0]


def _qwen_21(tiny: bool, device: torch.device, dtype: torch.dtype) -> Any:  # noqa: FBT001 - as `Model.make`
    size: dict[str, Any] = {}  # the published size is the class's default
    text, vae_size = 4096, {}
    if tiny:
        size = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16, "axes_dims_rope": (4, 6, 6)}
        size |= {"in_channels": 8, "out_channels": 8, "context_in_dim": 16}
        text = 16
        vae_size = {"base_dim": 4, "decoder_base_dim": 4, "z_dim": 8, "dim_mult": [1, 1, 1, 1, 1], "num_res_blocks": 1}
        vae_size |= {"latents_mean": [0.0] * 8, "latents_std": [1.0] * 8}
    transformer = random_weights(lambda: QwenImage21Transformer2DModel(**size), device, dtype)
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=0.9,
        base_image_seq_len=256,
        max_image_seq_len=8192,
        shift_terminal=0.02,
    )
    pipe = QwenImage21Pipeline(
        scheduler=scheduler,
        vae=AutoencoderKLQwenImage21(**vae_size).to(device, dtype).eval(),
        text_encoder=None,
        processor=_NoText(),
        transformer=transformer,
    )
    pipe.register_modules(processor=None)

    def encode_prompt(image: Sequence[Image.Image], **_: Any) -> tuple[torch.Tensor, None, torch.Tensor]:
        """A text, and of each picture a slot for every 2 x 2 of its tokens of 16 x 16 pixels."""
        slots = sum((each.width // 32) * (each.height // 32) for each in image)
        pictured = torch.zeros(1, _QWEN_TEXT + slots, dtype=torch.bool, device=device)
        pictured[:, _QWEN_TEXT // 2 : _QWEN_TEXT // 2 + slots] = True
        return _normal((1, _QWEN_TEXT + slots, text), device, dtype), None, pictured

    pipe.encode_prompt = encode_prompt
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _normal(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator(device).manual_seed(1), device=device, dtype=dtype)


def _without_text(pipe: Any, answer: tuple[Any, ...]) -> Any:
    """The pipeline, with every prompt's embeddings the same."""

    def encode_prompt(**_: Any) -> tuple[Any, ...]:
        return answer

    pipe.encode_prompt = encode_prompt
    pipe.set_progress_bar_config(disable=True)
    return pipe


MODELS: Mapping[str, Model] = {
    model.name: model
    for model in (
        Model("qwen-image-2.1", "QwenImage21Pipeline", 40, {}, _qwen_21),
        Model("kontext", "FluxKontextPipeline", 28, {}, _kontext),
        Model("qwen-image-edit", "QwenImageEditPipeline", 50, {"true_cfg_scale": 1.0}, _qwen),
    )
}
