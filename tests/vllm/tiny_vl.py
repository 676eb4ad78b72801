"""Qwen-VL checkpoints with random weights and a tokenizer trained on this repository's texts: nothing is downloaded.

``python -m tests.vllm.tiny_vl qwen3_vl FOLDER`` writes one that vLLM serves on a CPU; with ``--size 8b`` and without
weights, one in the published size, for vLLM's ``--load-format dummy``. Runs where vLLM is installed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

ROOT = Path(__file__).parents[2]

_SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
# Tokens of the real vocabulary that are text all the same: a grammar has to allow for them.
_TEXT_TOKENS = ("<think>", "</think>")
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CHAT = (
    "{%- for message in messages -%}<|im_start|>{{ message.role }}\n"
    "{%- if message.content is string -%}{{ message.content }}{%- else -%}{%- for part in message.content -%}"
    "{%- if part.type in ('image', 'image_url') -%}<|vision_start|><|image_pad|><|vision_end|>"
    "{%- elif part.type == 'video' -%}<|vision_start|><|video_pad|><|vision_end|>"
    "{%- elif 'text' in part -%}{{ part.text }}{%- endif -%}{%- endfor -%}{%- endif -%}<|im_end|>\n{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|im_start|>assistant\n{%- endif -%}"
)


@dataclass(frozen=True)
class Size:
    """Dimensions of a model; `mrope` divides the halves of a head among time, height and width."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    mrope: tuple[int, int, int]
    sight: int
    sight_intermediate: int
    sight_layers: int
    sight_heads: int
    deepstack: tuple[int, ...]
    vocabulary: int | None = None
    tied: bool = False


SIZES = {
    "tiny": Size(64, 128, 2, 2, 1, 32, (6, 5, 5), 64, 128, 2, 2, (0,)),
    # Qwen3-VL-2B-Instruct.
    "2b": Size(2048, 6144, 28, 16, 8, 128, (24, 20, 20), 1024, 4096, 24, 16, (5, 11, 17), 151936, tied=True),
    # Qwen3-VL-8B-Instruct.
    "8b": Size(4096, 12288, 36, 32, 8, 128, (24, 20, 20), 1152, 4304, 27, 16, (8, 16, 24), 151936),
}


def write(family: str, folder: Path, size: Size = SIZES["tiny"], *, weights: bool = True) -> None:
    """A checkpoint folder: configuration, tokenizer, processors and, if wanted, weights (the same every time)."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(size.vocabulary)
    tokenizer.save_pretrained(folder)
    config, build = _FAMILIES[family](size, tokenizer)
    config.architectures = [build.__name__]
    _write_processors(folder, family)
    if weights:
        torch.manual_seed(0)
        build(config).to(torch.float32).save_pretrained(folder)
    else:
        config.dtype = "bfloat16"
        config.save_pretrained(folder)


def _tokenizer(vocabulary: int | None) -> Any:
    """Byte-level BPE as Qwen's, learned from this repository's prompts and pages: about as many characters a token.

    With a ``vocabulary``, every number below it is a word, so that the output of a random model can be read.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(_WORDS), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=4000, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_texts(), trainer)
    if vocabulary is not None:
        tokenizer = _filled(tokenizer, vocabulary - len(_SPECIAL) - len(_TEXT_TOKENS))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in _SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in _TEXT_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=32768,
        chat_template=_CHAT,
    )


def _filled(tokenizer: Tokenizer, vocabulary: int) -> Tokenizer:
    """The tokenizer padded to this size with four-letter words, which it can decode but never encodes to."""
    content = json.loads(tokenizer.to_str())
    known = content["model"]["vocab"]
    words = ("".join(letters) for letters in itertools.product(string.ascii_lowercase, repeat=4))
    known.update(zip((word for word in words if word not in known), range(len(known), vocabulary), strict=False))
    return Tokenizer.from_str(json.dumps(content))


def _texts() -> Iterator[str]:
    for path in sorted(
        [*ROOT.glob("services/protocol/critique/prompts/*.txt"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/decisions/*.md")]
    ):
        yield path.read_text("utf-8")


def _text(size: Size, tokenizer: Any, rope: dict[str, Any]) -> dict[str, Any]:
    place = tokenizer.convert_tokens_to_ids
    return {
        # A multiple of 64, as kernels like it.
        "vocab_size": size.vocabulary or (len(tokenizer) + 63) // 64 * 64,
        "hidden_size": size.hidden,
        "intermediate_size": size.intermediate,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": size.tied,
        "bos_token_id": place("<|endoftext|>"),
        "eos_token_id": place("<|im_end|>"),
        "pad_token_id": place("<|endoftext|>"),
        "rope_parameters": {"rope_type": "default", "mrope_section": list(size.mrope), **rope},
    }


def _sight(size: Size) -> dict[str, Any]:
    return {
        "depth": size.sight_layers,
        "hidden_size": size.sight,
        "intermediate_size": size.sight_intermediate,
        "num_heads": size.sight_heads,
        "out_hidden_size": size.hidden,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "in_channels": 3,
    }


def _marks(tokenizer: Any) -> dict[str, int]:
    tokens = {"image": "<|image_pad|>", "video": "<|video_pad|>"} | {
        f"vision_{end}": f"<|vision_{end}|>" for end in ("start", "end")
    }
    return {f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in tokens.items()}


def _qwen3_vl(size: Size, tokenizer: Any) -> tuple[Any, Any]:
    text = _text(size, tokenizer, {"mrope_interleaved": True, "rope_theta": 5e6}) | {"head_dim": size.head}
    sight = {"patch_size": 16, "num_position_embeddings": 2304, "deepstack_visual_indexes": list(size.deepstack)}
    config = Qwen3VLConfig(
        text_config=text, vision_config=_sight(size) | sight, tie_word_embeddings=size.tied, **_marks(tokenizer)
    )
    return config, Qwen3VLForConditionalGeneration


def _qwen2_5_vl(size: Size, tokenizer: Any) -> tuple[Any, Any]:
    text = _text(size, tokenizer, {"type": "mrope", "rope_theta": 1e6})
    sight = {"patch_size": 14, "window_size": 112, "fullatt_block_indexes": [size.sight_layers - 1]}
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=_sight(size) | sight, tie_word_embeddings=False, **_marks(tokenizer)
    )
    return config, Qwen2_5_VLForConditionalGeneration


_FAMILIES = {"qwen3_vl": _qwen3_vl, "qwen2_5_vl": _qwen2_5_vl}


def _write_processors(folder: Path, family: str) -> None:
    patch, name, video = {
        "qwen3_vl": (16, "Qwen3VLProcessor", "Qwen3VLVideoProcessor"),
        "qwen2_5_vl": (14, "Qwen2_5_VLProcessor", "Qwen2VLVideoProcessor"),
    }[family]
    token = 2 * patch
    common = {
        "patch_size": patch,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "processor_class": name,
        # As published: 64 to 16,384 tokens a picture. A profile must lower that.
        "size": {"shortest_edge": 64 * token * token, "longest_edge": 16384 * token * token},
    }
    files = {
        "preprocessor_config.json": common | {"image_processor_type": "Qwen2VLImageProcessor"},
        "video_preprocessor_config.json": common | {"video_processor_type": video},
    }
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content, indent=1), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.vllm.tiny_vl", description=__doc__)
    parser.add_argument("family", choices=sorted(_FAMILIES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=sorted(SIZES), default="tiny")
    parser.add_argument("--without-weights", action="store_true", help="for vLLM's --load-format dummy")
    given = parser.parse_args()
    write(given.family, given.folder, SIZES[given.size], weights=not given.without_weights)


if __name__ == "__main__":
    main()
