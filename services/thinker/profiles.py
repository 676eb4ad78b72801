"""vLLM profiles: a model together with the arguments that make vLLM a good thinker with it.

    load(path)                     the built-in profiles (`profiles.toml`), and those of the user's file
    arguments(profile, overrides)  the arguments of ``vllm``; a pure function

There is deliberately no field for a reasoning parser. With one, vLLM does not enforce constraints up to ``</think>``, so a model
may never reach its scores. The critique formats have the reasoning inside the constraint.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from services.protocol.critique.formats import FormatName

EMBEDDED: Final = "rules"
"""The profile without vLLM: the embedded thinker of `services.embedded.thinker`."""
_BUILT_IN: Final = Path(__file__).with_name("profiles.toml")

_Count = Annotated[int, Field(ge=1)]
_Name = Annotated[str, Field(min_length=1)]


class ProfileError(Exception):
    """A file of profiles cannot be used; the message names the profile and the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What vLLM serves, and how. A field that is None leaves the choice to vLLM.

    Attributes:
        model: a hub id or a local folder.
        revision: the commit of a hub model; the one that is current at the download if None.
        served_name: the name requests send as `model`.
        about: a one-sentence description.
        format: the critique format this model follows best; a setting of the orchestrator, printed by ``--show``.
        template: a prompt template file, likewise only printed; relative to the file of profiles.
        dtype: of weights and activations.
        quantization: vLLM's name of a quantization (``fp8``); None: as the checkpoint declares.
        max_model_len: tokens of prompt and reply together.
        max_num_seqs: critiques computed at a time; further ones wait.
        max_num_batched_tokens: tokens computed in one step, of all critiques together.
        gpu_memory_utilization: fraction of a GPU's memory that vLLM uses; 0 leaves it to vLLM.
        kv_cache_memory_bytes: size of the KV cache, instead of the rest of that fraction.
        images: pictures a request may hold; a critique has two, and those of the caller: fifteen references and what may change.
        min_pixels, max_pixels: area to which the processor scales a picture, both or neither; 32 x 32 pixels are a token of
            Qwen3-VL.
        prefix_caching: cache common prefixes of prompts.
        block_size: tokens in a block of the KV cache; prefixes are shared in whole blocks.
        mm_processor_cache_gb: gigabytes of preprocessed pictures to cache; 0 for none.
        mm_processor_cache_type: where: in each process (``lru``), or in shared memory (``shm``).
        structured_outputs_backend: the backend that enforces constraints.
        disable_any_whitespace: forbid optional whitespace in JSON, which a model might repeat endlessly; xgrammar and guidance
            only.
        async_scheduling: prepare the next step while the GPU computes this one.
        mm_encoder_tp_mode: under tensor parallelism, split the vision encoder's weights or its pictures (``data``).
        tensor_parallel_size: GPUs that share one copy of the model.
        data_parallel_size: copies of the model.
        prompt_tokens_details: report cached tokens in the usage; the orchestrator exports them.
        enforce_eager: do not compile.
        extra: further arguments of vLLM, unchanged.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    model: _Name
    served_name: _Name
    revision: _Name | None = None
    about: str = ""
    format: FormatName = "editthinker"
    template: str | None = None
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    quantization: _Name | None = None
    max_model_len: _Count | None = None
    max_num_seqs: _Count | None = None
    max_num_batched_tokens: _Count | None = None
    gpu_memory_utilization: Annotated[float, Field(ge=0, le=1)] = 0.0
    kv_cache_memory_bytes: _Count | None = None
    images: _Count = 18
    min_pixels: _Count | None = None
    max_pixels: _Count | None = None
    prefix_caching: bool = True
    block_size: _Count | None = None
    mm_processor_cache_gb: Annotated[float, Field(ge=0)] = 4.0
    mm_processor_cache_type: Literal["lru", "shm"] = "lru"
    structured_outputs_backend: Literal["auto", "xgrammar", "guidance", "outlines", "lm-format-enforcer"] = "xgrammar"
    disable_any_whitespace: bool = True
    async_scheduling: bool | None = None
    mm_encoder_tp_mode: Literal["weights", "data"] = "weights"
    tensor_parallel_size: _Count = 1
    data_parallel_size: _Count = 1
    prompt_tokens_details: bool = True
    enforce_eager: bool = False
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Qwen2.5-VL's processor fails if only one is set, and not before the first picture.
        if (self.min_pixels is None) != (self.max_pixels is None):
            raise ValueError("min_pixels and max_pixels go together")
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise ValueError("min_pixels is above max_pixels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """Options of one start that override the profile; None keeps the profile's.

    Attributes:
        host, port: where to listen.
        model, served_name, revision: as in the profile; with a model, the profile's revision does not apply.
        extra: further arguments of vLLM, after those of the profile, so that they win.
    """

    host: str = "127.0.0.1"
    port: int = 8200
    model: str | None = None
    served_name: str | None = None
    revision: str | None = None
    extra: tuple[str, ...] = ()


def arguments(profile: Profile, overrides: Overrides | None = None) -> list[str]:
    """The arguments of ``vllm``."""
    given = overrides or Overrides()
    # Named edges, but they are areas: `min_pixels` and `max_pixels` are deprecated in transformers 5.
    size = {"shortest_edge": profile.min_pixels, "longest_edge": profile.max_pixels}
    revision = given.revision or (None if given.model else profile.revision)
    options: dict[str, object] = {
        # Its tokenizer and its code are of the same commit unless an argument says otherwise.
        "revision": revision,
        "served-model-name": given.served_name or profile.served_name,
        "host": given.host,
        "port": given.port,
        "dtype": profile.dtype,
        "quantization": profile.quantization,
        "max-model-len": profile.max_model_len,
        "max-num-seqs": profile.max_num_seqs,
        "max-num-batched-tokens": profile.max_num_batched_tokens,
        "gpu-memory-utilization": profile.gpu_memory_utilization or None,
        "kv-cache-memory-bytes": profile.kv_cache_memory_bytes,
        # vLLM reserves memory for a video unless none is allowed.
        "limit-mm-per-prompt": {"image": profile.images, "video": 0},
        "mm-processor-kwargs": {"size": size} if profile.max_pixels else None,
        "enable-prefix-caching": profile.prefix_caching,
        "block-size": profile.block_size,
        "mm-processor-cache-gb": profile.mm_processor_cache_gb,
        "mm-processor-cache-type": profile.mm_processor_cache_type,
        "structured-outputs-config": _structured(profile),
        "async-scheduling": profile.async_scheduling,
        "mm-encoder-tp-mode": profile.mm_encoder_tp_mode,
        "tensor-parallel-size": profile.tensor_parallel_size,
        "data-parallel-size": profile.data_parallel_size,
        "enable-prompt-tokens-details": profile.prompt_tokens_details or None,
        "enforce-eager": profile.enforce_eager or None,
    }
    words = [word for name, value in options.items() for word in _words(name, value)]
    return ["serve", given.model or profile.model, *words, *profile.extra, *given.extra]


def _structured(profile: Profile) -> dict[str, object]:
    backend = profile.structured_outputs_backend
    # vLLM refuses to start with this option and another backend.
    whitespace = {"disable_any_whitespace": profile.disable_any_whitespace} if backend in {"xgrammar", "guidance"} else {}
    return {"backend": backend, **whitespace}


def _words(name: str, value: object) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", json.dumps(value) if isinstance(value, dict) else str(value)]


def load(own: Path | None = None) -> dict[str, Profile]:
    """All vLLM profiles by name: the built-in ones, and those of the user's file.

    Raises:
        ProfileError: when the file cannot be read, or a profile in it is wrong.
    """
    built_in = _read(_BUILT_IN)
    tables = dict(built_in)
    if own is not None:
        for name, table in _read(own).items():
            if name in built_in or name == EMBEDDED:
                raise ProfileError(f"{own}: [{name}] is a built-in profile; choose another name")
            tables[name] = table
    return {name: _profile(name, tables) for name in tables}


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """The tables of a file of profiles, with the paths of templates resolved against the file."""
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise ProfileError(f"{path} cannot be read: {exc}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ProfileError(f"{path} is not valid TOML: {exc}") from exc
    for name, table in found.items():
        if not isinstance(table, dict):
            raise ProfileError(f"{path}: {name} is outside of a profile; write [name-of-the-profile] above it")
        if isinstance(template := table.get("template"), str):
            table["template"] = str(path.parent / template)
    return found


def _profile(name: str, tables: Mapping[str, dict[str, Any]]) -> Profile:
    try:
        # Validated as JSON: strict mode accepts JSON arrays as tuples, but not Python lists.
        profile = _PROFILE.validate_json(json.dumps(_extended(name, tables, ()), default=str))
    except ValidationError as exc:
        first = exc.errors()[0]
        key = "".join(f" {part}:" for part in first["loc"])
        why = "there is no such key" if first["type"] == "unexpected_keyword_argument" else first["msg"]
        raise ProfileError(f"[{name}]{key} {why.removeprefix('Value error, ')}") from exc
    if profile.template is not None and not Path(profile.template).is_file():
        raise ProfileError(f"[{name}] template: there is no file {profile.template}")
    return profile


def _extended(name: str, tables: Mapping[str, dict[str, Any]], seen: tuple[str, ...]) -> dict[str, Any]:
    table = dict(tables[name])
    base = table.pop("extends", None)
    if base is None:
        return table
    if not isinstance(base, str) or base not in tables or base in (*seen, name):
        others = sorted(set(tables) - {*seen, name})
        raise ProfileError(f"[{name}] extends: {base!r} is not a profile to extend; there are {others}")
    return {**_extended(base, tables, (*seen, name)), **table}


_PROFILE: Final = TypeAdapter(Profile)
