"""LoRAs that a request names: pictures are those of plain diffusers with that LoRA, in any company."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.editor.pipelines.base import EditJob, LoraChoice
from services.editor.pipelines.diffusion.device import Device
from services.editor.pipelines.diffusion.interleaved import InterleavedPipeline
from services.editor.pipelines.diffusion.loading import serve
from services.editor.pipelines.tuning import LoraModule, Tuning
from tests.component.diffusion.test_families import family_of
from tests.parity import WORKING_PIXELS, Bench, difference, picture
from tests.tiny import BUILDERS
from tests.tiny.loras import FILE, saved

FAMILIES = ["kontext", "qwen-image-edit"]
ROUNDING = 1e-6


def modules(name: str, folder: Path, **options: Any) -> tuple[LoraModule, ...]:
    """Two LoRAs of different layers: where one acts, the other may have none."""
    one = saved(name, folder / "one", seed=1, **options)
    other = saved(name, folder / "other", seed=2, targets=("to_k", "to_v"), **options)
    return LoraModule("one", str(one)), LoraModule("other", str(other), scale=0.5)


def job(number: int, lora: LoraChoice | None, steps: int = 4) -> EditJob:
    parameters = {"num_inference_steps": steps, "true_cfg_scale": 1.0}
    return EditJob(
        picture(number, (64, 64)), f"instruction {number}", number, parameters=parameters, source=str(number), lora=lora
    )


def plain(bench: Bench, wanted: EditJob, loras: tuple[LoraModule, ...], **layerwise: torch.dtype) -> torch.Tensor:
    """The picture of plain diffusers with the job's LoRA loaded, and no other."""
    pipe = BUILDERS[bench.family.name]()
    if wanted.lora is not None:
        path = next(lora.path for lora in loras if lora.name == wanted.lora.name)
        pipe.load_lora_weights(path, adapter_name="only")
        pipe.set_adapters("only", wanted.lora.scale)
        getattr(pipe, bench.family.denoiser).eval()
    if layerwise:
        pipe.transformer.enable_layerwise_casting(**layerwise)
    bench.plain = pipe
    with torch.no_grad():
        return bench.expected(wanted)


def served(name: str, **tuning: Any) -> InterleavedPipeline:
    return serve(family_of(name), BUILDERS[name](), Device("cpu"), Tuning(pixels=WORKING_PIXELS, **tuning))


@pytest.mark.parametrize("name", FAMILIES)
def test_edits_of_different_loras_and_of_none_run_together_as_alone(name: str, tmp_path: Path) -> None:
    """And alone as plain diffusers does, to the last bit; edits of one LoRA and strength share passes."""
    loras = modules(name, tmp_path)
    bench = Bench(name, tuning=Tuning(loras=loras))
    one, other, weak = LoraChoice("one", 1.0), LoraChoice("other", 0.5), LoraChoice("one", 0.25)
    jobs = [job(number, lora) for number, lora in enumerate((None, one, other, one, weak, None))]
    expected = [plain(bench, each, loras) for each in jobs]
    assert [difference(bench.alone(each), wanted) for each, wanted in zip(jobs, expected, strict=True)] == [0.0] * 6
    pictures, largest = bench.mixed(jobs)
    assert largest == 2
    assert max(map(difference, pictures, expected)) <= ROUNDING
    same = replace(jobs[0], seed=jobs[1].seed)
    assert difference(bench.alone(same), bench.alone(replace(same, lora=one))) > 0.01


@pytest.mark.parametrize("name", ["flux2-klein", "qwen-image-2.1", "instruct-pix2pix"])
def test_the_other_kinds_of_denoiser_take_loras_too(name: str, tmp_path: Path) -> None:
    """One that caches a prefix, and a U-Net: to the last bit as plain diffusers with that LoRA."""
    loras = modules(name, tmp_path)
    bench = Bench(name, tuning=Tuning(loras=loras))
    wanted = bench.jobs()[0]
    chosen = replace(wanted, lora=LoraChoice("one", 1.0))
    assert difference(bench.alone(chosen), plain(bench, chosen, loras)) == 0
    assert difference(bench.alone(wanted), bench.alone(chosen)) > 0


def test_only_edits_of_the_same_lora_and_strength_have_the_same_group(tmp_path: Path) -> None:
    pipeline = served("kontext", loras=modules("kontext", tmp_path))
    chosen = (None, LoraChoice("one", 1.0), LoraChoice("one", 0.5), LoraChoice("other", 1.0))
    groups = []
    for lora in (*chosen, *chosen):
        edit = pipeline.open(job(1, lora))
        pipeline.advance([edit])
        groups.append(edit.group)
    assert groups[:4] == groups[4:]
    assert len(set(groups)) == 4


def test_an_edit_without_a_lora_is_that_of_a_worker_without_any(tmp_path: Path) -> None:
    """After others, too, and with a fused LoRA under the others."""
    loras = modules("kontext", tmp_path)
    fused = str(saved("kontext", tmp_path / "fused", seed=3))
    for tuning in (Tuning(), Tuning(lora=fused)):
        with_loras = Bench("kontext", tuning=replace(tuning, loras=loras))
        wanted = Bench("kontext", tuning=tuning).alone(job(1, None))
        changed = with_loras.alone(job(1, LoraChoice("one", 1.0)))
        assert difference(with_loras.alone(job(1, None)), wanted) == 0
        assert difference(changed, wanted) > 0.01


def test_a_lora_at_strength_zero_changes_nothing(tmp_path: Path) -> None:
    bench = Bench("kontext", tuning=Tuning(loras=modules("kontext", tmp_path)))
    assert difference(bench.alone(job(1, LoraChoice("one", 0.0))), bench.alone(job(1, None))) == 0


def test_the_dropout_of_its_training_is_off(tmp_path: Path) -> None:
    """A file can carry it in its metadata."""
    loras = modules("kontext", tmp_path, dropout=0.5)
    bench = Bench("kontext", tuning=Tuning(loras=loras))
    dropouts = [module.p for module in bench.plain_of_service.transformer.modules() if isinstance(module, torch.nn.Dropout)]
    assert 0.5 in dropouts
    wanted = job(1, LoraChoice("one", 1.0))
    assert difference(bench.alone(wanted), plain(bench, wanted, loras)) == 0


def test_with_weights_in_fp8_it_is_that_of_plain_diffusers(tmp_path: Path) -> None:
    """The LoRA's own weights stay as they are."""
    loras = modules("kontext", tmp_path)
    bench = Bench("kontext", tuning=Tuning(loras=loras, quantization="fp8"))
    own = {value.dtype for key, value in bench.plain_of_service.transformer.named_parameters() if ".lora_" in key}
    assert own == {torch.float32}
    wanted = job(1, LoraChoice("one", 1.0))
    fp8 = {"storage_dtype": torch.float8_e4m3fn, "compute_dtype": torch.float32}
    assert difference(bench.alone(wanted), plain(bench, wanted, loras, **fp8)) == 0


@pytest.mark.parametrize(
    "tuning", [{"offload": "model"}, {"cache": "first_block", "cache_threshold": 0.3}], ids=["offload", "cache"]
)
def test_it_works_with_model_offload_and_with_a_step_cache(tuning: dict[str, Any], tmp_path: Path) -> None:
    loras = modules("kontext", tmp_path)
    bench = Bench("kontext", tuning=Tuning(loras=loras, **tuning))
    jobs = [job(1, LoraChoice("one", 1.0), 6), job(2, None, 6), job(3, LoraChoice("other", 0.5), 6)]
    alone = [bench.alone(each) for each in jobs]
    if "offload" in tuning:
        assert max(difference(got, plain(bench, each, loras)) for each, got in zip(jobs, alone, strict=True)) == 0
    else:
        pictures, _ = bench.mixed(jobs)
        assert max(map(difference, pictures, alone)) == 0


def test_memory_is_flat_over_many_alternating_edits(tmp_path: Path) -> None:
    """Tensors alive, and the bytes in them, after 20 edits and after 100."""
    pipeline = served("kontext", loras=modules("kontext", tmp_path), encoder_cache_bytes=0)
    chosen = (None, LoraChoice("one", 1.0), LoraChoice("other", 0.5), LoraChoice("one", -1.0))
    alive = []
    for number in range(100):
        edit = pipeline.open(job(number % 5, chosen[number % 4], steps=1))
        while edit.result is None:
            assert edit.error is None
            pipeline.advance([edit])
        if number + 1 in {20, 100}:
            del edit
            gc.collect()
            tensors = [each for each in gc.get_objects() if issubclass(type(each), torch.Tensor)]
            alive.append((len(tensors), sum(each.nbytes for each in tensors)))
    assert alive[0] == alive[1]
    assert pipeline.figures()["lora_switches"] == 99


def test_what_is_loaded_is_told(tmp_path: Path) -> None:
    """The names with their strengths, and the bytes of all of them."""
    pipeline = served("kontext", loras=modules("kontext", tmp_path))
    assert pipeline.capabilities.loras == {"one": 1.0, "other": 0.5}
    files = (load_file(tmp_path / name / FILE) for name in ("one", "other"))
    assert pipeline.figures()["lora_bytes"] == sum(tensor.nbytes for tensors in files for tensor in tensors.values())
    assert served("kontext").capabilities.loras == {}


def test_more_bytes_than_the_limit_refuse_to_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"hold .* bytes \(one: .*, other: .*\), more than EDITTHINKER_EDITOR_LORA_BYTES=4000"):
        served("kontext", loras=modules("kontext", tmp_path), lora_bytes=4000)


def halved(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    gone = next(key for key in tensors if "lora_B" in key)
    return {key: value for key, value in tensors.items() if key != gone}


def renamed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.replace("transformer_blocks.0.", "transformer_blocks.7."): value for key, value in tensors.items()}


@pytest.mark.parametrize(
    ("change", "reason"),
    [(halved, "is incomplete: one of two matrices is missing"), (renamed, "does not fit QwenImageEditPipeline, which lacks")],
    ids=["missing", "unexpected"],
)
def test_one_that_does_not_fit_refuses_to_start(
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], reason: str, tmp_path: Path
) -> None:
    good, bad = modules("qwen-image-edit", tmp_path)
    save_file(change(load_file(bad.path)), bad.path)
    with pytest.raises(ValueError, match=reason):
        served("qwen-image-edit", loras=(good, bad))


def test_one_of_several_files_is_named_in_the_list(tmp_path: Path) -> None:
    """The message says where."""
    for name in ("a", "b"):
        saved("kontext", tmp_path / name).rename(tmp_path / f"{name}.safetensors")
    with pytest.raises(ValueError, match=r"has 2 files: name one with file in EDITTHINKER_EDITOR_LORAS \(a\.safetensors"):
        served("kontext", loras=(LoraModule("x", str(tmp_path)),))
    served("kontext", loras=(LoraModule("x", str(tmp_path), file="a.safetensors"),))


def test_one_of_a_text_encoder_is_refused(tmp_path: Path) -> None:
    """Its embeddings would be other ones than those in the encoder cache; fused at the start it works."""
    file = saved("kontext", tmp_path, component="text_encoder", targets=("q_proj",))
    with pytest.raises(
        ValueError, match=r"changes text_encoder.*only transformer can be changed by request.*EDITTHINKER_EDITOR_LORA"
    ):
        served("kontext", loras=(LoraModule("x", str(file)),))


def test_one_that_widens_a_layer_is_refused(tmp_path: Path) -> None:
    """diffusers widens the layer for every edit (FLUX's control LoRAs, which need another pipeline)."""
    file = saved("kontext", tmp_path, targets=("x_embedder",))
    tensors = load_file(file)
    key = next(key for key in tensors if "lora_A" in key)
    save_file({**tensors, key: torch.cat([tensors[key]] * 2, dim=1)}, file)
    for options in ({"loras": (LoraModule("x", str(file)),)}, {"lora": str(file)}):
        with pytest.raises(ValueError, match=r"does not fit FluxKontextPipeline: it widens x_embedder"):
            served("kontext", **options)


def test_a_family_without_loras_refuses_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="LongCatImageEditPipeline takes no LoRA; leave it out"):
        served("longcat-image-edit", loras=(LoraModule("x", str(tmp_path)),))
