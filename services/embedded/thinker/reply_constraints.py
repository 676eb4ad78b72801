"""The constraint that a request puts on its reply, and a reply that satisfies it.

The forms are those of `services.protocol.critique.formats`: the one that ``structured_outputs`` or ``response_format`` names is
produced exactly. Other forms are refused by name instead of being ignored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import orjson

from services.embedded.thinker.checklist_answers import clean, unescaped
from services.errors import ApiError
from services.protocol.critique.constraints import Constraint
from services.protocol.critique.formats import MAX_REASON, STEP, ReplyFormat
from services.protocol.critique.messages import Critique
from services.protocol.critique.replies import MAX_REASONING, MAX_REFINED, labelled

MAX_ECHO: Final = 200  # characters of a wrong value that its refusal repeats
_IGNORED_KEYS: Final = frozenset({"disable_any_whitespace", "disable_additional_properties", "whitespace_pattern"})
"""Keys of ``structured_outputs`` that say how to constrain, not to what."""
_ESCAPED: Final = {"<": 4, "&": 5}  # characters of what is escaped in tagged text
_Fields = dict[str, Any] | None
_T = TypeVar("_T")


def requested_format(
    response_format: _Fields, structured_outputs: _Fields, forms: Sequence[ReplyFormat[_T]]
) -> tuple[ReplyFormat[_T], Constraint]:
    """The one of these formats that a request's constraint describes, and the constraint's kind.

    Args:
        response_format: OpenAI's field.
        structured_outputs: vLLM's field.
        forms: those that a reply can have; the first one is that of the prompt, which counts without a constraint.

    Raises:
        ApiError: ``invalid_value``, ``missing_parameter`` or ``unsupported_parameter`` for a constraint that cannot be
            satisfied, naming its field.
    """
    outputs = {key: value for key, value in (structured_outputs or {}).items() if value is not None and key not in _IGNORED_KEYS}
    kind = (response_format or {}).get("type", "text")
    if not isinstance(kind, str):
        raise ApiError("invalid_value", "response_format.type must be a string", param="response_format")
    if len(outputs) + (kind != "text") > 1:
        message = "give one constraint: response_format, or one key of structured_outputs"
        raise ApiError("invalid_value", message, param="structured_outputs")
    param, value = "response_format", None
    if outputs:
        param = "structured_outputs"
        ((kind, value),) = outputs.items()
    if param == "structured_outputs" and kind == "regex":
        return _by_regex(value, forms), "regex"
    if kind == "json_object":
        return _by_schema({}, forms, param), "json_schema"
    if param == "response_format" and kind == "json_schema":
        return _by_schema(_declared(response_format or {}), forms, param), "json_schema"
    if param == "structured_outputs" and kind == "json":
        return _by_schema(_object(_parsed(value), "structured_outputs.json", param), forms, param), "json_schema"
    if kind == "text" and not outputs:
        return forms[0], "none"
    raise ApiError("unsupported_parameter", f"{param} of the kind {kind[:MAX_ECHO]!r} is not offered", param=param)


def _by_regex(value: object, forms: Sequence[ReplyFormat[_T]]) -> ReplyFormat[_T]:
    """The format with this regular expression."""
    if not isinstance(value, str):
        raise ApiError("invalid_value", "structured_outputs.regex must be a string", param="structured_outputs")
    for form in forms:
        if form.constraint("regex") == {"structured_outputs": {"regex": value}}:
            return form
    message = f"this regex describes none of the replies of this thinker: {', '.join(form.name for form in forms)}"
    raise ApiError("unsupported_parameter", message, param="structured_outputs")


def _by_schema(schema: dict[str, Any], forms: Sequence[ReplyFormat[_T]], param: str) -> ReplyFormat[_T]:
    """The format with this schema, or the first one that has all keys that it requires."""
    offered = {
        form: constraint["response_format"]["json_schema"]["schema"]
        for form in forms
        if (constraint := form.constraint("json_schema"))
    }
    required = schema.get("required") or []
    if not isinstance(required, list) or not all(isinstance(key, str) for key in required):
        raise ApiError("invalid_value", "the JSON schema's required must be a list of strings", param=param)
    same = [form for form, own in offered.items() if own == schema]
    enough = [form for form, own in offered.items() if set(required) <= set(own["required"])]
    if same or enough:
        return (same or enough)[0]
    own = next(iter(offered.values()))["required"]
    unknown = ", ".join(sorted(set(required) - set(own))) or "such mixture of keys"
    message = f"a reply has no {unknown[:MAX_ECHO]}; it has {', '.join(own)}"
    raise ApiError("unsupported_parameter", message, param=param)


def _declared(response_format: dict[str, Any]) -> dict[str, Any]:
    """The schema inside a ``response_format`` of type ``json_schema``."""
    param = "response_format"
    declared = response_format.get("json_schema")
    if declared is None:
        raise ApiError("missing_parameter", "response_format.json_schema is missing", param=param)
    schema = _object(declared, "response_format.json_schema", param).get("schema")
    return {} if schema is None else _object(schema, "the JSON schema", param)


def _parsed(value: object) -> object:
    """A schema, which vLLM accepts as an object or as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        raise ApiError("invalid_value", "structured_outputs.json is not JSON text", param="structured_outputs") from exc


def _object(value: object, name: str, param: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ApiError("invalid_value", f"{name} must be an object", param=param)
    return value


def render_critique(critique: Critique, form: ReplyFormat[Critique], kind: Constraint) -> str:
    """The critique in a format, within the lengths and steps that its constraint of that kind allows."""
    # Rounded down, so that rounding cannot lift a score over a threshold.
    step = STEP if kind == "json_schema" else 0.1
    tagged = form.name == "editthinker"
    reasoning, instruction = critique.reasoning, (critique.refined_instruction or "").strip()
    if kind != "none" and not tagged:
        reasoning, instruction = unescaped(reasoning).strip(), unescaped(instruction).strip()
    if _cut(labelled(instruction), MAX_REFINED, escaped=tagged) != labelled(instruction):
        # Half an instruction would be another instruction; none keeps the current one.
        instruction = ""
    return form.render(
        replace(
            critique,
            semantic=_round_down(critique.semantic, step),
            quality=_round_down(critique.quality, step),
            reasoning=_cut(reasoning, MAX_REASONING, escaped=tagged) or "-",
            refined_instruction=instruction or None,
            answers=tuple(replace(answer, reason=clean(answer.reason, MAX_REASON)) for answer in critique.answers),
        )
    )


def _round_down(score: float, step: float) -> float:
    return round(math.floor(score / step + 1e-6) * step, 1)


def _cut(text: str, longest: int, *, escaped: bool) -> str:
    """The text cut so that it still fits, also when ``<`` and ``&`` are escaped."""
    remaining = longest
    for position, character in enumerate(text):
        remaining -= _ESCAPED.get(character, 1) if escaped else 1
        if remaining < 0:
            return text[:position]
    return text
