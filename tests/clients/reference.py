"""The EditThinker reference's own loop, unchanged, against the embedded editor and the embedded thinker.

``EDITTHINKER_REFERENCE`` is a checkout of appletea233/EditThinker (read at 803d1a7); it states no licence, so it is not kept
here. Its packages are those of the environment of AIPerf.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.clients.server import PHOTOGRAPH, Check, Client, Server

INSTRUCTIONS = {"golden": "make it feel like golden hour", "print": "make it look like a faded 1970s print"}
TEMPLATE = ("--eval_prompt_file", "prompt_template.txt")


def _folder() -> Path:
    folder = os.environ.get("EDITTHINKER_REFERENCE")
    assert folder, "set EDITTHINKER_REFERENCE to a checkout of appletea233/EditThinker"
    return Path(folder) / "inference"


def _version(_: Server) -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, cwd=_folder(), capture_output=True, text=True, check=False)
    return done.stdout.strip() or "a folder"


REFERENCE = Client("EditThinker's scripts", _version, "`--rewrite_model_name rules`; their template and their own prompts")


def _loop(name: str, *options: str) -> Callable[[Server], None]:
    def run(server: Server) -> None:
        assert server.packages, "set EDITTHINKER_CLIENTS, or run `make test-clients`"
        pictures, results = server.folder / "reference", server.folder / f"reference-{name}"
        pictures.mkdir(exist_ok=True)
        Image.open(PHOTOGRAPH).convert("RGB").resize((300, 200)).save(pictures / "photo.png")
        rows = {key: {"id": "photo.png", "prompt": text} for key, text in INSTRUCTIONS.items()}
        (pictures / "rows.json").write_text(json.dumps(rows))
        command = [str(server.packages / "aiperf/bin/python"), "run_edit_thinker_inference.py"]
        command += ["--api_endpoint", server.editor_url, "--model_name", "flux-kontext-dev", "--rewrite_model_name", "rules"]
        command += ["--dataset_format", "imgedit", "--metadata_file", str(pictures / "rows.json"), "--image_path", str(pictures)]
        command += ["--result_dir", str(results), "--max_edit_turns", "5", "--max_retries", "2", *options]
        env = {**os.environ, "VLLM_BASE_URL": f"{server.thinker_url}/v1", "VLLM_API_KEY": "EMPTY", "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(command, cwd=_folder(), env=env, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0 and "[Warning]" not in done.stdout, (done.stderr or done.stdout)[-600:]
        for key in INSTRUCTIONS:
            seen = json.loads((results / f"final/gen_image/{key}_meta.json").read_text())
            critiques = [turn["evaluation"] for turn in seen["turns"] if turn["evaluation"]]
            assert seen["is_satisfied"] and critiques and all(critique["reason"] for critique in critiques), seen
            edits = [turn["rewritten_prompt"] for turn in seen["turns"] if turn["generated"]]
            assert len(edits) >= 1 and len(set(edits)) == len(edits), edits

    return run


CLIENTS = (REFERENCE,)
CHECKS = (
    Check(REFERENCE.name, "the template", _loop("template", *TEMPLATE, "--skip_first_turn_rewrite")),
    Check(REFERENCE.name, "their own prompt", _loop("own", "--skip_first_turn_rewrite")),
    Check(REFERENCE.name, "an instruction rewritten first", _loop("polished", *TEMPLATE, "--use_polish_edit_prompt_first_turn")),
    Check(REFERENCE.name, "the source judged first", _loop("first", *TEMPLATE, "--use_eval_logic_first_turn")),
)
