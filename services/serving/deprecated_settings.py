"""Settings of every service: from the environment, from files of secrets, and under former names.

A secret may be a file instead of a variable, which other processes of the user can read: `EDITTHINKER_SECRETS_DIR` (by default
``/run/secrets``, where container engines put them) holds files named as variables, in any case. A variable wins over a file. A
renamed setting's former variable works for one more release, with a warning.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SecretsSettingsSource

log = logging.getLogger(__name__)

SECRETS_VARIABLE: Final = "EDITTHINKER_SECRETS_DIR"
_SECRETS_DIR: Final = "/run/secrets"


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
