"""A tiny FLUX.2 [dev]: its text embeddings come from the layers 10, 20 and 30, so the text encoder is narrow but deep.

The published model has a `PixtralProcessor`, which cannot be imported without torchvision. The pipeline uses only its tokenizer
and chat template, so only these are made here.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2Pipeline, Flux2Transformer2DModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import Mistral3Config, Mistral3ForConditionalGeneration, PreTrainedTokenizerFast

from tests.tiny.tokenizers import BYTES

TEXT_WIDTH = 8
LATENT_CHANNELS = 4
_SPECIALS = ("<unk>", "<s>", "</s>", "<pad>", "[IMG]")
_VOCABULARY = {token: place for place, token in enumerate((*BYTES, *_SPECIALS))}
_TEMPLATE = "<s>{% for turn in messages %}{% for part in turn.content %}{{ part.text }}{% endfor %}</s>{% endfor %}"


def build(*, seed: int = 0) -> Any:
    """The pipeline, in float32 on the CPU, with weights of this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = Flux2Pipeline(
            scheduler=scheduler(),
            vae=vae(),
            text_encoder=_mistral(),
            tokenizer=_tokenizer(),
            transformer=transformer(guidance=True),
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def scheduler() -> Any:
    """As FLUX.2's: its shift depends on the size and the number of steps."""
    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, max_image_seq_len=4096, shift=3.0
    )


def transformer(*, guidance: bool) -> Any:
    """A FLUX.2 transformer for three layers of text of `TEXT_WIDTH`, with or without distilled guidance."""
    return Flux2Transformer2DModel(
        in_channels=4 * LATENT_CHANNELS,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * TEXT_WIDTH,
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance,
    ).eval()


def vae() -> Any:
    """A FLUX.2 VAE: a factor of 8, and statistics for each channel of a patch."""
    tiny = AutoencoderKLFlux2(
        block_out_channels=(4, 4, 4, 4), layers_per_block=1, latent_channels=LATENT_CHANNELS, norm_num_groups=1
    ).eval()
    tiny.bn.running_mean.copy_(torch.linspace(-0.2, 0.2, 4 * LATENT_CHANNELS))
    tiny.bn.running_var.copy_(torch.linspace(0.5, 2.0, 4 * LATENT_CHANNELS))
    return tiny


def _mistral() -> Any:
    text = {
        "model_type": "mistral",
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 8,
        "num_hidden_layers": 31,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "vocab_size": len(_VOCABULARY),
        "max_position_embeddings": 1024,
        "bos_token_id": _VOCABULARY["<s>"],
        "eos_token_id": _VOCABULARY["</s>"],
        "pad_token_id": _VOCABULARY["<pad>"],
    }
    sight = {
        "model_type": "pixtral",
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 4,
        "image_size": 28,
        "patch_size": 14,
    }
    config = Mistral3Config(text_config=text, vision_config=sight, image_token_index=_VOCABULARY["[IMG]"])
    return Mistral3ForConditionalGeneration(config).eval()


def _tokenizer() -> Any:
    bytewise = Tokenizer(models.BPE(vocab=_VOCABULARY, merges=[], unk_token="<unk>"))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytewise, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    tokenizer.chat_template = _TEMPLATE
    return tokenizer
