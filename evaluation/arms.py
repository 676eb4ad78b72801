"""Arms: what is compared. An arm is a name and the options of its sessions; a grid is every combination of some options."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from editthinker.client import SessionOptions

_KNOWN: Final = frozenset(SessionOptions.__annotations__)
_OWN: Final = frozenset({"metadata", "idempotency_key", "webhook", "webhook_secret", "review", "wait", "mask", "n"})
"""Options of sessions that a run sets itself, or that make no sense in one."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")


class ArmError(ValueError):
    """An arm that cannot be run."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to edit.

    Attributes:
        name: a folder's name.
        options: of its sessions, by the client's names.

    Raises:
        ArmError: for a name that cannot be a folder's, or an option that sessions do not have.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check name and options."""
        if not _NAME.fullmatch(self.name):
            message = f"{self.name!r} cannot be the name of an arm; use letters, digits, '.', '_', '+' and '-'"
            raise ArmError(message)
        if wrong := sorted(set(self.options) - known_options()):
            message = f"{wrong[0]!r} is not an option of an arm's sessions; these are: {', '.join(sorted(known_options()))}"
            raise ArmError(message)


def known_options() -> frozenset[str]:
    """The options that an arm may have."""
    return _KNOWN - _OWN


def parse(words: str) -> Arm:
    """The arm of ``NAME:option=value,option=value``.

    Raises:
        ArmError: for anything else.
    """
    name, colon, rest = words.partition(":")
    options = {}
    for pair in filter(None, rest.split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            message = f"{words!r}: write NAME:option=value,option=value, as in two:strategy=think,max_turns=2"
            raise ArmError(message)
        options[key.strip().replace("-", "_")] = _value(value.strip())
    if not colon:
        message = f"{words!r}: write NAME:option=value,option=value, as in two:strategy=think,max_turns=2"
        raise ArmError(message)
    return Arm(name, options)


def _value(text: str) -> Any:
    """A number, true or false as JSON writes them; any other text as it is."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text


def grid(varied: Mapping[str, Sequence[Any]], shared: Mapping[str, Any] | None = None) -> tuple[Arm, ...]:
    """An arm for every combination of the given values, named by those that differ.

    Args:
        varied: values by option, such as ``{"strategy": ["single", "think"], "editor": ["qwen"]}``; an option without values is
            left out.
        shared: options of every arm.

    Raises:
        ArmError: as `Arm`.
    """
    given = {option: values for option, values in varied.items() if values}
    naming = [option for option, values in given.items() if len(values) > 1] or list(given)[:1]
    made = []
    for values in itertools.product(*given.values()):
        options = dict(zip(given, values, strict=True))
        parts = [f"seed{options[name]}" if name == "seed" else str(options[name]) for name in naming]
        name = "-".join(re.sub(r"[^A-Za-z0-9._+-]", "_", part) for part in parts)
        made.append(Arm(name or "default", {**(shared or {}), **options}))
    return tuple(made)


def distinct(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """The arms, if there is one and no name occurs twice.

    Raises:
        ArmError: if not.
    """
    names = [arm.name for arm in arms]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None or not arms:
        message = f"two arms are named {twice!r}" if arms else "there is no arm to run"
        raise ArmError(message)
    return tuple(arms)
