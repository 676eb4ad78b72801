"""The plan of the havoc, the requests, and the accounting of editor seconds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.clients import request
from tests.chaos.havoc import SETTLE_S, WEIGHTS, Kind, Target, Verb, choose, schedule
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
def test_the_same_seed_gives_the_same_plan_and_another_seed_another(seed: int) -> None:
    plan = list(schedule(seed, FLEET, 3, LONG_S))

    assert plan == list(schedule(seed, FLEET, 3, LONG_S))
    assert plan != list(schedule(seed + 1, FLEET, 3, LONG_S))
    assert request(seed, 1) == request(seed, 1)


@pytest.mark.parametrize("seed", range(5))
def test_every_process_gets_every_action_and_comes_back(seed: int) -> None:
    """None gets another action before it is back, and where there are several of a kind, one is spared."""
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
    assert {(kind, verb) for kind in WEIGHTS for verb in ("kill", "pause", "restart")} | {
        ("orchestrator", "zombie"),
        ("orchestrator", "skew"),
    } == done


def test_the_last_process_of_a_kind_is_spared() -> None:
    """If every other process must be spared too, there is no action."""
    fleet: dict[str, Target] = {"editor-1": Target("editor", 50), "editor-2": Target("editor"), "redis-1": Target("redis", 50)}

    assert choose(random.Random(1), fleet, 10) is None
    assert choose(random.Random(1), fleet, 60) is not None


def test_useful_wasted_and_stopped_seconds_are_distinguished(tmp_path: Path) -> None:
    """A complete run is useful. A second or incomplete run is wasted. A run that was stopped on purpose is neither."""
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
