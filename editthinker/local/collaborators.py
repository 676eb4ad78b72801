"""The editors and thinkers of a stack: those that the environment names, and the embedded ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from editthinker.environment import inherited
from editthinker.local.errors import StackError

_REGISTRY: Final = "EDITTHINKER_REGISTRY"
_SECRETS_VARIABLE: Final = "EDITTHINKER_SECRETS_DIR"
_SECRETS_DIR: Final = "/run/secrets"


@dataclass(frozen=True, slots=True)
class Role:
    """``editor`` or ``thinker``: the entries that the environment has for it.

    Attributes:
        name: of the role.
        entries: what the environment names.
        default: whether the environment decides which one is used when a caller names none.
    """

    name: str
    entries: Mapping[str, Any]
    default: bool

    def settings(self, embedded: Mapping[str, Any]) -> dict[str, str]:
        """The orchestrator's variables for this role. What the environment names comes first, and wins where names are equal."""
        role = self.name.upper()
        settings = {f"EDITTHINKER_{role}S": json.dumps({**self.entries, **embedded, **self.entries})}
        if not self.default:
            # A default in the environment is meant for another server, where it names nothing of this one.
            settings[f"EDITTHINKER_DEFAULT_{role}"] = next(iter(embedded))
        return settings


def role(name: str) -> Role:
    """What the environment says about a role.

    Raises:
        StackError: when it cannot be read.
    """
    variable = f"EDITTHINKER_{name.upper()}S"
    text = setting(variable)
    try:
        entries = json.loads(text) if text else {}
    except ValueError as exc:
        entries, why = None, f" ({exc})"
    else:
        why = ""
    if not isinstance(entries, dict):
        example = '{"name": {"url": "http://127.0.0.1:8000/v1"}}'
        message = f"{variable} is not a JSON object{why}; write it as {example}, or unset it to use the embedded {name} alone"
        raise StackError(message)
    return Role(name, entries, default=bool(entries) or bool(setting(_REGISTRY)))


def setting(name: str) -> str:
    """A setting of the orchestrator as it would find it: a variable, or a file of secrets; empty if there is none."""
    environment = {variable.upper(): value for variable, value in inherited().items()}
    if name in environment:
        return environment[name].strip()
    folder = Path(environment.get(_SECRETS_VARIABLE, _SECRETS_DIR))
    try:
        found = [path for path in folder.iterdir() if path.name.upper() == name and path.is_file()]
        return found[0].read_text("utf-8").strip() if found else ""
    except (OSError, UnicodeDecodeError):
        return ""
