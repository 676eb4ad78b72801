"""What to change about a request to a path that a service does not have, or with a method that the path does not take."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from functools import cache
from typing import Final

from services.errors import shown

Paths = Mapping[str, Collection[str]]
"""Paths as OpenAPI writes them, with parameters in braces, and the methods of each."""
_LONGEST: Final = 200
"""Characters of a path that is compared with others; ours have less than 100."""
_AZURE: Final = re.compile(r"/openai/(?:deployments/[^/]+|v1)(/.+)")
"""https://learn.microsoft.com/azure/ai-foundry/openai/reference: the paths of Azure's clients."""


def not_found(path: str, paths: Paths, known: Mapping[str, str]) -> str:
    """The message for a path that nothing is at.

    Args:
        paths: those that the service has.
        known: paths of other APIs that clients ask for, and what to do in place of each.
    """
    general = "there is nothing at this path; /docs lists the paths, none of which ends with a slash"
    if len(path) > _LONGEST:
        return general
    bare = "/" + path.strip("/")
    azure = _AZURE.fullmatch(bare)
    inner = azure[1] if azure else bare.removeprefix("/v1/v1").removeprefix("/v1")
    if text := known.get(inner):
        return text
    # The message names the path itself only where it is one of ours.
    if path != bare and _methods(bare, paths):
        return f"the path ends with a slash; send the request to {shown(bare)}"
    if bare.startswith("/v1/v1/") and _methods(bare[3:], paths):
        return f"the path has /v1 twice: the base URL ends with /v1, and so the path is {shown(bare[3:])}"
    if _methods(f"/v1{bare}", paths):
        return f"the path is {shown('/v1' + bare)}; add /v1 to the end of the client's base URL"
    if azure and _methods(f"/v1{azure[1]}", paths):
        return (
            f"this is the path of Azure's API, and here it is {shown('/v1' + azure[1])}; use the client of OpenAI in place of "
            "that of Azure, with a base URL that ends with /v1, and name the deployment as model"
        )
    close = difflib.get_close_matches(bare, paths, 1, 0.8)
    return f"there is nothing at this path; did you mean {close[0]}?" if close else general


def method_not_allowed(method: str, path: str, paths: Paths) -> str:
    """The message for a path that takes other methods."""
    allowed = " or ".join(sorted(name.upper() for name in _methods(path, paths)))
    return f"this path does not take {shown(method)}; {f'send {allowed}' if allowed else '/docs lists what it takes'}"


def _methods(path: str, paths: Paths) -> set[str]:
    """The methods that a path takes; none if nothing is at it."""
    return {method for template, methods in paths.items() if _pattern(template).fullmatch(path) for method in methods}


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{[^/]+?\\\}", "[^/]+", re.escape(template)))
