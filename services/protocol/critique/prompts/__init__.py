"""Prompt templates: text with marks for two pictures and placeholders for the texts of a request."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

from services.protocol.critique.questions import LISTED, Question, asked, listed


@dataclass(frozen=True, slots=True)
class Slot:
    """A placeholder: its name, and whether its value is written as JSON."""

    name: str
    quoted: bool


_MARK: Final = re.compile(r"<image>|\{(?:(original_instruction|rewritten_prompt)(\|json)?|(questions)(\|json))\}")
_STRING: Final = r'"(?:[^"\\\x00]|\\.)*"'


@dataclass(frozen=True)
class Template:
    """A prompt template: text with two ``<image>`` marks (source first), and the placeholders
    ``{original_instruction}``, ``{rewritten_prompt}`` and ``{questions|json}`` (the checklist's, numbered).

    ``{…|json}`` inserts the value as JSON, so that nothing in it can pass for template text; the plain form
    inserts it as it is, for templates a model was trained on. Without marks both images go first, as in EditThinker's
    own template.
    """

    text: str

    def __post_init__(self) -> None:
        images = self.text.count("<image>")
        if images not in {0, 2}:
            raise ValueError(f"a template has two <image> marks (source, then candidate) or none; this one has {images}")
        if not any(slot.name == "original_instruction" for slot in slots_of([self.text])):
            raise ValueError("a template holds the placeholder {original_instruction}")

    @classmethod
    def named(cls, name: str) -> Template:
        """One of ours, from ``services/protocol/critique/prompts``."""
        return cls(prompt(name))

    @property
    def lists_questions(self) -> bool:
        """Whether the thinker is shown the checklist."""
        return any(slot.name == "questions" for slot in slots_of([self.text]))

    def segments(self) -> list[str]:
        """The text before, between and after the pictures (three pieces)."""
        if "<image>" not in self.text:
            return ["", "", self.text]
        return self.text.split("<image>")

    def opening(self) -> list[str]:
        """The text before and after the source picture of the request for questions (two pieces).

        It begins as this template's critiques begin, up to the line with the wish, and then says what to write instead
        of a critique: the fixed text, the source picture and the wish are computed once for both. A template that does
        not put the source picture and the wish first has no such beginning; our own is taken then.
        """
        before, between, _ = self.segments()
        wishes = [match.end() for match in _MARK.finditer(between) if match.group(1) == "original_instruction"]
        line_end = between.find("\n", wishes[-1]) if wishes else 0
        head = between[: line_end if line_end >= 0 else len(between)]
        names = [slot.name for slot in slots_of([before, head])]
        if names != ["original_instruction"]:
            return Template.named("checklist").opening()
        return [before, f"{head}\n{prompt('questions')}"]

    def fill(self, segment: str, original_instruction: str, instruction: str, questions: Sequence[Question] = ()) -> str:
        """One segment with the texts in place; a single pass, so values are never read as template."""
        values = {"original_instruction": original_instruction, "rewritten_prompt": instruction}

        def value(match: re.Match[str]) -> str:
            if match.group(3):
                return listed(asked(questions))
            text = values[match.group(1)]
            return json.dumps(text, ensure_ascii=False) if match.group(2) else text

        return _MARK.sub(value, segment.strip("\n"))

    def pattern(self) -> re.Pattern[str]:
        """Matches the segments, filled and joined by NUL, and captures each of `slots` where it stands first."""
        return pattern(self.segments())

    def slots(self) -> list[Slot]:
        """The placeholders, each once, in order."""
        return slots_of([self.text])


def prompt(name: str) -> str:
    """A text of ours, from ``services/protocol/critique/prompts``."""
    return resources.files("services.protocol.critique.prompts").joinpath(f"{name}.txt").read_text("utf-8")


def pattern(segments: Sequence[str]) -> re.Pattern[str]:
    """Matches filled segments, joined by NUL, and captures each placeholder where it stands first."""
    groups: dict[Slot, int] = {}
    pieces: list[str] = []
    for segment in segments:
        position, out, body = 0, [], segment.strip("\n")
        for match in _MARK.finditer(body):
            out.append(re.escape(body[position : match.start()]))
            slot = _slot(match)
            again = f"(?:\\{groups[slot]})" if slot in groups else None
            groups.setdefault(slot, len(groups) + 1)
            out.append(again or f"({_inner(slot)})")
            position = match.end()
        out.append(re.escape(body[position:]))
        pieces.append("".join(out))
    return re.compile("\x00".join(pieces), re.DOTALL)


def _inner(slot: Slot) -> str:
    if slot.name == "questions":
        return LISTED
    return _STRING if slot.quoted else r"[^\x00]*"


def _slot(match: re.Match[str]) -> Slot:
    return Slot(match.group(1) or match.group(3), bool(match.group(2) or match.group(4)))


def slots_of(segments: Sequence[str]) -> list[Slot]:
    """The placeholders of some segments, each once, in order."""
    marks = [match for segment in segments for match in _MARK.finditer(segment) if match.group() != "<image>"]
    return list(dict.fromkeys(_slot(match) for match in marks))
