"""``make e2e-real``: a session with real services and tiny models.

Valkey, the orchestrator, an editor worker with a toy Kontext, and vLLM with a toy Qwen3-VL, each a process of its own.
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from tests.doubles.diffusion import png, source, worker
from tests.doubles.processes import Process
from tests.vllm import stack


@pytest.mark.parametrize("name", ["editthinker", "checklist"])
def test_a_whole_session(vllm: Process, endings: dict[str, str], tmp_path: Path, name: str) -> None:
    """Every turn has its own picture and readable scores; the totals have the tokens."""
    thinkers = {"tiny": stack.thinker(vllm, endings[name], name)}
    (tmp_path / "editor").mkdir()
    with worker("kontext", tmp_path / "editor", max_batch=4) as editor:
        editors = {"kontext": {"url": f"{editor.url}/v1", "parameters": ["size", "num_inference_steps"]}}
        with stack.orchestrator(tmp_path, editors, thinkers) as http:
            fields = {"prompt": "make it feel like golden hour", "num_inference_steps": 3}
            told = stack.edit(http, png(source(3)), **fields)
            session, pictures = told.session, {}
            for event in told.of("edited"):
                path = f"/v1/sessions/{session['id']}/turns/{event['turn']}/candidates/{event['candidate']}/image"
                pictures[event["turn"]] = http.get(path).content

    assert session["status"] == "succeeded", session["error"]
    assert session["finish_reason"] in {"max_turns", "satisfied"}
    turns = session["totals"]["turns"]
    assert turns >= 2
    assert sorted(pictures) == list(range(1, turns + 1))
    for data in pictures.values():
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.size == (64, 64)
            picture.load()
    # A repeated instruction is edited with another seed.
    asked = {(turn["instruction"], turn["candidates"][0]["seed"]) for turn in session["turns"]}
    assert len(set(pictures.values())) == len(asked) == turns
    assert not told.of("edit_failed") and not told.of("critique_failed") and not told.of("checklist_failed")
    assert [event["timings"]["steps"] for event in told.of("edited")] == [3] * turns
    for turn in session["turns"]:
        (candidate,) = turn["candidates"]
        assert candidate["status"] == "critiqued"
        assert all(0 <= candidate["scores"][score] <= 10 for score in ("semantic", "quality", "overall"))
    totals = session["totals"]
    assert totals["prompt_tokens"] > 0 and totals["completion_tokens"] > 0 and totals["cached_tokens"] > 0
    assert totals["edits"] == turns and totals["editor_seconds"] > 0 and totals["thinker_seconds"] > 0
