"""Many photos with one command: against a real orchestrator, killed in between, and never paid for twice."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from editthinker import EditThinker
from editthinker.cli.journal import NAME, Journal
from editthinker.cli.several import RETRIES, UnderWay
from editthinker.client import RateLimitError
from editthinker.local import Stack
from tests.component.client.scripted import EVENTS, PNG, Answer, Asked, as_json, error, in_turn, scripted, session, stream
from tests.integration.test_cli_commands import command, on_standins, plan, png, run
from tests.integration.test_cli_stack import until


@dataclass(frozen=True)
class Site:
    """A stack, and what its editor was asked to do."""

    url: str
    log: Path

    def edits(self) -> int:
        return self.log.read_text().count("editing\n")

    def sessions(self) -> int:
        with EditThinker(self.url) as client:
            return sum(1 for _ in client.sessions.list(limit=100))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    data = tmp_path_factory.mktemp("data")
    with Stack(data, planner=plan) as stack:
        yield Site(stack.base_url, data / "logs" / "upstream.log")


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{name}.png" for name in "abcd"]
    for number, path in enumerate(paths):
        path.write_bytes(png(24 + number, 16))
    return paths


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(command("edit", *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def results(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_batch_edits_every_photo_and_does_nothing_twice(site: Site, photos: list[Path], tmp_path: Path) -> None:
    out, before = tmp_path / "out", site.sessions()
    jpeg = tmp_path / "e.jpeg"
    with EditThinker(site.url) as client:
        jpeg.write_bytes(client.edit(photos[0], "x", max_turns=1, format="jpeg").image)
    before += 1
    rows = "".join(f"{path.name},golden hour number {number}\n" for number, path in enumerate([*photos, jpeg]))
    (tmp_path / "prompts.csv").write_text(f"photo,instruction\n{rows}")
    words = ("edit", *photos, jpeg, "--prompts", tmp_path / "prompts.csv", "-o", out, "--server", site.url, "--max-turns", 1)
    done = run(*words, "--jobs", 3, "--metadata", "batch=one")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"5 photos: 5 edited; results in {out}\n"
    assert len([line for line in done.stderr.splitlines() if " after 1 turn; best" in line]) == 5
    assert results(out) == ["a.png", "b.png", "c.png", "d.png", "e.jpeg"]
    assert (out / "e.jpeg").read_bytes().startswith(b"\xff\xd8\xff")
    assert site.sessions() == before + 5
    with EditThinker(site.url) as client:
        told = {each.instruction for each in client.sessions.list(metadata={"batch": "one"})}
    assert told == {f"golden hour number {number}" for number in range(5)}

    again = run(*words, "--metadata", "batch=one", "--json")
    assert [json.loads(line)["result"] for line in again.stdout.splitlines()] == ["kept"] * 5
    assert "5 there already" in again.stderr
    # A result that was removed is fetched again, and not edited again.
    (out / "b.png").unlink()
    third = run(*words, "--metadata", "batch=one")
    assert "1 edited, 4 there already" in third.stdout
    assert (results(out), site.sessions()) == (["a.png", "b.png", "c.png", "d.png", "e.jpeg"], before + 5)


def test_a_batch_that_was_killed_goes_on_and_pays_for_nothing_twice(site: Site, photos: list[Path], tmp_path: Path) -> None:
    out, before = tmp_path / "out", site.sessions()
    words = (*photos, "golden hour", "-o", out, "--server", site.url, "--jobs", 1)
    with start(*words) as running:
        assert until(lambda: out.exists() and len(results(out)) >= 2, 180)
        running.send_signal(signal.SIGKILL)
        running.communicate()
    done = run("edit", *words)
    assert done.returncode == 0, done.stderr
    assert "there already" in done.stdout
    assert results(out) == ["a.png", "b.png", "c.png", "d.png"]
    assert site.sessions() == before + 4
    edits = site.edits()
    # As killed after the requests and before their answers: only the idempotency keys are known.
    journal = out / NAME
    begun = [line for line in journal.read_text().splitlines() if "key" in json.loads(line)]
    journal.write_text("\n".join(begun) + '\n{"task": "half a li')
    for path in out.glob("*.png"):
        path.unlink()
    assert run("edit", *words).returncode == 0
    assert results(out) == ["a.png", "b.png", "c.png", "d.png"]
    assert (site.sessions(), site.edits()) == (before + 4, edits)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_stops_the_batch_and_not_its_sessions(photos: list[Path], tmp_path: Path, stop: signal.Signals) -> None:
    """They are not cancelled, and the next run collects them without a request for another."""
    out, go_on = tmp_path / "out", threading.Event()

    def script(asked: Asked) -> Answer:
        if asked.path.endswith("/events"):
            return replace(stream(EVENTS), hold=go_on)
        ended = session() if go_on.is_set() else session("running", best=None)
        return Answer(200, PNG) if "/image" in asked.path else as_json(ended, 202 if asked.method == "POST" else 200)

    with scripted(script) as server:
        words = (*photos[:2], "x", "-o", out, "--server", server.base_url)
        with start(*words) as running:
            assert until(lambda: sum(path.endswith("/events") for path in server.paths()) == 2, 180)
            running.send_signal(stop)
            _, errors = running.communicate(timeout=180)
        assert running.returncode == 130, errors
        assert errors == f"2 photos: 2 left; results in {out}; the same command goes on from here\neditthinker: interrupted\n"
        go_on.set()
        assert run("edit", *words).returncode == 0
        assert results(out) == ["a.png", "b.png"]
        assert [path for path in server.paths() if path.startswith("POST")] == ["POST /v1/sessions"] * 2


def test_a_photo_that_fails_does_not_stop_the_others(site: Site, photos: list[Path], tmp_path: Path) -> None:
    """The exit status is 1, and the next run tries it again."""
    out, before = tmp_path / "out", site.sessions()
    (tmp_path / "prompts.csv").write_text("a.png,fail\nb.png,golden hour\n")
    broken = tmp_path / "c.png"
    broken.write_bytes(broken.read_bytes()[:40])
    words = ("edit", "--prompts", tmp_path / "prompts.csv", "-o", out, "--server", site.url, "--max-turns", 1)
    done = run(*words)
    assert done.returncode == 1
    assert done.stdout.startswith(f"2 photos: 1 edited, 1 failed; results in {out}\nfailed: {tmp_path / 'a.png'}: session ses_")
    assert "I refuse" in done.stdout
    assert results(out) == ["b.png"]
    again = run(*words, "--json")
    assert again.returncode == 1
    by_photo = {Path(each["photo"]).name: each for each in map(json.loads, again.stdout.splitlines())}
    assert (by_photo["a.png"]["result"], by_photo["b.png"]["result"]) == ("failed", "kept")
    assert "I refuse" in by_photo["a.png"]["error"]
    assert site.sessions() == before + 3
    refused = run("edit", broken, photos[3], "golden hour", "-o", out, "--server", site.url, "--max-turns", 1)
    assert (refused.returncode, results(out)) == (1, ["b.png", "d.png"])
    assert "param image" in refused.stdout


def test_results_replace_no_file_of_the_users(site: Site, photos: list[Path], tmp_path: Path) -> None:
    """Not even where they go into the folder of the photos."""
    kept = {path: path.read_bytes() for path in photos}
    done = run("edit", *photos[:2], "golden hour", "-o", tmp_path, "--server", site.url, "--max-turns", 1)
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in photos} == kept
    assert {"a-2.png", "b-2.png"} <= set(results(tmp_path))


def test_photos_of_the_same_name_are_different_edits(site: Site, photos: list[Path], tmp_path: Path) -> None:
    """Also where their bytes are equal; and each is known again without the other."""
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder, photo in zip(folders, (photos[0], photos[1], photos[1]), strict=True):
        folder.mkdir()
        (folder / "x.png").write_bytes(photo.read_bytes())
    out, before = tmp_path / "out", site.sessions()
    words = ("golden hour", "-o", out, "--server", site.url, "--max-turns", 1)
    assert run("edit", *(folder / "x.png" for folder in folders), *words).returncode == 0
    assert (results(out), site.sessions()) == (["x-2.png", "x-3.png", "x.png"], before + 3)
    for folder in folders:
        assert "1 photo: 1 there already" in run("edit", folder / "x.png", *words).stdout
    assert site.sessions() == before + 3


def test_photos_are_edited_several_at_a_time(photos: list[Path], tmp_path: Path) -> None:
    """As many as --jobs says: the server waits for three at once."""
    together = threading.Barrier(3)

    def script(asked: Asked) -> Answer:
        if asked.method == "POST":
            together.wait(20)
            return as_json(session("queued", best=None), 202)
        if asked.path.endswith("/events"):
            return stream(EVENTS)
        return Answer(200, PNG) if "/image" in asked.path else as_json(session())

    with scripted(script) as server:
        done = run("edit", *photos[:3], "x", "-o", tmp_path / "out", "--server", server.base_url, "--jobs", 3)
    assert (done.returncode, results(tmp_path / "out")) == (0, ["a.png", "b.png", "c.png"]), done.stderr


def one_unfinished(others: int, *, late: bool = False) -> Callable[[Asked], Answer]:
    """A server that allows one unfinished session, which ends when all attempts of so many others are refused. ``late``: the last
    refusal is sent when the first picture has been asked for, so after the batch knows of that end.
    """
    unfinished, refusals, enough, edited = threading.Semaphore(1), itertools.count(1), threading.Event(), threading.Event()

    def script(asked: Asked) -> Answer:
        if asked.method == "POST":
            if unfinished.acquire(blocking=False):
                return as_json(session("queued", best=None), 202)
            if next(refusals) == others * RETRIES.attempts:
                enough.set()
                if late:
                    edited.wait(30)
            return error(429, "quota_exceeded", retry_after="0")
        if asked.path.endswith("/events"):
            enough.wait(30)
            unfinished.release()
            return stream(EVENTS)
        if "/image" in asked.path:
            edited.set()
            return Answer(200, PNG)
        return as_json(session())

    return script


def test_a_batch_keeps_to_the_tenants_quota(photos: list[Path], tmp_path: Path) -> None:
    """With more jobs than unfinished sessions allowed, a refused photo waits for another one's end."""
    with scripted(one_unfinished(2)) as server:
        done = run("edit", *photos[:3], "x", "-o", tmp_path / "out", "--server", server.base_url, "--jobs", 3)
    assert (done.returncode, results(tmp_path / "out")) == (0, ["a.png", "b.png", "c.png"]), done.stderr
    refused = error(429, "quota_exceeded", "your day is over", retry_after="9999")
    with scripted(in_turn(refused)) as server:
        done = run("edit", *photos[:3], "y", "-o", tmp_path / "out", "--server", server.base_url)
    assert (done.returncode, "your day is over" in done.stderr) == (1, True)


def test_a_refusal_is_no_end_if_a_session_ended_since_the_photo_was_sent(photos: list[Path], tmp_path: Path) -> None:
    with scripted(one_unfinished(1, late=True)) as server:
        done = run("edit", *photos[:2], "x", "-o", tmp_path / "out", "--server", server.base_url, "--jobs", 2)
    assert (done.returncode, results(tmp_path / "out")) == (0, ["a.png", "b.png"]), done.stderr


async def test_a_session_holds_the_quota_before_its_answer_is_here() -> None:
    """What is refused by then waits for its end, or until it is refused too."""
    under_way = UnderWay()
    with under_way.one():
        first = asyncio.create_task(under_way.one_ends(under_way.ends))
        await asyncio.sleep(0)
        assert not first.done()
    assert await first
    with contextlib.suppress(RateLimitError), under_way.one():
        second = asyncio.create_task(under_way.one_ends(under_way.ends))
        await asyncio.sleep(0)
        assert not second.done()
        raise RateLimitError(429, "quota_exceeded", "no")
    assert not await second


def test_a_batch_on_the_embedded_stack_goes_on_too(photos: list[Path], tmp_path: Path) -> None:
    """The stack is killed with the command; its sessions are in the data directory."""
    out, home = tmp_path / "out", tmp_path / "home"
    words = ("edit", *photos[:3], "golden hour", "-o", out, "--jobs", 1)
    with on_standins(*words, home=home) as running:
        assert until(lambda: out.exists() and len(results(out)) >= 2, 180)
        running.send_signal(signal.SIGKILL)
        running.communicate()
    with on_standins(*words, home=home) as running:
        printed, errors = running.communicate(timeout=180)
    assert running.returncode == 0, errors
    assert "there already" in printed
    assert results(out) == ["a.png", "b.png", "c.png"]


def test_what_every_photo_would_get_stops_the_batch(photos: list[Path], tmp_path: Path) -> None:
    with scripted(in_turn(error(401, "invalid_api_key", "no such key"))) as server:
        done = run("edit", *photos, "x", "-o", tmp_path / "out", "--server", server.base_url, "--jobs", 1)
    assert (done.returncode, len(server.asked)) == (1, 1)
    assert "4 photos: 4 left" in done.stderr
    assert "the same command goes on from here" in done.stderr
    assert "editthinker: no such key; give it as --api-key" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a.png"], "give an instruction, in words, after the photo"),
        ([], "give a photo and an instruction"),
        (["a.png", "b.png", "warmer"], "need a folder: -o folder/"),
        (["a.png", "b.png", "warmer", "-o", "out.png"], "need a folder: -o folder/"),
        (["make it warmer", "a.png"], "a.png is a file, and the instruction comes last: editthinker edit a.png 'make it warmer'"),
        (["a.png", "b.png", "-o", "out"], "'b.png'|need a folder|name the result"),
        (["a.png", "b.png", "c.png", "-o", "out"], "c.png is a file, and the instruction comes last"),
        (["a.png", "missing.png", "warmer", "-o", "out"], "missing.png: No such file"),
        (["a.png", "-", "warmer", "-o", "out"], "standard input is one photo"),
        (["a.png", "b.png", "warmer", "-o", "out", "--report", "r.html"], "--report is for one photo"),
        (["--prompts", "missing.csv", "-o", "out"], "missing.csv: No such file"),
        (["a.png", "warmer", "--metadata", "order"], "--metadata 'order': write KEY=VALUE"),
        (["a.png", "b.png", "warmer", "-o", "out", "--server", "ftp://x"], "not the URL of a server"),
    ],
)
def test_wrong_use_is_told_before_anything_is_paid_for(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    server = [] if "--server" in words else ["--server", "http://127.0.0.1:9"]
    done = run("edit", *words, *server)
    assert done.returncode == 2, done.stderr
    assert any(part in done.stderr for part in says.split("|"))
    assert done.stdout == ""


def test_two_batches_do_not_share_a_folder(photos: list[Path], tmp_path: Path) -> None:
    with Journal(tmp_path):
        done = run("edit", *photos, "x", "-o", tmp_path, "--server", "http://127.0.0.1:9")
    assert (done.returncode, "another batch writes into" in done.stderr) == (2, True)
