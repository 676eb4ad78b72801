"""The constraint that a request puts on its reply, and a reply that satisfies it.

The forms are those of `services.protocol.critique.formats`: the one that ``structured_outputs`` or ``response_format`` names is
produced exactly. Other forms are refused by name instead of being ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

import orjson

from services.embedded.thinker.checklist_answers import clean, unescaped
from services.errors import ApiError
from services.protocol.critique.constraints import Constraint
from services.protocol.critique.formats import FORMATS, MAX_REASON, QUESTIONS, STEP, FormatName, ReplyFormat
from services.protocol.critique.messages import Critique
from services.protocol.critique.questions import Question
from services.protocol.critique.replies import MAX_REASONING, MAX_REFINED, labelled

MAX_ECHO: Final = 200  # characters of a wrong value that its refusal repeats
_IGNORED_KEYS: Final = frozenset({"disable_any_whitespace", "disable_additional_properties", "whitespace_pattern"})
"""Keys of ``structured_outputs`` that say how to constrain, not to what."""
_KINDS: Final = ("json", "json_object", "regex")
_T = TypeVar("_T")


@dataclass(frozen=True)
class RequestedFormat(Generic[_T]):
    """The format of the reply, and the kind of constraint that it must satisfy."""

    form: ReplyFormat[_T]
    kind: Constraint = "none"


def critique_format(
    response_format: dict[str, Any] | None,
    structured_outputs: dict[str, Any] | None,
    prompted: FormatName,
    questions: tuple[Question, ...] = (),
    *,
    places: bool = False,
) -> RequestedFormat[Critique]:
    """The format that a critique's constraint describes; without a constraint, the one that its prompt describes (`prompted`).

    Raises:
        ApiError: ``invalid_value`` or ``unsupported_parameter`` for a constraint that this thinker cannot satisfy, naming
            its field.
    """
    names = [prompted, *(name for name in FORMATS if name != prompted)]
    return _requested(response_format, structured_outputs, tuple(FORMATS[name].bind(questions, places=places) for name in names))


def questions_format(
    response_format: dict[str, Any] | None, structured_outputs: dict[str, Any] | None
) -> RequestedFormat[Sequence[Question]]:
    """As `wanted_critique`, for the questions of a checklist."""
    return _requested(response_format, structured_outputs, (QUESTIONS,))


def _requested(
    response_format: dict[str, Any] | None, structured_outputs: dict[str, Any] | None, forms: tuple[ReplyFormat[_T], ...]
) -> RequestedFormat[_T]:
    outputs = {key: value for key, value in (structured_outputs or {}).items() if value is not None and key not in _IGNORED_KEYS}
    kind = _type(response_format or {})
    if outputs and kind != "text":
        raise ApiError("invalid_value", "give response_format or structured_outputs, not both", param="structured_outputs")
    formats = _Formats(forms)
    if kind != "text":
        return formats.of_response_format(kind, response_format or {})
    return formats.of_structured_outputs(outputs) if outputs else RequestedFormat(forms[0])


@dataclass(frozen=True)
class _Formats(Generic[_T]):
    """The formats that a reply can have, the one that its prompt describes first."""

    forms: tuple[ReplyFormat[_T], ...]

    def of_response_format(
        self, kind: str, response_format: dict[str, Any], param: str = "response_format"
    ) -> RequestedFormat[_T]:
        """The format of a ``response_format``."""
        if kind == "json_object":
            return self._json({}, param)
        if kind == "json_schema":
            return self._json(_declared(response_format), param)
        raise ApiError("unsupported_parameter", f"{param} of type {kind[:MAX_ECHO]!r} is not offered", param=param)

    def of_structured_outputs(self, outputs: dict[str, Any]) -> RequestedFormat[_T]:
        """The format of vLLM's ``structured_outputs``."""
        param = "structured_outputs"
        if len(outputs) > 1:
            raise ApiError("invalid_value", "structured_outputs takes one kind of constraint at a time", param=param)
        ((key, value),) = outputs.items()
        if key == "json":
            return self._json(_object(_parsed(value, key), "the JSON schema", param), param)
        if key == "json_object":
            return self._json({}, param)
        if key == "regex":
            return self._regex(value, param)
        offered = ", ".join(_KINDS)
        raise ApiError("unsupported_parameter", f"structured_outputs offers {offered}; not {key[:MAX_ECHO]!r}", param=param)

    def _regex(self, value: object, param: str) -> RequestedFormat[_T]:
        """The format whose regular expression was sent."""
        if not isinstance(value, str):
            raise ApiError("invalid_value", "structured_outputs.regex must be a string", param=param)
        for form in self.forms:
            if form.constraint("regex") == {param: {"regex": value}}:
                return RequestedFormat(form, "regex")
        names = ", ".join(form.name for form in self.forms)
        message = f"this regex describes none of the replies of this thinker: {names}"
        raise ApiError("unsupported_parameter", message, param=param)

    def _json(self, schema: dict[str, Any], param: str) -> RequestedFormat[_T]:
        """The format with this schema, or the first one that has all keys that it requires."""
        offered = [(form, own) for form in self.forms if (own := _schema(form.constraint("json_schema")))]
        for form, own in offered:
            if own == schema:
                return RequestedFormat(form, "json_schema")
        required = schema.get("required")
        required = [] if required is None else required
        if not isinstance(required, list) or not all(isinstance(key, str) for key in required):
            raise ApiError("invalid_value", "the JSON schema's required must be a list of strings", param=param)
        for form, own in offered:
            if set(required) <= set(own["required"]):
                return RequestedFormat(form, "json_schema")
        own = offered[0][1]
        unknown = ", ".join(sorted(set(required) - set(own["required"]))) or "such mixture of keys"
        message = f"a reply has no {unknown[:MAX_ECHO]}; it has {', '.join(own['required'])}"
        raise ApiError("unsupported_parameter", message, param=param)


def render_critique(critique: Critique, form: ReplyFormat[Critique], kind: Constraint) -> str:
    """The critique in a format, within the lengths and steps that its constraint of that kind allows."""
    # Rounded down, so that rounding cannot lift a score over a threshold.
    step = STEP if kind == "json_schema" else 0.1
    tagged = form.name == "editthinker"
    reasoning, instruction = critique.reasoning, critique.refined_instruction or ""
    if kind != "none" and not tagged:
        reasoning, instruction = unescaped(reasoning).strip(), unescaped(instruction).strip()
    if len(labelled(instruction)) > MAX_REFINED or (
        tagged and _cut_to(labelled(instruction), MAX_REFINED) != labelled(instruction)
    ):
        # Half an instruction would be another instruction; none keeps the current one.
        instruction = ""
    fitted = Critique(
        semantic=_round_down(critique.semantic, step),
        quality=_round_down(critique.quality, step),
        reasoning=(_cut_to(reasoning, MAX_REASONING) if tagged else reasoning[:MAX_REASONING]) or "-",
        refined_instruction=instruction.strip() or None,
        answers=tuple(replace(answer, reason=clean(answer.reason, MAX_REASON)) for answer in critique.answers),
    )
    return form.render(fitted)


def _round_down(score: float, step: float) -> float:
    return round(math.floor(score / step + 1e-6) * step, 1)


def _cut_to(text: str, longest: int) -> str:
    """The text cut so that it still fits when ``<`` and ``&`` are escaped."""
    remaining = longest
    for position, character in enumerate(text):
        remaining -= {"<": 4, "&": 5}.get(character, 1)
        if remaining < 0:
            return text[:position]
    return text


def _schema(constraint: Mapping[str, Any]) -> dict[str, Any]:
    declared = constraint.get("response_format", {}).get("json_schema", {}).get("schema", {})
    return dict(declared)


def _type(response_format: dict[str, Any]) -> str:
    kind = response_format.get("type", "text")
    if not isinstance(kind, str):
        raise ApiError("invalid_value", "response_format.type must be a string", param="response_format")
    return kind


def _declared(response_format: dict[str, Any]) -> dict[str, Any]:
    """The schema inside a ``response_format`` of type ``json_schema``."""
    param = "response_format"
    declared = response_format.get("json_schema")
    if declared is None:
        raise ApiError("missing_parameter", "response_format.json_schema is missing", param=param)
    return _object(_object(declared, "response_format.json_schema", param).get("schema"), "the JSON schema", param)


def _parsed(value: object, name: str) -> object:
    """A schema, which vLLM accepts as an object or as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        raise ApiError("invalid_value", f"structured_outputs.{name} is not JSON text", param="structured_outputs") from exc


def _object(value: object, name: str, param: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ApiError("invalid_value", f"{name} must be an object", param=param)
    return value
