"""What a thinker is worth on one split: one refinement of a given candidate, and how well it scores it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from training.miniature import batches, colour, rules
from training.miniature.gap import after
from training.miniature.rows import TaughtTurn
from training.miniature.turns import judged
from training.replies import parse

MAX_TOKENS: Final = 110
_ROUNDS: Final = 2000

Thinker = Callable[[Sequence[TaughtTurn]], list[str]]
"""From turns to replies."""


@dataclass(frozen=True)
class Mean:
    """A mean with its 95 % interval by bootstrap over clusters."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Report:
    """One thinker on one split.

    Attributes:
        turns: how many were asked.
        valid: share of replies in the taught form.
        carried_out: share of replies whose instruction the editor carries out.
        exact: share of instructions that are word for word the taught one.
        nothing, candidate, refined, best: mean distance to the target of the source, of the given candidate, of the edit with the
            thinker's instruction (of the candidate, where there is no edit), and of the best instruction that was found.
        semantic_error: mean |its score - the judge's|.
        correlation: of its semantic scores with the judge's; 0 where it always gives the same one.
        false_satisfaction: share of candidates that the judge gives less than 5 and the thinker 8 or more.
    """

    turns: int
    valid: float
    carried_out: float
    exact: float
    nothing: Mean
    candidate: Mean
    refined: Mean
    best: Mean
    semantic_error: float
    correlation: float
    false_satisfaction: float


def report(rows: Sequence[TaughtTurn], replies: Sequence[str]) -> Report:
    """Measure the replies to these turns."""
    read = [parse(reply) for reply in replies]
    wanted = [parse(row.reply) for row in rows]
    refined, carried_out = [], []
    for row, reply in zip(rows, read, strict=True):
        unedited = colour.distance(row.turn.candidate, row.turn.scene.target)
        reached = (
            after(row.turn.scene, reply.instruction, refused=float("nan"))
            if reply is not None and reply.instruction
            else float("nan")
        )
        carried_out.append(not np.isnan(reached))
        refined.append(unedited if np.isnan(reached) else reached)
    pairs = [
        (reply.semantic, judged(row.turn.scene, row.turn.candidate).semantic)
        for row, reply in zip(rows, read, strict=True)
        if reply is not None
    ]
    given, right = (np.array(side) for side in zip(*pairs, strict=True)) if pairs else (np.zeros(0), np.zeros(0))
    told = bool(pairs) and given.std() > 0 and right.std() > 0
    scene_of = [row.turn.scene.seed for row in rows]
    return Report(
        turns=len(rows),
        valid=float(np.mean([reply is not None for reply in read])),
        carried_out=float(np.mean(carried_out)),
        exact=float(
            np.mean(
                [a is not None and b is not None and a.instruction == b.instruction for a, b in zip(read, wanted, strict=True)]
            )
        ),
        nothing=mean_of([row.turn.scene.whole for row in rows], scene_of),
        candidate=mean_of([colour.distance(row.turn.candidate, row.turn.scene.target) for row in rows], scene_of),
        refined=mean_of(refined, scene_of),
        best=mean_of([row.best for row in rows], scene_of),
        semantic_error=float(np.abs(given - right).mean()) if pairs else float("nan"),
        correlation=float(np.corrcoef(given, right)[0, 1]) if told else 0.0,
        false_satisfaction=float(np.mean((given >= 8) & (right < 5))) if pairs else 0.0,  # noqa: PLR2004 - as its name says
    )


def mean_of(values: Sequence[float], clusters: Sequence[int] | Sequence[str]) -> Mean:
    """The mean, with whole clusters resampled: turns of a scene, or scenes of a look, are not independent."""
    _, member = np.unique(clusters, return_inverse=True)
    sums, counts = np.bincount(member, weights=values), np.bincount(member)
    drawn = np.random.default_rng(0).integers(0, len(sums), size=(_ROUNDS, len(sums)))
    low, high = np.percentile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [2.5, 97.5])
    return Mean(float(np.mean(values)), float(low), float(high))


def model_thinker(thinker: Any, processor: Any, *, blind: bool = False, batch: int = 64) -> Thinker:
    """A model as a thinker; the most probable reply."""

    def replies(rows: Sequence[TaughtTurn]) -> list[str]:
        thinker.eval()
        end = processor.tokenizer.convert_tokens_to_ids(batches.END)
        told: list[str] = []
        with torch.no_grad():
            for start in range(0, len(rows), batch):
                inputs = batches.asked(processor, [row.turn for row in rows[start : start + batch]], blind=blind)
                out = thinker.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False, eos_token_id=end)
                texts = processor.tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
                told += [text.strip() for text in texts]
        return told

    return replies


def rule_thinker(rows: Sequence[TaughtTurn]) -> list[str]:
    """`training.miniature.rules`, the baseline without weights."""
    return [rules.reply(row.turn) for row in rows]
