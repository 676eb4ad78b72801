"""Settings of an editor worker, from the environment (prefix ``EDITTHINKER_EDITOR_``).

Only `services.editor.app` and `services.editor.__main__` read settings; all modules below receive values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from services.editor.pipelines import NAMES, Tuning
from services.editor.pipelines.lora_modules import parse
from services.editor.pipelines.registry import GENERIC
from services.editor.pipelines.tuning import LORA_BYTES, OFF
from services.serving.deprecated_settings import ServiceSettings
from services.serving.log_format import HttpUrl, LogFormat, LogLevel
from services.serving.origins import OriginPolicy, hosts_in

PREFIX = "EDITTHINKER_EDITOR_"


class Settings(ServiceSettings):
    """An editor worker's settings; invalid values are refused at startup."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    renamed: ClassVar[Mapping[str, str]] = {"linger_s": "detached_edit_s", "remember_bytes": "encoder_cache_bytes"}

    pipeline: str = Field("classical", description=f"The pipeline family: {', '.join(NAMES)}.")
    model: str | None = Field(None, description="The weights of a diffusion family: a local folder or a hub id.")
    revision: str | None = Field(
        None, min_length=1, description="The commit of a hub model; the one that is current at the download, if absent."
    )
    served_name: str | None = Field(None, description="The model name that requests may give; the family's if absent.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8100, ge=0, le=65535, description="Port to listen on; 0 for any free one.")
    api_key: SecretStr | None = Field(None, description="If set, edits need it as a bearer token.")
    allowed_hosts: str = Field(
        "", description="Further names that callers may call it by, as gpu1.example.com; checked where there is no key."
    )

    queue: int = Field(16, ge=0, le=10_000, description="Edits that may wait in addition to those running; more get 429.")
    max_active: int = Field(8, ge=1, le=256, description="Edits running at a time; fewer if the device's memory requires it.")
    max_batch: int | None = Field(None, ge=1, le=64, description="Edits in one step; as measured at warm-up if absent.")
    detached_edit_s: float = Field(
        30, ge=0, description="Seconds an edit with an Idempotency-Key is kept for a caller who disconnected."
    )

    speed: Literal["exact", "fast", "turbo"] = Field(
        "exact", description="What fills the speed options that are left open; exact: plain diffusers to rounding."
    )
    device: str | None = Field(None, description="As torch names it; the first GPU, else the CPU, if absent.")
    dtype: Literal["bfloat16", "float16", "float32"] | None = Field(None, description="bfloat16 on a GPU if absent.")
    pixels: int | None = Field(None, ge=1024, description="Area to work at; what the family was trained at if absent.")
    encoder_cache_bytes: int = Field(
        256 * 1024 * 1024, ge=0, description="Size of the cache of encoded sources and texts, in bytes."
    )
    attention: str | None = Field(None, description="An attention backend of diffusers.")
    compile: str | None = Field(None, description="Compile the denoiser's repeated blocks with this backend (inductor).")
    quantization: Literal["fp8", "int8wo", "float8wo", "float8dq", "off"] | None = Field(None, description="Smaller weights.")
    cache: Literal["first_block", "taylorseer", "off"] | None = Field(None, description="Skip work between steps.")
    cache_threshold: float | None = Field(None, gt=0, description="Relative difference below which the cache skips work.")
    lora: str | None = Field(None, description="A LoRA to fuse: a file, a folder or a hub id.")
    lora_file: str | None = Field(
        None, min_length=1, description="The LoRA's file in the folder or on the hub, if it has several."
    )
    lora_revision: str | None = Field(None, min_length=1, description="The commit of a LoRA of the hub.")
    lora_scale: float = Field(1.0, description="Strength of the LoRA.")
    loras: str = Field("", description="LoRAs that requests may name: name=path, separated by spaces; or a JSON list.")
    lora_bytes: int = Field(LORA_BYTES, ge=1, description="Bytes of the LoRAs that requests may name, on the device.")
    few_steps: int | None = Field(None, ge=1, le=100, description="The LoRA is a few-step one, distilled for so many steps.")
    offload: Literal["group", "model"] | None = Field(None, description="Keep weights in host memory, for small GPUs.")
    overlap: bool | None = Field(
        None, description="Encode and decode one edit while others denoise; on a GPU if absent. Off with offload."
    )
    parallel: Literal["ulysses"] | None = Field(None, description="Split each pass over the processes that torchrun started.")

    watermark: str | None = Field(
        None, description="A watermark for edited pictures: a name in the entry-point group editthinker.watermarks."
    )

    codec_threads: int = Field(2, ge=1, le=64, description="Threads that encode pictures, and processes that decode them.")
    decode_cpu_s: float = Field(20.0, gt=0, description="CPU seconds that decoding one picture may take.")
    png_level: int = Field(1, ge=0, le=9, description="How hard PNGs are compressed.")
    webp_method: int = Field(2, ge=0, le=6, description="How hard WebPs are compressed.")
    max_image_bytes: int = Field(50 * 1024 * 1024, ge=1024, description="Encoded size of one picture.")
    max_image_pixels: int = Field(50_000_000, ge=1, description="Width x height of one picture, received or asked for.")
    max_image_side: int = Field(30_000, ge=1, description="Longest side of one picture, received or asked for.")
    upload_bytes: int = Field(
        512 * 1024 * 1024, ge=1024 * 1024, description="Bytes of request bodies that are received at a time; others wait."
    )
    replay_bytes: int = Field(
        64 * 1024 * 1024, ge=0, description="Finished answers kept for repeats of their Idempotency-Key, in bytes."
    )
    source_cache_bytes: int = Field(
        128 * 1024 * 1024, ge=0, description="Sources kept for the next edits of their sessions, in bytes."
    )
    keepalive_s: float = Field(15, gt=0, description="Seconds of silence after which a stream sends a comment.")
    drain_s: float = Field(30, ge=0, description="Seconds that running requests get to finish after SIGTERM.")
    log_level: LogLevel = Field("info", description="Least level that is logged.")
    log_format: LogFormat = Field("auto", description="json, text, or auto: text on a terminal, JSON elsewhere.")
    otlp_endpoint: HttpUrl | None = Field(
        None,
        validation_alias=AliasChoices(f"{PREFIX}OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="Base URL of an OTLP/HTTP collector for traces; none are made if absent.",
    )

    @field_validator("pipeline")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in NAMES:
            raise ValueError(f"{name!r} is not one of {list(NAMES)}")
        return name

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, text: str) -> str:
        hosts_in(text)
        return text

    @field_validator("loras")
    @classmethod
    def _are_loras(cls, text: str) -> str:
        parse(text)
        return text

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if self.pipeline == "classical" and self.model is not None:
            raise ValueError("the classical editor has no model; leave model out, or set pipeline to auto")
        if self.pipeline != "classical" and self.model is None:
            raise ValueError(f"the pipeline {self.pipeline} needs model: a folder, or a model of the hub")
        if self.parallel is not None and self.model is None:
            raise ValueError("parallel splits a diffusion model; set model, or leave parallel out")
        if self.parallel is not None and self.pipeline == GENERIC:
            raise ValueError("parallel needs a model whose calls a family describes; name its family, or leave parallel out")
        if self.few_steps is not None and self.lora is None:
            raise ValueError("few_steps describes a LoRA; set lora too")
        if self.loras.strip():
            self._take_loras()
        return self

    def _take_loras(self) -> None:
        """Raise `ValueError` for what does not work with LoRAs by request."""
        if self.pipeline == "classical":
            raise ValueError("the classical editor takes no LoRA; leave loras out")
        if self.compile not in {None, OFF}:
            raise ValueError("loras do not work with compile: the blocks would be compiled again for each of them; leave one out")
        if self.quantization not in {None, OFF, "fp8"}:
            raise ValueError(f"loras work with fp8 only, not with {self.quantization}; set quantization=fp8, or leave one out")
        if self.offload == "group":
            # Its streams fetch the layers in the order of the first pass, and which layers a pass has depends on its LoRA.
            raise ValueError("loras do not work with offload=group; use offload=model")
        if self.parallel is not None:
            raise ValueError("loras do not work with parallel: the other processes would not switch; leave one out")

    def origins(self) -> OriginPolicy:
        """The host names that requests may come with."""
        return OriginPolicy.of(self.host, keyless=self.api_key is None, setting=PREFIX, hosts=self.allowed_hosts)

    def tuning(self) -> Tuning:
        """How the pipeline is loaded and run."""
        names = (
            *("served_name", "device", "dtype", "pixels", "encoder_cache_bytes", "attention", "compile", "quantization"),
            *("revision", "lora_revision"),
            *("cache", "cache_threshold", "lora", "lora_file", "lora_scale", "lora_bytes", "few_steps", "offload", "overlap"),
            *("speed", "parallel"),
        )
        return Tuning(**{name: getattr(self, name) for name in names}, loras=parse(self.loras))
