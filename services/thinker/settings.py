"""Settings of a thinker, from the environment (prefix ``EDITTHINKER_THINKER_``).

Only `services.thinker.__main__` reads settings; all modules below receive values.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from services.serving.deprecated_settings import ServiceSettings
from services.serving.log_format import HttpUrl, LogFormat, LogLevel

PREFIX = "EDITTHINKER_THINKER_"


class Settings(ServiceSettings):
    """A thinker's settings; invalid values are refused at startup."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    profile: str = Field("rules", description="`rules` for the embedded thinker, or a vLLM profile.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8200, ge=0, le=65535, description="Port to listen on; 0 for any free one.")
    api_key: SecretStr | None = Field(None, min_length=1, description="If set, requests need it as a bearer token.")
    allowed_hosts: str = Field("", description="rules: further names to call it by, as a,b; checked where there is no key.")
    model: str | None = Field(
        None,
        min_length=1,
        description="vLLM: a folder or a hub id, instead of the profile's. rules: the name requests must give (rules).",
    )
    log_level: LogLevel = Field("info", description="rules: least level that is logged.")
    log_format: LogFormat = Field("auto", description="rules: json, text, or auto: text on a terminal, JSON elsewhere.")
    otlp_endpoint: HttpUrl | None = Field(
        None,
        validation_alias=AliasChoices(f"{PREFIX}OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="rules: base URL of an OTLP/HTTP collector for traces; none are made if absent.",
    )

    revision: str | None = Field(None, min_length=1, description="vLLM: the commit of a hub model, instead of the profile's.")
    profiles: Path | None = Field(None, description="vLLM: a TOML file with profiles of your own.")
    served_name: str | None = Field(None, min_length=1, description="vLLM: the name requests must give, if not the profile's.")
    vllm: str | None = Field(
        None, description="vLLM: its executable; if absent, this Python's environment and then PATH are searched."
    )

    workers: int = Field(2, ge=1, le=64, description="rules: critiques computed at a time, each on its own thread.")
    queue: int = Field(32, ge=0, le=10_000, description="rules: critiques that may wait for a thread; more get 429.")
    upload_bytes: int = Field(
        512 * 1024 * 1024, ge=1024 * 1024, description="rules: bytes of requests held at a time, twice their size; others wait."
    )
    # As large as an editor's reply may be: an edited picture may be larger than what callers may send.
    max_image_bytes: int = Field(96 * 1024 * 1024, ge=1024, description="rules: encoded size of one picture.")
    max_image_pixels: int = Field(50_000_000, ge=1, description="rules: width x height of one picture.")
