"""Tiny FLUX.2 [klein]: distilled or base, and the KV kind."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import Flux2KleinKVPipeline, Flux2KleinPipeline
from transformers import Qwen3Config, Qwen3ForCausalLM

from tests.tiny.flux2 import TEXT_WIDTH, scheduler, transformer, vae
from tests.tiny.tokenizers import qwen_tokenizer

_TEMPLATE = (
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n{{ turn.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build(*, distilled: bool = True, seed: int = 0) -> Any:
    """The pipeline, in float32 on the CPU, with weights of this seed; the base kind where it is not ``distilled``."""
    return _built(Flux2KleinPipeline, seed, is_distilled=distilled)


def build_kv(*, seed: int = 0) -> Any:
    """The KV kind, in float32 on the CPU, with weights of this seed."""
    return _built(Flux2KleinKVPipeline, seed)


def _built(kind: Any, seed: int, **configuration: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = qwen_tokenizer()
        tokenizer.chat_template = _TEMPLATE
        pipeline = kind(
            scheduler=scheduler(),
            vae=vae(),
            text_encoder=_qwen(len(tokenizer)),
            tokenizer=tokenizer,
            transformer=transformer(guidance=False),
            **configuration,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _qwen(vocabulary: int) -> Any:
    """The pipeline uses its layers 9, 18 and 27."""
    config = Qwen3Config(
        hidden_size=TEXT_WIDTH,
        intermediate_size=8,
        num_hidden_layers=28,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        vocab_size=vocabulary,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=None,
    )
    return Qwen3ForCausalLM(config).eval()
