"""A Kontext of random weights that is large enough to spend its time where a real one does: in the denoiser.

Two tokenizers over single characters, two small text encoders, a small VAE, and a transformer whose call takes some 40 to
80 ms on two cores. Text is 64 tokens instead of 512, so that its share of a call is as small as it is at a megapixel.
"""

from __future__ import annotations

import string
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxKontextPipeline, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

SIDE = 256
"""Side of the model's working size in pixels."""
TEXT_TOKENS = 64
HEADS, HEAD_WIDTH = 4, 64
DOUBLE_LAYERS, SINGLE_LAYERS = 2, 6
_TEXT_WIDTH = 128
_LATENTS = 16
_CLIP_END = 513
_T5_LETTERS = string.ascii_letters + string.digits + string.punctuation


class ShortText(FluxKontextPipeline):  # type: ignore[misc]  # diffusers has no type information
    """Kontext with shorter text."""

    def encode_prompt(self, *args: Any, max_sequence_length: int = TEXT_TOKENS, **kwargs: Any) -> Any:
        """Encode like the plain pipeline, padded to `TEXT_TOKENS`."""
        return super().encode_prompt(*args, max_sequence_length=min(TEXT_TOKENS, max_sequence_length), **kwargs)


def kontext(heads: int = HEADS, double: int = DOUBLE_LAYERS, single: int = SINGLE_LAYERS) -> FluxKontextPipeline:
    """Build the pipeline, identical at every call."""
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4 * _LATENTS,
        num_layers=double,
        num_single_layers=single,
        attention_head_dim=HEAD_WIDTH,
        num_attention_heads=heads,
        joint_attention_dim=_TEXT_WIDTH,
        pooled_projection_dim=_TEXT_WIDTH,
        axes_dims_rope=(16, 24, 24),
        guidance_embeds=True,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=4096, shift=3.0
    )
    pipe = ShortText(
        scheduler=scheduler,
        vae=_vae(),
        text_encoder=_clip(),
        tokenizer=_clip_tokenizer(),
        text_encoder_2=_t5(),
        tokenizer_2=T5TokenizerFast(vocab=_t5_vocabulary(), extra_ids=0, model_max_length=512),
        transformer=transformer.eval(),
        image_encoder=None,
        feature_extractor=None,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def quiet() -> None:
    """Silence the libraries' warnings about random weights and short prompts."""
    diffusers.utils.logging.set_verbosity_error()
    transformers.logging.set_verbosity_error()


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 32, 32),
        layers_per_block=1,
        latent_channels=_LATENTS,
        norm_num_groups=8,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.1159,
        scaling_factor=0.3611,
    ).eval()


def _clip() -> CLIPTextModel:
    config = CLIPTextConfig(
        hidden_size=_TEXT_WIDTH,
        intermediate_size=2 * _TEXT_WIDTH,
        num_attention_heads=4,
        num_hidden_layers=2,
        vocab_size=_CLIP_END + 1,
        bos_token_id=_CLIP_END - 1,
        eos_token_id=_CLIP_END,
        pad_token_id=_CLIP_END,
        max_position_embeddings=77,
        projection_dim=_TEXT_WIDTH,
    )
    return CLIPTextModel(config).eval()


def _t5() -> T5EncoderModel:
    config = T5Config(
        vocab_size=len(_t5_vocabulary()),
        d_model=_TEXT_WIDTH,
        d_kv=32,
        d_ff=2 * _TEXT_WIDTH,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(config).eval()


def _clip_tokenizer() -> CLIPTokenizer:
    """A tokenizer of single bytes, inside and at the end of a word, and the two marks around a text."""
    letters = _bytes_as_letters()
    vocabulary = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(vocabulary)}, merges=[], model_max_length=77)


def _t5_vocabulary() -> list[tuple[str, float]]:
    return [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *((letter, -3.0) for letter in _T5_LETTERS)]


def _bytes_as_letters() -> list[str]:
    """GPT-2's printable letter for each byte."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("\u00a1"), ord("\u00ac") + 1), *range(ord("\u00ae"), 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(hidden))]
