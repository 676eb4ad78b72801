"""Loads a LoRA into a pipeline; one that does not fit is refused, of which diffusers would use what fits, or nothing."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi

from services.editor.pipelines.diffusion import hub

_ADAPTER = "served"
_SETTING = "EDITTHINKER_EDITOR_LORA"
_SUFFIX = ".safetensors"
_KEY = re.compile(r"(?P<module>.+?)(?:\.processor)?(?P<joint>[._])(?:lora|lora_linear_layer)[._](?P<side>A|B|down|up)\.")
_SHOWN = 3


def fuse(pipe: Any, path: str, scale: float, *, file: str | None = None, revision: str | None = None) -> None:
    """Fuse a LoRA into the weights, so that it costs nothing at each step; pictures agree to about 4e-7.

    Args:
        pipe: the loaded pipeline.
        path: a file, a folder or a hub id.
        scale: its strength.
        file: the file's name in the folder or on the hub; needed where there are several.
        revision: the commit on the hub.

    Raises:
        ValueError: when the pipeline takes none, several files are there, or the file does not fit the model.
        OSError: when it cannot be found or downloaded.
    """
    load(pipe, path, _ADAPTER, file=file, revision=revision, setting=_SETTING)
    pipe.set_adapters(_ADAPTER, scale)
    pipe.fuse_lora(adapter_names=[_ADAPTER])
    pipe.unload_lora_weights()


def load(pipe: Any, path: str, adapter: str, *, file: str | None, revision: str | None, setting: str) -> set[str]:
    """Load a LoRA, unfused. Returns the names of the pipeline's components that it changes.

    Args:
        adapter: the name it gets in the models.
        setting: that names it, for messages.

    Raises:
        ValueError, OSError: as `fuse`.
    """
    if not hasattr(pipe, "load_lora_weights"):
        raise ValueError(f"{type(pipe).__name__} takes no LoRA; leave it out")
    where = {"weight_name": file or _only_file(path, revision, setting), "revision": revision}
    found = pipe.lora_state_dict(path, **where)
    keys = set(found[0] if isinstance(found, tuple) else found)
    halves = _halves(path, keys)
    touched = {module.partition(".")[0] for module in halves}
    before = _widths(pipe, touched)
    try:
        with warnings.catch_warnings():
            # Several are meant to be loaded.
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")
            pipe.load_lora_weights(path, adapter_name=adapter, **where)
    # A file of another model makes diffusers and peft raise many things.
    except Exception as exc:
        raise ValueError(f"the LoRA {path} does not fit {type(pipe).__name__}: {str(exc)[:500]}") from exc
    strange = sorted(module for module in halves if not _took(pipe, module, adapter))
    if strange:
        message = (
            f"the LoRA {path} does not fit {type(pipe).__name__}, which lacks {_some(strange)}; serve one made for this model"
        )
        raise ValueError(message)
    widened = sorted(name for name, width in _widths(pipe, touched).items() if before.get(name, width) != width)
    if widened:
        # FLUX's control LoRAs; diffusers widens the layer for good.
        raise ValueError(f"the LoRA {path} does not fit {type(pipe).__name__}: it widens {_some(widened)}; leave it out")
    return touched


def _widths(pipe: Any, components: set[str]) -> dict[str, torch.Size]:
    """The shapes of the weights of some components' linear layers, without those of LoRAs."""
    return {
        name.removesuffix(".base_layer"): module.weight.shape
        for component in components
        for name, module in getattr(pipe, component, torch.nn.Module()).named_modules()
        if isinstance(module, torch.nn.Linear) and ".lora_" not in name
    }


def _only_file(path: str, revision: str | None, setting: str) -> str | None:
    """The one file of a folder or a repository; None for a path that is a file.

    Raises:
        ValueError: when there are several, or none.
    """
    naming = f"name one with {setting}_FILE" if setting == _SETTING else f"name one with file in {setting}"
    folder = Path(path)
    if folder.is_file():
        return None
    if folder.is_dir():
        names = [found.name for found in folder.iterdir()]
    elif hub.offline():
        raise ValueError(f"HF_HUB_OFFLINE is set, so the files of {path} cannot be listed; {naming}")
    else:
        names = HfApi().list_repo_files(path, revision=revision)
    files = sorted(name for name in names if name.endswith(_SUFFIX))
    if len(files) == 1:
        return files[0]
    if not files:
        raise ValueError(f"{path} has no file *{_SUFFIX}")
    raise ValueError(f"{path} has {len(files)} files: {naming} ({_some(files, most=20)})")


def _halves(path: str, keys: set[str]) -> dict[str, set[bool]]:
    """By module, which of a LoRA's two matrices the file has.

    Raises:
        ValueError: when one is missing, or a tensor is none of a LoRA's.
    """
    halves: dict[str, set[bool]] = {}
    unknown = []
    for key in keys:
        if key.endswith(".alpha"):
            continue
        match = _KEY.match(key)
        if match is None:
            unknown.append(key)
        else:
            halves.setdefault(match["module"], set()).add(match["side"] in {"A", "down"})
    if unknown:
        raise ValueError(f"the LoRA {path} has tensors that are none of a LoRA's: {_some(sorted(unknown))}")
    half = sorted(module for module, found in halves.items() if len(found) == 1)
    if half:
        raise ValueError(f"the LoRA {path} is incomplete: one of two matrices is missing for {_some(half)}")
    if not halves:
        raise ValueError(f"the LoRA {path} is empty")
    return halves


def _took(pipe: Any, name: str, adapter: str) -> bool:
    """Whether a module (``transformer.blocks.0.attn.to_q``) has the adapter."""
    component, _, rest = name.partition(".")
    model = getattr(pipe, component, None)
    if model is None:
        return False
    try:
        module = model.get_submodule(rest)
    except AttributeError:
        return False
    return adapter in getattr(module, "lora_A", {})


def _some(names: list[str], most: int = _SHOWN) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
