"""Thinkers at equal numbers of edits: what they write (the second edit), and what they choose (the best of four by own scores).

A session begins as in serving: the first edit is made with the caller's words. Where the editor refuses them, or where a reply
cannot be read, holds no instruction, or is refused, the candidate stays as it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from training.miniature import colour
from training.miniature.evaluating import Mean, Report, Thinker, mean_of
from training.miniature.gap import after
from training.miniature.rows import TaughtTurn
from training.miniature.turns import Turn, first_turn
from training.miniature.world import FailedEditError, Scene, edit, read
from training.replies import parse

EDITS: Final = 4
_UNREAD: Final = -1.0
_PAIRS: Final = (
    ("sft", "sft-blind"),
    ("sft", "rules"),
    ("grpo", "sft"),
    ("sft-longer", "sft"),
    ("grpo", "sft-longer"),
)
"""Differences that are reported: the first minus the second, negative where the first is nearer to the target."""


@dataclass(frozen=True)
class Session:
    """One scene under one thinker.

    Attributes:
        distances: to the target, of the candidate of each edit.
        scores: what the thinker gave each, sqrt(semantic x quality) as the orchestrator ranks them; -1 for a reply that cannot be
            read.
    """

    distances: list[float]
    scores: list[float]

    @property
    def second(self) -> float:
        """After one refinement."""
        return self.distances[1]

    @property
    def chosen(self) -> float:
        """Of the candidate with the best score; of equal ones the earliest."""
        return self.distances[int(np.argmax(self.scores))]


def one_a_scene(rows: Sequence[TaughtTurn]) -> list[TaughtTurn]:
    """The first turn of each scene."""
    return list({row.turn.scene.seed: row for row in reversed(rows)}.values())[::-1]


def sessions(rows: Sequence[TaughtTurn], think: Thinker, edits: int = EDITS) -> list[Session]:
    """A session of `edits` edits for each row's scene; the turns of the rows are not looked at."""
    turns = [first_turn(row.turn.scene) for row in rows]
    distances, scores = [[_left(turn)] for turn in turns], [[_UNREAD] * edits for _ in turns]
    for number in range(edits):
        replies = think([TaughtTurn(turn, "", row.best) for turn, row in zip(turns, rows, strict=True)])
        for index, text in enumerate(replies):
            reply = parse(text)
            if reply is not None:
                scores[index][number] = math.sqrt(reply.semantic * reply.quality)
            if number + 1 < edits:
                turns[index] = turns[index] if reply is None else _edited(turns[index], reply.instruction)
                distances[index].append(_left(turns[index]))
    return [Session(*pair) for pair in zip(distances, scores, strict=True)]


def baselines(rows: Sequence[TaughtTurn], table: Mapping[str, str]) -> dict[str, list[float]]:
    """Distances of each row's scene without a thinker, by strategy; `table` is the look-up of `training.miniature.gap`."""
    scenes = [row.turn.scene for row in rows]
    return {
        "do nothing": [scene.whole for scene in scenes],
        "single": [after(scene, scene.instruction) for scene in scenes],
        f"best of {EDITS}, by the target": [_best_of(scene) for scene in scenes],
        "look-up": [after(scene, scene.key if read(scene.key) is not None else table[scene.key]) for scene in scenes],
        "searched oracle": [row.best for row in rows],
    }


def clusters(rows: Sequence[TaughtTurn], split: str) -> list[str]:
    """What is resampled for intervals: looks where looks are held out, else scenes."""
    return [row.turn.scene.look if split == "looks" else str(row.turn.scene.seed) for row in rows]


def table(
    split: str,
    baseline: Mapping[str, Sequence[float]],
    thinkers: Mapping[str, tuple[Sequence[Session], Report]],
    members: Sequence[str],
) -> str:
    """One split as a Markdown table: mean CIELAB distances to the target with 95 % intervals."""
    lines = [
        f"**{split}** ({len(members)} scenes, {len(set(members))} resampled)",
        "",
        "| | second edit | chosen of four by own scores | best of the four | valid | score error | corr. | false satisfaction |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, values in baseline.items():
        lines.append(f"| {name} | {mean_of(values, members)} | | | | | | |")
    for name, (found, one) in thinkers.items():
        means = [
            mean_of([value(session) for session in found], members)
            for value in (_second, _chosen, lambda session: min(session.distances))
        ]
        lines.append(
            f"| {name} | {' | '.join(map(str, means))} | {one.valid:.2f} | {one.semantic_error:.2f} | {one.correlation:.2f} "
            f"| {one.false_satisfaction:.2f} |"
        )
    return "\n".join(lines)


def differences(runs: Sequence[Mapping[str, Sequence[Session]]], members: Sequence[str]) -> dict[str, tuple[Mean, Mean]]:
    """Paired differences of what is written and of what is chosen, by the names of the pair.

    Runs with other seeds on the same scenes are averaged by scene before scenes are resampled: the intervals are those of the
    scenes, and how far seeds differ is shown by each run's own table.
    """
    found = {}
    for first, second in _PAIRS:
        if all(first in run and second in run for run in runs):
            written, chosen = (
                mean_of(np.mean([_differing(run[first], run[second], value) for run in runs], axis=0).tolist(), members)
                for value in (_second, _chosen)
            )
            found[f"{first} - {second}"] = (written, chosen)
    return found


def verdict(difference: Mean) -> str:
    """In words, what an interval of RL minus its control says."""
    if difference.high < 0:
        return "RL is better than its control"
    if difference.low > 0:
        return "RL is worse than its control"
    return "RL does not differ from its control"


def _differing(first: Sequence[Session], second: Sequence[Session], value: Callable[[Session], float]) -> list[float]:
    return [value(one) - value(other) for one, other in zip(first, second, strict=True)]


def _second(session: Session) -> float:
    return session.second


def _chosen(session: Session) -> float:
    return session.chosen


def _left(turn: Turn) -> float:
    return colour.distance(turn.candidate, turn.scene.target)


def _edited(turn: Turn, instruction: str) -> Turn:
    if not instruction:
        return turn
    try:
        return Turn(turn.scene, edit(turn.scene.source, instruction, turn.scene.seed), instruction)
    except FailedEditError:
        return turn


def _best_of(scene: Scene) -> float:
    """The nearest of `EDITS` edits with the caller's words under other seeds: more than any judge could choose."""
    reached = []
    for step in range(EDITS):
        try:
            picture = edit(scene.source, scene.instruction, (scene.seed + 7919 * step) % 2**31)
        except FailedEditError:
            picture = scene.source
        reached.append(colour.distance(picture, scene.target))
    return min(reached)
