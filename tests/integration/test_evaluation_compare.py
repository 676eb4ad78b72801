"""`editthinker eval compare`: judges over the pictures of a run, and against the votes of people on a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from editthinker import EditThinker
from editthinker.local import Stack
from tests.doubles.chat_judge import ChatJudge, chat_judge
from tests.doubles.layouts import picture
from tests.doubles.runs import made_run
from tests.integration.test_cli_commands import plan, run


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Stack(tmp_path_factory.mktemp("data"), planner=plan) as stack:
        yield stack.base_url


def first_wins(text: str, _: int) -> str:
    """Biased: always the picture that was shown first."""
    return '{"winner": "A"}' if "result B" in text else '{"semantic": 8, "quality": 8}'


def words(folder: Path, judges: dict[str, ChatJudge], *more: object) -> tuple[object, ...]:
    given = (word for name, judge in judges.items() for word in ("--judge", f"{name}:url={judge.url},model=m"))
    return ("eval", "compare", folder, *given, *more)


def test_two_judges_over_the_same_pictures_without_an_edit(tmp_path: Path) -> None:
    folder = made_run(tmp_path, ["own"], 6)

    def steady(text: str, number: int) -> str:
        return '{"winner": "tie"}' if "result B" in text else json.dumps({"semantic": 3 + number % 5, "quality": 5})

    with chat_judge(first_wins) as biased, chat_judge(steady) as other:
        done = run(*words(folder, {"biased": biased, "other": other}, "--repeats", 2, "--jobs", 1))
        assert done.returncode == 0, done.stderr
        # 12 pictures twice, and 6 pairs in both orders.
        assert (len(biased.asked), len(other.asked)) == (36, 36)
        again = run(*words(folder, {"biased": biased, "other": other}, "--repeats", 2, "--json"))
        assert len(biased.asked) == 36, "nothing is asked twice"
    found = json.loads(again.stdout)
    assert found["judges"]["biased"]["positions"] == {"pairs": 6, "flipped": 1.0, "first": 1.0}
    assert found["judges"]["other"]["positions"] == {"pairs": 6, "flipped": 0.0, "first": None}
    assert found["judges"]["biased"]["spread"] == 0 and found["judges"]["other"]["spread"] > 0
    assert [each["judges"] for each in found["agreements"]] == [["biased", "other"], ["biased", "server"], ["other", "server"]]
    assert "biased: names the first of a pair in 100 %, turns with the order in 100 %" in done.stdout
    page = (folder / "compare.html").read_text()
    assert page.count("<svg") == 3 and "<script" not in page and "Nothing was edited" in page


def test_judges_against_people(server: str, tmp_path: Path) -> None:
    folder, votes = made_run(tmp_path, ["own"], 1, {"one": {}}), tmp_path / "votes.jsonl"
    with EditThinker(server) as client:
        session = client.sessions.wait(client.sessions.create(picture(1), "golden hour", max_turns=3).id)
        client.preferences.vote((session.id, 1), (session.id, 2), "a")
        client.preferences.vote(session.id, (session.id, 3), "b")
        votes.write_text("".join(json.dumps(line) + "\n" for line in client.preferences.export()))
    with chat_judge(first_wins) as judge:
        done = run(*words(folder, {"j": judge}, "--votes", votes, "--server", server, "--json"))
        assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["votes"] == 2
    # It scores all pictures alike, and its winners turn with the order: two ties.
    assert found["judges"]["j"]["people_by_pairs"] == {"votes": 2, "agreed": 0.5, "ties": 1.0}
    assert found["judges"]["j"]["people_by_scores"]["votes"] == 2


@pytest.mark.parametrize("judge", ["j", "j:url=x", "server:url=x,model=y", "j:url=x,model=y,size=3"])
def test_a_judge_that_is_not_well_named(judge: str, tmp_path: Path) -> None:
    done = run("eval", "compare", made_run(tmp_path, ["own"], 1), "--judge", judge)
    assert done.returncode == 2 and "write NAME:url=URL,model=MODEL" in done.stderr
