"""Everything about a thinker that can be configured, from the environment (prefix ``EDITTHINKER_THINKER_``).

Only `services.thinker.__main__` reads settings; everything below receives values.
"""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """A thinker's settings; wrong values are refused at start."""

    model_config = SettingsConfigDict(env_prefix="EDITTHINKER_THINKER_", frozen=True, extra="ignore")

    profile: str = Field("rules", description="What answers: a name of `services.thinker.profiles.PROFILES`.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8200, ge=0, le=65535, description="Port to listen on; 0 for any free one.")
    model: str = Field("rules", min_length=1, description="The name requests must give as `model`.")
    workers: int = Field(2, ge=1, le=64, description="Critiques measured at a time, each on a thread of its own.")
    queue: int = Field(32, ge=0, le=10_000, description="Critiques that may wait for a thread; more get 429.")
    max_image_bytes: int = Field(50 * 1024 * 1024, ge=1024, description="Encoded size of one picture.")
    max_image_pixels: int = Field(50_000_000, ge=1, description="Width x height of one picture.")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Least level that is logged.")
