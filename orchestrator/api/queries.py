"""Query parameters: those that a route does not know are refused, as fields of bodies are, and never ignored."""

from __future__ import annotations

import difflib
import re
from typing import Any, Final

from fastapi import Request

from services.errors import ApiError, shown

_PAIR: Final = re.compile(r"metadata\[(.+)\]", re.DOTALL)
METADATA_QUERY: Final[dict[str, Any]] = {
    "name": "metadata",
    "in": "query",
    "required": False,
    "style": "deepObject",
    "explode": True,
    "description": "Only sessions with these pairs: metadata[key]=value, repeated for several.",
    "schema": {"type": "object", "additionalProperties": {"type": "string"}},
}
"""The OpenAPI parameter that `wanted_metadata` reads."""


def wanted_metadata(request: Request) -> dict[str, str]:
    """The pairs that a list of sessions is asked for, as ``metadata[key]=value``.

    Raises:
        ApiError: ``invalid_value`` when a key is given twice.
    """
    pairs: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        found = _PAIR.fullmatch(name)
        if found and pairs.setdefault(found[1], value) != value:
            raise ApiError("invalid_value", f"{shown(name)} was given more than once; send it once", param=shown(name))
    return pairs


def check_query(request: Request) -> None:
    """Refuse query parameters that the route does not have.

    Raises:
        ApiError: ``unknown_parameter``, naming them.
    """
    if not request.query_params:
        return
    # The document is made once; it names what the routes and their dependencies read.
    operation = request.app.openapi()["paths"][request.scope["route"].path][request.method.lower()]
    known = {each["name"]: each.get("style") for each in operation.get("parameters", ()) if each["in"] == "query"}
    pairs = known.pop("metadata", None) == METADATA_QUERY["style"]
    unknown = [name for name in request.query_params if name not in known and not (pairs and _PAIR.fullmatch(name))]
    if not unknown:
        return
    names = ", ".join(shown(name) for name in unknown[:5])
    close = difflib.get_close_matches(unknown[0][:100], known, 1)
    hint = f"; did you mean {close[0]}?" if close else (f"; known are: {', '.join(sorted(known))}" if known else "")
    verb = "is not a parameter" if len(unknown) == 1 else "are not parameters"
    raise ApiError("unknown_parameter", f"{names} {verb} of this request{hint}", param=shown(unknown[0]))
