"""`editthinker eval score`: a judge behind HTTP, stopped and gone on, and files that the official scripts read."""

from __future__ import annotations

import csv
import json
import pickle
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from editthinker.client import Retries
from evaluation import datasets, results, running
from evaluation.aggregation import gedit, imgedit, krisbench, risebench
from evaluation.scoring import prompts, work
from evaluation.scoring.judge import Judge, JudgeError
from tests.doubles.chat_judge import ChatJudge, chat_judge
from tests.doubles.processes import ended
from tests.doubles.runs import made_run
from tests.integration.test_cli_commands import command, run
from tests.integration.test_cli_stack import until

FOUR = ("imgedit", "gedit", "risebench", "krisbench")
SERVER_SCORES = json.dumps({"score": [8, 7], "reasoning": "x"})


def by_the_question(text: str, _: int) -> str:
    """A reply in the form that each question asks for."""
    if "Naturalness: N" in text:
        return "Brief reasoning: fine\nInstruction: 4\nNaturalness: 3\nDetails: 3"
    if "instruction_score" in text and "knowledge_score" in text:
        return '{"instruction_score": 4, "knowledge_score": 2}'
    for name in ("consistency", "quality", "instruction"):
        if f"{name}_score" in text:
            return json.dumps({f"{name}_score": 3, "reasoning": "so"})
    if "1 for yes, 0 for no" in text:
        return "Yes.\nFinal Score: 1"
    return "Good.\nFinal Score: 5" if "Final Score" in text else SERVER_SCORES


def words(folder: Path, judge: ChatJudge, *more: object) -> tuple[object, ...]:
    return ("eval", "score", folder, "--judge-url", judge.url, "--judge-model", "j", *more)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A run of four benchmarks, scored twice by one judge, and what that was asked."""
    folder = made_run(tmp_path_factory.mktemp("four"), FOUR, 22)
    with chat_judge(by_the_question) as judge:
        done = run(*words(folder, judge, "--jobs", 16))
        assert done.returncode == 0, done.stderr
        questions = len(judge.asked)
        assert done.stdout.startswith(f"{questions} questions answered, 0 before, 0 unread")
        again = run(*words(folder, judge))
        assert again.stdout.startswith(f"0 questions answered, {questions} before")
        assert len(judge.asked) == questions
    return folder, judge.asked


def test_four_benchmarks_are_scored_by_their_own_aggregations(four: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, asked = four
    # ImgEdit 1, GEdit 2, RISE 3 (logical 2, free ones 2), KRIS 3 a result; two arms.
    assert len(asked) == 2 * (22 + 44 + (22 * 3 - 5 - 3) + 22 * 3)
    rows, opened = results.read(folder), datasets.reopen(running.manifest(folder))
    found = {each.name: work.scored(folder, each, rows, "j")["think"].values() for each in opened}
    assert imgedit.aggregate(list(found["imgedit"])).headline == pytest.approx(3.33)
    assert gedit.aggregate(list(found["gedit"])).headline == 7
    assert risebench.aggregate(list(found["risebench"])).headline == 100
    kris = krisbench.aggregate(list(found["krisbench"]))
    assert kris.groups["biology"] == {"VC": 50, "VQ": 50, "IF": 75, "KP": 25, "AVG": 50}
    assert work.judges(folder) == ["j"]


def test_the_official_scripts_find_their_files(four: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, _ = four
    replies = json.loads((folder / "imgedit/think/result.json").read_text())
    assert len(replies) == 22 and replies["1000"].startswith("Brief reasoning")
    with (folder / "gedit/think/gpt4o/eval_results_new/think_color_alter_gpt_score.csv").open() as file:
        assert [(row["sementics_score"], row["instruction_language"]) for row in csv.DictReader(file)] == [("7.0", "en")] * 2
    judges = pickle.loads((folder / "risebench/think/think.pkl").read_bytes())
    assert len(judges) == 22 and "judge3" not in judges["logical_reasoning_3"]
    assert judges["temporal_reasoning_0"]["judge1"] is None
    metrics = json.loads((folder / "krisbench/results/think/biology/metrics.json").read_text())
    assert next(iter(metrics.values()))["knowledge_score"] == 2


def test_pictures_go_with_the_questions_as_the_official_scripts_send_them(four: tuple[Path, list[dict[str, Any]]]) -> None:
    _, asked = four
    sent = {body["messages"][0]["content"][0]["text"]: ChatJudge.pictures(body) for body in asked}
    for words_, count in (("Naturalness", 2), ("plausible", 1), ("artifacts,", 1), ("of this series", 4)):
        assert {len(urls) for text, urls in sent.items() if words_ in text} == {count}
    rise = [urls for text, urls in sent.items() if "Final Score" in text]
    assert all(url.startswith("data:image/jpeg") for urls in rise for url in urls)


def test_scoring_that_was_killed_goes_on(tmp_path: Path) -> None:
    folder = made_run(tmp_path, ["own"], 12)
    with chat_judge(lambda *_: SERVER_SCORES) as judge:
        with ended(subprocess.Popen(command(*words(folder, judge, "--jobs", 1)), stderr=subprocess.PIPE, text=True)) as running_:
            assert until(lambda: len(judge.asked) >= 5, 180)
            running_.send_signal(signal.SIGKILL)
            running_.communicate()
        done = run(*words(folder, judge))
        assert done.returncode == 0, done.stderr
        # At most the question that was under way is asked twice.
        assert 24 <= len(judge.asked) <= 25


def test_what_cannot_be_read_is_asked_twice_and_counted(tmp_path: Path) -> None:
    folder = made_run(tmp_path, ["own"], 2, {"one": {}})
    with chat_judge(lambda _, number: "I would rather not" if number <= 3 else SERVER_SCORES) as judge:
        done = run(*words(folder, judge, "--jobs", 1))
        assert (done.returncode, len(judge.asked)) == (0, 4)
        assert "2 questions answered, 0 before, 1 unread" in done.stdout
        assert "0 questions answered, 2 before, 1 unread" in run(*words(folder, judge)).stdout
        assert "1 questions answered, 1 before, 0 unread" in run(*words(folder, judge, "--unread-again")).stdout


def test_a_question_that_is_refused_is_named_and_asked_again_by_the_next_command(tmp_path: Path) -> None:
    folder = made_run(tmp_path, ["own"], 3, {"one": {}})
    with chat_judge(lambda _, number: 400 if number == 2 else SERVER_SCORES) as judge:
        done = run(*words(folder, judge, "--jobs", 1))
        assert done.returncode == 1 and "failed: own/one/photo-1, scores: " in done.stdout and "answers 400" in done.stdout
        assert run(*words(folder, judge)).stdout.startswith("1 questions answered, 2 before")


def test_a_picture_that_was_made_again_is_scored_again(tmp_path: Path) -> None:
    folder = made_run(tmp_path, ["own"], 2, {"one": {}, "two": {}})
    with chat_judge(lambda *_: SERVER_SCORES) as judge:
        run(*words(folder, judge))
        (folder / "own/one/photo-0.png").write_bytes((folder / "own/two/photo-1.png").read_bytes())
        assert run(*words(folder, judge)).stdout.startswith("1 questions answered, 3 before")


@pytest.mark.parametrize(("status", "said"), [(401, "answers 401"), (404, "answers 404")])
def test_a_wrong_key_or_url_stops_the_scoring(status: int, said: str, tmp_path: Path) -> None:
    folder = made_run(tmp_path, ["own"], 3, {"one": {}})
    with chat_judge(lambda *_: status) as judge:
        done = run(*words(folder, judge, "--jobs", 1))
    assert (done.returncode, len(judge.asked)) == (2, 1) and said in done.stderr


async def test_a_busy_judge_is_asked_again_and_a_silent_one_is_named() -> None:
    quick = Retries(attempts=3, initial=0.001, max=0.001)
    with chat_judge(lambda _, number: 429 if number < 3 else "ok") as judge:
        async with Judge(judge.url, "j", retries=quick) as client:
            assert (await client.ask("x", [])).text == "ok"
    async with Judge("http://127.0.0.1:9/v1", "j", retries=quick) as client:
        with pytest.raises(JudgeError, match="does not answer"):
            await client.ask("x", [])


OFFICIAL_LOOKING = '''
"""A module of prompts, as benchmarks ship them."""
import os
prompt_consist = """Compare. {instruct} {{"consistency_score": N}}"""
prompt_quality = """Look."""
_context_no_delimit = "context"
_prompts_0shot_two_image_edit_rule = "rule"
_prompts_0shot_tie_rule_SC = "edit: <instruction>"
_prompts_0shot_rule_PQ = "quality"
os.abort()
'''


def test_a_benchmarks_own_prompts_are_read_and_not_run(tmp_path: Path) -> None:
    module, listed = tmp_path / "prompts.py", tmp_path / "prompts.json"
    module.write_text(OFFICIAL_LOOKING)
    kris = prompts.load("krisbench", module)
    assert kris.text("prompt_consist", instruct="a {b}") == 'Compare. a {b} {"consistency_score": N}'
    with pytest.raises(prompts.PromptError, match="prompt_dual_evaluation"):
        kris.text("prompt_dual_evaluation", instruct="x")
    vie = prompts.load("gedit", module)
    assert vie.text("semantics", instruct="red {x}") == "context\nrule\nedit: red {x}"
    assert vie.text("quality", instruct="red") == "context\nquality"
    listed.write_text('{"add": "grade <edit_prompt>", "n": 1}')
    assert prompts.load("imgedit", listed).text("add", instruct="a hat") == "grade a hat"
    with pytest.raises(prompts.PromptError, match="'style' is missing"):
        prompts.load("imgedit", listed).text("style", instruct="x")
    listed.write_text('{"add": ')
    with pytest.raises(prompts.PromptError, match="Expecting value"):
        prompts.load("imgedit", listed)


def test_our_own_words_fill_in_for_every_question(tmp_path: Path) -> None:
    values: dict[str, Any] = {"instruct": "a {b} c", "reference": "r", "explanation": "e", "N": "4"}
    for kind in (*FOUR, "own"):
        ours = prompts.load(kind, None)
        for name in ours.texts:
            text = ours.text(name, **values)
            assert "{{" not in text and "{instruct}" not in text and "<instruction>" not in text, (kind, name)


def test_a_name_that_is_taken_and_a_folder_without_results(tmp_path: Path) -> None:
    folder = made_run(tmp_path, ["own"], 1)
    done = run("eval", "score", folder, "--judge-url", "http://127.0.0.1:9/v1", "--judge-model", "server")
    assert done.returncode == 2 and "names the scores of the sessions" in done.stderr
    (folder / results.JOURNAL).write_text("")
    done = run("eval", "score", folder, "--judge-url", "http://127.0.0.1:9/v1", "--judge-model", "j")
    assert done.returncode == 2 and "has no results" in done.stderr
    assert "is not the folder of a run" in run("eval", "score", tmp_path, "--judge-url", "x", "--judge-model", "j").stderr
