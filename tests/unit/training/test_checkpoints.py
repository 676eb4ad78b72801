from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.checkpoints import OtherRunError, claim, last_whole, rewind
from training.metrics import MetricsFile


def checkpoint(folder: Path, step: int, *, whole: bool = True) -> Path:
    made = folder / f"checkpoint-{step}"
    made.mkdir()
    (made / "model.safetensors").write_bytes(b"weights")
    if whole:
        (made / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return made


def test_the_newest_whole_checkpoint_counts_by_number(tmp_path: Path) -> None:
    checkpoint(tmp_path, 9)
    newest = checkpoint(tmp_path, 10)
    assert last_whole(tmp_path) == newest


def test_what_a_kill_cut_short_is_removed(tmp_path: Path) -> None:
    whole = checkpoint(tmp_path, 2)
    without_state = checkpoint(tmp_path, 4, whole=False)
    half_written = checkpoint(tmp_path, 6)
    (half_written / "trainer_state.json").write_text('{"global_st')

    assert last_whole(tmp_path) == whole
    assert not without_state.exists() and not half_written.exists()


def test_a_new_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert last_whole(tmp_path) is None


def test_metrics_after_the_checkpoint_are_forgotten(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        metrics({"step": step})
    rewind(metrics, checkpoint(tmp_path, 2))
    metrics({"step": 3})
    assert [row["step"] for row in metrics.read()] == [1, 2, 3]
    rewind(metrics, None)
    assert metrics.read() == []


def test_a_folder_holds_one_run(tmp_path: Path) -> None:
    claim(tmp_path / "run", {"model": Path("a"), "rate": 1e-5})
    claim(tmp_path / "run", {"model": "a", "rate": 1e-5})
    with pytest.raises(OtherRunError, match=r"rate was 1e-05 and is 0\.1"):
        claim(tmp_path / "run", {"model": "a", "rate": 0.1})
