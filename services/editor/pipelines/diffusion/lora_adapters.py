"""The LoRAs that a request may name: loaded into the denoiser at the start, of which each pass uses one or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peft.tuners.lora import LoraLayer

from services.editor.pipelines.base import LoraChoice
from services.editor.pipelines.diffusion import lora
from services.editor.pipelines.tuning import LoraModule

_SETTING = "EDITTHINKER_EDITOR_LORAS"


class LoraAdapters:
    """Switches between LoRAs of one model; used by the executor's thread alone.

    All layers share one list of active adapters, so that a switch costs the same for any number of layers: peft's own
    ``set_adapter`` visits every parameter of every adapter. Without an active adapter a layer computes its base layer alone, to
    the bit.

    Args:
        model: the denoiser, with the adapters loaded.
        names: of each LoRA, its adapter's name in the model.
        scales: of each LoRA, its strength where a request gives none.
    """

    def __init__(self, model: Any, names: Mapping[str, str], scales: Mapping[str, float]) -> None:
        self.scales = dict(scales)
        self.bytes = sum(_bytes(model, adapter) for adapter in names.values())
        self.switches = 0
        self._names = dict(names)
        self._active: list[str] = []
        self._chosen: LoraChoice | None = None
        # As peft loads them.
        self._scale_of = dict.fromkeys(names, 1.0)
        self._layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
        for layer in self._layers:
            layer._active_adapter = self._active  # noqa: SLF001 - has no setter that keeps the list

    def select(self, choice: LoraChoice | None) -> None:
        """Use this LoRA, or none, from the next pass on."""
        if choice == self._chosen:
            return
        active = []
        if choice is not None:
            active = [self._names[choice.name]]
            if self._scale_of[choice.name] != choice.scale:
                for layer in self._layers:
                    layer.set_scale(active[0], choice.scale)
                self._scale_of[choice.name] = choice.scale
        self._active[:] = active
        self._chosen = choice
        self.switches += 1


def load(pipe: Any, component: str, modules: Sequence[LoraModule], limit: int) -> LoraAdapters:
    """Load the LoRAs into a pipeline that is not on its device yet.

    Args:
        pipe: the loaded pipeline.
        component: its attribute that holds the denoiser.
        modules: the LoRAs; at least one.
        limit: bytes of all of them.

    Raises:
        ValueError: when one does not fit, changes another component, or all of them exceed the limit.
        OSError: when one cannot be found or downloaded.
    """
    model = getattr(pipe, component)
    # A ModuleDict's keys have no dots, and a LoRA's name may.
    names = {module.name: f"request_{number}" for number, module in enumerate(modules)}
    sizes: dict[str, int] = {}
    for module in modules:
        adapter = names[module.name]
        others = lora.load(pipe, module.path, adapter, file=module.file, revision=module.revision, setting=_SETTING) - {component}
        if others:
            raise ValueError(
                f"the LoRA {module.path} changes {', '.join(sorted(others))}, and only {component} can be changed by request; "
                "fuse it with EDITTHINKER_EDITOR_LORA, or leave it out"
            )
        sizes[module.name] = _bytes(model, adapter)
        if sum(sizes.values()) > limit:
            told = ", ".join(f"{name}: {size:,}" for name, size in sizes.items())
            raise ValueError(
                f"the LoRAs hold {sum(sizes.values()):,} bytes ({told}), more than EDITTHINKER_EDITOR_LORA_BYTES={limit}; "
                "raise it, or register fewer"
            )
    # Their layers come in training mode, with the dropout that a file's metadata may name.
    model.eval()
    model.requires_grad_(False)
    return LoraAdapters(model, names, {module.name: module.scale for module in modules})


def _bytes(model: Any, adapter: str) -> int:
    return sum(value.nbytes for name, value in model.named_parameters() if f".{adapter}." in name)
