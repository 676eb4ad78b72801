"""Settings of every service: from the environment, from files of secrets, and under former names.

A secret may be a file instead of a variable, which other processes of the user can read: `EDITTHINKER_SECRETS_DIR` (by default
``/run/secrets``, where container engines put them) holds files named as variables, in any case. A variable wins over a file. A
renamed setting's former variable works for one more release, with a warning. A variable that is nearly the name of a setting is
ignored, with a warning too.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SecretsSettingsSource

log = logging.getLogger(__name__)

SECRETS_VARIABLE: Final = "EDITTHINKER_SECRETS_DIR"
_SECRETS_DIR: Final = "/run/secrets"
_PREFIXES: Final = ("EDITTHINKER_EDITOR_", "EDITTHINKER_THINKER_")
"""Of services whose variables are seen by others too, where all of them run on one machine."""
_SIMILAR: Final = 0.8
_SIMILAR_WITH_PREFIX: Final = 0.92
"""Ratios of `difflib`: a letter that is missing, doubled or swapped, in a name without the prefix, and in a whole one."""


class ServiceSettings(BaseSettings):
    """Settings from the environment, some of which may still be set under a former name.

    Attributes:
        renamed: former field name to present field name; both are read with the prefix of the class. The present name wins.
    """

    renamed: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options, variables, files of secrets, then variables under their former names."""
        former = _FormerNames(settings_cls, cls.renamed)
        folder = os.environ.get(SECRETS_VARIABLE, _SECRETS_DIR)
        if SECRETS_VARIABLE in os.environ and not os.path.isdir(folder):  # noqa: PTH112 - as below
            raise MissingSecretsError(folder)
        if os.path.isdir(folder):  # noqa: PTH112 - the source warns about what is not there
            file_secret_settings = SecretsSettingsSource(settings_cls, secrets_dir=folder)
        return init_settings, env_settings, dotenv_settings, file_secret_settings, former


def misspelt(kind: type[BaseSettings], names: Iterable[str]) -> dict[str, str]:
    """Variables that look like misspelt ones of these settings: each with the name that was probably meant.

    Names of other services, which have prefixes of their own, are left to them.
    """
    prefix = str(kind.model_config.get("env_prefix", "")).upper()
    known = {SECRETS_VARIABLE, *(f"{prefix}{name}".upper() for name in kind.model_fields)}
    known |= {f"{prefix}{name}".upper() for name in getattr(kind, "renamed", {})}
    for field in kind.model_fields.values():
        alias = field.validation_alias
        known |= {str(choice).upper() for choice in (alias.choices if isinstance(alias, AliasChoices) else ())}
    found: dict[str, str] = {}
    for name in sorted({name.upper() for name in names} - known):
        if any(name.startswith(other) for other in _PREFIXES if not prefix.startswith(other)):
            continue
        if name.startswith(prefix):
            rests = {each.removeprefix(prefix): each for each in known}
            close = difflib.get_close_matches(name.removeprefix(prefix), rests, 1, _SIMILAR)
            found |= {name: rests[close[0]]} if close else {}
        elif close := difflib.get_close_matches(name, known, 1, _SIMILAR_WITH_PREFIX):
            found[name] = close[0]
    return found


class MissingSecretsError(Exception):
    """The folder of secrets that was named does not exist: without this a mistyped name would mean no keys."""

    def __init__(self, folder: str) -> None:
        super().__init__(f"{SECRETS_VARIABLE}: there is no folder {folder}")


class _FormerNames(PydanticBaseSettingsSource):
    """The source of last resort: variables that are set under a former name."""

    def __init__(self, settings_cls: type[BaseSettings], renamed: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._renamed = renamed

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - the base's signature
        """A field's value under its former name; None where that is not set."""
        # Names are case-insensitive, as pydantic-settings reads them.
        environ = {name.upper(): value for name, value in os.environ.items()}
        prefix = str(self.config.get("env_prefix", ""))
        for former, present in self._renamed.items():
            old, new = f"{prefix}{former}".upper(), f"{prefix}{present}".upper()
            if present == field_name and old in environ:
                log.warning("%s is deprecated and will be removed in the next release; set %s instead", old, new)
                return environ[old], field_name, False
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """The values of all fields that were renamed."""
        fields = self.settings_cls.model_fields
        found = {name: self.get_field_value(fields[name], name)[0] for name in self._renamed.values()}
        return {name: value for name, value in found.items() if value is not None}
