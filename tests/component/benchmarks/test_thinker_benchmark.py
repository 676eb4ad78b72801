"""The thinker's benchmark, as far as it goes without a GPU: `tests.vllm` has a server for the rest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import thinker_gpu
from benchmarks.thinker_gpu import ORDERS, Asked, arguments, lines, request


def test_without_a_gpu_it_says_so_and_is_no_failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """So it may stand in a list of benchmarks to run."""
    monkeypatch.setattr(shutil, "which", lambda name, **_: None)
    assert thinker_gpu.main([]) == 0
    assert "needs a GPU" in capsys.readouterr().out


def test_without_vllm_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It says where it looked."""
    assert thinker_gpu.main(["--tiny", "--vllm", str(tmp_path / "vllm")]) == 0
    assert "needs vLLM" in capsys.readouterr().out


@pytest.mark.parametrize("order", ORDERS)
def test_turns_of_a_session_share_their_source(order: str) -> None:
    """And nothing but it between candidates; the naive order has the texts first and the source last."""
    options = arguments(["--side", "32"])
    first, second = (
        [part["image_url"]["url"] for part in request(order, 1, turn, options)["messages"][0]["content"] if "image_url" in part]
        for turn in (1, 2)
    )
    shared = set(first) & set(second)
    assert shared == {first[1 if order == "naive order" else 0]}


def test_the_table_has_medians() -> None:
    """A row a order and turn."""
    rows = [Asked(order, session, 1, float(session), 100, 54, 300) for order in ORDERS for session in (1, 2, 9)]
    assert lines(rows)[2:] == [f"| {order} | 1 | 2.00 | 100 | 54% | 300 |" for order in ORDERS]
