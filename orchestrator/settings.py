"""Everything that can be configured, from the environment (prefix ``EDITTHINKER_``); wrong values are refused at start.

Only `orchestrator.app` and `orchestrator.__main__` read settings; everything below receives values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from orchestrator.store.connect import parse
from services.wire.critique import Template
from services.wire.formats import FORMATS, Constraint, FormatName
from services.wire.logs import LogFormat

_PREFIX = "EDITTHINKER_"


class UpstreamSettings(BaseModel):
    """Where a collaborator is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(pattern=r"^https?://", description="Base URL, up to and including /v1.")
    model: str | None = Field(None, description="The server's own name for the model.")
    api_key: SecretStr | None = Field(None, description="Sent as a bearer token.")
    attempts: int = Field(4, ge=1, le=20, description="Tries of one call while the server is overloaded or away.")
    timeout_s: float = Field(600, gt=0, description="Seconds one call may take, retries included.")

    @field_validator("url")
    @classmethod
    def _without_slash(cls, url: str) -> str:
        return url.rstrip("/")


class EditorSettings(UpstreamSettings):
    """An editor: any server of ``POST /v1/images/edits``."""

    parameters: frozenset[str] = Field(
        frozenset({"size"}),
        description="Extension fields it takes (size, negative_prompt, num_inference_steps, guidance_scale, true_cfg_scale, "
        "image_guidance_scale, strength); others are refused.",
    )
    mask: bool = Field(False, description="Whether it takes a mask.")
    send_seed: bool = Field(True, description="Whether it takes the extension field `seed`.")
    max_in_flight: int | None = Field(
        None, ge=1, description="Edits that this replica asks for at a time; as many as the pool turns out to hold if absent."
    )


class ThinkerSettings(UpstreamSettings):
    """A thinker: any server of ``POST /v1/chat/completions`` that takes images."""

    model: str = Field(description="The server's name for the model.")
    format: FormatName = Field("editthinker", description="How the critique is written down.")
    constraint: Constraint | Literal["auto"] = Field(
        "auto", description="What the server can hold its reply to; `auto` finds out by asking."
    )
    template: Path | None = Field(None, description="A prompt template file; ours if absent.")
    sampling: dict[str, Any] = Field(
        default_factory=lambda: {"temperature": 0, "max_tokens": 4096}, description="Further fields of the request."
    )
    samples: int = Field(1, ge=1, le=16, description="Critiques of each candidate; the mean of their scores counts.")
    max_pixels: int | None = Field(None, ge=1024, description="Larger pictures are scaled down to it; as they are if absent.")
    away_s: float = Field(60, ge=0, description="Seconds for which one that is starting again is waited for.")
    fallback: str | None = Field(None, description="The thinker to ask when this one fails.")

    def prompt(self) -> Template:
        """The template in use."""
        if self.template is None:
            return FORMATS[self.format].template()
        return Template(self.template.read_text("utf-8"))

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        try:
            template = self.prompt()
        except OSError as exc:
            raise ValueError(f"the template cannot be read: {exc}") from exc
        if self.format == "checklist" and not template.lists_questions:
            raise ValueError("the format checklist needs a template that lists {questions}; leave template out, or add it")
        if self.constraint not in {"none", "auto"} and not FORMATS[self.format].constraint(self.constraint):  # type: ignore[arg-type]
            raise ValueError(f"the format {self.format} has no {self.constraint} constraint")
        if self.samples > 1 and not self.sampling.get("temperature"):
            raise ValueError("samples above 1 would all be alike at temperature 0; set sampling.temperature too")
        return self


class Settings(BaseSettings):
    """The orchestrator's settings."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="ignore")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on.")
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0", description="Redis or Valkey: redis://, redis+sentinel:// or redis+cluster://."
    )
    blobs: str = Field("./blobs", description="Where images live: a directory, or s3://bucket/prefix.")
    editors: dict[str, EditorSettings] = Field(description="Editors by the name callers use as `model`.")
    thinkers: dict[str, ThinkerSettings] = Field(description="Thinkers by the name callers use as `thinker`.")
    default_editor: str | None = Field(None, description="The editor when none is named; the first one if absent.")
    default_thinker: str | None = Field(None, description="The thinker when none is named; the first one if absent.")
    capacity: int = Field(2048, ge=1, description="Sessions this replica drives at a time.")
    max_unfinished: int = Field(100_000, ge=1, description="Unfinished sessions above which new ones get 429.")
    tenant_cap: int = Field(1000, ge=1, description="Sessions of one tenant that are driven at a time, for each editor.")
    lease_s: float = Field(10.0, gt=0.5, description="Seconds after which a silent replica's sessions are taken over.")
    default_deadline_s: float = Field(600.0, gt=0, description="Seconds a session may take if the caller names none.")
    review_deadline_s: float = Field(86_400.0, gt=0, description="The same for sessions that wait for a person.")
    max_deadline_s: float = Field(604_800.0, gt=0, description="The longest deadline a caller may ask for.")
    retention_s: float = Field(86_400.0, gt=0, description="Seconds for which a finished session stays in Redis.")
    keep_s: float | None = Field(
        None, gt=0, description="Seconds for which a finished session and its images are kept at all; forever if absent."
    )
    max_image_bytes: int = Field(50 * 1024 * 1024, ge=1024, description="Encoded size of a source image.")
    max_image_pixels: int = Field(50_000_000, ge=1, description="Width x height of a source image.")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Least level that is logged.")
    log_format: LogFormat = Field("auto", description="json, text, or auto: text on a terminal, JSON elsewhere.")
    otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://",
        validation_alias=AliasChoices(f"{_PREFIX}OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="Base URL of an OTLP/HTTP collector for traces; none are made if absent.",
    )

    @field_validator("redis_url")
    @classmethod
    def _can_be_read(cls, url: str) -> str:
        parse(url)
        return url

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for what, names, default in (
            ("editors", self.editors, self.default_editor),
            ("thinkers", self.thinkers, self.default_thinker),
        ):
            if not names:
                raise ValueError(f"{_PREFIX}{what.upper()} names none; give at least one")
            if default is not None and default not in names:
                raise ValueError(f"default_{what[:-1]} is {default!r}, which is none of {sorted(names)}")
        for name, thinker in self.thinkers.items():
            if thinker.fallback is not None and (thinker.fallback not in self.thinkers or thinker.fallback == name):
                raise ValueError(f"thinkers.{name}.fallback is {thinker.fallback!r}; name another of {sorted(self.thinkers)}")
        return self

    @model_validator(mode="after")
    def _kept_for_longer(self) -> Self:
        if self.keep_s is not None and self.keep_s <= self.retention_s:
            raise ValueError(f"keep_s is {self.keep_s:g}; it must be more than retention_s, which is {self.retention_s:g}")
        return self

    @property
    def first_editor(self) -> str:
        """The editor when none is named."""
        return self.default_editor or next(iter(self.editors))

    @property
    def first_thinker(self) -> str:
        """The thinker when none is named."""
        return self.default_thinker or next(iter(self.thinkers))
