"""The plan of the havoc, the wishes, and the account of editor seconds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.clients import wish
from tests.chaos.havoc import SETTLE_S, WEIGHTS, Kind, Seen, Verb, choose, schedule
from tests.chaos.slow_editor import digest
from tests.chaos.test_checker import ID, at, sound
from tests.chaos.waste import measure

FLEET: dict[str, Kind] = {
    "redis-1": "redis",
    "haproxy-1": "haproxy",
    **{f"orchestrator-{n}": "orchestrator" for n in (1, 2, 3)},
    **{f"editor-{n}": "editor" for n in (1, 2, 3)},
    **{f"thinker-{n}": "thinker" for n in (1, 2)},
}
LONG_S = 1800


@pytest.mark.parametrize("seed", range(5))
def test_the_same_seed_is_the_same_plan(seed: int) -> None:
    """And another one another."""
    plan = list(schedule(seed, FLEET, 3, LONG_S))

    assert plan == list(schedule(seed, FLEET, 3, LONG_S))
    assert plan != list(schedule(seed + 1, FLEET, 3, LONG_S))
    assert wish(seed, 1) == wish(seed, 1)


@pytest.mark.parametrize("seed", range(5))
def test_everyone_suffers_everything_and_comes_back(seed: int) -> None:
    """Nobody is touched again before it is back, and where there are several one of a kind is left alone."""
    done: set[tuple[Kind, Verb]] = set()
    busy: dict[str, float] = {}
    for at_s, action in schedule(seed, FLEET, 3, LONG_S):
        kind = FLEET[action.member]
        done.add((kind, action.verb))
        assert busy.get(action.member, 0) <= at_s
        busy[action.member] = at_s + action.away_s + SETTLE_S
        kin = [name for name in FLEET if FLEET[name] == kind]
        assert len(kin) == 1 or any(busy.get(name, 0) <= at_s for name in kin), "all of a kind are away"
        assert 0 < action.away_s < 5
        if action.verb == "zombie":
            assert busy.get("redis-1", 0) <= at_s
            busy["redis-1"] = busy[action.member]
    assert {(kind, verb) for kind in WEIGHTS for verb in ("kill", "pause", "restart")} | {("orchestrator", "zombie")} == done


def test_the_last_process_of_a_kind_is_not_touched() -> None:
    """When nobody else may be touched either, nothing is done."""
    fleet: dict[str, Seen] = {"editor-1": Seen("editor", 50), "editor-2": Seen("editor"), "redis-1": Seen("redis", 50)}

    assert choose(random.Random(1), fleet, 10) is None
    assert choose(random.Random(1), fleet, 60) is not None


def test_seconds_are_told_apart(tmp_path: Path) -> None:
    """A complete run is useful, a second one and one that broke off are wasted, a superseded one is neither."""
    evidence = sound(tmp_path / "blobs")
    evidence.logs[ID].append(("11-0", {**at(evidence, "edit_started"), "candidate": 2, "seed": 9}))
    prompt = digest("x")
    whole = [f"a 1 {prompt} {step} 4 0.1" for step in (1, 2, 3, 4)]
    again = [f"b 1 {prompt} {step} 4 0.1" for step in (1, 2)]
    other = [f"c 2 {prompt} {step} 2 0.1" for step in (1, 2)]
    needless = [f"d 9 {prompt} 1 4 0.1", f"e 77 {prompt} 1 4 0.1"]
    journal = tmp_path / "journal"
    journal.write_text("\n".join([*whole, *again, *other, *needless]))

    waste = measure(evidence, [journal])

    assert waste.executed == pytest.approx(1.0)
    assert waste.useful == pytest.approx(0.6)
    assert waste.on_purpose == pytest.approx(0.1)
    assert waste.unknown == pytest.approx(0.1)
    assert waste.wasted == pytest.approx(0.3)
    assert (waste.runs, waste.repeats) == (5, 1)
