"""Tokenizers and encoders of text for the tiny pipelines: vocabularies of single characters, weights at random."""

from __future__ import annotations

import string
from typing import Any

from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
    Qwen3Config,
    Qwen3Model,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from services.editor.pipelines.diffusion.loading import allow_image_only_processors

_PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
_REST = [byte for byte in range(256) if byte not in _PRINTABLE]
BYTES = tuple(chr(byte if byte in _PRINTABLE else 256 + _REST.index(byte)) for byte in range(256))
"""The characters that byte-level vocabularies write the bytes 0 … 255 with."""

_QWEN_SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_QWEN_VOCABULARY = {token: place for place, token in enumerate((*BYTES, *_QWEN_SPECIALS))}


def clip_tokenizer() -> Any:
    """Every byte is a token, in a word and at its end; then the two marks of a text's begin and end."""
    tokens = [*BYTES, *(byte + "</w>" for byte in BYTES), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: place for place, token in enumerate(tokens)}, merges=[], model_max_length=77)


def clip_text_encoder(width: int = 32) -> Any:
    """A CLIP text model for `clip_tokenizer`, with a pooled output of ``width``."""
    tokens = 2 * len(BYTES)
    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=2,
        vocab_size=tokens + 2,
        bos_token_id=tokens,
        eos_token_id=tokens + 1,
        pad_token_id=tokens + 1,
        max_position_embeddings=77,
        projection_dim=width,
    )
    return CLIPTextModel(config).eval()


def t5_tokenizer() -> Any:
    """Every printable ASCII character is a token."""
    marks = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    characters = [(character, -3.0) for character in string.ascii_letters + string.digits + string.punctuation]
    return T5TokenizerFast(vocab=marks + characters, extra_ids=0, model_max_length=512)


def t5_encoder(width: int = 32) -> Any:
    """A T5 encoder for `t5_tokenizer`."""
    config = T5Config(
        vocab_size=128,
        d_model=width,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        relative_attention_num_buckets=8,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(config).eval()


def qwen_tokenizer() -> Any:
    """Every byte is a token; then the marks that Qwen2.5-VL's templates use."""
    return Qwen2Tokenizer(vocab=_QWEN_VOCABULARY, merges=[], additional_special_tokens=list(_QWEN_SPECIALS[1:]))


def qwen_processor(tokenizer: Any) -> Any:
    """The processor of text and pictures, which sees a picture as one to four tokens."""
    allow_image_only_processors()
    pictures = Qwen2VLImageProcessorPil(
        size={"shortest_edge": 28 * 28, "longest_edge": 4 * 28 * 28}, patch_size=14, merge_size=2, temporal_patch_size=2
    )
    return Qwen2VLProcessor(image_processor=pictures, tokenizer=tokenizer, chat_template="{{ messages }}", **_video())


def _video() -> dict[str, Any]:
    if "video_processor" not in Qwen2VLProcessor.get_attributes():
        return {}
    from transformers import Qwen2VLVideoProcessor  # noqa: PLC0415 - it needs torchvision

    return {"video_processor": Qwen2VLVideoProcessor()}


def qwen_vl(width: int = 16) -> Any:
    """A Qwen2.5-VL for `qwen_processor`, whose last hidden states have ``width`` channels."""
    place = _QWEN_VOCABULARY
    text = {
        "hidden_size": width,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": len(place),
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6},
        "bos_token_id": place["<|endoftext|>"],
        "eos_token_id": place["<|im_end|>"],
        "pad_token_id": place["<|endoftext|>"],
    }
    sight = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": width,
        "fullatt_block_indexes": [1],
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=sight,
        image_token_id=place["<|image_pad|>"],
        video_token_id=place["<|video_pad|>"],
        vision_start_token_id=place["<|vision_start|>"],
        vision_end_token_id=place["<|vision_end|>"],
    )
    return Qwen2_5_VLForConditionalGeneration(config).eval()


_QWEN3_TEMPLATE = (
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n"
    "{% if turn.content is string %}{{ turn.content }}{% else %}"
    "{% for part in turn.content %}{{ part.text }}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def qwen3_processor(tokenizer: Any) -> Any:
    """The processor of text and pictures, which sees 32 x 32 pixels as a token and scales no picture of a test."""
    allow_image_only_processors()
    pictures = Qwen2VLImageProcessorPil(
        size={"shortest_edge": 32 * 32, "longest_edge": 4096 * 32 * 32}, patch_size=16, merge_size=2, temporal_patch_size=2
    )
    video: dict[str, Any] = {}
    if "video_processor" in Qwen3VLProcessor.get_attributes():
        from transformers import Qwen3VLVideoProcessor  # noqa: PLC0415 - it needs torchvision

        video = {"video_processor": Qwen3VLVideoProcessor()}
    return Qwen3VLProcessor(image_processor=pictures, tokenizer=tokenizer, chat_template=_QWEN3_TEMPLATE, **video)


def qwen3(width: int = 16) -> Any:
    """A Qwen3 for `qwen_tokenizer`, whose hidden states have ``width`` channels."""
    config = Qwen3Config(
        vocab_size=len(_QWEN_VOCABULARY),
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=_QWEN_VOCABULARY["<|endoftext|>"],
    )
    return Qwen3Model(config).eval()


def qwen3_vl(width: int = 16, *, layers: int = 2) -> Any:
    """A Qwen3-VL for `qwen3_processor`, whose hidden states have ``width`` channels."""
    place = _QWEN_VOCABULARY
    text = {
        "hidden_size": width,
        "intermediate_size": 16,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": len(place),
        "max_position_embeddings": 16384,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6},
        "bos_token_id": place["<|endoftext|>"],
        "eos_token_id": place["<|im_end|>"],
        "pad_token_id": place["<|endoftext|>"],
    }
    sight = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": width,
        "patch_size": 16,
        "num_position_embeddings": 256,
        "deepstack_visual_indexes": [0],
    }
    config = Qwen3VLConfig(
        text_config=text,
        vision_config=sight,
        image_token_id=place["<|image_pad|>"],
        video_token_id=place["<|video_pad|>"],
        vision_start_token_id=place["<|vision_start|>"],
        vision_end_token_id=place["<|vision_end|>"],
    )
    return Qwen3VLForConditionalGeneration(config).eval()
