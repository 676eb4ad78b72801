"""The environment against the embedded stack, alone and as docs/training-data.md wraps it."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from editthinker import EditThinker
from editthinker.local import Stack
from evaluation.environment import AsyncEditEnvironment, EditEnvironment, EpisodeError

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "examples" / "photos" / "coffee.jpg"
PAGE = (ROOT / "docs" / "training-data.md").read_text("utf-8")
BLOCKS = [code for code in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) if "evaluation" in code]
WISH = "make it feel like golden hour"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("REDIS_URL", "EDITTHINKER_EDITORS", "EDITTHINKER_THINKERS", "EDITTHINKER_REGISTRY"):
            patch.delenv(name, raising=False)
        with Stack(tmp_path_factory.mktemp("home")) as running:
            yield running.base_url


@pytest.fixture
def page(stack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDITTHINKER_BASE_URL", stack)
    monkeypatch.delenv("EDITTHINKER_API_KEY", raising=False)
    shutil.copy(PHOTO, "photo.jpg")
    return {"__name__": "page"}


def test_a_step_is_rewarded_by_the_change_of_the_judges_score(stack: str) -> None:
    with EditEnvironment(stack, "", steps=2, seed=3) as env:
        first = env.reset(PHOTO, WISH)
        worse = env.step("make it much colder and bluer")
        better = env.step("warmth +45%, brightness +10%")
        name, rewards = env.session_id, env.rewards

    assert first.reward is None and first.turn == 1 and first.semantic is not None
    assert worse.semantic is not None and better.semantic is not None and worse.reward is not None and better.reward is not None
    assert worse.semantic < first.semantic < better.semantic
    assert worse.reward == pytest.approx(0.5 + 0.5 * ((worse.semantic - first.semantic) / 10 + 1) / 2)
    assert better.reward == pytest.approx(0.5 + 0.5 * ((better.semantic - worse.semantic) / 10 + 1) / 2)
    assert rewards == [worse.reward, better.reward]
    assert (worse.turn, better.turn, better.done) == (2, 3, True)
    sizes = [Image.open(io.BytesIO(image)).size for image in (*first.images, *better.images)]
    assert len(sizes) == 4 and len(set(sizes)) == 1
    assert first.images[0] == better.images[0] and first.images[1] != better.images[1]
    assert "of 10" in better.text
    with EditThinker(stack, "") as client:
        session = client.sessions.wait(name, timeout=30)
        assert session.status == "succeeded"
        assert [turn.author for turn in session.turns] == ["caller", "person", "person"]


def test_a_step_needs_an_episode(stack: str) -> None:
    with EditEnvironment(stack, "") as env, pytest.raises(EpisodeError, match="reset"):
        env.step("warmer")


async def test_the_asynchronous_environment_is_the_same(stack: str) -> None:
    instructions = ["make it much colder and bluer", "warmth +45%, brightness +10%"]
    with EditEnvironment(stack, "", seed=3) as env:
        blocking = [env.reset(PHOTO, WISH), *map(env.step, instructions)]
    async with AsyncEditEnvironment(stack, "", seed=3) as other:
        same = [await other.reset(PHOTO, WISH)]
        same += [await other.step(each) for each in instructions]
        assert other.rewards == [seen.reward for seen in blocking[1:]]
    assert same == blocking


def test_an_episode_ends_when_the_judge_is_satisfied(stack: str) -> None:
    with EditEnvironment(stack, "", steps=5, semantic_threshold=0, quality_threshold=0) as env:
        assert env.reset(PHOTO, WISH).done


def test_the_docs_loop_runs(page: dict[str, Any]) -> None:
    code = next(each for each in BLOCKS if "env.step" in each and "class" not in each)
    exec(compile(code, "docs/training-data.md", "exec"), page)
    assert page["seen"].turn > 1 and page["seen"].reward is not None


def test_the_docs_class_for_trl_runs(page: dict[str, Any]) -> None:
    code = next(each for each in BLOCKS if "class Edit:" in each)
    exec(compile(code, "docs/training-data.md", "exec"), page)
    env = page["Edit"]()
    with Image.open("photo.jpg") as opened:
        photo = opened.convert("RGB")
    assert "of 10" in env.reset(images=[photo], instruction=WISH, licence="CC0")
    image, text = env.edit("warmth +45%, brightness +10%")
    assert (image["image"].size, "of 10" in text["text"]) == (photo.size, True)
    assert 0.5 < env.get_reward() <= 1
    env._env.close()
