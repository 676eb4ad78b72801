"""A LoRA that does not fit is refused at the start; of several files one is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.editor.pipelines.diffusion.device import Device
from services.editor.pipelines.diffusion.loading import serve
from services.editor.pipelines.tuning import Tuning
from tests.component.diffusion.test_families import family_of
from tests.parity import WORKING_PIXELS
from tests.tiny import BUILDERS
from tests.tiny.loras import FILE, saved

Tensors = dict[str, torch.Tensor]


def start(name: str, lora: Path, **tuning: str) -> None:
    serve(family_of(name), BUILDERS[name](), Device("cpu"), Tuning(pixels=WORKING_PIXELS, lora=str(lora), **tuning))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["kontext", "qwen-image-edit", "flux2-klein", "instruct-pix2pix", "instruct-pix2pix-xl"])
def test_one_that_fits_is_taken(name: str, tmp_path: Path) -> None:
    """By its file, and by its folder."""
    file = saved(name, tmp_path)
    start(name, file)
    start(name, tmp_path)


def test_the_names_of_lightning_files_are_read(tmp_path: Path) -> None:
    tensors = load_file(saved("qwen-image-edit", tmp_path))
    renamed = {
        key.removeprefix("transformer.").replace("lora_A", "lora_down").replace("lora_B", "lora_up"): value
        for key, value in tensors.items()
    }
    alphas = {key.replace("lora_down.weight", "alpha"): torch.tensor(2.0) for key in renamed if "lora_down" in key}
    save_file({**renamed, **alphas}, tmp_path / FILE)
    start("qwen-image-edit", tmp_path)


def deeper(tensors: Tensors) -> Tensors:
    """One layer more than the model has."""
    key = next(key for key in tensors if "lora_A" in key)
    more = {key.replace("blocks.0.", "blocks.7."), key.replace("lora_A", "lora_B").replace("blocks.0.", "blocks.7.")}
    return {**tensors, **{each: tensors[each.replace("blocks.7.", "blocks.0.")].clone() for each in more}}


def halved(tensors: Tensors) -> Tensors:
    gone = next(key for key in tensors if "lora_B" in key)
    return {key: value for key, value in tensors.items() if key != gone}


def grown(tensors: Tensors) -> Tensors:
    return {key: torch.cat([value, value], -1) if "lora_A" in key else value for key, value in tensors.items()}


def strange(tensors: Tensors) -> Tensors:
    return {**tensors, "transformer.nonsense": torch.zeros(2)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (deeper, r"does not fit QwenImageEditPipeline, which lacks transformer\.transformer_blocks\.7"),
        (halved, "is incomplete: one of two matrices is missing for transformer"),
        (grown, "does not fit QwenImageEditPipeline: "),
        (strange, r"has tensors that are none of a LoRA's: transformer\.nonsense"),
        (lambda _: {}, "is empty"),
    ],
    ids=["unexpected", "missing", "another-width", "no-lora", "empty"],
)
def test_one_that_does_not_fit_is_refused(change: Callable[[Tensors], Tensors], reason: str, tmp_path: Path) -> None:
    file = saved("qwen-image-edit", tmp_path)
    save_file({key: value.contiguous() for key, value in change(load_file(file)).items()}, file)
    with pytest.raises(ValueError, match=reason):
        start("qwen-image-edit", file)


def test_one_of_another_family_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not fit FluxKontextPipeline"):
        start("kontext", saved("qwen-image-edit", tmp_path))
    with pytest.raises(ValueError, match="LongCatImageEditPipeline takes no LoRA; leave it out"):
        start("longcat-image-edit", tmp_path)


def test_of_several_files_one_is_named(tmp_path: Path) -> None:
    file = saved("qwen-image-edit", tmp_path)
    file.rename(tmp_path / "four.safetensors")
    (tmp_path / "eight.safetensors").write_bytes((tmp_path / "four.safetensors").read_bytes())
    told = r"has 2 files: name one with EDITTHINKER_EDITOR_LORA_FILE \(eight\.safetensors, four\.safetensors\)"
    with pytest.raises(ValueError, match=told):
        start("qwen-image-edit", tmp_path)
    start("qwen-image-edit", tmp_path, lora_file="eight.safetensors")
    with pytest.raises((ValueError, OSError), match=r"six\.safetensors"):
        start("qwen-image-edit", tmp_path, lora_file="six.safetensors")
    with pytest.raises(ValueError, match=r"has no file \*\.safetensors"):
        start("qwen-image-edit", tmp_path / "..")
