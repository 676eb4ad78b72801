"""What to change about a request to a path that a service does not have, or with a method that the path does not take."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Final

from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from services.errors import shown

_LONGEST: Final = 200
"""Characters of a path that is compared with others; ours have less than 100."""
_AZURE: Final = re.compile(r"/openai/(?:deployments/[^/]+|v1)(/.+)")
"""https://learn.microsoft.com/azure/ai-foundry/openai/reference: the paths of Azure's clients."""


def not_found(scope: Scope, routes: Iterable[BaseRoute], known: Mapping[str, str]) -> str:
    """The message for a path that nothing is at.

    Args:
        known: paths of other APIs that clients ask for, and what to do in place of each.
    """
    path = str(scope["path"])
    general = "there is nothing at this path; /docs lists the paths, none of which ends with a slash"
    if len(path) > _LONGEST:
        return general
    routes = list(routes)

    def has(other: str) -> bool:
        return any(isinstance(route, Route) and route.matches({**scope, "path": other})[0] != Match.NONE for route in routes)

    bare = "/" + path.strip("/")
    azure = _AZURE.fullmatch(bare)
    inner = azure[1] if azure else bare.removeprefix("/v1/v1").removeprefix("/v1")
    if text := known.get(inner):
        return text
    # The message names the path itself only where it is one of ours.
    if path != bare and has(bare):
        return f"the path ends with a slash; send the request to {shown(bare)}"
    if bare.startswith("/v1/v1/") and has(bare[3:]):
        return f"the path has /v1 twice: the base URL ends with /v1, and so the path is {shown(bare[3:])}"
    if has(f"/v1{bare}"):
        return f"the path is {shown('/v1' + bare)}; add /v1 to the end of the client's base URL"
    if azure and has(f"/v1{azure[1]}"):
        return (
            f"this is the path of Azure's API, and here it is {shown('/v1' + azure[1])}; use the client of OpenAI in place of "
            "that of Azure, with a base URL that ends with /v1, and name the deployment as model"
        )
    paths = [route.path for route in routes if isinstance(route, Route) and route.include_in_schema]
    close = difflib.get_close_matches(bare, paths, 1, 0.8)
    return f"there is nothing at this path; did you mean {close[0]}?" if close else general


def method_not_allowed(scope: Scope, routes: Iterable[BaseRoute]) -> str:
    """The message for a path that takes other methods."""
    found = [route for route in routes if isinstance(route, Route) and route.matches(scope)[0] != Match.NONE]
    allowed = sorted({method for route in found for method in route.methods or ()} - {"HEAD"})
    takes = f"send {' or '.join(allowed)}" if allowed else "/docs lists what it takes"
    return f"this path does not take {shown(scope['method'])}; {takes}"
