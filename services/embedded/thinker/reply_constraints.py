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
_OPTIONS: Final = frozenset({"disable_any_whitespace", "disable_additional_properties", "whitespace_pattern"})
"""Keys of ``structured_outputs`` that say how to constrain, not to what."""
_KINDS: Final = ("json", "json_object", "regex")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Wanted(Generic[_T]):
    """How to write the reply: its format, and the kind of constraint it must satisfy."""

    form: ReplyFormat[_T]
    kind: Constraint = "none"


def wanted_critique(
    response_format: dict[str, Any] | None,
    structured_outputs: dict[str, Any] | None,
    native: FormatName,
    questions: tuple[Question, ...] = (),
) -> Wanted[Critique]:
    """The format that a critique's constraint describes; without a constraint, the one that its prompt describes (`native`).

    Raises:
        ApiError: ``invalid_value`` or ``unsupported_parameter`` for a constraint that this thinker cannot satisfy, naming
            its field.
    """
    names = [native, *(name for name in FORMATS if name != native)]
    return _wanted(response_format, structured_outputs, tuple(FORMATS[name].bind(questions) for name in names))


def wanted_questions(
    response_format: dict[str, Any] | None, structured_outputs: dict[str, Any] | None
) -> Wanted[Sequence[Question]]:
    """As `wanted_critique`, for the questions of a checklist."""
    return _wanted(response_format, structured_outputs, (QUESTIONS,))


def _wanted(
    response_format: dict[str, Any] | None, structured_outputs: dict[str, Any] | None, forms: tuple[ReplyFormat[_T], ...]
) -> Wanted[_T]:
    outputs = {key: value for key, value in (structured_outputs or {}).items() if value is not None and key not in _OPTIONS}
    kind = _type(response_format or {})
    if outputs and kind != "text":
        raise ApiError("invalid_value", "give response_format or structured_outputs, not both", param="structured_outputs")
    offers = _Offers(forms)
    if kind != "text":
        return offers.of_format(kind, response_format or {})
    return offers.of_outputs(outputs) if outputs else Wanted(forms[0])


@dataclass(frozen=True)
class _Offers(Generic[_T]):
    """The formats a reply can have; first the one that its prompt describes."""

    forms: tuple[ReplyFormat[_T], ...]

    def of_format(self, kind: str, response_format: dict[str, Any], param: str = "response_format") -> Wanted[_T]:
        """The format of a ``response_format``."""
        if kind == "json_object":
            return self._json({}, param)
        if kind == "json_schema":
            return self._json(_declared(response_format), param)
        raise ApiError("unsupported_parameter", f"{param} of type {kind[:MAX_ECHO]!r} is not offered", param=param)

    def of_outputs(self, outputs: dict[str, Any]) -> Wanted[_T]:
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

    def _regex(self, value: object, param: str) -> Wanted[_T]:
        """The format whose regular expression was sent."""
        if not isinstance(value, str):
            raise ApiError("invalid_value", "structured_outputs.regex must be a string", param=param)
        for form in self.forms:
            if form.constraint("regex") == {param: {"regex": value}}:
                return Wanted(form, "regex")
        names = ", ".join(form.name for form in self.forms)
        message = f"this regex describes none of the replies of this thinker: {names}"
        raise ApiError("unsupported_parameter", message, param=param)

    def _json(self, schema: dict[str, Any], param: str) -> Wanted[_T]:
        """The format with this schema, or the first one that has all keys that it requires."""
        offered = [(form, ours) for form in self.forms if (ours := _schema(form.constraint("json_schema")))]
        for form, ours in offered:
            if ours == schema:
                return Wanted(form, "json_schema")
        required = schema.get("required")
        required = [] if required is None else required
        if not isinstance(required, list) or not all(isinstance(key, str) for key in required):
            raise ApiError("invalid_value", "the JSON schema's required must be a list of strings", param=param)
        for form, ours in offered:
            if set(required) <= set(ours["required"]):
                return Wanted(form, "json_schema")
        ours = offered[0][1]
        unknown = ", ".join(sorted(set(required) - set(ours["required"]))) or "such mixture of keys"
        message = f"a reply has no {unknown[:MAX_ECHO]}; it has {', '.join(ours['required'])}"
        raise ApiError("unsupported_parameter", message, param=param)


def written(critique: Critique, form: ReplyFormat[Critique], kind: Constraint) -> str:
    """The critique in a format, within the lengths and steps that its constraint of that kind allows."""
    # Rounded down, so that rounding cannot lift a score over a threshold.
    step = STEP if kind == "json_schema" else 0.1
    tagged = form.name == "editthinker"
    reasoning, instruction = critique.reasoning, critique.refined_instruction or ""
    if kind != "none" and not tagged:
        reasoning, instruction = unescaped(reasoning).strip(), unescaped(instruction).strip()
    if len(labelled(instruction)) > MAX_REFINED or (
        tagged and _within(labelled(instruction), MAX_REFINED) != labelled(instruction)
    ):
        # Half an instruction would be another instruction; none keeps the current one.
        instruction = ""
    fitted = Critique(
        semantic=_stepped(critique.semantic, step),
        quality=_stepped(critique.quality, step),
        reasoning=(_within(reasoning, MAX_REASONING) if tagged else reasoning[:MAX_REASONING]) or "-",
        refined_instruction=instruction.strip() or None,
        answers=tuple(replace(answer, reason=clean(answer.reason, MAX_REASON)) for answer in critique.answers),
    )
    return form.render(fitted)


def _stepped(score: float, step: float) -> float:
    return round(math.floor(score / step + 1e-6) * step, 1)


def _within(text: str, longest: int) -> str:
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
