"""An editor worker that cannot start says why and ends; it does not hang about."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import save


def start(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """``python -m services.editor``, which is expected to end by itself."""
    env = {"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", **{f"EDITTHINKER_EDITOR_{k.upper()}": v for k, v in settings.items()}}
    command = [sys.executable, "-m", "services.editor", "--port", "0", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, check=False)


@pytest.mark.parametrize(
    ("arguments", "settings", "told"),
    [
        (["--pipeline", "kontext"], {}, "the pipeline kontext needs model"),
        (["--pipeline", "classical", "--model", "x"], {}, "the classical editor has no model"),
        (["--pipeline", "nope"], {}, "'nope': write one of auto, classical, "),
        ([], {"max_batch": "0"}, "EDITTHINKER_EDITOR_MAX_BATCH"),
        ([], {"cache": "everything"}, "EDITTHINKER_EDITOR_CACHE"),
        ([], {"few_steps": "8"}, "EDITTHINKER_EDITOR_*: few_steps describes a LoRA; set lora too"),
        ([], {"loras": "/loras/anime"}, "is not name=path"),
        ([], {"loras": "a=x"}, "the classical editor takes no LoRA"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_loaded(arguments: list[str], settings: dict[str, str], told: str) -> None:
    """With the name of the setting and what to do."""
    ended = start(*arguments, **settings)
    assert ended.returncode == 2
    assert told in ended.stderr and "Traceback" not in ended.stderr


def test_a_model_that_cannot_be_served_ends_the_worker_with_the_reason(tmp_path: Path) -> None:
    """A folder without a model, a model of another family, and one that no family serves."""
    (tmp_path / "empty").mkdir()
    save("kontext", tmp_path / "kontext")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "model_index.json").write_text(json.dumps({"_class_name": "StableAudioPipeline", "_diffusers_version": "0.42.1"}))
    told_of_generic = "is a StableAudioPipeline, which no family serves; try --pipeline generic, or one of the known:"
    for arguments, told in (
        (["--pipeline", "auto", "--model", str(tmp_path / "empty")], "model_index.json"),
        (
            ["--pipeline", "flux2", "--model", str(tmp_path / "kontext")],
            "is a FluxKontextPipeline, which kontext serves, not flux2",
        ),
        (["--pipeline", "auto", "--model", str(foreign)], told_of_generic),
        (["--pipeline", "flux2", "--model", str(foreign)], told_of_generic),
    ):
        ended = start(*arguments)
        assert ended.returncode == 1
        last = ended.stderr.strip().splitlines()[-1]
        assert last.startswith("the editor cannot start: ") and told in last
