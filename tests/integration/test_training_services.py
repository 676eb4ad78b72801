"""The reward's editor and judge against the embedded stack."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from editthinker import APIStatusError, AsyncEditThinker
from editthinker.local import Stack
from training.replies import rendered
from training.rewards import FailedEditError, RefusedEditError, Reward, Scores
from training.samples import Sample, seeds_of
from training.services import Rollouts, SessionEditor, served_rewards

PHOTO = Path(__file__).parents[2] / "examples" / "photos" / "coffee.jpg"
INSTRUCTION = "make it feel like golden hour"
BETTER = "warmth +45%, brightness +10%"
WORSE = "make it much colder and bluer"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("REDIS_URL", "EDITTHINKER_EDITORS", "EDITTHINKER_THINKERS", "EDITTHINKER_REGISTRY"):
            patch.delenv(name, raising=False)
        home = tmp_path_factory.mktemp("home")
        with Stack(home) as running:
            command = [sys.executable, "-m", "editthinker", "training", "allow", "--tenant", "default"]
            subprocess.run(command, check=True, env={**os.environ, "EDITTHINKER_HOME": str(home)})
            yield running.base_url


@pytest.fixture
async def client(stack: str) -> AsyncIterator[AsyncEditThinker]:
    async with AsyncEditThinker(stack, "") as opened:
        yield opened


def sample(name: str, **changes: Any) -> Sample:
    with Image.open(PHOTO) as opened:
        opened.crop((0, 0, 128, 128)).save(file := io.BytesIO(), "PNG")
    made = Sample(name, INSTRUCTION, INSTRUCTION, file.getvalue(), 3, "classical", "rules", Scores(5, 8))
    return replace(made, **changes)


async def sessions(client: AsyncEditThinker) -> list[str]:
    return [session.id async for session in client.sessions.list()]


async def test_an_instruction_that_helps_earns_more_than_one_that_harms(client: AsyncEditThinker) -> None:
    function, release = served_rewards(client, Rollouts("rules", run="helps"), thinker="policy", seeds=2)
    asked = sample("helps")
    replies = [rendered("seen", 5, 8, BETTER), rendered("seen", 5, 8, WORSE), "no reply in the form"]
    better, worse, unreadable = await function(replies, [asked] * 3)
    await release()

    assert (better.outcome, better.seeds) == ("edited", 2)
    assert better.edit is not None and worse.edit is not None and better.edit > 0.5 > worse.edit
    assert unreadable == Reward(0.0, 0.0, None, None, "unreadable")


async def test_replies_to_a_sample_are_turns_of_one_session_for_each_seed(client: AsyncEditThinker) -> None:
    before = await sessions(client)
    function, release = served_rewards(client, Rollouts("rules", run="turns"), thinker="policy", seeds=2)
    asked = sample("turns")
    await function([rendered("seen", 5, 8, text) for text in (BETTER, WORSE, BETTER)], [asked] * 3)
    await release()

    opened = [await client.sessions.wait(name, timeout=60) for name in set(await sessions(client)) - set(before)]
    assert sorted(session.turns[0].candidates[0].seed or 0 for session in opened) == seeds_of(asked, 2)
    for session in opened:
        assert [turn.author for turn in session.turns] == ["caller", "person", "person"]
        assert {turn.instruction for turn in session.turns} == {INSTRUCTION, BETTER, WORSE}
        # The instruction is all that differs between replies.
        assert len({turn.candidates[0].seed for turn in session.turns}) == 1
        assert session.status == "succeeded"


async def test_a_run_that_was_killed_edits_nothing_twice(client: AsyncEditThinker) -> None:
    asked = sample("killed")
    first = await SessionEditor(client, Rollouts("rules", run="killed")).edit(asked, BETTER, 3)
    before = await sessions(client)
    again = SessionEditor(client, Rollouts("rules", run="killed"))

    assert await again.edit(asked, BETTER, 3) == first
    assert await sessions(client) == before
    assert len((await client.sessions.get(first.session)).turns) == 2
    await again.release()
    # After its session has ended, too; only a new instruction needs another.
    later = SessionEditor(client, Rollouts("rules", run="killed"))
    assert await later.edit(asked, BETTER, 3) == first
    assert (await later.edit(asked, WORSE, 3)).session != first.session
    await later.release()


async def test_a_refusal_is_the_instructions_fault(client: AsyncEditThinker) -> None:
    editor = SessionEditor(client, Rollouts("rules", run="refused"))
    with pytest.raises(RefusedEditError):
        await editor.edit(sample("refused"), "put a dragon on the table", 3)
    assert (await editor.edit(sample("refused"), BETTER, 3)).turn == 3
    await editor.release()


async def test_a_judge_that_did_not_score_the_candidate_is_asked_about_it(client: AsyncEditThinker) -> None:
    editor = SessionEditor(client, Rollouts("rules", run="asked"))
    told = await editor.score(sample("asked"), None)
    seen = await editor.score(sample("asked", judge="another", turn_instruction=WORSE), None)
    assert told == Scores(5, 8)
    assert seen == (await editor.edit(sample("asked"), WORSE, 3)).scores != told
    await editor.release()


async def test_rollouts_are_no_training_data(client: AsyncEditThinker) -> None:
    editor = SessionEditor(client, Rollouts("rules", run="denied"))
    picture = await editor.edit(sample("denied"), BETTER, 3)
    assert await client.training() == "allowed"
    assert await client.sessions.training(picture.session) == "denied"
    await editor.release()


async def test_a_server_that_is_down_is_nobodys_fault() -> None:
    async with AsyncEditThinker("http://127.0.0.1:9", "", max_retries=0) as nowhere:
        function, release = served_rewards(nowhere, Rollouts("rules"), thinker="policy", seeds=1)
        (reward,) = await function([rendered("seen", 5, 8, BETTER)], [sample("down")])
        await release()
        with pytest.raises(FailedEditError):
            await SessionEditor(nowhere, Rollouts("rules")).edit(sample("down"), BETTER, 3)
    assert (reward.total, reward.outcome) == (None, "failed")


@pytest.mark.parametrize("changes", [{"judge": "nobody"}, {"editor": "nobody"}, {"thinker": "nobody"}])
async def test_a_wrong_name_stops_the_run(client: AsyncEditThinker, changes: dict[str, str]) -> None:
    # Each edit would fail, and be masked: a run that learns nothing and does not say so.
    rollouts = Rollouts(**{"judge": "rules", "run": "names", **changes})  # type: ignore[arg-type]
    function, _ = served_rewards(client, rollouts, thinker="policy", seeds=1)
    with pytest.raises(APIStatusError, match="nobody"):
        await function([rendered("seen", 5, 8, BETTER)], [sample("names", judge="another")])


async def test_no_more_edits_are_in_flight_than_allowed(client: AsyncEditThinker, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = SessionEditor(client, Rollouts("rules", run="bounded", parallel=2))
    flying: list[int] = [0, 0]
    turn = editor._turn

    async def counted(*given: Any) -> Any:
        flying[0] += 1
        flying[1] = max(flying)
        try:
            return await turn(*given)
        finally:
            flying[0] -= 1

    monkeypatch.setattr(editor, "_turn", counted)
    function, _ = served_rewards(client, Rollouts("rules"), thinker="policy", seeds=3)
    function._editor = function._judge = editor
    rewards = await function([rendered("seen", 5, 8, BETTER)] * 2, [sample("bounded-1"), sample("bounded-2")])
    await editor.release()
    assert [reward.seeds for reward in rewards] == [3, 3]
    assert flying == [0, 2]
