"""Judge one candidate: measure, score, explain, refine. Also the checklist for an instruction."""

from __future__ import annotations

from dataclasses import replace

from services.embedded.cielab import U8
from services.embedded.instructions import parse
from services.embedded.thinker.checklist_answers import answer_questions, questions_about
from services.embedded.thinker.evidence import gather
from services.embedded.thinker.parts import Part, parts_of, semantic
from services.embedded.thinker.quality import Damage, quality
from services.embedded.thinker.refine import refine
from services.protocol.critique.messages import MAX_INSTRUCTION, Critique
from services.protocol.critique.questions import Question, or_default, with_quality
from services.protocol.critique.scores import critique_of_answers

_QUOTE = 80
_MOST = 6


def judge(source: U8, candidate: U8, instruction: str, turn_instruction: str) -> Critique:
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
    return _assess(source, candidate, instruction, turn_instruction)[0]


def judge_by(questions: tuple[Question, ...], source: U8, candidate: U8, instruction: str, turn_instruction: str) -> Critique:
    """Judge a candidate by a checklist; its scores follow from the answers. Otherwise as `judge`.

    When the questions give no score (none is about quality, say), the measured scores are used and the answers added.
    """
    measured, parts, damage = _assess(source, candidate, instruction, turn_instruction)
    answers = answer_questions(parts, damage, or_default(questions))
    critique = critique_of_answers(answers, measured.refined_instruction, questions)
    return critique if isinstance(critique, Critique) else replace(measured, answers=answers)


def questions_for(instruction: str) -> tuple[Question, ...]:
    """The checklist for an instruction, from what was understood of it; pure."""
    return with_quality(questions_about(parse(instruction)))


def _assess(source: U8, candidate: U8, instruction: str, turn_instruction: str) -> tuple[Critique, list[Part], list[Damage]]:
    """The critique with the measured scores, and what they are made of."""
    evidence = gather(parse(instruction), source, candidate)
    parts = parts_of(evidence)
    followed = semantic(parts)
    sound, damage = quality(evidence)
    refined = refine(evidence, parts, turn_instruction or instruction, followed).strip()[:MAX_INSTRUCTION]
    reasoning = explain(parts, damage, unchanged=evidence.unchanged)
    return Critique(followed, sound, reasoning, refined or None), parts, damage


def explain(parts: list[Part], damage: list[Damage], *, unchanged: bool) -> str:
    """The reasoning: what was measured of each clause, what was not and so caps the score, what is damaged."""
    measured = [f"{part.name} — {part.description}" for part in parts if part.measured]
    unmeasured = [f"“{part.name[:_QUOTE]}” ({part.description})" for part in parts if not part.measured]
    sentences = ["Measured: " + "; ".join(measured[:_MOST]) + "."] if measured else []
    if unmeasured:
        effect = "which limits the score to 6" if measured else "so nothing counts as done"
        sentences.append(f"Not measured, {effect}: " + "; ".join(unmeasured[:_MOST]) + ".")
    if unchanged:
        sentences.append("The candidate is the source, unchanged.")
    worst = "; ".join(item.description for item in damage[:3])
    sentences.append(f"Damage: {worst}." if worst else "No damage was measured.")
    return " ".join(sentences)
