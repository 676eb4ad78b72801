"""`editthinker export` against a real server: every form, exact after a crash at any moment, and nothing that is not allowed."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from PIL import Image
from redis.asyncio import Redis
from typer.testing import CliRunner

from editthinker import EditThinker
from editthinker.cli.app import app
from evaluation.trajectories.exporting import ExportOptions, Filters, export
from evaluation.trajectories.layouts import FORMS, Form
from evaluation.trajectories.shards import MANIFEST, ExportConflictError, Shards
from orchestrator.store.scripts import KeySpace
from orchestrator.store.training import TrainingStore
from tests.doubles.processes import Process
from tests.doubles.upstreams import Script, picture
from tests.integration.test_takeover import until


def consent(redis: Process, *, allow: bool) -> None:
    async def change() -> None:
        client = Redis(port=redis.port)
        try:
            store = TrainingStore(client, KeySpace(), time.time)
            await (store.allow("default") if allow else store.deny("default"))
        finally:
            await client.aclose()

    asyncio.run(change())


@pytest.fixture
def allowed(api: httpx.Client, redis: Process, script: Script) -> httpx.Client:
    consent(redis, allow=True)
    return api


@pytest.fixture
def client(allowed: httpx.Client) -> Iterator[EditThinker]:
    with EditThinker(str(allowed.base_url), "") as found:
        yield found


def edit(client: EditThinker, shade: int = 90, prompt: str = "make it golden", **options: Any) -> str:
    session = client.sessions.create(picture(shade=shade), prompt, **{"max_turns": 2, **options})
    return client.sessions.wait(session.id, timeout=30).id


def read(folder: Path) -> list[dict[str, Any]]:
    """The rows of all files, in order."""
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.iterdir()):
        if path.suffix == ".parquet":
            rows += pq.read_table(path).to_pylist()
        elif path.suffix == ".jsonl":
            rows += [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]
    return rows


def test_a_row_of_trl_is_what_the_thinker_was_sent_and_replied(client: EditThinker, script: Script, tmp_path: Path) -> None:
    edit(client, seed=7)
    done = export(client, tmp_path / "out", ExportOptions("trl", licence="CC0"))
    first, second = read(tmp_path / "out")

    sent = script.critiques[0]["messages"][0]["content"]
    blocks = first["prompt"][0]["content"]
    assert [block["type"] for block in blocks] == [part["type"].removesuffix("_url") for part in sent]
    assert [block["text"] for block in blocks] == [part.get("text") for part in sent]
    urls = [part["image_url"]["url"] for part in sent if part["type"] == "image_url"]
    assert [image["bytes"] for image in first["images"]] == [base64.b64decode(url.partition(",")[2]) for url in urls]
    assert "critique 1" in first["completion"][0]["content"][0]["text"]
    assert (first["instruction"], first["turn_instruction"]) == ("make it golden", "make it golden")
    assert second["turn_instruction"] == "make it golden +"
    assert first["scores"] == {"semantic": 3.0, "quality": 9.0, "overall": pytest.approx(27**0.5)}
    # From 3 to 6 of 10.
    assert (first["gain"], first["reward"]) == (3.0, pytest.approx(0.5 + 0.5 * 1.3 / 2))
    assert (second["gain"], second["reward"]) == (None, None)
    assert (first["seed"], first["turn"], first["role"]) == (7, 1, "critique")
    assert {first[name] for name in ("editor", "thinker", "judge")} == {"double"}
    assert first["licence"] == "CC0" and "tenant" not in first
    assert done.complete and done.rows == {"train": 2}


def test_the_forms_are_views_of_one_row(client: EditThinker, tmp_path: Path) -> None:
    edit(client)
    rows = {}
    for form in ("trl", "verl", "swift", "openai"):
        export(client, tmp_path / form, ExportOptions(form))
        rows[form] = read(tmp_path / form)[0]
    texts = [block["text"] or "<image>" for block in rows["trl"]["prompt"][0]["content"]]
    assert rows["verl"]["prompt"] == [{"role": "user", "content": "".join(texts)}]
    assert rows["verl"]["prompt"][0]["content"].count("<image>") == len(rows["verl"]["images"]) == 2
    assert rows["verl"].keys() == {"data_source", "prompt", "images", "ability", "reward_model", "extra_info"}
    assert rows["verl"]["images"] == rows["trl"]["images"]
    reply = rows["trl"]["completion"][0]["content"][0]["text"]
    assert rows["verl"]["extra_info"]["completion"] == reply
    assert rows["swift"]["messages"] == [*rows["verl"]["prompt"], {"role": "assistant", "content": reply}]
    assert [message["role"] for message in rows["openai"]["messages"]] == ["user", "assistant"]
    urls = [part["image_url"]["url"] for part in rows["openai"]["messages"][0]["content"] if part["type"] == "image_url"]
    assert urls == rows["swift"]["images"]
    assert rows["openai"].keys() == {"messages"}


def test_a_folder_has_the_pictures_and_a_file_about_them(client: EditThinker, tmp_path: Path) -> None:
    edit(client)
    export(client, tmp_path / "out", ExportOptions("folder"))
    places = sorted((tmp_path / "out" / "train-00000").iterdir())
    assert len(places) == 2
    about = json.loads((places[0] / "critique.json").read_text("utf-8"))
    named = [part["image_url"]["url"] for part in about["messages"][0]["content"] if part["type"] == "image_url"]
    assert sorted(path.name for path in places[0].iterdir()) == [*named, "critique.json"]
    assert Image.open(io.BytesIO((places[0] / named[1]).read_bytes())).size == (32, 24)


def test_pairs_come_from_judges_picks_and_votes(client: EditThinker, tmp_path: Path) -> None:
    name = edit(client)
    client.preferences.vote((name, 1), (name, 2), "a", label="turns")
    picked = client.sessions.create(picture(shade=50), "make it golden", review="each_turn")
    client.sessions.review(picked.id, timeout=30)
    client.sessions.feedback(picked.id, action="instruct", instruction="make it much more golden")
    until(lambda: len(client.sessions.get(picked.id).turns) == 2)
    client.sessions.review(picked.id, timeout=30)
    client.sessions.feedback(picked.id, action="pick", turn=1)
    client.sessions.wait(picked.id, timeout=30)
    export(client, tmp_path / "out", ExportOptions("pairs"))
    rows = read(tmp_path / "out")

    assert [row["origin"] for row in rows if row["left_session"] == row["right_session"]].count("vote") == 1
    assert {row["origin"] for row in rows} >= {"keep_best", "vote", "pick"}
    for row in rows:
        better = row["chosen"]
        assert row["vote_type"] == {"left": "leftvote", "right": "rightvote"}[better]
        wanted = {"keep_best": "make it golden +", "vote": "make it golden", "pick": "make it golden"}.get(row["origin"])
        assert wanted is None or row[f"{better}_instruction"] == wanted
        assert Image.open(io.BytesIO(row["source_img"]["bytes"])).size == (32, 24)
        assert row[f"{better}_output_image"]["bytes"] != row[f"{row['rejected']}_output_image"]["bytes"]
    best = next(row for row in rows if row["origin"] == "keep_best")
    assert best[f"{best['chosen']}_instruction_following_score"] == pytest.approx(1 + 0.3 * 6)
    assert best[f"{best['chosen']}_scores"]["overall"] > best[f"{best['rejected']}_scores"]["overall"]


def test_what_is_not_allowed_is_in_no_form(client: EditThinker, redis: Process, tmp_path: Path) -> None:
    kept, refused = edit(client, shade=1), edit(client, shade=2, training="denied")
    for name in (kept, refused):
        client.preferences.vote((name, 1), name, "a")
    withdrawn = edit(client, shade=3)
    client.sessions.deny_training(withdrawn)
    assert [client.sessions.training(name) for name in (kept, refused, withdrawn)] == ["allowed", "denied", "denied"]
    for form in FORMS:
        export(client, tmp_path / form, ExportOptions(form, ids=True))
        found = b"".join(path.read_bytes() for path in sorted((tmp_path / form).rglob("*")) if path.is_file())
        assert (refused.encode() in found, withdrawn.encode() in found) == (False, False), form
    consent(redis, allow=False)
    for form in ("trl", "pairs"):
        assert export(client, tmp_path / f"{form}-later", ExportOptions(form)).rows == {}
    assert client.training() == "denied"


def test_ids_are_told_only_where_that_was_asked_for(client: EditThinker, tmp_path: Path) -> None:
    name = edit(client, metadata={"order": "17", "licence": "CC BY 4.0"}, user="someone@example.com")
    export(client, tmp_path / "plain", ExportOptions("trl", licence="CC0"))
    export(client, tmp_path / "ids", ExportOptions("trl", ids=True))
    plain, ids = read(tmp_path / "plain")[0], read(tmp_path / "ids")[0]

    assert plain["licence"] == "CC BY 4.0"
    written = b"".join(path.read_bytes() for path in (tmp_path / "plain").iterdir())
    assert not any(secret in written for secret in (name.encode(), b"someone@", b"default"))
    assert (ids["session"], ids["tenant"], ids["user"]) == (name, "default", "someone@example.com")
    assert json.loads(ids["metadata"])["order"] == "17"


def test_repeats_are_left_out_and_counted(client: EditThinker, script: Script, tmp_path: Path) -> None:
    for _ in range(3):
        script.begin()
        edit(client, seed=1, max_turns=1)
    done = export(client, tmp_path / "once", ExportOptions("openai"))
    assert (sum(done.rows.values()), done.skipped) == (1, {"repeated": 2})
    assert sum(export(client, tmp_path / "all", ExportOptions("openai", repeats=True)).rows.values()) == 3


def test_filters_choose_sessions_critiques_and_times(client: EditThinker, tmp_path: Path) -> None:
    edit(client, shade=1)
    edit(client, shade=2)
    middle = client.sessions.list(1).data[0].created_at

    def rows(**limits: Any) -> int:
        folder = tmp_path / "-".join(f"{name}{value}" for name, value in limits.items())
        return sum(export(client, folder, ExportOptions("openai", Filters(**limits))).rows.values())

    # The first session has two turns, whose score rose by 3 points; the second was satisfied at once.
    assert rows() == 3
    assert (rows(until=middle), rows(since=middle)) == (2, 1)
    assert (rows(status="succeeded"), rows(status="failed")) == (3, 0)
    assert (rows(least_gain=2.5), rows(least_gain=3.5), rows(most_disagreement=0)) == (1, 0, 3)


def test_all_that_was_made_of_one_picture_is_in_one_split(client: EditThinker, tmp_path: Path) -> None:
    for shade in range(12):
        edit(client, shade=shade, max_turns=1)
        edit(client, shade=shade, max_turns=1, prompt="make it blue")
    done = export(client, tmp_path / "out", ExportOptions("trl", splits={"train": 0.5, "test": 0.5}))
    of = {}
    for split in ("train", "test"):
        rows = pq.read_table(tmp_path / "out" / f"{split}-00000.parquet").to_pylist()
        of[split] = {row["images"][0]["bytes"] for row in rows}
    assert of["train"] and of["test"] and not of["train"] & of["test"]
    assert sum(done.rows.values()) == 24


Crash = Callable[[pytest.MonkeyPatch, int], None]


class CrashError(Exception):
    """The process would have died here."""


def at_a_row(patch: pytest.MonkeyPatch, number: int) -> None:
    calls = iter(range(number))
    write = Shards.write

    def dying(self: Shards, split: str, key: bytes, row: dict[str, Any]) -> None:
        if next(calls, None) is None:
            raise CrashError
        write(self, split, key, row)

    patch.setattr(Shards, "write", dying)


def before_the_manifest(patch: pytest.MonkeyPatch, number: int) -> None:
    calls = iter(range(number))
    write = Shards._write_manifest

    def dying(self: Shards) -> None:
        if next(calls, None) is None:
            raise CrashError
        write(self)

    patch.setattr(Shards, "_write_manifest", dying)


@pytest.mark.parametrize("form", ["trl", "openai", "folder"])
@pytest.mark.parametrize("crash", [at_a_row, before_the_manifest])
def test_an_export_that_died_anywhere_is_continued_exactly(client: EditThinker, tmp_path: Path, crash: Crash, form: Form) -> None:
    for shade in range(6):
        edit(client, shade=shade)
    options = ExportOptions(form, splits={"train": 0.5, "test": 0.5}, part_bytes=1)
    whole = export(client, tmp_path / "whole", options)
    assert sum(whole.rows.values()) == 7
    for number in (1, 4, 5):
        folder = tmp_path / str(number)
        with pytest.MonkeyPatch.context() as patch:
            crash(patch, number)
            with pytest.raises(CrashError):
                export(client, folder, options)
        done = export(client, folder, options)
        assert (done.rows, done.skipped, done.complete) == (whole.rows, whole.skipped, True)
        assert sorted(done.files) == sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)
        assert contents(folder) == contents(tmp_path / "whole")


def contents(folder: Path) -> list[Any]:
    if any(folder.glob("*-00000")):
        return sorted((path.parent.name, path.name, path.read_bytes()) for path in folder.glob("*-*/*/*"))
    return sorted(json.dumps(row, default=bytes.hex, sort_keys=True) for row in read(folder))


def test_an_export_that_was_killed_is_continued(client: EditThinker, tmp_path: Path) -> None:
    for shade in range(8):
        edit(client, shade=shade, max_turns=1)
    code = (
        "import sys, pathlib; from editthinker import EditThinker; from evaluation.trajectories.exporting import *\n"
        "export(EditThinker(sys.argv[1], ''), pathlib.Path(sys.argv[2]), ExportOptions('trl', part_bytes=1))"
    )
    folder = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", code, client.base_url, str(folder)])
    until((folder / "train-00002.parquet").exists, 60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = export(client, folder, ExportOptions("trl", part_bytes=1))
    assert done.rows == {"train": 8}
    assert len({row["id"] for row in read(folder)}) == len(read(folder)) == 8
    # Once more is nothing more.
    assert export(client, folder, ExportOptions("trl", part_bytes=1)) == done


def test_a_folder_of_something_else_is_refused(client: EditThinker, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ExportConflictError, match="not empty"):
        export(client, tmp_path, ExportOptions("trl"))
    export(client, tmp_path / "out", ExportOptions("trl"))
    with pytest.raises(ExportConflictError, match="form='trl'"):
        export(client, tmp_path / "out", ExportOptions("verl"))
    options = ExportOptions("openai")
    shards = Shards(tmp_path / "busy", "openai", options.stored(client.base_url, None), 1, ids=False)
    with pytest.raises(ExportConflictError, match="another export"):
        export(client, tmp_path / "busy", options)
    shards.close()


def test_the_command_says_what_it_wrote(client: EditThinker, tmp_path: Path) -> None:
    edit(client)
    run = ["export", "--as", "trl", "-o", str(tmp_path / "out"), "--server", client.base_url]
    done = CliRunner().invoke(app, run)
    assert (done.exit_code, "2 train" in done.stderr) == (0, True), done.output
    wrong = CliRunner().invoke(app, [*run[:-2], "--server", client.base_url, "--splits", "train=0.5"])
    assert (wrong.exit_code, "add up to 0.5" in wrong.stderr) == (2, True), wrong.output
    other = CliRunner().invoke(app, [*run, "--gain", "1"])
    assert (other.exit_code, "other options" in other.stderr) == (2, True), other.output
