"""LoRAs with random weights for the tiny pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from tests.tiny import BUILDERS

FILE = "pytorch_lora_weights.safetensors"


def saved(
    name: str,
    folder: Path,
    *,
    seed: int = 0,
    strength: float = 8,
    component: str | None = None,
    targets: tuple[str, ...] = ("to_q", "to_v"),
    dropout: float = 0,
) -> Path:
    """A LoRA of a family's denoiser, or of another component, in a new folder.

    Args:
        strength: factor of its weights: random ones move a picture of random weights too little to be seen.
    """
    pipe = BUILDERS[name]()
    component = component or ("unet" if hasattr(pipe, "unet") else "transformer")
    model = getattr(pipe, component)
    config = LoraConfig(r=2, target_modules=list(targets), init_lora_weights=False, lora_dropout=dropout)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.add_adapter(config)
    for key, parameter in model.named_parameters():
        if "lora_" in key:
            parameter.data.mul_(strength)
    layers: dict[str, Any] = {f"{component}_lora_layers": get_peft_model_state_dict(model)}
    if dropout:
        layers[f"{component}_lora_adapter_metadata"] = config.to_dict()  # type: ignore[no-untyped-call]
    pipe.save_lora_weights(folder, **layers)
    return folder / FILE
