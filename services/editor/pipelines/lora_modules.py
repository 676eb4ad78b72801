"""The value of ``EDITTHINKER_EDITOR_LORAS``, in both forms of vLLM's ``--lora-modules``."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from services.editor.pipelines.tuning import LoraModule
from services.errors import reason_of
from services.protocol.images_api import LORA_SCALES, LoraName


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: LoraName
    path: str = Field(min_length=1)
    file: str | None = Field(None, min_length=1)
    revision: str | None = Field(None, min_length=1)
    scale: float = Field(1.0, ge=LORA_SCALES[0], le=LORA_SCALES[1])


_LIST: TypeAdapter[list[_Entry]] = TypeAdapter(Annotated[list[_Entry], Field(max_length=1000)])


def parse(text: str) -> tuple[LoraModule, ...]:
    """The LoRAs of ``name=path`` separated by spaces, or of a JSON list of objects with name, path, file, revision and scale.

    Raises:
        ValueError: with what to write instead.
    """
    text = text.strip()
    try:
        entries = _LIST.validate_python(
            json.loads(text) if text.startswith(("[", "{")) else [_pair(each) for each in text.split()]
        )
    # Also lists in lists without end.
    except (json.JSONDecodeError, RecursionError) as exc:
        raise ValueError(f"the list of LoRAs is not JSON: {exc}") from exc
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(
            f'{where or "the list of LoRAs"}: {reason_of(first)}; write name=path, or [{{"name": …, "path": …}}]'
        ) from exc
    names = [entry.name for entry in entries]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"the LoRA {twice[0]!r} is registered twice; give each its own name")
    return tuple(LoraModule(**entry.model_dump()) for entry in entries)


def _pair(text: str) -> dict[str, str]:
    name, equals, path = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} is not name=path")
    return {"name": name, "path": path}
