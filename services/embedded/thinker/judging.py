"""The embedded thinker's verdict on one candidate: measure, score, explain, refine; and the questions it asks itself."""

from __future__ import annotations

from dataclasses import dataclass

from services.embedded.thinker.checklist_answers import answer_questions, questions_about
from services.embedded.thinker.evidence import Evidence, gather
from services.embedded.thinker.explain import explain
from services.embedded.thinker.intent import intent_of
from services.embedded.thinker.pixels import Bytes, reduce_picture
from services.embedded.thinker.refine import refine
from services.embedded.thinker.score import Damage, Part, measured_parts, quality, semantic
from services.protocol.critique.checklist import judged
from services.protocol.critique.messages import MAX_INSTRUCTION, Critique, Question
from services.protocol.critique.questions import asked, with_quality


def judge(source: Bytes, candidate: Bytes, original_instruction: str, instruction: str) -> Critique:
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
    assessed = _assess(source, candidate, original_instruction, instruction)
    return Critique(
        semantic=assessed.semantic,
        quality=assessed.quality,
        reasoning=explain(assessed.evidence, assessed.parts, assessed.damage),
        instruction=assessed.refined,
    )


def judge_by(
    questions: tuple[Question, ...], source: Bytes, candidate: Bytes, original_instruction: str, instruction: str
) -> Critique:
    """Judge a candidate by a checklist; its scores follow from the answers. Otherwise as `judge`.

    Questions that give no score (none about quality, say) leave the measured scores in place, answers beside them.
    """
    assessed = _assess(source, candidate, original_instruction, instruction)
    answers = answer_questions(assessed.evidence, assessed.parts, assessed.damage, assessed.semantic, asked(questions))
    critique = judged(answers, assessed.refined, questions)
    if isinstance(critique, Critique):
        return critique
    return Critique(
        assessed.semantic,
        assessed.quality,
        explain(assessed.evidence, assessed.parts, assessed.damage),
        assessed.refined,
        answers,
    )


def questions_for(original_instruction: str) -> tuple[Question, ...]:
    """The checklist for a wish, from what was understood of it; the same wish always gives the same."""
    return with_quality(questions_about(intent_of(original_instruction)))


@dataclass(frozen=True)
class _Assessment:
    """What was measured of one candidate, and what follows."""

    evidence: Evidence
    parts: list[Part]
    damage: list[Damage]
    semantic: float
    quality: float
    refined: str | None


def _assess(source: Bytes, candidate: Bytes, original_instruction: str, instruction: str) -> _Assessment:
    evidence = gather(intent_of(original_instruction), reduce_picture(source), reduce_picture(candidate))
    parts = measured_parts(evidence)
    followed = semantic(evidence, parts)
    sound, damage = quality(evidence)
    refined = refine(evidence, instruction or original_instruction, followed).strip()[:MAX_INSTRUCTION]
    return _Assessment(evidence, parts, damage, followed, sound, refined or None)
