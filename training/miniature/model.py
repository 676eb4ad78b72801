"""A Qwen3-VL of four million parameters with random weights, its own vocabulary and its chat template.

The architecture is Qwen3-VL's, so transformers and vLLM load it as they load the models it stands for. A picture of 64 pixels
is four tokens.

transformers' processor for Qwen3-VL needs torchvision. Its build on PyPI does not load next to torch's CPU build until its
registration of shapes is changed as `tests/vllm/install.sh` does.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoProcessor, PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from training.miniature import phrases, rows
from training.miniature.world import INTENTS, operations, scene, written

VOCABULARY: Final = 2048
_SPECIAL: Final = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
_TAGS: Final = ("<think>", "</think>", "<score>", "</score>", "<answer>", "</answer>")
_PIECES: Final = r" ?[+-]?\d+(?:\.5)?| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+"
"""A signed number is one word: amounts are what the model has to choose."""
_TEMPLATE: Final = (
    "{%- for message in messages -%}<|im_start|>{{ message.role }}\n"
    "{%- if message.content is string -%}{{ message.content }}{%- else -%}"
    "{%- for part in message.content -%}"
    "{%- if part.type in ('image', 'image_url') -%}<|vision_start|><|image_pad|><|vision_end|>"
    "{%- elif part.type == 'text' -%}{{ part.text }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}<|im_end|>\n{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|im_start|>assistant\n{%- endif -%}"
)


def build(folder: Path, seed: int) -> None:
    """Write model, tokenizer, template and processor with weights from `seed`; the folder is there with all of them, or not."""
    with _whole(folder) as unfinished:
        tokenizer = _tokenizer()
        tokenizer.save_pretrained(unfinished)
        _write_processor(unfinished)
        torch.manual_seed(seed)
        model = Qwen3VLForConditionalGeneration(_config(tokenizer)).to(torch.float32)
        model.generation_config.update(eos_token_id=model.config.text_config.eos_token_id, do_sample=False)
        model.save_pretrained(unfinished)


def save(folder: Path, thinker: Any, processor: Any) -> None:
    """Write a trained model, as transformers and vLLM load it; the folder is replaced as a whole."""
    with _whole(folder) as unfinished:
        thinker.save_pretrained(unfinished)
        processor.save_pretrained(unfinished)


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder to write to, which takes the other's name at the end."""
    unfinished = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    yield unfinished
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def load(folder: Path) -> tuple[Any, Any]:
    """(model, processor) of a folder that `build` or a trainer wrote."""
    return Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32), AutoProcessor.from_pretrained(folder)


def parameters(model: torch.nn.Module) -> int:
    """How many weights a model has; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def corpus() -> list[str]:
    """What the vocabulary is learned from: phrases of training, orders and adjustments with every amount, and replies."""
    rng = np.random.default_rng(0)
    texts = phrases.phrases("train") * 4
    around = phrases.table("train")["around"]
    texts += [*around["before"], *around["after"]]
    texts += [written({name: amount}) for name in operations() for amount in range(-100, 101, rows.UNIT) if amount] * 2
    for index in range(8 * len(INTENTS)):
        made = scene(INTENTS[index % len(INTENTS)], rng)
        texts += [
            f"Source:Instruction: {json.dumps(made.instruction)}\nEdited:Edited with: {json.dumps(made.key)}user\nassistant\n"
        ]
    numbers = " ".join(str(number) for number in range(-100, 104, rows.UNIT))
    scores = " ".join(f'{{"semantic": {half / 2:g}, "quality": {half / 2:g}}}' for half in range(21))
    return texts + [f"source {numbers}; sides {numbers}; now {numbers}; want {numbers}", scores] * 4


def _tokenizer() -> PreTrainedTokenizerFast:
    learned = Tokenizer(models.BPE())
    learned.normalizer = normalizers.NFC()
    learned.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learned.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    size = VOCABULARY - len(_SPECIAL) - len(_TAGS)
    learned.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False))
    learned.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in _SPECIAL])
    learned.add_tokens([AddedToken(text, special=False, normalized=False) for text in _TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=learned,
        eos_token="<|im_end|>",  # noqa: S106 - no password
        pad_token="<|endoftext|>",  # noqa: S106 - as above
        model_max_length=8192,
        chat_template=_TEMPLATE,
    )


def _config(tokenizer: PreTrainedTokenizerFast) -> Qwen3VLConfig:
    known = {text: tokenizer.convert_tokens_to_ids(text) for text in _SPECIAL}
    rope = {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [6, 5, 5], "rope_theta": 10_000.0}
    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 5,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "rope_parameters": rope,
        "bos_token_id": known["<|endoftext|>"],
        "eos_token_id": known["<|im_end|>"],
        "pad_token_id": known["<|endoftext|>"],
    }
    vision = {
        "depth": 3,
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_heads": 4,
        "out_hidden_size": 192,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1],
        "in_channels": 3,
    }
    return Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        image_token_id=known["<|image_pad|>"],
        video_token_id=known["<|video_pad|>"],
        vision_start_token_id=known["<|vision_start|>"],
        vision_end_token_id=known["<|vision_end|>"],
    )


def _write_processor(folder: Path) -> None:
    common = {
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "size": {"shortest_edge": 64 * 64, "longest_edge": 64 * 64},
        "processor_class": "Qwen3VLProcessor",
    }
    files = {
        "preprocessor_config.json": {**common, "image_processor_type": "Qwen2VLImageProcessor"},
        "video_preprocessor_config.json": {**common, "video_processor_type": "Qwen3VLVideoProcessor"},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", "utf-8")
