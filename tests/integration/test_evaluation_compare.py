"""`editthinker eval compare`: judges over the pictures of a run, and against the votes of people on a real server."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from editthinker import EditThinker
from editthinker.local import Stack
from tests.doubles.chat_judge import ChatJudge, chat_judge
from tests.doubles.chromium import chromium
from tests.doubles.layouts import picture
from tests.doubles.processes import ended
from tests.doubles.runs import made_run
from tests.integration.test_cli_commands import command, plan, run
from tests.integration.test_cli_stack import until


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


def test_a_comparison_that_was_killed_goes_on(tmp_path: Path) -> None:
    folder = made_run(tmp_path, ["own"], 6)
    with chat_judge(first_wins) as judge:
        with ended(
            subprocess.Popen(command(*words(folder, {"j": judge}, "--jobs", 1)), stderr=subprocess.PIPE, text=True)
        ) as running:
            assert until(lambda: len(judge.asked) >= 5, 180)
            running.send_signal(signal.SIGKILL)
            running.communicate()
        done = run(*words(folder, {"j": judge}))
        assert done.returncode == 0, done.stderr
        # 12 pictures, and 6 pairs in both orders; at most the question that was under way is asked twice.
        assert 24 <= len(judge.asked) <= 25


def test_the_page_in_a_browser(tmp_path: Path) -> None:
    folder = made_run(tmp_path, ["own"], 6, {"single": {}, "an-arm-with-a-name-that-is-as-long-as-such-names-are_max_turns5": {}})
    said: list[str] = []
    with chat_judge(first_wins) as judge:
        asked = {"Qwen3-VL-235B-A22B-Instruct-AWQ-at-temperature-0": judge, "j": judge}
        assert run(*words(folder, asked, "--repeats", 2)).returncode == 0
    with chromium() as browser:
        for width, scheme in ((1280, "light"), (360, "dark")):
            shown = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
            shown.on("console", lambda message: said.append(message.text))
            shown.goto((folder / "compare.html").as_uri())
            assert said == []
            assert shown.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            if width == 1280:
                assert shown.evaluate("(e => e.scrollWidth - e.clientWidth)(document.querySelector('.wide'))") <= 0
            found = Axe().run(shown)
            assert found.violations_count == 0, found.generate_report()
            shown.close()


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


def test_each_judge_gets_the_key_of_its_own_variable(tmp_path: Path) -> None:
    folder = made_run(tmp_path, ["own"], 2, {"one": {}})
    with chat_judge(first_wins) as open_, chat_judge(first_wins) as closed:
        named = f"b:url={closed.url},model=m,key_env=B_KEY"
        done = run(*words(folder, {"a": open_}, "--judge", named), env={"B_KEY": "sk-b"})
    assert done.returncode == 0, done.stderr
    assert (set(open_.authorizations), set(closed.authorizations)) == ({None}, {"Bearer sk-b"})
    assert "sk-b" not in (folder / "compare.html").read_text() + (folder / "comparisons.jsonl").read_text()


def test_scores_are_asked_for_with_the_key_of_the_environment(tmp_path: Path) -> None:
    folder = made_run(tmp_path, ["own"], 1, {"one": {}})
    with chat_judge(first_wins) as judge:
        asking = ("eval", "score", folder, "--judge-url", judge.url, "--judge-model", "m")
        done = run(*asking, env={"JUDGE_API_KEY": "sk-c"})
    assert done.returncode == 0, done.stderr
    assert set(judge.authorizations) == {"Bearer sk-c"}


@pytest.mark.parametrize("judge", ["j", "j:url=x", "server:url=x,model=y", "j:url=x,model=y,size=3"])
def test_a_judge_that_is_not_well_named(judge: str, tmp_path: Path) -> None:
    done = run("eval", "compare", made_run(tmp_path, ["own"], 1), "--judge", judge)
    assert done.returncode == 2 and "write NAME:url=URL,model=MODEL" in done.stderr
