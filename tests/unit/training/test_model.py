"""The miniature's model on disk: whole, or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen3VLForConditionalGeneration

from training.miniature import model, stages


class KilledError(Exception):
    """The process ended here."""


@pytest.fixture(autouse=True)
def _processor_loads() -> None:
    pytest.importorskip("torchvision", reason="the processor needs the extra miniature")


def killed(*_: Any, **__: Any) -> None:
    raise KilledError


def test_a_model_whose_making_was_killed_is_made_again(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Qwen3VLForConditionalGeneration, "save_pretrained", killed)
        with pytest.raises(KilledError):
            stages.thinker_of(tmp_path, 0)
    thinker, _ = stages.thinker_of(tmp_path, 0)
    assert model.parameters(thinker) < 5e6


def test_a_save_that_was_killed_leaves_the_model_before_it(tmp_path: Path) -> None:
    thinker, processor = stages.thinker_of(tmp_path, 0)
    with torch.no_grad():
        thinker.lm_head.weight.zero_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(processor), "save_pretrained", killed)
        with pytest.raises(KilledError):
            model.save(tmp_path / "random", thinker, processor)
    assert model.load(tmp_path / "random")[0].lm_head.weight.any()
    model.save(tmp_path / "random", thinker, processor)
    assert not model.load(tmp_path / "random")[0].lm_head.weight.any()
    assert [folder.name for folder in tmp_path.iterdir()] == ["random"]
