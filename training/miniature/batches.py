"""Turns as tensors: what the processor makes of them, with the loss on the reply only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from training.miniature.photographs import Pixels
from training.miniature.prompts import messages, pictures
from training.miniature.rows import TaughtTurn, sides
from training.miniature.rules import statistics
from training.miniature.turns import Turn

END: Final = "<|im_end|>"
SCORE_WEIGHT: Final = 3.0
"""Weight of the tokens of the score block in the loss: few tokens, and what a loop chooses by (the first miniature wrote well
and chose badly)."""


@dataclass(frozen=True)
class Batch:
    """Inputs of the model, and the weight of each token as something to be predicted, (rows, tokens)."""

    inputs: dict[str, torch.Tensor]
    weights: torch.Tensor


def question(processor: Any, turn: Turn) -> str:
    """The prompt, up to where the reply begins."""
    return str(processor.apply_chat_template(messages(turn), add_generation_prompt=True, tokenize=False))


def asked(processor: Any, turns: Sequence[Turn], *, blind: bool = False) -> dict[str, torch.Tensor]:
    """Prompts for generation, padded on the left."""
    processor.tokenizer.padding_side = "left"
    return _processed(processor, [question(processor, turn) for turn in turns], turns, blind=blind)


def taught(processor: Any, rows: Sequence[TaughtTurn], *, blind: bool = False) -> Batch:
    """Prompts with replies, padded on the right; `blind` shows grey pictures, as the control that cannot look."""
    processor.tokenizer.padding_side = "right"
    texts = [question(processor, row.turn) + row.reply + END for row in rows]
    inputs = _processed(processor, texts, [row.turn for row in rows], blind=blind)
    ids = inputs["input_ids"]
    known = processor.tokenizer.convert_tokens_to_ids
    # The first <think> starts the reply: no prompt holds the token.
    begun = (ids == known("<think>")).cumsum(dim=1) > 0
    weights = (begun & (inputs["attention_mask"] == 1)).float()
    scoring = ((ids == known("<score>")).cumsum(dim=1) > 0) & ((ids == known("</score>")).cumsum(dim=1) == 0)
    weights[scoring] *= SCORE_WEIGHT
    return Batch(inputs, weights)


def measured(seen: Sequence[Pixels]) -> torch.Tensor:
    """What the vision read-out learns to tell of each picture: its statistics and its sides, of order 1."""
    values = np.array([[*statistics(pixels), *sides(pixels)] for pixels in seen], dtype=np.float32)
    centre = np.array([48, 20, 4, 6, 18, 48, 48, 48, 48], dtype=np.float32)
    return torch.from_numpy((values - centre) / 20)


def _processed(processor: Any, texts: list[str], turns: Sequence[Turn], *, blind: bool) -> dict[str, torch.Tensor]:
    # Copies: torch warns of arrays that are not writable, such as Pillow's.
    shown = [[np.full_like(pixels, 128) if blind else pixels.copy() for pixels in pictures(turn)] for turn in turns]
    return dict(processor(text=texts, images=shown, padding=True, return_tensors="pt"))
