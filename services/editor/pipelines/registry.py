"""The table of pipeline families. A new diffusion family is one module and one line here."""

from __future__ import annotations

from collections.abc import Mapping

# name: (module with FAMILY, the diffusers pipeline classes it serves, as named in model_index.json)
DIFFUSION: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "flux2": ("services.editor.pipelines.flux2", ("Flux2Pipeline",)),
    "flux2-klein": ("services.editor.pipelines.flux2_klein", ("Flux2KleinPipeline",)),
    "flux2-klein-kv": ("services.editor.pipelines.flux2_klein_kv", ("Flux2KleinKVPipeline",)),
    "flux3-klein": ("services.editor.pipelines.flux3_klein", ("Flux3DistilledModularPipeline",)),
    "instruct-pix2pix": ("services.editor.pipelines.instruct_pix2pix", ("StableDiffusionInstructPix2PixPipeline",)),
    "instruct-pix2pix-xl": ("services.editor.pipelines.instruct_pix2pix_xl", ("StableDiffusionXLInstructPix2PixPipeline",)),
    "kontext": ("services.editor.pipelines.kontext", ("FluxKontextPipeline",)),
    "longcat-image-edit": ("services.editor.pipelines.longcat", ("LongCatImageEditPipeline",)),
    "omnigen2": ("services.editor.pipelines.omnigen2", ("OmniGen2Pipeline",)),
    "qwen-image-2.1": ("services.editor.pipelines.qwen_image_21", ("QwenImage21Pipeline",)),
    "qwen-image-edit": ("services.editor.pipelines.qwen_edit", ("QwenImageEditPipeline",)),
    "qwen-image-edit-plus": ("services.editor.pipelines.qwen_edit_plus", ("QwenImageEditPlusPipeline",)),
}
EMBEDDED = "classical"
AUTO = "auto"
"""The family is read from the model's `model_index.json`."""
GENERIC = "generic"
"""The family is made from the signature of the model's pipeline."""
NAMES = (AUTO, EMBEDDED, GENERIC, *sorted(DIFFUSION))


def family_of(pipeline_class: str) -> str | None:
    """The family that serves a diffusers pipeline class."""
    return next((name for name, (_, classes) in DIFFUSION.items() if pipeline_class in classes), None)
