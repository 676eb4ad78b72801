"""Prompt templates: text with marks for two pictures and placeholders for the texts of a request.

The placeholder names ``original_instruction`` and ``rewritten_prompt`` are those of EditThinker's own template; in Python
they are ``instruction`` (the caller's) and ``turn_instruction`` (the one a candidate was made with).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

from services.protocol.critique.questions import LIST_PATTERN, Question, dump_list, or_default
from services.protocol.critique.special_tokens import json_string, spaced


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A placeholder: its name, and whether its value is written as JSON."""

    name: str
    quoted: bool


_MARK: Final = re.compile(r"<image>|\{(?:(original_instruction|rewritten_prompt)(\|json)?|(questions)(\|json))\}")
_STRING: Final = r'"(?:[^"\\\x00]|\\.)*"'


@dataclass(frozen=True)
class Template:
    """A prompt template: text with two ``<image>`` marks (source first), and the placeholders
    ``{original_instruction}``, ``{rewritten_prompt}`` and ``{questions|json}`` (the checklist's, numbered).

    ``{…|json}`` inserts the value as JSON, so that its content cannot pass for template text; the plain form, for templates
    that a model was trained on, inserts it as it is but for a space after each ``<`` and ``[``. In neither form does a special
    token of the model survive (`services.protocol.critique.special_tokens`). Without marks both images come first, as in
    EditThinker's own template.
    """

    text: str
    pictures: int = 2
    """Pictures that it marks; a template for comparisons marks three, the source first."""

    def __post_init__(self) -> None:
        images = self.text.count("<image>")
        if images not in {0, self.pictures}:
            wanted = "two <image> marks (source, then candidate)" if self.pictures == 2 else f"{self.pictures} <image> marks"  # noqa: PLR2004
            raise ValueError(f"a template has {wanted} or none; this one has {images}")
        if not any(placeholder.name == "original_instruction" for placeholder in placeholders_of([self.text])):
            raise ValueError("a template holds the placeholder {original_instruction}")

    @classmethod
    def named(cls, name: str, pictures: int = 2) -> Template:
        """A packaged template, from ``services/protocol/critique/prompts``."""
        return cls(packaged(name), pictures)

    @property
    def lists_questions(self) -> bool:
        """Whether the thinker is shown the checklist."""
        return any(placeholder.name == "questions" for placeholder in placeholders_of([self.text]))

    @property
    def marks_pictures(self) -> bool:
        """Whether it says where source and candidate stand; otherwise they come first."""
        return "<image>" in self.text

    def segments(self) -> list[str]:
        """The text before, between and after the pictures (one piece more than there are pictures)."""
        if not self.marks_pictures:
            return [*([""] * self.pictures), self.text]
        return self.text.split("<image>")

    def opening(self) -> list[str]:
        """The text before and after the source picture of the request for questions (two pieces).

        It starts with the same text as this template's critiques, up to and including the line with the instruction, so that
        a prefix cache serves both; then it asks for questions instead of a critique. For a template that does not put the
        source picture and the instruction first, the packaged ``checklist`` template is used.
        """
        before, between, _ = self.segments()
        ends = [match.end() for match in _MARK.finditer(between) if match.group(1) == "original_instruction"]
        line_end = between.find("\n", ends[-1]) if ends else 0
        head = between[: line_end if line_end >= 0 else len(between)]
        names = [placeholder.name for placeholder in placeholders_of([before, head])]
        if names != ["original_instruction"]:
            return Template.named("checklist").opening()
        return [before, f"{head}\n{packaged('questions')}"]

    def fill(self, segment: str, instruction: str, turn_instruction: str, questions: Sequence[Question] = ()) -> str:
        """One segment with the placeholders replaced in a single pass, so values are never read as template text."""
        values = {"original_instruction": instruction, "rewritten_prompt": turn_instruction}

        def value(match: re.Match[str]) -> str:
            if match.group(3):
                return dump_list(or_default(questions))
            text = values[match.group(1)]
            return json_string(text) if match.group(2) else spaced(text)

        return _MARK.sub(value, segment.strip("\n"))

    def pattern(self) -> re.Pattern[str]:
        """Matches the segments, filled and joined by NUL, and captures the first occurrence of each of `placeholders`."""
        return pattern(self.segments())

    def placeholders(self) -> list[Placeholder]:
        """The placeholders, each once, in order."""
        return placeholders_of([self.text])


def packaged(name: str) -> str:
    """A packaged text, from ``services/protocol/critique/prompts``."""
    return resources.files("services.protocol.critique.prompts").joinpath(f"{name}.txt").read_text("utf-8")


def pattern(segments: Sequence[str]) -> re.Pattern[str]:
    """Matches filled segments, joined by NUL, and captures the first occurrence of each placeholder."""
    groups: dict[Placeholder, int] = {}
    pieces: list[str] = []
    for segment in segments:
        position, out, body = 0, [], segment.strip("\n")
        for match in _MARK.finditer(body):
            out.append(re.escape(body[position : match.start()]))
            placeholder = _placeholder(match)
            backreference = f"(?:\\{groups[placeholder]})" if placeholder in groups else None
            groups.setdefault(placeholder, len(groups) + 1)
            out.append(backreference or f"({_inner(placeholder)})")
            position = match.end()
        out.append(re.escape(body[position:]))
        pieces.append("".join(out))
    return re.compile("\x00".join(pieces), re.DOTALL)


def _inner(placeholder: Placeholder) -> str:
    if placeholder.name == "questions":
        return LIST_PATTERN
    return _STRING if placeholder.quoted else r"[^\x00]*"


def _placeholder(match: re.Match[str]) -> Placeholder:
    return Placeholder(match.group(1) or match.group(3), bool(match.group(2) or match.group(4)))


def placeholders_of(segments: Sequence[str]) -> list[Placeholder]:
    """The placeholders of some segments, each once, in order."""
    marks = [match for segment in segments for match in _MARK.finditer(segment) if match.group() != "<image>"]
    return list(dict.fromkeys(_placeholder(match) for match in marks))
