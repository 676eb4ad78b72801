"""The embedded thinker's verdict on one candidate: measure, score, explain, refine."""

from __future__ import annotations

from services.thinker.rules.evidence import gather
from services.thinker.rules.explain import explain
from services.thinker.rules.pixels import Bytes, look_at
from services.thinker.rules.refine import refine
from services.thinker.rules.score import parts, quality, semantic
from services.thinker.rules.wishes import wish_of
from services.wire.critique import MAX_INSTRUCTION, Critique


def judge(source: Bytes, candidate: Bytes, wish_text: str, used_text: str) -> Critique:
    """Judge a candidate.

    Args:
        source: the picture before, (h, w), (h, w, 3) RGB or (h, w, 4) RGBA bytes.
        candidate: the picture after, of any size.
        wish_text: the original instruction.
        used_text: the instruction this candidate was made with.

    Returns:
        Scores, reasoning and the refined instruction for the source. The same arguments
        always give the same critique; any two pictures and any two texts give one.

    Raises:
        ValueError: when an array is not a picture.
    """
    wish = wish_of(wish_text)
    evidence = gather(wish, look_at(source), look_at(candidate))
    wish_parts = parts(evidence)
    followed = semantic(evidence, wish_parts)
    sound, damage = quality(evidence)
    refined = refine(evidence, used_text or wish_text, followed).strip()[:MAX_INSTRUCTION]
    return Critique(
        semantic=followed,
        quality=sound,
        reasoning=explain(evidence, wish_parts, damage),
        instruction=refined or None,
    )
