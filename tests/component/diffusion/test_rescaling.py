"""Pipelines with a hard-coded area work at the configured one, and at their own again afterwards."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import pytest
from diffusers import LongCatImageEditPipeline, QwenImageEditPipeline, QwenImageEditPlusPipeline
from greenlet import greenlet

from services.editor.pipelines.diffusion.family import NATIVE_PIXELS
from services.editor.pipelines.diffusion.rescaling import calculated_size, rescale, working_area

CLASSES = (LongCatImageEditPipeline, QwenImageEditPipeline, QwenImageEditPlusPipeline)


@pytest.fixture(params=CLASSES, ids=lambda pipeline_class: str(pipeline_class.__name__))
def pipeline_class(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    module: Any = sys.modules[request.param.__module__]
    monkeypatch.setattr(module, "calculate_dimensions", module.calculate_dimensions)
    rescale(request.param, NATIVE_PIXELS)
    return request.param


def _computed(pipeline_class: type, area: int, ratio: float) -> tuple[int, int]:
    module: Any = sys.modules[pipeline_class.__module__]
    width, height, *_ = module.calculate_dimensions(area, ratio)
    return width, height


def test_rescaling_is_not_cumulative(pipeline_class: type) -> None:
    for _ in range(3):
        rescale(pipeline_class, 512 * 512)
    assert _computed(pipeline_class, NATIVE_PIXELS, 1.0) == (512, 512)
    rescale(pipeline_class, 256 * 256)
    assert _computed(pipeline_class, NATIVE_PIXELS, 1.0) == (256, 256)


@pytest.mark.parametrize("area", [NATIVE_PIXELS, 384 * 384])
def test_at_the_native_area_sizes_are_the_original_function_s(pipeline_class: type, area: int) -> None:
    module: Any = sys.modules[pipeline_class.__module__]
    rescale(pipeline_class, 512 * 512)
    rescale(pipeline_class, NATIVE_PIXELS)
    assert module.calculate_dimensions(area, 1.5) == inspect.unwrap(module.calculate_dimensions)(area, 1.5)


def test_an_edit_in_a_context_of_its_own_works_at_its_area(pipeline_class: type) -> None:
    def draft() -> tuple[int, int]:
        working_area.set(256 * 256)
        return _computed(pipeline_class, NATIVE_PIXELS, 1.0)

    rescale(pipeline_class, 512 * 512)
    assert greenlet(draft).switch() == (256, 256)
    assert _computed(pipeline_class, NATIVE_PIXELS, 1.0) == (512, 512)


@pytest.mark.parametrize("shape", [(640, 480), (333, 1000), (1, 1), (4000, 900)])
@pytest.mark.parametrize("pixels", [64 * 64, 512 * 512, NATIVE_PIXELS])
def test_the_calculated_size_is_the_pipeline_s(pipeline_class: type, shape: tuple[int, int], pixels: int) -> None:
    rescale(pipeline_class, pixels)
    assert calculated_size(pipeline_class, shape, pixels) == _computed(pipeline_class, NATIVE_PIXELS, shape[0] / shape[1])


def test_the_text_encoder_s_copy_is_scaled_within_its_minimum(pipeline_class: type) -> None:
    rescale(pipeline_class, 512 * 512)
    assert _computed(pipeline_class, 384 * 384, 1.0) == (192, 192)
    rescale(pipeline_class, 64 * 64)
    assert min(_computed(pipeline_class, 384 * 384, 1.0)) >= 56
