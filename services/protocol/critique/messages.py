"""Chat messages of a thinker's requests, both directions, and the results of its replies.

    build(request, template)            ->  messages of an OpenAI chat completion, pictures as data URLs
    read(messages, templates)           ->  the same request          read(build(x)) == x
    build_questions, read_questions         the same for the request for a checklist, once per session
    repair_messages                         the request after a reply that could not be read
    Critique | Unparseable              <-  `services.protocol.critique.formats` parses a reply

The fixed text and the caller's pictures (the source, its references, the area that may change) come first and are byte-identical
in every turn of a session, so a server with a prefix cache computes them once; what differs by turn (candidate, turn
instruction) comes last. The texts around references and area are the same for every template, also for an operator's own.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from services.imaging.codec import data_url, from_base64, sniff
from services.protocol.critique.places import GRID, MAX_PLACES, Place
from services.protocol.critique.prompts import Placeholder, Template, pattern, placeholders_of
from services.protocol.critique.questions import Answer, Question, load_list
from services.protocol.critique.special_tokens import json_string, unspaced, without_tokens

MIN_SCORE: Final = 0.0
MAX_SCORE: Final = 10.0
MAX_INSTRUCTION: Final = 32_000
MAX_SHOWN: Final = 4_000
"""Characters of its unreadable reply that a thinker is shown."""

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
    "no_logprobs",
    "unknown_winner",
]


@dataclass(frozen=True, slots=True)
class Critique:
    """A thinker's judgement of one candidate, from one reply.

    Attributes:
        semantic: how completely the edit follows the instruction, 0-10.
        quality: technical quality of the picture, 0-10.
        reasoning: why, in words; may be empty.
        refined_instruction: the instruction for the next turn, or None to keep this turn's.
        answers: the checklist's answers by number, where the scores follow from them; else empty.
        places: what it points at in the picture; mostly empty.
    """

    semantic: float
    quality: float
    reasoning: str
    refined_instruction: str | None
    answers: tuple[Answer, ...] = ()
    places: tuple[Place, ...] = ()

    def __post_init__(self) -> None:
        for score in (self.semantic, self.quality):
            if not MIN_SCORE <= score <= MAX_SCORE:
                raise ValueError(f"a score is between {MIN_SCORE:g} and {MAX_SCORE:g}, not {score}")
        if self.refined_instruction is not None and not self.refined_instruction.strip():
            raise ValueError("a refined instruction is not blank; use None to keep the instruction")

    @property
    def overall(self) -> float:
        """sqrt(semantic x quality), 0-10 (EditThinker, arXiv 2512.05965)."""
        return math.sqrt(self.semantic * self.quality)


@dataclass(frozen=True, slots=True)
class Unparseable:
    """Why a reply holds no usable critique (or no usable questions)."""

    reason: UnparseableReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded image: PNG, JPEG or WebP bytes."""

    data: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Strayed:
    """What a candidate changed outside the area that may change: the share of that outside, and its mean difference in levels."""

    changed: float
    difference: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """What another judge found of a candidate: its scores, 0-10, and its reasons, which may be empty."""

    semantic: float
    quality: float
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class CritiqueRequest:
    """A request for a critique.

    Attributes:
        references: the pictures that the instruction may refer to.
        area: the source as a picture of what may change (`services.imaging.masks.overlay`), where a mask limits that.
        strayed: what was measured to have changed elsewhere; only with an area.
        prompt_tokens: how many tokens of an instruction the editor reads, where that is known.
        places: whether the critique is asked to point at places.
        moved: what was measured to differ from the attempt before, outside of the places that its critique pointed at.
        judgement: another judge's, where only the next instruction is wanted.
        source: the picture before the edit.
        candidate: the edited picture.
        instruction: the caller's.
        turn_instruction: the one that the candidate was made with.
        questions: the session's checklist. Only a template that lists questions sends them, and it lists
            `services.protocol.critique.questions.DEFAULT_QUESTIONS` if there are none.
    """

    source: Picture
    candidate: Picture
    instruction: str
    turn_instruction: str
    questions: tuple[Question, ...] = ()
    references: tuple[Picture, ...] = ()
    area: Picture | None = None
    strayed: Strayed | None = None
    prompt_tokens: int | None = None
    places: bool = False
    moved: Strayed | None = None
    judgement: Judgement | None = None


@dataclass(frozen=True, slots=True)
class QuestionsRequest:
    """A request for a session's checklist: the caller's pictures and instruction; pictures as in `CritiqueRequest`."""

    source: Picture
    instruction: str
    references: tuple[Picture, ...] = ()
    area: Picture | None = None


class UnreadableRequestError(Exception):
    """The messages do not follow any known template."""


def well_formed(text: str) -> str:
    r"""The text with unpaired surrogates replaced: JSON can spell them (``"\ud83d"``), but they cannot be encoded."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


_SOURCE: Final = "The source picture:"
_CANDIDATE: Final = "The edited picture:"
_FIRST: Final = "Picture A:"
_SECOND: Final = "Picture B:"
_REFERENCE: Final = (
    "Picture {number}, a reference (the source picture is picture 1). The instruction may refer to it; it is not edited itself, "
    "and the next attempt gets it too:"
)
_AREA: Final = (
    "Where the picture may change: the source picture again, in which everything that must stay exactly as it is was made grey "
    "and pale. Only the part that kept its colours may change:"
)
_STRAYED: Final = (
    "Measured, not seen: of what must stay as it is, {changed} % changed visibly (mean difference {difference} of 255 levels)."
)
_STRAYED_PATTERN: Final = re.compile(
    re.escape(_STRAYED).replace(r"\{changed\}", r"([0-9.]+)").replace(r"\{difference\}", r"([0-9.]+)") + r"(?:\n|$)"
)

_LIMIT: Final = (
    "The editor reads at most {tokens} tokens of an instruction, about {words} English words, and refuses a longer one: keep the "
    "instruction for the next attempt within that."
)
_LIMIT_PATTERN: Final = re.compile(re.escape(_LIMIT).replace(r"\{tokens\}", r"(\d+)").replace(r"\{words\}", r"\d+") + r"(?:\n|$)")


_PLACES: Final = (
    'Point at what is wrong, too: after all other keys add "places" to the object, a list of at most '
    f'{MAX_PLACES} entries {{"box": [LEFT, TOP, RIGHT, BOTTOM], "word": "one or two words"}} with whole numbers from 0 to {GRID} '
    "across the edited picture; an empty list where nothing is wrong, or it has no place."
)
_MOVED: Final = (
    "Measured, not seen: compared with the attempt that this one was to improve, {changed} % of what its critique did not point "
    "at changed visibly (mean difference {difference} of 255 levels)."
)
_MOVED_PATTERN: Final = re.compile(
    re.escape(_MOVED).replace(r"\{changed\}", r"([0-9.]+)").replace(r"\{difference\}", r"([0-9.]+)") + r"(?:\n|$)"
)


_JUDGED: Final = (
    "Another judge has scored this edited picture: semantic {semantic}, quality {quality} of 10. Its reasons, as a JSON string: "
    "{reasoning}\nYour own scores do not count this time. What counts is the instruction for the next attempt: let it mend what "
    "that judge found."
)
_JUDGED_PATTERN: Final = re.compile(
    re.escape(_JUDGED)
    .replace(r"\{semantic\}", r"([0-9.]+)")
    .replace(r"\{quality\}", r"([0-9.]+)")
    .replace(r"\{reasoning\}", r'("(?:[^"\\\n]|\\.)*")')
    + r"(?:\n|$)"
)
MAX_REASONS: Final = 2_000
"""Characters of another judge's reasons that a thinker is told."""


@dataclass(frozen=True, slots=True)
class Extras:
    """What a request shows and tells besides source and candidate.

    Attributes:
        references: how many.
        area: whether there is one.
        strayed, prompt_tokens, places, moved, judgement: as in `CritiqueRequest`.
    """

    references: int = 0
    area: bool = False
    strayed: Strayed | None = None
    prompt_tokens: int | None = None
    places: bool = False
    moved: Strayed | None = None
    judgement: Judgement | None = None

    def headings(self) -> list[str]:
        """The texts before the references and the area."""
        references = [_REFERENCE.format(number=number + 2) for number in range(self.references)]
        return [*references, *([_AREA] if self.area else [])]


def build(request: CritiqueRequest, template: Template) -> list[dict[str, Any]]:
    """The messages of a critique's chat completion: one user message, pictures in place of the template's marks."""
    urls = [data_url(picture.data, picture.media_type) for picture in (*_shown(request), request.candidate)]
    extras = Extras(
        len(request.references),
        request.area is not None,
        request.strayed,
        request.prompt_tokens,
        request.places,
        request.moved,
        request.judgement,
    )
    return messages(
        request.instruction, request.turn_instruction, template, urls=urls, questions=request.questions, extras=extras
    )


def messages(
    instruction: str,
    turn_instruction: str,
    template: Template,
    *,
    urls: Sequence[str],
    questions: Sequence[Question] = (),
    extras: Extras | None = None,
) -> list[dict[str, Any]]:
    """As `build`, with any URLs for source, references, area and candidate; for a client that inserts the pictures itself."""
    extras = extras or Extras()
    before, between, after = (template.fill(text, instruction, turn_instruction, questions) for text in template.segments())
    headings = extras.headings()
    if headings:
        # A template without marks has both pictures first, which are then not alone.
        before, between = (before, between) if template.marks_pictures else (_SOURCE, _CANDIDATE)
    if extras.judgement is not None:
        after = f"{_judged(extras.judgement)}\n{after}"
    if extras.strayed is not None:
        after = f"{_percent(_STRAYED, extras.strayed)}\n{after}"
    if extras.moved is not None:
        after = f"{_percent(_MOVED, extras.moved)}\n{after}"
    if extras.places:
        after = f"{_PLACES}\n{after}"
    if extras.prompt_tokens is not None:
        after = f"{_LIMIT.format(tokens=extras.prompt_tokens, words=extras.prompt_tokens * 3 // 4)}\n{after}"
    return _user([before, *headings, between, after], urls)


def pair_messages(
    instruction: str, template: Template, *, urls: Sequence[str], extras: Extras | None = None
) -> list[dict[str, Any]]:
    """The messages of a comparison, with any URLs for source, references, area, and the pictures A and B.

    Args:
        instruction: the caller's.
        template: of three pictures (`services.protocol.critique.pairs.pair_template`).
        urls: in that order.
        extras: references and area that are shown.
    """
    before, first, second, after = (template.fill(text, instruction, "") for text in template.segments())
    if not template.marks_pictures:
        before, first, second = _SOURCE, _FIRST, _SECOND
    return _user([before, *(extras or Extras()).headings(), first, second, after], urls)


def build_questions(request: QuestionsRequest, template: Template) -> list[dict[str, Any]]:
    """The messages that request a session's checklist."""
    urls = [data_url(picture.data, picture.media_type) for picture in _shown(request)]
    extras = Extras(len(request.references), request.area is not None)
    return questions_messages(request.instruction, template, urls=urls, extras=extras)


def questions_messages(
    instruction: str, template: Template, *, urls: Sequence[str], extras: Extras | None = None
) -> list[dict[str, Any]]:
    """As `build_questions`, with any URLs for source, references and area.

    The messages share their prefix with this template's critiques, up to and including the instruction.
    """
    before, after = (template.fill(text, instruction, "") for text in template.opening())
    return _user([before, *(extras or Extras()).headings(), after], urls)


def read(messages: Sequence[Any], templates: Iterable[Template]) -> CritiqueRequest:
    """The inverse of `build`, for a server that is the thinker; messages from the first assistant message on are not read.

    Raises:
        UnreadableRequestError: when there are fewer than two pictures, or the text follows none of the templates.
        ApiError: ``invalid_image`` when a picture is not a base64 data URL.
    """
    texts, pictures = _content(messages)
    if len(pictures) < 2:  # noqa: PLR2004 - source and candidate
        raise UnreadableRequestError(f"expected two images or more, the source first and the candidate last; got {len(pictures)}")
    extras = _extras(texts[1:-2])
    before, between, after = texts[0], texts[-2], texts[-1]
    if extras.headings() and (before, between) == (_SOURCE, _CANDIDATE):
        before, between = "", ""
    if limit := _LIMIT_PATTERN.match(after):
        after = after[limit.end() :]
        extras = replace(extras, prompt_tokens=int(limit[1]))
    if after.startswith(f"{_PLACES}\n"):
        after = after[len(_PLACES) + 1 :]
        extras = replace(extras, places=True)
    if measured := _MOVED_PATTERN.match(after):
        after = after[measured.end() :]
        extras = replace(extras, moved=Strayed(round(float(measured[1]) / 100, 3), float(measured[2])))
    if extras.area and (measured := _STRAYED_PATTERN.match(after)):
        after = after[measured.end() :]
        extras = replace(extras, strayed=Strayed(round(float(measured[1]) / 100, 3), float(measured[2])))
    if judged := _JUDGED_PATTERN.match(after):
        after = after[judged.end() :]
        reasons = well_formed(_string(judged[3]))
        extras = replace(extras, judgement=Judgement(float(judged[1]), float(judged[2]), reasons))
    values = _values([before, between, after], [template.segments() for template in templates])
    instruction = values["original_instruction"]
    try:
        questions = load_list(values["questions"]) if "questions" in values else ()
    except (ValueError, RecursionError) as exc:
        raise UnreadableRequestError(f"the questions are not a checklist: {exc}") from exc
    return CritiqueRequest(
        pictures[0],
        pictures[-1],
        instruction,
        values.get("rewritten_prompt", instruction),
        tuple(Question(question.kind, well_formed(question.text)) for question in questions),
        tuple(pictures[1 : 1 + extras.references]),
        pictures[-2] if extras.area else None,
        extras.strayed,
        extras.prompt_tokens,
        extras.places,
        extras.moved,
        extras.judgement,
    )


def read_questions(messages: Sequence[Any], templates: Iterable[Template]) -> QuestionsRequest:
    """The inverse of `build_questions`, for a server that is the thinker.

    Raises:
        UnreadableRequestError: when there is no picture, or the text follows none of the templates.
        ApiError: ``invalid_image`` when a picture is not a base64 data URL.
    """
    texts, pictures = _content(messages)
    if not pictures:
        raise UnreadableRequestError("expected one image or more, the source first; got none")
    extras = _extras(texts[1:-1])
    values = _values([texts[0], texts[-1]], [template.opening() for template in templates])
    area = pictures[-1] if extras.area else None
    return QuestionsRequest(pictures[0], values["original_instruction"], tuple(pictures[1 : 1 + extras.references]), area)


def _shown(request: CritiqueRequest | QuestionsRequest) -> list[Picture]:
    """The pictures that are the same in all requests of a session."""
    return [request.source, *request.references, *([request.area] if request.area else [])]


def _percent(text: str, strayed: Strayed) -> str:
    return text.format(changed=f"{100 * strayed.changed:.1f}", difference=f"{strayed.difference:.1f}")


def _judged(judgement: Judgement) -> str:
    reasoning = json_string(without_tokens(judgement.reasoning)[:MAX_REASONS])
    return _JUDGED.format(semantic=f"{judgement.semantic:.1f}", quality=f"{judgement.quality:.1f}", reasoning=reasoning)


def _extras(headings: Sequence[str]) -> Extras:
    """What these texts announce.

    Raises:
        UnreadableRequestError: when they are not those of `Extras.headings`.
    """
    area = _AREA in headings[-1:]
    extras = Extras(len(headings) - area, area)
    if extras.headings() != list(headings):
        raise UnreadableRequestError("the texts before the pictures are not those of a source, its references and an area")
    return extras


_COMPLAINTS: Final[dict[UnparseableReason, str]] = {
    "empty": "Your reply was empty.",
    "refusal": "Your reply did not judge. You are only asked to compare two pictures and to describe the next attempt.",
    "truncated": "Your reply was too long and was cut before its end. Be brief: a few sentences at most.",
    "missing_scores": "Your reply held no scores.",
    "ambiguous_scores": "Your reply held more than one set of scores.",
    "score_not_a_number": "A score in your reply was not a plain number.",
    "score_out_of_range": "A score in your reply was not between 0 and 10.",
    "missing_instruction": "Your reply held no instruction for the next attempt.",
    "instruction_too_long": "The instruction in your reply was too long.",
    "not_json": "Your reply held no JSON object of the form asked for.",
    "wrong_shape": "Your reply did not have the form asked for.",
    "missing_answer": "Your reply left a question unanswered.",
    "ambiguous_answer": "Your reply held more than one answer to a question, or more than one reply.",
    "unasked_answer": "Your reply answered a question that was not asked.",
    "unknown_answer": 'An answer in your reply was none of the words "yes", "partly" and "no".',
    "missing_questions": "Your reply did not hold enough different questions of both kinds.",
    "no_logprobs": "Your reply came without the probabilities of its tokens.",
    "unknown_winner": 'The winner in your reply was none of "A", "B" and "tie".',
}


def repair_messages(
    messages: Sequence[dict[str, Any]], reply_text: str, unparseable: Unparseable, form: str
) -> list[dict[str, Any]]:
    """The messages of one more attempt: those of the first, the reply, the complaint and the required form.

    The first messages are unchanged, so their prefix is reused. The complaint's wording is fixed by the reason, and nothing
    of the reply is quoted in it: text that a picture or an instruction made the thinker write gains no authority this way.

    Args:
        messages: of the first attempt.
        reply_text: the content of its reply.
        unparseable: why the reply is not usable.
        form: what is required, in words (`services.protocol.critique.formats.ReplyFormat.form`).
    """
    shown = without_tokens(well_formed(reply_text[:MAX_SHOWN])).strip() or "(nothing)"
    wanted = f"{_COMPLAINTS[unparseable.reason]} Reply again, with nothing else, in exactly this form: {form}."
    return [*messages, {"role": "assistant", "content": shown}, {"role": "user", "content": wanted}]


def _user(texts: Sequence[str], urls: Sequence[str]) -> list[dict[str, Any]]:
    """One user message: texts and pictures in alternation."""
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
    """The placeholders' values, by the first template whose segments match the texts."""
    joined = "\x00".join(texts)
    for segments in forms:
        match = pattern(segments).fullmatch(joined)
        if match:
            found = zip(placeholders_of(segments), match.groups(), strict=True)
            return {placeholder.name: well_formed(_value(placeholder, text)) for placeholder, text in found}
    raise UnreadableRequestError("the text follows none of the prompt templates this thinker knows")


def _value(placeholder: Placeholder, text: str) -> str:
    if not placeholder.quoted:
        return unspaced(text)
    if placeholder.name == "questions":
        return text
    return _string(text)


def _string(text: str) -> str:
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


def contents(messages: Sequence[Any]) -> tuple[list[str], list[Picture]]:
    """The texts around the pictures, and the pictures; for prompts that follow no template.

    Raises:
        UnreadableRequestError: when a picture is not a data URL.
        ApiError: ``invalid_image`` when its base64 is broken.
    """
    return _content(messages)
