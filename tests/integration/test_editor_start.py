"""An editor worker that cannot start says why and ends; it does not hang about."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.doubles.forked import forked
from tests.tiny import save


def start(folder: Path, *arguments: str, **settings: str) -> tuple[int, str]:
    """The status and the output of ``python -m services.editor``, which is expected to end by itself."""
    env = {f"EDITTHINKER_EDITOR_{name.upper()}": value for name, value in settings.items()}
    log = folder / "log"
    log.unlink(missing_ok=True)
    status = forked("services.editor", ["--port", "0", *arguments], log, env).wait(120)
    return status, log.read_text()


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
def test_wrong_settings_are_refused_before_anything_is_loaded(
    arguments: list[str], settings: dict[str, str], told: str, tmp_path: Path
) -> None:
    """With the name of the setting and what to do."""
    status, output = start(tmp_path, *arguments, **settings)
    assert status == 2
    assert told in output and "Traceback" not in output


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
        status, output = start(tmp_path, *arguments)
        assert status == 1
        last = output.strip().splitlines()[-1]
        assert last.startswith("the editor cannot start: ") and told in last
