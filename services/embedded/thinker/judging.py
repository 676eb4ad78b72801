"""The embedded thinker's verdict on one candidate: measure, score, explain, refine; and the questions it asks itself."""

from __future__ import annotations

from dataclasses import dataclass

from services.embedded.thinker.checklist_answers import answers_of, questions_of
from services.embedded.thinker.evidence import Evidence, gather
from services.embedded.thinker.explain import explain
from services.embedded.thinker.intent import wish_of
from services.embedded.thinker.pixels import Bytes, look_at
from services.embedded.thinker.refine import refine
from services.embedded.thinker.score import Damage, Part, parts, quality, semantic
from services.protocol.critique.messages import MAX_INSTRUCTION, Critique
from services.protocol.critique.questions import Question, or_default, with_quality
from services.protocol.critique.scores import critique_of_answers


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
    seen = _seen(source, candidate, wish_text, used_text)
    return Critique(
        semantic=seen.semantic,
        quality=seen.quality,
        reasoning=explain(seen.evidence, seen.parts, seen.damage),
        refined_instruction=seen.refined,
    )


def judge_by(questions: tuple[Question, ...], source: Bytes, candidate: Bytes, wish_text: str, used_text: str) -> Critique:
    """Judge a candidate by a checklist; its scores follow from the answers. Otherwise as `judge`.

    Questions that give no score (none about quality, say) leave the measured scores in place, answers beside them.
    """
    seen = _seen(source, candidate, wish_text, used_text)
    answers = answers_of(seen.evidence, seen.parts, seen.damage, seen.semantic, or_default(questions))
    critique = critique_of_answers(answers, seen.refined, questions)
    if isinstance(critique, Critique):
        return critique
    return Critique(seen.semantic, seen.quality, explain(seen.evidence, seen.parts, seen.damage), seen.refined, answers)


def questions_for(wish_text: str) -> tuple[Question, ...]:
    """The checklist for a wish, from what was understood of it; the same wish always gives the same."""
    return with_quality(questions_of(wish_of(wish_text)))


@dataclass(frozen=True)
class _Seen:
    """What was measured of one candidate, and what follows."""

    evidence: Evidence
    parts: list[Part]
    damage: list[Damage]
    semantic: float
    quality: float
    refined: str | None


def _seen(source: Bytes, candidate: Bytes, wish_text: str, used_text: str) -> _Seen:
    evidence = gather(wish_of(wish_text), look_at(source), look_at(candidate))
    wish_parts = parts(evidence)
    followed = semantic(evidence, wish_parts)
    sound, damage = quality(evidence)
    refined = refine(evidence, used_text or wish_text, followed).strip()[:MAX_INSTRUCTION]
    return _Seen(evidence, wish_parts, damage, followed, sound, refined or None)
