"""An export of the embedded stack, read by the trainers themselves, each in an environment of its own."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from editthinker import EditThinker
from editthinker.local import Stack
from evaluation.trajectories.exporting import ExportOptions, export
from evaluation.trajectories.layouts import FORMS
from tests.trainers import flywheel
from training.metrics import MetricsFile

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


def execute(trainers: Path, site: Site, name: str, *command: object) -> subprocess.CompletedProcess[str]:
    """Run the Python of a trainer's environment."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "EDITTHINKER_BASE_URL": site.url, "HF_HUB_OFFLINE": "1"}
    env |= {"HF_HOME": str(site.data / "cache"), "OMP_NUM_THREADS": "1"}
    python = [str(trainers / name / "bin" / "python"), *map(str, command)]
    return subprocess.run(python, capture_output=True, text=True, env=env, timeout=1800, check=False)


def run(trainers: Path, site: Site, name: str, script: str, *arguments: object) -> dict[str, Any]:
    """What a consumer found."""
    done = execute(trainers, site, name, ROOT / "tests" / "trainers" / "consumers" / script, *arguments)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    sys.stderr.write(f"{script}: {found}\n")
    return found


def command(trainers: Path, site: Site, *arguments: object) -> None:
    """Run a command of ours in TRL's environment."""
    done = execute(trainers, site, "trl", *arguments)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]


def test_trl_trains_on_an_export(trainers: Path, site: Site) -> None:
    found = run(trainers, site, "trl", "trl_rows.py", site.data, site.model, PAGE)
    assert found["loss"] > 0


def test_grpo_runs_the_pages_environment(trainers: Path, site: Site) -> None:
    found = run(trainers, site, "trl", "trl_environment.py", site.data, site.model, PAGE)
    assert found["rewards"][0] > found["rewards"][1]


def test_verl_reads_an_export_and_runs_the_tool(trainers: Path, site: Site) -> None:
    found = run(trainers, site, "verl", "verl_rows.py", site.data, site.model, PAGE, PHOTOS / "coffee.jpg")
    assert 0 < found["reward"] <= 1


def test_verl_rewards_replies_with_the_shipped_configuration(trainers: Path, site: Site) -> None:
    configs = ROOT / "training" / "configs"
    found = run(trainers, site, "verl", "verl_rewards.py", site.data, site.model, configs, site.url)
    assert len(found["scores"]) == 5


def test_sft_that_was_killed_ends_as_if_it_had_not_been(trainers: Path, site: Site, tmp_path: Path) -> None:
    arguments = ["-m", "training.sft", site.data / "trl", "--model", site.model, "--batch", 2, "--rate", 1e-3]
    arguments += ["--steps", 4, "--save-every", 2, "--tensorboard"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command(trainers, site, *arguments, "--out", whole)
    command(trainers, site, *arguments, "--out", killed)
    # As after a kill in the third step: a checkpoint that was begun, a metric too many, no result.
    shutil.rmtree(killed / "final")
    (killed / "checkpoint-4" / "trainer_state.json").unlink()
    command(trainers, site, *arguments, "--out", killed)

    losses = [[row["loss"] for row in MetricsFile(run / "metrics.jsonl").read() if "loss" in row] for run in (whole, killed)]
    assert len(losses[0]) == 4 and losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert (killed / "final" / "model.safetensors").stat().st_size == (whole / "final" / "model.safetensors").stat().st_size
    assert list(whole.rglob("events.out.tfevents.*"))
    assert "<h2>sft</h2>" in (killed / "plots.html").read_text("utf-8")
    other = execute(trainers, site, "trl", *arguments, "--out", killed, "--seed", 1)
    assert other.returncode == 1 and "seed was 0 and is 1" in other.stderr
    none = execute(trainers, site, "trl", *arguments, "--out", tmp_path / "none", "--gain", 11)
    assert none.returncode == 1 and "no reply gained 11 points" in none.stderr


def test_grpo_is_rewarded_by_the_server_and_goes_on_after_a_kill(trainers: Path, site: Site, tmp_path: Path) -> None:
    script = ROOT / "tests" / "trainers" / "consumers" / "trl_grpo.py"
    out = tmp_path / "grpo"
    options = [site.data / "trl", "--model", site.model, "--out", out, "--server", site.url, "--judge", "rules", "--seeds", 1]
    options += ["--group", 4, "--steps", 2, "--save-every", 1, "--lora", 4, "--rate", 1e-3]
    assert execute(trainers, site, "trl", script, 2, *options).returncode == -signal.SIGKILL
    assert (out / "checkpoint-1").exists() and not (out / "final").exists()
    command(trainers, site, script, 0, *options)

    rewards = MetricsFile(out / "rewards.jsonl").read()
    assert [(row["step"], row["outcome"]) for row in rewards] == [
        (step, outcome) for step in (1, 2) for outcome in ("edited", "edited", "unreadable", "refused")
    ]
    for better, worse, unreadable, refused in (rewards[:4], rewards[4:]):
        assert better["total"] > worse["total"] > unreadable["total"] == 0
        assert refused["edit"] == 0 and refused["total"] > 0
    metrics = MetricsFile(out / "metrics.jsonl").read()
    told = [row for row in metrics if row["stage"] == "grpo" and "reward" in row]
    assert [row["step"] for row in told] == [1, 2] and all(row["grad_norm"] > 0 for row in told)
    assert told[0]["reward"] == pytest.approx(sum(row["total"] for row in rewards[:4]) / 4)

    merged = tmp_path / "merged"
    command(trainers, site, "-m", "training.merge", out / "final", "--out", merged, "--dtype", "float32")
    assert (merged / "model.safetensors").read_bytes() != (site.model / "model.safetensors").read_bytes()


def test_grpo_with_replies_of_a_random_model(trainers: Path, site: Site, tmp_path: Path) -> None:
    options = ["--model", site.model, "--out", tmp_path, "--judge", "rules", "--group", 2, "--steps", 1, "--max-reply", 8]
    command(trainers, site, "-m", "training.grpo", site.data / "trl", *options, "--api-key", "")
    assert [row["outcome"] for row in MetricsFile(tmp_path / "rewards.jsonl").read()] == ["unreadable"] * 2


def test_the_flywheel_turns(trainers: Path, tmp_path: Path) -> None:
    counts = flywheel.turn(flywheel.Wheel(tmp_path, trainers / "trl" / "bin" / "python", steps=150, pictures=5))
    assert counts["rows exported of the trained thinker"] > 0, (tmp_path / "server.log").read_text()[-3000:]
    assert all(counts.values()), counts


def test_the_gpu_benchmark_runs_dry(trainers: Path, site: Site, tmp_path: Path) -> None:
    out = tmp_path / "grpo.json"
    command(trainers, site, "-m", "benchmarks.grpo_gpu", "--dry-run", "--group", 2, "--reply", 4, "--out", out)
    report = json.loads(out.read_text("utf-8"))
    assert [row["reply_tokens"] for row in report["steps"]] == [8, 8] and report["trained_weights"] > 0


def test_rows_of_another_format_are_refused(trainers: Path, site: Site, tmp_path: Path) -> None:
    table = pq.read_table(next((site.data / "trl").glob("train-*.parquet")))
    replies = [[{"role": "assistant", "content": [{"type": "text", "text": '{"semantic": 5}'}]}]] * len(table)
    column = pa.array(replies, table.schema.field("completion").type)
    pq.write_table(table.set_column(table.column_names.index("completion"), "completion", column), tmp_path / "train-0.parquet")
    options = ["--model", site.model, "--out", tmp_path / "out", "--judge", "rules"]
    done = execute(trainers, site, "trl", "-m", "training.grpo", tmp_path, *options)
    assert done.returncode == 1 and "format editthinker" in done.stderr
