"""What a request holds the reply to, and a reply that keeps to it.

The shapes are those of `services.protocol.critique`: whichever of them ``structured_outputs`` or ``response_format`` names, the
reply has it, to the letter. A measuring thinker cannot follow other shapes, and says so by name instead of ignoring them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from services.embedded.thinker.checklist_answers import clean, unescaped
from services.errors import ApiError
from services.protocol.critique.checklist import MAX_REASON, QUESTIONS, QuestionsFormat
from services.protocol.critique.formats import FORMATS, MAX_REASONING, MAX_REFINED, STEP, Constraint, Format
from services.protocol.critique.messages import Critique, Question
from services.protocol.critique.replies import labelled

MOST_ECHOED: Final = 200  # characters of a wrong value that its refusal repeats
_OPTIONS: Final = frozenset({"disable_any_whitespace", "disable_additional_properties", "whitespace_pattern"})
"""Keys of ``structured_outputs`` that say how, not what."""
_KINDS: Final = frozenset({"json", "json_object", "regex", "grammar", "structural_tag", "choice"})
_TEXTS: Final = frozenset({"regex", "grammar"})


@dataclass(frozen=True)
class Wanted:
    """How the reply is to be written: the format, and the constraint it is held to."""

    form: Format | QuestionsFormat
    kind: Constraint = "none"


def wanted(
    response_format: dict[str, Any] | None,
    structured_outputs: dict[str, Any] | None,
    native: Format | QuestionsFormat,
    questions: tuple[Question, ...] = (),
) -> Wanted:
    """What a request's constraint wants; where it names none, the format that its prompt asks for (`native`).

    Raises:
        ApiError: ``invalid_value`` or ``unsupported_parameter`` for a constraint that this thinker cannot keep to, naming
            its field.
    """
    outputs = {key: value for key, value in (structured_outputs or {}).items() if value is not None and key not in _OPTIONS}
    kind = _type(response_format or {})
    if outputs and kind != "text":
        raise ApiError("invalid_value", "give response_format or structured_outputs, not both", param="structured_outputs")
    forms = [QUESTIONS] if isinstance(native, QuestionsFormat) else [native, *(f for f in FORMATS.values() if f is not native)]
    offers = _Offers(tuple(forms), questions)
    if kind != "text":
        return offers.of_format(kind, response_format or {})
    return offers.of_outputs(outputs) if outputs else Wanted(native)


@dataclass(frozen=True)
class _Offers:
    """The formats a reply can have, the one its prompt asks for first."""

    forms: tuple[Format | QuestionsFormat, ...]
    questions: tuple[Question, ...]

    def of_format(self, kind: str, response_format: dict[str, Any], param: str = "response_format") -> Wanted:
        """The format of a ``response_format``."""
        if kind == "json_object":
            return self._json({}, param)
        if kind == "json_schema":
            return self._json(_declared(response_format), param)
        if kind == "structural_tag":
            return self._same("structural_tag", {"response_format": response_format}, param)
        raise ApiError("unsupported_parameter", f"{param} of type {kind[:MOST_ECHOED]!r} is not offered", param=param)

    def of_outputs(self, outputs: dict[str, Any]) -> Wanted:
        """The format of vLLM's ``structured_outputs``."""
        param = "structured_outputs"
        if len(outputs) > 1:
            raise ApiError("invalid_value", "structured_outputs takes one kind of constraint at a time", param=param)
        ((key, value),) = outputs.items()
        if key == "json":
            return self._json(_object(_parsed(value, key), "the JSON schema", param), param)
        if key == "json_object":
            return self._json({}, param)
        if key == "structural_tag":
            return self._same("structural_tag", {"response_format": _parsed(value, key)}, param)
        if key in _TEXTS and not isinstance(value, str):
            raise ApiError("invalid_value", f"structured_outputs.{key} must be a string", param=param)
        if key == "regex":
            return self._same("regex", {param: outputs}, param)
        if key == "grammar":
            return self._same("grammar", {param: outputs}, param)
        offered = ", ".join(sorted(_KINDS - {"choice"}))
        raise ApiError("unsupported_parameter", f"structured_outputs offers {offered}; not {key[:MOST_ECHOED]!r}", param=param)

    def _same(self, kind: Constraint, sent: Mapping[str, Any], param: str) -> Wanted:
        """The format whose constraint was sent."""
        for form in self.forms:
            if self._constraint(form, kind) == sent:
                return Wanted(form, kind)
        names = ", ".join(form.name for form in self.forms)
        raise ApiError(
            "unsupported_parameter", f"this {kind} describes none of the replies of this thinker: {names}", param=param
        )

    def _json(self, schema: dict[str, Any], param: str) -> Wanted:
        """The format that a schema describes: one of ours, or any that asks for no more than one of them has."""
        schemas = {form.name: (form, _schema(self._constraint(form, "json_schema"))) for form in self.forms}
        offered = {name: (form, ours) for name, (form, ours) in schemas.items() if ours}
        for form, ours in offered.values():
            if ours == schema:
                return Wanted(form, "json_schema")
        required = schema.get("required")
        required = [] if required is None else required
        if not isinstance(required, list) or not all(isinstance(key, str) for key in required):
            raise ApiError("invalid_value", "the JSON schema's required must be a list of strings", param=param)
        for form, ours in offered.values():
            if set(required) <= set(ours["required"]):
                return Wanted(form, "json_schema")
        form, ours = next(iter(offered.values()))
        unknown = ", ".join(sorted(set(required) - set(ours["required"]))) or "such mixture of keys"
        message = f"a reply has no {unknown[:MOST_ECHOED]}; it has {', '.join(ours['required'])}"
        raise ApiError("unsupported_parameter", message, param=param)

    def _constraint(self, form: Format | QuestionsFormat, kind: Constraint) -> Mapping[str, Any]:
        return form.constraint(kind) if isinstance(form, QuestionsFormat) else form.constraint(kind, self.questions)


def written(critique: Critique, form: Format, kind: Constraint, questions: tuple[Question, ...]) -> str:
    """The critique in a format, within the lengths and steps that its constraint of that kind allows."""
    # Downwards, so that no rounding lifts a score over a threshold.
    step = STEP if kind == "json_schema" else 0.1
    tagged = form.name == "editthinker"
    reasoning, instruction = critique.reasoning, critique.instruction or ""
    if kind != "none" and not tagged:
        reasoning, instruction = unescaped(reasoning).strip(), unescaped(instruction).strip()
    if len(labelled(instruction)) > MAX_REFINED or (
        tagged and _within(labelled(instruction), MAX_REFINED) != labelled(instruction)
    ):
        # Half an instruction is another instruction; none says that it stays.
        instruction = ""
    fitted = Critique(
        semantic=_stepped(critique.semantic, step),
        quality=_stepped(critique.quality, step),
        reasoning=(_within(reasoning, MAX_REASONING) if tagged else reasoning[:MAX_REASONING]) or "-",
        instruction=instruction.strip() or None,
        answers=tuple(replace(answer, reason=clean(answer.reason, MAX_REASON)) for answer in critique.answers),
    )
    return form.render(fitted, questions)


def _stepped(score: float, step: float) -> float:
    return round(math.floor(score / step + 1e-6) * step, 1)


def _within(text: str, longest: int) -> str:
    """The text cut so that it still fits when ``<`` and ``&`` are escaped."""
    room = longest
    for position, character in enumerate(text):
        room -= {"<": 4, "&": 5}.get(character, 1)
        if room < 0:
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
    """VLLM takes a schema as an object or as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        raise ApiError("invalid_value", f"structured_outputs.{name} is no JSON text", param="structured_outputs") from exc


def _object(value: object, name: str, param: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ApiError("invalid_value", f"{name} must be an object", param=param)
    return value
