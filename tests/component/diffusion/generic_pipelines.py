"""Pipelines for the tests of the generic family: small, with calls of every form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, ModelMixin
from diffusers.configuration_utils import ConfigMixin
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils import BaseOutput
from PIL import Image

from tests.tiny.vaes import flux_vae

CHANNELS = 4
FORMS = ("plain", "list", "numbers", "scalar first", "frames", "nested", "flat", "listed tensors")
"""What the prompt may ask for: how the pipeline calls its denoiser."""


@dataclass
class Output(BaseOutput):  # type: ignore[misc,unused-ignore]
    """What a model returns unless it is asked for a tuple."""

    sample: torch.Tensor


class Denoiser(ModelMixin, ConfigMixin):  # type: ignore[misc,unused-ignore]
    """Takes latents in any form, and returns them in that form."""

    def __init__(self) -> None:
        super().__init__()
        self.register_to_config()
        self.mix = torch.nn.Linear(CHANNELS, CHANNELS)
        self.calls = 0

    def forward(self, x: Any, timestep: Any = None, extra: Any = None, return_dict: Any = True) -> Any:  # noqa: FBT002 - as models have it
        self.calls += 1
        if isinstance(x, str):
            return x
        if isinstance(x, float):
            # Only numbers: a scalar in place of latents.
            return (torch.full((1, CHANNELS, 8, 8), x * 1e-3),)
        if isinstance(x, dict):
            return ({"latents": self._mixed(x["latents"])},)
        if isinstance(x, list):
            return ([self._mixed(each) for each in x],)
        if x.ndim == 0:
            return (self._mixed(extra),)
        return Output(self._mixed(x)) if return_dict else (self._mixed(x),)

    def _mixed(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.mix(latents.movedim(-3, -1))).movedim(-1, -3)


class AnyDenoiser(Denoiser):
    """The same, with a call whose arguments have no names."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return super().forward(*args, **kwargs)


class AnyFormPipeline(DiffusionPipeline):  # type: ignore[misc,unused-ignore]
    """Edits a picture; the prompt names the form of its calls, and ``fail`` lets the second one raise."""

    def __init__(self, transformer: Any, scheduler: Any, vae: Any) -> None:
        super().__init__()
        self.register_modules(transformer=transformer, scheduler=scheduler, vae=vae)
        self.image_processor = VaeImageProcessor(vae_scale_factor=8)

    @torch.no_grad()
    def __call__(
        self,
        image: Image.Image,
        prompt: str,
        num_inference_steps: int = 4,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
        return_dict: Any = True,  # noqa: FBT002 - as pipelines have it
    ) -> Any:
        pixels = self.image_processor.preprocess(image)
        source = self.vae.encode(pixels).latent_dist.mode()
        latents = source + torch.randn(source.shape, generator=generator)
        self.scheduler.set_timesteps(num_inference_steps)
        for t in self.scheduler.timesteps:
            latents = self.scheduler.step(self._call(prompt, latents, t), t, latents, return_dict=False)[0]
        decoded = self.vae.decode(latents, return_dict=False)[0]
        pictures = self.image_processor.postprocess(decoded, output_type=output_type)
        return pictures if not return_dict and prompt == "flat" else (pictures,)

    def _call(self, form: str, latents: torch.Tensor, t: torch.Tensor) -> Any:
        model = self.transformer
        if form == "list":
            return torch.stack(model([each.unsqueeze(1)[:, 0] for each in latents], t.view(1))[0])
        if form == "numbers":
            return model(float(t))[0].expand_as(latents) if latents.shape[-1] == 8 else latents
        if form == "scalar first":
            return model(t, extra=latents)[0]
        if form == "frames":
            # (B, T, C, H, W), and an output that is no tuple.
            return model(latents.unsqueeze(1)).sample[:, 0]
        if form == "nested":
            return model({"latents": latents}, extra={"shapes": [latents.shape]})[0]["latents"]
        if form == "flat":
            return model(latents.flatten(2).unsqueeze(-1), return_dict=False)[0].squeeze(-1).view_as(latents)
        if form == "listed tensors":
            return model(latents, extra=[latents[:, 0], latents[:, 1]], return_dict=False)[0]
        if form == "fail":
            raise StopIteration
        if form == "text":
            return model("no latents")[0]
        return model(latents, t.view(1), return_dict=False)[0]


def any_form(denoiser: type = Denoiser, *, seed: int = 0) -> AnyFormPipeline:
    """The pipeline, with weights of this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae: AutoencoderKL = flux_vae(CHANNELS)
        pipeline = AnyFormPipeline(denoiser().eval(), FlowMatchEulerDiscreteScheduler(), vae)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def with_call(call: Any, **components: Any) -> Any:
    """The pipeline as a class of that call, and with other components."""
    kind = type("OddPipeline", (AnyFormPipeline,), {"__call__": call, "_optional_components": []})
    return kind(**{**any_form().components, **components})
