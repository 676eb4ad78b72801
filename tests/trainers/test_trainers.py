"""An export of the embedded stack, read by the trainers themselves, each in an environment of its own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from editthinker import EditThinker
from editthinker.local import Stack
from evaluation.trajectories.exporting import ExportOptions, export
from evaluation.trajectories.layouts import FORMS

ROOT = Path(__file__).parents[2]
PHOTOS = ROOT / "examples" / "photos"
PAGE = ROOT / "docs" / "training-data.md"


@dataclass
class Site:
    """A running stack, an export of its sessions in each form, and a model to read it with."""

    url: str
    data: Path
    model: Path


@pytest.fixture(scope="module")
def site(trainers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("trainers")
    model = folder / "model"
    subprocess.run([sys.executable, "-m", "tests.vllm.tiny_vl", "qwen3_vl", str(model)], check=True, cwd=ROOT)
    with Stack(folder / "home") as stack:
        env = {**os.environ, "EDITTHINKER_HOME": str(folder / "home")}
        command = [sys.executable, "-m", "editthinker", "training", "allow", "--tenant", "default"]
        subprocess.run(command, check=True, env=env)
        with EditThinker(stack.base_url, "") as client:
            for photo in sorted(PHOTOS.glob("*.jpg")):
                for source in parts_of(photo):
                    client.sessions.wait(client.sessions.create(source, "make it feel like golden hour", max_turns=3).id)
            for form in FORMS:
                options = ExportOptions(form, splits={"train": 0.7, "test": 0.3})
                assert sum(export(client, folder / "data" / form, options).rows.values()) > 4
        yield Site(stack.base_url, folder / "data", model)


def parts_of(photo: Path) -> Iterator[bytes]:
    """Four small pictures."""
    with Image.open(photo) as opened:
        for corner in range(4):
            left, top = 96 * (corner % 2), 96 * (corner // 2)
            opened.crop((left, top, left + 96, top + 96)).save(buffer := io.BytesIO(), "PNG")
            yield buffer.getvalue()


def run(trainers: Path, site: Site, name: str, *arguments: object) -> dict[str, Any]:
    """What a consumer found."""
    command = [str(trainers / name / "bin" / "python"), str(ROOT / "tests" / "trainers" / "consumers" / f"{name}_rows.py")]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "EDITTHINKER_BASE_URL": site.url, "HF_HUB_OFFLINE": "1"}
    env["HF_HOME"] = str(site.data / "cache")
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, env=env, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    sys.stderr.write(f"{name}: {found}\n")
    return found


def test_trl_trains_on_an_export(trainers: Path, site: Site) -> None:
    found = run(trainers, site, "trl", site.data, site.model, PAGE)
    assert found["loss"] > 0


def test_verl_reads_an_export_and_runs_the_tool(trainers: Path, site: Site) -> None:
    found = run(trainers, site, "verl", site.data, site.model, PAGE, PHOTOS / "coffee.jpg")
    assert 0 < found["reward"] <= 1
