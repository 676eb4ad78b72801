"""FLUX.2 [klein] KV (Black Forest Labs): `Flux2KleinKVPipeline`, which computes the source's attention keys and values once.

The first step stores keys and values of the source's tokens in an object of the edit, which is passed to the other steps. Such
calls cannot be batched, only interleaved; `flux2-klein` is the better choice where many edits run at a time. Distilled: 4 steps,
no guidance, no negative prompt. Sizes: as `services.editor.pipelines.flux2`.
"""

from __future__ import annotations

from services.editor.pipelines.base import Capabilities, Range
from services.editor.pipelines.diffusion.family import Family
from services.editor.pipelines.diffusion.text_limit import Text
from services.editor.pipelines.flux2 import aspect, reduced, size, to_vae
from services.editor.pipelines.flux2_klein import MAX_IMAGES, arguments, in_template

FAMILY = Family(
    name="flux2-klein-kv",
    capabilities=Capabilities(
        max_images=MAX_IMAGES, partial_images=3, parameters={"num_inference_steps": Range(1, 100, 4, whole=True)}
    ),
    call=arguments,
    collations={},
    size=size,
    reduces=reduced,
    aspect=aspect,
    to_vae=to_vae,
    step_caches=frozenset(),
    text=Text(("tokenizer",), 512, in_template),
    licence="FLUX Non-Commercial License (klein 9B KV)",
)
