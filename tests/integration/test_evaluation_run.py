"""`editthinker eval run`: against a real orchestrator, killed in between, and never paid for twice."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from editthinker import EditThinker
from editthinker.local import Stack
from evaluation import arms, results
from evaluation.datasets import KINDS, load
from evaluation.running import Budget
from tests.component.client.scripted import error, in_turn, scripted
from tests.doubles.layouts import LAYOUTS
from tests.doubles.processes import ended
from tests.integration.test_cli_batch import Site
from tests.integration.test_cli_batch import results as results_in
from tests.integration.test_cli_commands import command, on_standins, plan, run
from tests.integration.test_cli_stack import until


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    data = tmp_path_factory.mktemp("data")
    with Stack(data, planner=plan) as stack:
        yield Site(stack.base_url, data / "logs" / "upstream.log")


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def own(folder: Path, *instructions: str) -> Path:
    LAYOUTS["own"](folder, len(instructions))
    lines = [{"id": f"i{n}", "image": f"{n}.jpg", "instruction": words} for n, words in enumerate(instructions)]
    (folder / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def at_least(folder: Path, count: int) -> bool:
    return len(results.read(folder)) >= count


def test_four_layouts_in_two_strategies_survive_two_kills(site: Site, tmp_path: Path) -> None:
    """The server goes on while the command is killed: nothing is edited twice."""
    out, before, edits = tmp_path / "out", site.sessions(), site.edits()
    data = {kind: LAYOUTS[kind](tmp_path / kind, 2) for kind in KINDS if kind != "own"}
    words = ["eval", "run", out, *(word for kind, path in data.items() for word in ("--data", f"{kind}={path}"))]
    words += ["--strategy", "single", "--strategy", "think", "--jobs", "2", "--server", site.url]
    for least in (3, 9):
        with ended(subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)) as running:
            assert until(partial(at_least, out, least), 180)
            running.send_signal(signal.SIGKILL)
            running.communicate()
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert "16 results: 16 edited" in done.stdout
    assert site.sessions() == before + 16
    made = rows(out)
    assert len({row["session"] for row in made}) == len(made) == 16
    assert site.edits() - edits == sum(row["edits"] for row in made)
    for kind, path in data.items():
        dataset = load(kind, path)
        for item in dataset.items:
            for arm in ("single", "think"):
                assert (out / kind / dataset.output(item, arm)).stat().st_size > 100
    # Nothing is left to do, so no server is needed.
    again = run(*words[:-1], "http://127.0.0.1:9")
    assert (again.returncode, site.sessions()) == (0, before + 16), again.stderr


def test_the_embedded_stack_is_killed_with_the_command_and_goes_on(tmp_path: Path) -> None:
    out, home = tmp_path / "out", tmp_path / "home"
    words = ("eval", "run", out, "--data", f"imgedit={LAYOUTS['imgedit'](tmp_path / 'data', 4)}", "--strategy", "think")
    for least in (1, 3):
        with on_standins(*words, "--jobs", 1, home=home) as running:
            assert until(partial(at_least, out, least), 180)
            running.send_signal(signal.SIGKILL)
            running.communicate()
    with on_standins(*words, home=home) as running:
        printed, errors = running.communicate(timeout=180)
    assert running.returncode == 0, errors
    assert "4 results: 4 edited" in printed
    # What a kill left of a picture that was being written is hidden.
    assert results_in(out / "imgedit/think") == [f"{1000 + n}.png" for n in range(4)]


def test_a_lost_journal_or_another_folder_costs_no_edit(site: Site, tmp_path: Path) -> None:
    data, out = own(tmp_path / "data", "warmer", "colder"), tmp_path / "out"
    words = ("--data", f"own={data}", "--strategy", "think", "--server", site.url)
    assert run("eval", "run", out, *words).returncode == 0
    edits, before = site.edits(), site.sessions()
    first = {row["item"]: row["session"] for row in rows(out)}
    (out / results.JOURNAL).unlink()
    (out / "own/think/i0.png").unlink()
    for folder in (out, tmp_path / "other"):
        assert run("eval", "run", folder, *words).returncode == 0
        assert {row["item"]: row["session"] for row in rows(folder)} == first
        assert all(row["reused"] for row in rows(folder))
    assert (site.edits(), site.sessions()) == (edits, before)
    assert run("eval", "run", tmp_path / "fresh", *words, "--fresh", "again").returncode == 0
    assert site.sessions() == before + 2
    # A picture that was removed is fetched again.
    (out / "own/think/i1.png").unlink()
    assert run("eval", "run", out, *words).returncode == 0
    assert (out / "own/think/i1.png").exists() and site.sessions() == before + 2


def test_a_failed_item_is_a_row_and_can_be_tried_again(site: Site, tmp_path: Path) -> None:
    data, out = own(tmp_path / "data", "fail now", "nothing", "warmer"), tmp_path / "out"
    (data / "2.jpg").write_bytes(b"no picture")
    words = ("eval", "run", out, "--data", f"own={data}", "--strategy", "single", "--server", site.url)
    done = run(*words)
    assert done.returncode == 1, done.stderr
    found = {row["item"]: row for row in rows(out)}
    assert [found[name]["status"] for name in ("i0", "i1", "i2")] == ["failed", "unchanged", "failed"]
    assert found["i0"]["error_code"] and "refuse" in found["i0"]["error_message"]
    assert found["i2"]["error_code"] == "invalid_dataset" and "2.jpg is not a PNG" in found["i2"]["error_message"]
    before = site.sessions()
    assert (run(*words).returncode, site.sessions()) == (1, before)
    LAYOUTS["own"](tmp_path / "whole", 3)
    (data / "2.jpg").write_bytes((tmp_path / "whole" / "2.jpg").read_bytes())
    assert run(*words, "--retry-failed").returncode == 1
    found = {row["item"]: row for row in rows(out)}
    assert [(found[name]["status"], found[name]["attempt"]) for name in ("i0", "i2")] == [("failed", 2), ("edited", 2)]
    assert site.sessions() == before + 2


def test_an_item_with_more_pictures_than_the_editor_takes_is_skipped(site: Site, tmp_path: Path) -> None:
    data = LAYOUTS["own"](tmp_path / "data", 4)
    many = {"id": "many", "image": [f"{n}.jpg" for n in range(4)], "instruction": "warmer"}
    (data / "items.jsonl").write_text(json.dumps(many) + "\n")
    done = run("eval", "run", tmp_path / "out", "--data", f"own={data}", "--strategy", "single", "--server", site.url)
    assert (done.returncode, rows(tmp_path / "out")[0]["status"]) == (0, "skipped"), done.stderr
    assert "skipped: the item has 4 pictures, and classical takes 3" in done.stderr


def test_a_budget_stops_cleanly_and_a_larger_one_goes_on(site: Site, tmp_path: Path) -> None:
    data, out = own(tmp_path / "data", *(f"warmer {n}" for n in range(6))), tmp_path / "out"
    words = ("eval", "run", out, "--data", f"own={data}", "--strategy", "single", "--server", site.url)
    stopped = run(*words, "--max-edits", 3)
    assert stopped.returncode == 4, stopped.stderr
    assert "3 results: 3 edited, 3 left, the budget is used up" in stopped.stdout
    done = run(*words, "--max-edits", 6)
    assert (done.returncode, sum(row["edits"] for row in rows(out))) == (0, 6), done.stderr


def test_a_budget_counts_what_is_under_way() -> None:
    row = results.Row("own", "1", "a", "i", "all", "", "x", "edited", edits=4, editor_seconds=2.0)
    assert Budget(edits=12).admits([row], 1)
    assert not Budget(edits=11).admits([row], 1)
    assert not Budget(editor_seconds=5).admits([row], 1)
    assert Budget().admits([row] * 1000, 100)


def test_ctrl_c_says_how_to_go_on(site: Site, tmp_path: Path) -> None:
    data = own(tmp_path / "data", "warmer", "slowly")
    words = ("eval", "run", tmp_path / "out", "--data", f"own={data}", "--strategy", "single", "--server", site.url)
    with ended(subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)) as running:
        assert until(lambda: len(results.read(tmp_path / "out")) == 1, 180)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=180)
    assert running.returncode == 130
    assert "1 of 2 are there" in errors and "the same command goes on from here" in errors
    with EditThinker(site.url) as client:
        # Two sessions begin at once, so either may be the newest.
        slow = next(each for each in client.sessions.list(limit=2) if each.instruction == "slowly")
        assert not slow.ended


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "cats=/x", "--strategy", "think"], "write KIND=PATH"),
        (["--data", "own=/does/not/exist", "--strategy", "think"], "/does/not/exist does not exist"),
        (["--data", "own=DATA", "--arm", "a:strategy=think,max_turn=3"], "'max_turn' is not an option of an arm's sessions"),
        (["--data", "own=DATA", "--arm", "../x:strategy=think"], "cannot be the name of an arm"),
        (["--data", "own=DATA", "--arm", "think:max_turns=2", "--strategy", "think"], "two arms are named 'think'"),
        (["--data", "own=DATA", "--data", "own=DATA", "--strategy", "think"], "one dataset of a kind"),
    ],
)
def test_wrong_use_is_named(words: list[str], said: str, tmp_path: Path) -> None:
    data = own(tmp_path / "data", "warmer")
    done = run(
        "eval", "run", tmp_path / "out", *(word.replace("DATA", str(data)) for word in words), "--server", "http://127.0.0.1:9"
    )
    assert done.returncode == 2 and said in done.stderr, done.stderr


def test_what_every_item_would_get_stops_the_run(tmp_path: Path) -> None:
    data, out = own(tmp_path / "data", "warmer", "colder"), tmp_path / "out"
    with scripted(in_turn(error(401, "invalid_api_key", "no such key"))) as server:
        done = run("eval", "run", out, "--data", f"own={data}", "--strategy", "think", "--server", server.base_url, "--jobs", 1)
    assert (done.returncode, rows(out)) == (1, []), done.stderr
    assert "no such key; give it as --api-key" in done.stderr


def test_an_arm_of_the_folder_cannot_change(site: Site, tmp_path: Path) -> None:
    data, out = own(tmp_path / "data", "warmer"), tmp_path / "out"
    words = ("eval", "run", out, "--data", f"own={data}", "--strategy", "single", "--server", site.url)
    assert run(*words).returncode == 0
    done = run(*words, "--option", "guidance_scale=3")
    assert done.returncode == 2 and "has an arm 'single' with other options" in done.stderr


def test_a_grid_names_its_arms_by_what_differs() -> None:
    made = arms.grid({"strategy": ["single", "think"], "editor": ["q/x"], "seed": [1, 2]}, {"max_turns": 3})
    assert [arm.name for arm in made] == ["single-seed1", "single-seed2", "think-seed1", "think-seed2"]
    assert made[0].options == {"max_turns": 3, "strategy": "single", "editor": "q/x", "seed": 1}
    assert [arm.name for arm in arms.grid({"editor": ["q/x"], "seed": [0]})] == ["q_x"]
    assert arms.parse("two:strategy=think,max_turns=2,prepare=true,lora=05").options == {
        "strategy": "think",
        "max_turns": 2,
        "prepare": True,
        "lora": "05",
    }
