"""The thinker's protocol, both directions: what it is asked, and what it answers.

    build(request, template)            ->  messages of an OpenAI chat completion, pictures as data URLs
    read(messages, templates)           ->  the same request          read(build(x)) == x
    build_questions, read_questions         the same for the request that asks for a checklist, once a session
    Critique | Unparseable              <-  what `services.protocol.critique.formats` makes of a reply

The fixed text and the source picture come first and are byte-identical in every turn of a session, so a server with
a prefix cache computes them once; what differs by turn (candidate, instruction used) comes last.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from services.imaging.codec import data_url, from_base64, sniff
from services.protocol.critique.prompts import Slot, pattern, slots_of
from services.protocol.critique.prompts import Template as Template
from services.protocol.critique.questions import Answer as Answer
from services.protocol.critique.questions import Question as Question
from services.protocol.critique.questions import unlisted

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
    "missing_answer",
    "ambiguous_answer",
    "unasked_answer",
    "unknown_answer",
    "missing_questions",
]


@dataclass(frozen=True, slots=True)
class Critique:
    """What a thinker says of one candidate, in one reply.

    Attributes:
        semantic: how far the edit does what was asked, 0-10.
        quality: how sound the picture is, 0-10.
        reasoning: why, in words; may be empty.
        instruction: the refined instruction for the next turn, or None when the thinker leaves it as it is.
        answers: where the scores follow from a checklist, what was answered, by number; else empty.
    """

    semantic: float
    quality: float
    reasoning: str
    instruction: str | None
    answers: tuple[Answer, ...] = ()

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
    """A reply that holds no usable critique (or no usable questions), and why."""

    reason: UnparseableReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded image as it travels: PNG, JPEG or WebP bytes."""

    data: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class CritiqueRequest:
    """What a thinker is asked to judge: two pictures, the wish, and the instruction the candidate was made with.

    `questions` are the session's checklist. Only a template that lists them sends them, and it lists
    `services.protocol.critique.questions.DEFAULT_QUESTIONS` where there are none.
    """

    source: Picture
    candidate: Picture
    original_instruction: str
    instruction: str
    questions: tuple[Question, ...] = ()


@dataclass(frozen=True, slots=True)
class QuestionsRequest:
    """What a thinker is asked to make a checklist of: a picture and the wish for it."""

    source: Picture
    original_instruction: str


class UnreadableRequestError(Exception):
    """The messages do not follow any known template."""


def well_formed(text: str) -> str:
    r"""The text without halves of surrogate pairs, which JSON can spell (``"\ud83d"``) and no encoding can carry."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def build(request: CritiqueRequest, template: Template) -> list[dict[str, Any]]:
    """The messages of the chat completion: one user message, pictures in place of the template's marks."""
    source, candidate = request.source, request.candidate
    urls = data_url(source.data, source.media_type), data_url(candidate.data, candidate.media_type)
    return messages(request.original_instruction, request.instruction, template, urls=urls, questions=request.questions)


def messages(
    original_instruction: str,
    instruction: str,
    template: Template,
    *,
    urls: tuple[str, str],
    questions: Sequence[Question] = (),
) -> list[dict[str, Any]]:
    """What `build` makes, with any URLs for source and candidate; for a client that sends the pictures itself."""
    texts = [template.fill(text, original_instruction, instruction, questions) for text in template.segments()]
    return _user(texts, urls)


def build_questions(request: QuestionsRequest, template: Template) -> list[dict[str, Any]]:
    """The messages that ask for the checklist of a session."""
    url = data_url(request.source.data, request.source.media_type)
    return questions_messages(request.original_instruction, template, url=url)


def questions_messages(original_instruction: str, template: Template, *, url: str) -> list[dict[str, Any]]:
    """What `build_questions` makes, with any URL for the source.

    The messages begin byte for byte as the critiques of this template do, up to and with the wish.
    """
    return _user([template.fill(text, original_instruction, "") for text in template.opening()], [url])


def read(messages: Sequence[Any], templates: Iterable[Template]) -> CritiqueRequest:
    """The inverse of `build`, for whoever plays the thinker; what follows an assistant's message is not read.

    Raises:
        UnreadableRequestError: when there are not exactly two pictures, or the text follows none of the templates.
        ApiError: ``invalid_image`` when a picture is not a base64 data URL.
    """
    texts, pictures = _content(messages)
    if len(pictures) != 2:  # noqa: PLR2004 - source and candidate
        raise UnreadableRequestError(f"expected two images, the source and the candidate; got {len(pictures)}")
    values = _values(texts, [template.segments() for template in templates])
    original = values["original_instruction"]
    try:
        questions = unlisted(values["questions"]) if "questions" in values else ()
    except (ValueError, RecursionError) as exc:
        raise UnreadableRequestError(f"the questions are no checklist: {exc}") from exc
    questions = tuple(Question(question.kind, well_formed(question.text)) for question in questions)
    return CritiqueRequest(pictures[0], pictures[1], original, values.get("rewritten_prompt", original), questions)


def read_questions(messages: Sequence[Any], templates: Iterable[Template]) -> QuestionsRequest:
    """The inverse of `build_questions`, for whoever plays the thinker.

    Raises:
        UnreadableRequestError: when there is not exactly one picture, or the text follows none of the templates.
        ApiError: ``invalid_image`` when the picture is not a base64 data URL.
    """
    texts, pictures = _content(messages)
    if len(pictures) != 1:
        raise UnreadableRequestError(f"expected one image, the source; got {len(pictures)}")
    values = _values(texts, [template.opening() for template in templates])
    return QuestionsRequest(pictures[0], values["original_instruction"])


def _user(texts: Sequence[str], urls: Sequence[str]) -> list[dict[str, Any]]:
    """One user message: the texts, with a picture behind each as long as there are some."""
    content: list[dict[str, Any]] = []
    for index, text in enumerate(texts):
        if text:
            content.append({"type": "text", "text": text})
        if index < len(urls):
            content.append({"type": "image_url", "image_url": {"url": urls[index]}})
    return [{"role": "user", "content": content}]


def _content(messages: Sequence[Any]) -> tuple[list[str], list[Picture]]:
    """The texts around the pictures, and the pictures."""
    texts: list[str] = [""]
    pictures: list[Picture] = []
    for part in _parts(messages):
        if part.get("type") == "text" and isinstance(part.get("text"), str):
            texts[-1] += part["text"]
        elif part.get("type") == "image_url":
            pictures.append(_picture(part.get("image_url")))
            texts.append("")
    return texts, pictures


def _values(texts: Sequence[str], forms: Iterable[list[str]]) -> dict[str, str]:
    """What stands in the placeholders of the first of some templates' segments that the texts follow."""
    joined = "\x00".join(texts)
    for segments in forms:
        match = pattern(segments).fullmatch(joined)
        if match:
            return {
                slot.name: well_formed(_value(slot, text)) for slot, text in zip(slots_of(segments), match.groups(), strict=True)
            }
    raise UnreadableRequestError("the text follows none of the prompt templates this thinker knows")


def _value(slot: Slot, text: str) -> str:
    if not slot.quoted or slot.name == "questions":
        return text
    try:
        value = json.loads(text, strict=False)
    except ValueError as exc:
        raise UnreadableRequestError(f"a quoted text is not a JSON string: {exc}") from exc
    return str(value)


def _parts(messages: Sequence[Any]) -> Iterable[dict[str, Any]]:
    for message in messages:
        if isinstance(message, dict) and message.get("role") == "assistant":
            return
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str):
            yield {"type": "text", "text": content}
        elif isinstance(content, list):
            yield from (part for part in content if isinstance(part, dict))


def _picture(value: object) -> Picture:
    url = value.get("url") if isinstance(value, dict) else value
    if not isinstance(url, str) or not url.startswith("data:"):
        raise UnreadableRequestError("images are read from base64 data URLs only")
    data = from_base64(url, param="messages")
    declared = url[5:].partition(";")[0]
    return Picture(data, sniff(data) or declared)
