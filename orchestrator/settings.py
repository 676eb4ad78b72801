"""Everything that can be configured, from the environment (prefix ``EDITTHINKER_``); wrong values are refused at start.

Only `orchestrator.app` and `orchestrator.__main__` read settings; everything below receives values.
"""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from orchestrator.store import rates
from orchestrator.store.connection import Address, parse
from orchestrator.upstreams import registry
from orchestrator.upstreams.registry import EditorSettings, JudgeSettings, PreparerSettings, Registry, ThinkerSettings
from services.imaging import manifests
from services.imaging.manifests import Credentials
from services.serving.deprecated_settings import ServiceSettings
from services.serving.log_format import HttpUrl, LogFormat, LogLevel
from services.serving.origins import OriginPolicy, hosts_in, is_loopback, origins_in

_PREFIX = "EDITTHINKER_"
_LONGEST_S = 1000 * 365 * 86_400
"""A thousand years: Redis counts in milliseconds, of which it takes 63 bits."""


def _content(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ValueError(f"{name}: {path} cannot be read: {exc.strerror}") from exc


class RedisSettings(ServiceSettings):
    """Settings of commands that need Redis alone."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="ignore", allow_inf_nan=False)

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0", description="Redis or Valkey: redis://, redis+sentinel:// or redis+cluster://."
    )

    redis_password: SecretStr | None = Field(
        None, min_length=1, description="Password of Redis, for a URL without one; a file of secrets is the place for it."
    )

    @field_validator("redis_url")
    @classmethod
    def _can_be_read(cls, url: str) -> str:
        parse(url)
        return url

    def redis(self) -> Address:
        """Where Redis is, with its password."""
        return parse(self.redis_url, self.redis_password.get_secret_value() if self.redis_password else None)


class Settings(RedisSettings):
    """The orchestrator's settings."""

    renamed: ClassVar[dict[str, str]] = {"retention_s": "redis_retention_s", "keep_s": "archive_retention_s"}

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on.")
    keys: Literal["auto", "required", "off"] = Field(
        "auto", description="Whether API keys are required; auto: on every address but loopback."
    )
    allow_open: bool = Field(False, description="Allow serving without keys on an address other than loopback.")
    quota_rate: str | None = Field(None, description="Default quota of a tenant: new sessions, as 60/minute.")
    quota_unfinished: int | None = Field(None, ge=0, description="Default quota of a tenant: unfinished sessions.")
    quota_editor_s_per_day: float | None = Field(None, ge=0, description="Default quota of a tenant: editor seconds a day (UTC).")
    quota_redis_bytes: int | None = Field(
        None,
        ge=1_000_000,
        description="Default quota of a tenant: bytes of its sessions' events in Redis; 256 MiB where keys are required.",
    )
    quota_blob_bytes: int | None = Field(
        None,
        ge=1_000_000,
        description="Default quota of a tenant: bytes of its images, archived ones too; 100 GiB where keys are required.",
    )
    public_url: HttpUrl | None = Field(
        None,
        description="Base URL of links in responses; that of the request's Host, if known, if absent.",
    )
    allowed_hosts: str = Field(
        "", description="Further names that callers may call it by, as edit.example.com,edit.lan; checked where no key is needed."
    )
    cors_origins: str = Field(
        "", description="Web origins whose pages may call it (CORS), as https://app.example.com; none if absent."
    )
    url_ttl_s: float = Field(3600.0, gt=0, le=604_800, description="Seconds until a signed link to an image expires.")
    url_secret: SecretStr | None = Field(
        None, min_length=16, description="Secret that signs links to images; one shared through Redis if absent."
    )
    blobs: str = Field("./blobs", description="The blob store: a directory, or s3://bucket/prefix.")
    editors: dict[str, EditorSettings] = Field(default_factory=dict, description="Editors by name, given as `model`.")
    thinkers: dict[str, ThinkerSettings] = Field(default_factory=dict, description="Thinkers by name, given as `thinker`.")
    judges: dict[str, JudgeSettings] = Field(
        default_factory=dict, description="Judges by name, given as `judge`; a thinker can be given too."
    )
    preparers: dict[str, PreparerSettings] = Field(
        default_factory=dict, description="Models that rewrite instructions before the first edit, by the name that editors give."
    )
    registry: Path | None = Field(
        None, description="A TOML file with further editors, thinkers, judges and preparers, reloaded when it changes."
    )
    default_editor: str | None = Field(None, description="The default editor; the first one if absent.")
    default_thinker: str | None = Field(None, description="The default thinker; the first one if absent.")
    default_judge: str | None = Field(None, description="The default judge; the session's thinker if absent.")
    judge_check: Literal["off", "warn", "refuse"] = Field(
        "warn",
        description="Whether each judge, thinkers included, is asked about a small fixed set once it answers; one that cannot "
        "tell a good edit from none is warned of in the log, or refused to new sessions.",
    )
    compatibility: Literal["strict", "lenient"] = Field(
        "strict",
        description="Fields of requests that cannot be honoured: strict refuses them; lenient leaves them out and names them.",
    )
    capacity: int = Field(2048, ge=1, description="Sessions this replica drives at a time.")
    max_unfinished: int = Field(100_000, ge=1, description="Unfinished sessions above which new ones get 429.")
    tenant_cap: int = Field(1000, ge=1, description="Sessions of one tenant that are driven at a time, for each editor.")
    tenant_streams: int | None = Field(
        None, ge=1, description="Event streams of one tenant at a time, on each replica; 1000 where keys are required."
    )
    confirmations: int = Field(
        8,
        ge=0,
        le=16,
        description="Further critiques of one candidate at most, where its judge's scores are noisy; 0 trusts single scores.",
    )
    session_turns: int = Field(100, ge=20, description="Turns of one session in all, those after feedback included.")
    session_log_bytes: int = Field(
        1024 * 1024, ge=200_000, description="Bytes of one session's events, about; at that it ends with what it has."
    )
    session_blob_bytes: int = Field(
        256 * 1024**2, ge=10_000_000, description="Bytes of one session's images; at that no further edit is started."
    )
    redis_full_percent: float = Field(
        90.0,
        gt=0,
        le=100,
        description="Percent of Redis' maxmemory above which new sessions get 503: running ones need the rest.",
    )
    blobs_free_bytes: int = Field(
        256 * 1024**2, ge=0, description="Free bytes of a blob directory's disk below which new sessions get 507."
    )
    redis_wait_replicas: int = Field(
        0, ge=0, le=10, description="Replicas of Redis that must have a new session, and a result, before a caller is told of it."
    )
    redis_wait_s: float = Field(1.0, ge=0.01, le=4, description="Seconds to wait for them; without them a new session gets 503.")
    lease_s: float = Field(10.0, gt=0.5, le=3600, description="Seconds after which a silent replica's sessions are taken over.")
    drain_s: float = Field(
        30.0, ge=0, le=86_400, description="Seconds at SIGTERM for edits under way and waiting callers, where other replicas run."
    )
    default_deadline_s: float = Field(600.0, gt=0, le=_LONGEST_S, description="Default deadline of a session, in seconds.")
    call_deadline_s: float = Field(
        280.0,
        gt=0,
        le=_LONGEST_S,
        description="The same for a call that waits for its pictures: below what clients wait, 300 s in Node.",
    )
    reply_starts_s: float = Field(
        45.0,
        ge=0,
        le=_LONGEST_S,
        description="Seconds after which a waiting call gets the head of its reply and white space, below the 60 s of proxies; "
        "0 sends nothing before the result, so that the status is always the session's.",
    )
    rejoin_s: float = Field(
        60.0,
        ge=0,
        le=3600,
        description="Seconds in which a caller without an idempotency key who left can repeat the request and join its session; "
        "0 cancels the session at once.",
    )
    review_deadline_s: float = Field(
        86_400.0, gt=0, le=_LONGEST_S, description="Default deadline of a session with review, in seconds."
    )
    max_deadline_s: float = Field(
        604_800.0, gt=0, le=_LONGEST_S, description="The longest deadline that is accepted, in seconds."
    )
    redis_retention_s: float = Field(86_400.0, gt=0, le=_LONGEST_S, description="Seconds a finished session stays in Redis.")
    archive_retention_s: float | None = Field(
        None,
        gt=0,
        le=_LONGEST_S,
        description="Seconds from its end until a session, its images included, is deleted; never if absent.",
    )
    max_image_bytes: int = Field(50 * 1024 * 1024, ge=1024, description="Encoded size of a source image.")
    max_image_pixels: int = Field(50_000_000, ge=1, description="Width x height of a source image.")
    decode_processes: int = Field(
        3, ge=1, le=64, description="Processes that decode pictures; half of them, rounded down, take large pictures."
    )
    decode_cpu_s: float = Field(20.0, gt=0, description="CPU seconds that decoding one picture may take.")
    tenant_decodes: int = Field(
        128, ge=1, description="Pictures of one tenant that wait to be decoded on each replica; more get 429."
    )
    tenant_transcodes: int = Field(
        2, ge=1, description="Images of one tenant that are converted to another format at a time, on each replica."
    )
    transcode_cache_bytes: int = Field(64 * 1024 * 1024, ge=0, description="Converted images kept for repeats, in bytes.")
    marks: bool = Field(
        True,
        description="Whether edited pictures say so when they are served (IPTC Digital Source Type in XMP, and C2PA if set up).",
    )
    c2pa_certificate: Path | None = Field(
        None,
        description="PEM file of the certificate chain that signs C2PA manifests, the signer's first; none are made if absent.",
    )
    c2pa_key: Path | None = Field(None, description="PEM file of its private key.")
    c2pa_sign_url: HttpUrl | None = Field(
        None, description="In place of the key: a URL that is posted the bytes to sign, and answers the signature."
    )
    c2pa_sign_token: Path | None = Field(None, description="File of a bearer token for that URL.")
    c2pa_algorithm: Literal["es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519"] = Field(
        "es256", description="Signature algorithm of the key."
    )
    c2pa_timestamp_url: HttpUrl | None = Field(
        None, description="RFC 3161 authority that dates each signature; without one, signing uses no network."
    )
    c2pa_failure: Literal["refuse", "unsigned"] = Field(
        "refuse", description="A picture that cannot be signed: refuse answers 503, unsigned serves it with its IPTC mark alone."
    )
    c2pa_names_session: bool = Field(False, description="Whether manifests name the session that made the picture.")
    c2pa_trust: Path | None = Field(
        None, description="PEM file of root certificates whose manifests are reported as trusted; none are if absent."
    )
    made_retention_s: float = Field(
        90 * 86_400.0,
        ge=0,
        le=_LONGEST_S,
        description="Seconds for which the digests of pictures made are kept, for POST /v1/provenance; 0 keeps none.",
    )
    upload_bytes: int = Field(
        256 * 1024 * 1024,
        ge=1024 * 1024,
        description="Bytes of request bodies in flight at a time, in memory and in temporary files; half of them for one tenant.",
    )
    reply_bytes: int = Field(
        256 * 1024 * 1024,
        ge=1024 * 1024,
        description="Bytes of converted pictures held until their readers have them; half of them for one tenant.",
    )
    webhook_timeout_s: float = Field(20.0, gt=0, le=60, description="Timeout of a webhook request, in seconds.")
    webhook_time_scale: float = Field(1.0, gt=0, description="Factor on the delays between webhook attempts; 1 but for tests.")
    webhook_allow_private: bool = Field(
        False, description="Allow webhooks to this machine (also by http) and to private networks."
    )
    log_level: LogLevel = Field("info", description="Minimum level of log records.")
    log_format: LogFormat = Field("auto", description="json, text, or auto: text on a terminal, JSON elsewhere.")
    otlp_endpoint: HttpUrl | None = Field(
        None,
        validation_alias=AliasChoices(f"{_PREFIX}OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="Base URL of an OTLP/HTTP collector for traces; none are made if absent.",
    )

    @field_validator("quota_rate")
    @classmethod
    def _is_a_rate(cls, rate: str | None) -> str | None:
        if rate is not None:
            rates.parse_rates(rate)
        return rate

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, text: str) -> str:
        hosts_in(text)
        return text

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, text: str) -> str:
        origins_in(text)
        return text

    @model_validator(mode="after")
    def _open_access_is_intended(self) -> Self:
        if not self.keys_required and not is_loopback(self.host) and not self.allow_open:
            raise ValueError(
                f"host is {self.host} and keys is off: everybody who reaches the port could make edits and see every image; "
                f"set {_PREFIX}KEYS=required, or {_PREFIX}ALLOW_OPEN=true if that is intended"
            )
        return self

    @model_validator(mode="after")
    def _a_cluster_is_not_waited_for(self) -> Self:
        if self.redis_wait_replicas and self.redis().kind == "cluster":
            raise ValueError("redis_wait_replicas: a cluster's client cannot wait for replicas; set it to 0")
        return self

    @model_validator(mode="after")
    def _signing_is_complete(self) -> Self:
        # Signing begins with the first picture that is served; a mistake is told at the start.
        if self.c2pa_certificate is None and (self.c2pa_key or self.c2pa_sign_url):
            raise ValueError(f"c2pa_certificate is missing; set {_PREFIX}C2PA_CERTIFICATE to the chain of the key's certificate")
        if self.c2pa_certificate is not None and (self.c2pa_key is None) == (self.c2pa_sign_url is None):
            raise ValueError(f"with c2pa_certificate, set one of {_PREFIX}C2PA_KEY and {_PREFIX}C2PA_SIGN_URL")
        names = ("c2pa_trust", "c2pa_certificate", "c2pa_key", "c2pa_sign_token")
        files = {name: _content(name, path) for name in names if (path := getattr(self, name)) is not None}
        if not files:
            return self
        if not manifests.supported():
            raise ValueError(f"{next(iter(files))}: install editthinker[c2pa], which reads and signs manifests")
        from services.imaging import certificates  # noqa: PLC0415 - an extra

        # Where pictures may be served unsigned, an expired certificate does not keep a server from starting.
        now = dt.datetime.fromtimestamp(time.time(), dt.UTC) if self.c2pa_failure == "refuse" else None
        if "c2pa_trust" in files:
            certificates.load(files["c2pa_trust"], "c2pa_trust")
        if "c2pa_certificate" in files:
            chain = certificates.load(files["c2pa_certificate"], "c2pa_certificate")
            certificates.check(chain, files.get("c2pa_key"), self.c2pa_algorithm, now)
        return self

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        self.collaborators()
        return self

    @model_validator(mode="after")
    def _archive_outlasts_redis(self) -> Self:
        archive_s, redis_s = self.archive_retention_s, self.redis_retention_s
        if archive_s is not None and archive_s <= redis_s:
            raise ValueError(
                f"archive_retention_s is {archive_s:g}; it must be more than redis_retention_s, which is {redis_s:g}"
            )
        return self

    def signs_with(self) -> Credentials | None:
        """What signs served pictures; None if nothing does."""
        if self.c2pa_certificate is None:
            return None
        return Credentials(
            str(self.c2pa_certificate.absolute()),
            str(self.c2pa_key.absolute()) if self.c2pa_key else "",
            self.c2pa_sign_url or "",
            str(self.c2pa_sign_token.absolute()) if self.c2pa_sign_token else "",
            self.c2pa_algorithm,
            self.c2pa_timestamp_url or "",
        )

    def anchors(self) -> str:
        """The certificates whose manifests are trusted, as PEM."""
        return self.c2pa_trust.read_text("utf-8") if self.c2pa_trust else ""

    def secrets(self) -> list[str]:
        """Values that must never be logged."""
        own = [secret.get_secret_value() for secret in (self.url_secret, self.redis_password) if secret]
        return [*self.collaborators().keys(), *own]

    def collaborators(self) -> Registry:
        """The editors, thinkers and judges, with the registry file read again.

        Raises:
            ValueError: with what is wrong with them.
        """
        given = registry.read(self.registry) if self.registry else {}
        return Registry.model_validate(_merged(self, given))

    def origins(self) -> OriginPolicy:
        """The host names and web origins that requests may come with."""
        return OriginPolicy.of(
            self.host,
            keyless=not self.keys_required,
            setting=_PREFIX,
            hosts=self.allowed_hosts,
            public_url=self.public_url,
            cors=self.cors_origins,
        )

    @property
    def keys_required(self) -> bool:
        """Whether API keys are required."""
        if self.keys == "auto":
            return not is_loopback(self.host) and not self.allow_open
        return self.keys == "required"


def _merged(settings: Settings, given: dict[str, Any]) -> dict[str, Any]:
    """Merge the registry file with the variables: its entries come first and override those of the same name."""
    editors, thinkers, judges, preparers = (given.get(what, {}) for what in ("editors", "thinkers", "judges", "preparers"))
    return {
        "editors": {**editors, **settings.editors, **editors},
        "thinkers": {**thinkers, **settings.thinkers, **thinkers},
        "judges": {**judges, **settings.judges, **judges},
        "preparers": {**settings.preparers, **preparers},
        "default_editor": given.get("default_editor", settings.default_editor),
        "default_thinker": given.get("default_thinker", settings.default_thinker),
        "default_judge": given.get("default_judge", settings.default_judge),
    }
