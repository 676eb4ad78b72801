"""The thinker's protocol, both directions: what it is asked, and what it answers.

    build(request, template)  ->  messages of an OpenAI chat completion, pictures as data URLs
    read(messages, templates) ->  the same request          read(build(x)) == x
    Critique | Unparseable    <-  what `services.wire.formats` makes of a reply

The fixed text and the source picture come first and are byte-identical in every turn of a session, so a server with
a prefix cache computes them once; what differs by turn (candidate, instruction used) comes last.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final, Literal

from services.wire.images import data_url, from_base64, sniff

MIN_SCORE: Final = 0.0
MAX_SCORE: Final = 10.0
MAX_INSTRUCTION: Final = 32_000

UnparseableReason = Literal[
    "empty",
    "refusal",
    "truncated",
    "missing_scores",
    "ambiguous_scores",
    "score_not_a_number",
    "score_out_of_range",
    "missing_instruction",
    "instruction_too_long",
    "not_json",
    "wrong_shape",
]


@dataclass(frozen=True, slots=True)
class Critique:
    """What a thinker says of one candidate, in one reply.

    Attributes:
        semantic: how far the edit does what was asked, 0-10.
        quality: how sound the picture is, 0-10.
        reasoning: why, in words; may be empty.
        instruction: the refined instruction for the next turn, or None when the thinker leaves it as it is.
    """

    semantic: float
    quality: float
    reasoning: str
    instruction: str | None

    def __post_init__(self) -> None:
        for score in (self.semantic, self.quality):
            if not MIN_SCORE <= score <= MAX_SCORE:
                raise ValueError(f"a score is between {MIN_SCORE:g} and {MAX_SCORE:g}, not {score}")
        if self.instruction is not None and not self.instruction.strip():
            raise ValueError("an instruction is not blank; None says that it stays")

    @property
    def overall(self) -> float:
        """sqrt(semantic x quality), 0-10 (EditThinker, arXiv 2512.05965)."""
        return math.sqrt(self.semantic * self.quality)


@dataclass(frozen=True, slots=True)
class Unparseable:
    """A reply that holds no usable critique, and why."""

    reason: UnparseableReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded image as it travels: PNG, JPEG or WebP bytes."""

    data: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class CritiqueRequest:
    """What a thinker is asked to judge: two pictures, the wish, and the instruction the candidate was made with."""

    source: Picture
    candidate: Picture
    original_instruction: str
    instruction: str


class UnreadableRequest(Exception):
    """The messages do not follow any known template."""


@dataclass(frozen=True, slots=True)
class _Slot:
    name: str
    quoted: bool


_MARK: Final = re.compile(r"<image>|\{(original_instruction|rewritten_prompt)(\|json)?\}")


@dataclass(frozen=True)
class Template:
    """A prompt template: text with two ``<image>`` marks (source first), and the placeholders
    ``{original_instruction}`` and ``{rewritten_prompt}``.

    ``{…|json}`` inserts the value as a JSON string, so that nothing in it can pass for template text; the plain form
    inserts it as it is, for templates a model was trained on. Without marks both images go first, as in EditThinker's
    own template.
    """

    text: str

    def __post_init__(self) -> None:
        images = self.text.count("<image>")
        if images not in {0, 2}:
            raise ValueError(f"a template has two <image> marks (source, then candidate) or none; this one has {images}")
        if not any(m.group(1) == "original_instruction" for m in _MARK.finditer(self.text)):
            raise ValueError("a template holds the placeholder {original_instruction}")

    @classmethod
    def named(cls, name: str) -> Template:
        """One of ours, from ``services/wire/prompts``."""
        return cls(resources.files("services.wire").joinpath("prompts", f"{name}.txt").read_text("utf-8"))

    def segments(self) -> list[str]:
        """The text before, between and after the pictures (three pieces)."""
        if "<image>" not in self.text:
            return ["", "", self.text]
        return self.text.split("<image>")

    def fill(self, segment: str, original_instruction: str, instruction: str) -> str:
        """One segment with the texts in place; a single pass, so values are never read as template."""
        values = {"original_instruction": original_instruction, "rewritten_prompt": instruction}

        def value(match: re.Match[str]) -> str:
            text = values[match.group(1)]
            return json.dumps(text, ensure_ascii=False) if match.group(2) else text

        return _MARK.sub(value, segment.strip("\n"))

    def pattern(self) -> re.Pattern[str]:
        """Matches the segments, filled and joined by NUL, and captures each of `slots` where it stands first."""
        groups: dict[_Slot, int] = {}
        pieces: list[str] = []
        for segment in self.segments():
            position, out, body = 0, [], segment.strip("\n")
            for match in _MARK.finditer(body):
                out.append(re.escape(body[position : match.start()]))
                slot = _Slot(match.group(1), bool(match.group(2)))
                again = f"(?:\\{groups[slot]})" if slot in groups else None
                groups.setdefault(slot, len(groups) + 1)
                inner = r'"(?:[^"\\\x00]|\\.)*"' if slot.quoted else r"[^\x00]*"
                out.append(again or f"({inner})")
                position = match.end()
            out.append(re.escape(body[position:]))
            pieces.append("".join(out))
        return re.compile("\x00".join(pieces), re.DOTALL)

    def slots(self) -> list[_Slot]:
        """The placeholders, each once, in order."""
        return list(dict.fromkeys(_Slot(m.group(1), bool(m.group(2))) for m in _MARK.finditer(self.text) if m.group(1)))


def well_formed(text: str) -> str:
    r"""The text without halves of surrogate pairs, which JSON can spell (``"\ud83d"``) and no encoding can carry."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def build(request: CritiqueRequest, template: Template) -> list[dict[str, Any]]:
    """The messages of the chat completion: one user message, pictures in place of the template's marks."""
    source, candidate = request.source, request.candidate
    urls = data_url(source.data, source.media_type), data_url(candidate.data, candidate.media_type)
    return messages(request.original_instruction, request.instruction, template, urls=urls)


def messages(original_instruction: str, instruction: str, template: Template, *, urls: tuple[str, str]) -> list[dict[str, Any]]:
    """What `build` makes, with any URLs for source and candidate; for a client that sends the pictures itself."""
    content: list[dict[str, Any]] = []
    for text, url in zip(template.segments(), (*urls, None), strict=True):
        filled = template.fill(text, original_instruction, instruction)
        if filled:
            content.append({"type": "text", "text": filled})
        if url is not None:
            content.append({"type": "image_url", "image_url": {"url": url}})
    return [{"role": "user", "content": content}]


def read(messages: Sequence[Any], templates: Iterable[Template]) -> CritiqueRequest:
    """The inverse of `build`, for whoever plays the thinker.

    Raises:
        UnreadableRequest: when there are not exactly two pictures, or the text follows none of the templates.
        ApiError: ``invalid_image`` when a picture is not a base64 data URL.
    """
    texts: list[str] = [""]
    pictures: list[Picture] = []
    for part in _parts(messages):
        if part.get("type") == "text" and isinstance(part.get("text"), str):
            texts[-1] += part["text"]
        elif part.get("type") == "image_url":
            pictures.append(_picture(part.get("image_url")))
            texts.append("")
    if len(pictures) != 2:  # noqa: PLR2004 - source and candidate
        raise UnreadableRequest(f"expected two images, the source and the candidate; got {len(pictures)}")
    joined = "\x00".join(texts)
    for template in templates:
        match = template.pattern().fullmatch(joined)
        if match:
            return _request(pictures, template.slots(), match.groups())
    raise UnreadableRequest("the text follows none of the prompt templates this thinker knows")


def _request(pictures: list[Picture], slots: list[_Slot], groups: Sequence[str]) -> CritiqueRequest:
    try:
        values = {
            slot.name: json.loads(text, strict=False) if slot.quoted else text for slot, text in zip(slots, groups, strict=True)
        }
    except ValueError as exc:
        raise UnreadableRequest(f"a quoted text is not a JSON string: {exc}") from exc
    values = {name: well_formed(text) for name, text in values.items()}
    original = values["original_instruction"]
    return CritiqueRequest(pictures[0], pictures[1], original, values.get("rewritten_prompt", original))


def _parts(messages: Sequence[Any]) -> Iterable[dict[str, Any]]:
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str):
            yield {"type": "text", "text": content}
        elif isinstance(content, list):
            yield from (part for part in content if isinstance(part, dict))


def _picture(value: object) -> Picture:
    url = value.get("url") if isinstance(value, dict) else value
    if not isinstance(url, str) or not url.startswith("data:"):
        raise UnreadableRequest("images are read from base64 data URLs only")
    data = from_base64(url, param="messages")
    declared = url[5:].partition(";")[0]
    return Picture(data, sniff(data) or declared)
