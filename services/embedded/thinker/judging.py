"""Judge one candidate: measure, score, explain, refine. Also the checklist for an instruction."""

from __future__ import annotations

from dataclasses import dataclass

from services.embedded.thinker.checklist_answers import answer_questions, questions_about
from services.embedded.thinker.evidence import Evidence, gather
from services.embedded.thinker.explain import explain
from services.embedded.thinker.intent import intent_of
from services.embedded.thinker.pixels import Bytes, reduce_picture
from services.embedded.thinker.refine import refine
from services.embedded.thinker.score import Damage, Part, measured_parts, quality, semantic
from services.protocol.critique.messages import MAX_INSTRUCTION, Critique
from services.protocol.critique.questions import Answer, Question, or_default, with_quality
from services.protocol.critique.scores import critique_of_answers


def judge(source: Bytes, candidate: Bytes, instruction: str, turn_instruction: str) -> Critique:
    """Judge a candidate.

    Args:
        source: the picture before, (h, w), (h, w, 3) RGB or (h, w, 4) RGBA bytes.
        candidate: the picture after, of any size.
        instruction: the caller's instruction.
        turn_instruction: the instruction that this candidate was made with.

    Returns:
        Scores, reasoning and the refined instruction for the source. The function is pure and total: any two pictures and
        any two texts give a critique, and always the same one.

    Raises:
        ValueError: when an array is not a picture.
    """
    return _assess(source, candidate, instruction, turn_instruction).critique()


def judge_by(
    questions: tuple[Question, ...], source: Bytes, candidate: Bytes, instruction: str, turn_instruction: str
) -> Critique:
    """Judge a candidate by a checklist; its scores follow from the answers. Otherwise as `judge`.

    When the questions give no score (none is about quality, say), the measured scores are used and the answers added.
    """
    assessed = _assess(source, candidate, instruction, turn_instruction)
    answers = answer_questions(assessed.evidence, assessed.parts, assessed.damage, assessed.semantic, or_default(questions))
    critique = critique_of_answers(answers, assessed.refined, questions)
    return critique if isinstance(critique, Critique) else assessed.critique(answers)


def questions_for(instruction: str) -> tuple[Question, ...]:
    """The checklist for an instruction, from what was understood of it; pure."""
    return with_quality(questions_about(intent_of(instruction)))


@dataclass(frozen=True)
class _Assessment:
    """The measurements of one candidate, its scores and the refined instruction."""

    evidence: Evidence
    parts: list[Part]
    damage: list[Damage]
    semantic: float
    quality: float
    refined: str | None

    def critique(self, answers: tuple[Answer, ...] = ()) -> Critique:
        """The critique with the measured scores."""
        reasoning = explain(self.evidence, self.parts, self.damage)
        return Critique(self.semantic, self.quality, reasoning, self.refined, answers)


def _assess(source: Bytes, candidate: Bytes, instruction: str, turn_instruction: str) -> _Assessment:
    evidence = gather(intent_of(instruction), reduce_picture(source), reduce_picture(candidate))
    parts = measured_parts(evidence)
    followed = semantic(evidence, parts)
    sound, damage = quality(evidence)
    refined = refine(evidence, turn_instruction or instruction, followed).strip()[:MAX_INSTRUCTION]
    return _Assessment(evidence, parts, damage, followed, sound, refined or None)
