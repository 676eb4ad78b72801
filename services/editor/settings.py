"""Everything about an editor worker that can be configured, from the environment (prefix ``EDITTHINKER_EDITOR_``).

Only `services.editor.app` and `services.editor.__main__` read settings; everything below receives values.
"""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.editor.pipelines import FAMILIES

PREFIX = "EDITTHINKER_EDITOR_"


class Settings(BaseSettings):
    """An editor worker's settings; wrong values are refused at start."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    pipeline: str = Field("classical", description="The pipeline family: a name of `services.editor.pipelines.FAMILIES`.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8100, ge=0, le=65535, description="Port to listen on; 0 for any free one.")
    api_key: SecretStr | None = Field(None, description="If set, edits need it as a bearer token.")
    queue: int = Field(16, ge=0, le=10_000, description="Requests that may wait for the pipeline; more get 429.")
    codec_threads: int = Field(2, ge=1, le=64, description="Threads that decode and encode pictures beside the pipeline.")
    max_image_bytes: int = Field(50 * 1024 * 1024, ge=1024, description="Encoded size of one picture.")
    max_image_pixels: int = Field(50_000_000, ge=1, description="Width x height of one picture, received or asked for.")
    max_image_side: int = Field(30_000, ge=1, description="Longest side of one picture, received or asked for.")
    replay_bytes: int = Field(
        64 * 1024 * 1024, ge=0, description="Finished answers kept for repeats of their Idempotency-Key, in bytes."
    )
    keepalive_s: float = Field(15, gt=0, description="Seconds of silence after which a stream sends a comment.")
    drain_s: float = Field(30, ge=0, description="Seconds that running requests get to finish after SIGTERM.")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Least level that is logged.")

    @field_validator("pipeline")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in FAMILIES:
            raise ValueError(f"{name!r} is none of {sorted(FAMILIES)}")
        return name
