"""Finished sessions over the REST API, when they have left Redis, are deleted, exported, or their time is over."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_client
from starlette.responses import JSONResponse, Response

from orchestrator.api.view import show
from orchestrator.loop.events import load
from orchestrator.loop.session import fold
from orchestrator.store.scripts import KeySpace
from tests.doubles.processes import Process, free_port, module, wait_ready
from tests.doubles.upstreams import Script, picture
from tests.integration.conftest import Start, settings
from tests.integration.test_events import read_events
from tests.integration.test_sessions import create
from tests.integration.test_takeover import until

SHORT = {"EDITTHINKER_REDIS_RETENTION_S": "0.2"}


@dataclass
class Server:
    """An orchestrator that keeps finished sessions in Redis for a moment, its folder of pictures, and its database."""

    process: Process
    blobs: Path
    database: Any
    """Untyped, as the library is."""


@pytest.fixture(scope="module")
def running(redis: Process, upstreams: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests that do not harm it."""
    folder = tmp_path_factory.mktemp("retention")
    url = f"redis://127.0.0.1:{redis.port}/8"
    env = settings(redis, upstreams, folder / "blobs", EDITTHINKER_REDIS_URL=url, **SHORT)
    process = module("orchestrator", free_port(), folder / "orchestrator.log", env=env)
    wait_ready(process)
    yield Server(process, folder / "blobs", redis_client.Redis(port=redis.port, db=8))
    process.stop()


@pytest.fixture
def server(running: Server, script: Script) -> Iterator[Server]:
    """It, without the sessions of other tests."""
    yield running
    script.release.set()
    until(lambda: running.database.get(KeySpace().unfinished) in {None, b"0"})
    # What is being archived writes into the folders that are removed here.
    until(lambda: not [chore for chore in running.database.zrange(KeySpace().timers, 0, -1) if chore.startswith(b"archive:")])
    running.database.flushdb()
    for path in running.blobs.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture
def database(redis: Process) -> redis_client.Redis:
    """The orchestrator's own."""
    return redis_client.Redis(port=redis.port, db=1)


@contextmanager
def client(process: Process) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=process.url, timeout=20, trust_env=False) as api:
        yield api


def archived(database: redis_client.Redis, session_id: str) -> None:
    """Wait until it has left Redis."""
    until(lambda: not database.exists(f"et:{{0}}:log:{session_id}"))


def everything(api: httpx.Client, session: dict[str, Any]) -> list[Any]:
    """All that can be asked about a session."""
    urls = [session["urls"]["image"], session["source"]["url"]]
    urls += [c["image"]["url"] for turn in session["turns"] for c in turn["candidates"]]
    pictures = [api.get(url) for url in urls]
    assert [picture.status_code for picture in pictures] == [200] * len(urls)
    return [
        api.get(session["urls"]["self"]).json(),
        api.get("/v1/sessions").json(),
        api.get("/v1/sessions?status=succeeded&limit=1").json(),
        api.get("/v1/sessions?status=failed").json(),
        list(read_events(api, session["urls"]["events"], None)),
        list(read_events(api, session["urls"]["events"], 3)),
        api.get(session["urls"]["events"], params={"after": session["last_event"]}).status_code,
        [(picture.content, picture.headers["content-type"], picture.headers["cache-control"]) for picture in pictures],
        api.get("/v1/export").text,
    ]


def test_a_session_answers_the_same_when_it_has_left_redis(
    start_orchestrator: Start, database: redis_client.Redis, tmp_path: Path
) -> None:
    """Itself, its place in the list, its events from any point on, and its pictures; from a replica that never saw it, too."""
    lasting = start_orchestrator()
    with client(lasting) as api:
        first = create(api, wait=20, seed=1).json()
        second = create(api, wait=20, max_turns=1).json()
        before = [everything(api, session) for session in (first, second)]
        until(lambda: len(list((tmp_path / "blobs").glob("*/session.json"))) == 2)
    for session in (first, second):
        database.delete(f"et:{{0}}:log:{session['id']}", f"et:{{0}}:s:{session['id']}")
    with client(start_orchestrator()) as api:
        assert [everything(api, session) for session in (first, second)] == before
        again = api.post(first["urls"]["cancel"])
        assert (again.status_code, again.json()) == (200, before[0][0])
        late = api.post(first["urls"]["feedback"], json={"action": "accept"})
        assert late.status_code == 409, late.text


def test_a_repeat_under_the_same_key_gets_the_archived_answer(server: Server) -> None:
    """The key is remembered for longer than the session is in Redis; its pictures are not stored twice."""

    def ask() -> httpx.Response:
        files = {"image": ("a.png", picture(), "image/png")}
        return api.post("/v1/images/edits", files=files, data={"prompt": "x"}, headers={"Idempotency-Key": "k"})

    with client(server.process) as api:
        before = ask()
        session_id = before.headers["x-session-id"]
        archived(server.database, session_id)
        after = ask()
        assert (after.status_code, after.json()) == (200, before.json())
        assert after.headers["x-session-id"] == session_id

        assert api.delete(f"/v1/sessions/{session_id}").status_code == 204
        assert ask().headers["x-session-id"] != session_id


@pytest.mark.parametrize("leaves", [False, True], ids=["in Redis", "archived"])
def test_deleting_removes_the_files_and_no_other_sessions(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    leaves: bool,  # noqa: FBT001 - the parameter
) -> None:
    """Its pictures, its archive, its folder; another session of the same picture keeps its own. It is 404 everywhere."""
    server = request.getfixturevalue("server") if leaves else None
    process = server.process if server else request.getfixturevalue("start_orchestrator")()
    with client(process) as api:
        gone, stays = (create(api, wait=20, seed=1).json() for _ in range(2))
        folders = [(server.blobs if server else tmp_path / "blobs") / session["id"] for session in (gone, stays)]
        until(lambda: all((folder / "session.json").exists() for folder in folders))
        if server:
            archived(server.database, gone["id"])
            archived(server.database, stays["id"])
        assert gone["source"]["sha256"] == stays["source"]["sha256"]

        assert api.delete(gone["urls"]["self"]).status_code == 204

        assert not folders[0].exists()
        assert len(list(folders[1].iterdir())) == 1 + 1 + len(stays["turns"])
        paths = [*gone["urls"].values(), gone["source"]["url"], gone["turns"][0]["candidates"][0]["image"]["url"]]
        for path in paths:
            method = "POST" if path.endswith(("cancel", "feedback")) else "GET"
            reply = api.request(method, path, json={"action": "accept"} if path.endswith("feedback") else None)
            assert (path, reply.status_code) == (path, 404)
        assert api.delete(gone["urls"]["self"]).status_code == 404
        assert [session["id"] for session in api.get("/v1/sessions").json()["data"]] == [stays["id"]]
        assert [json.loads(line)["id"] for line in api.get("/v1/export").text.splitlines()] == [stays["id"]]
        assert api.get(stays["urls"]["image"]).status_code == 200


def test_an_unfinished_session_is_not_deleted(server: Server, script: Script) -> None:
    """Cancel it first; its picture stays until then."""
    script.hold_every = True
    with client(server.process) as api:
        session = create(api).json()
        reply = api.delete(session["urls"]["self"])

        assert (reply.status_code, reply.json()["error"]["code"]) == (409, "session_conflict")
        assert len(list((server.blobs / session["id"]).iterdir())) == 1
        script.release.set()


def test_nothing_is_left_after_the_archive_retention(
    start_orchestrator: Start, database: redis_client.Redis, tmp_path: Path
) -> None:
    """Neither files nor entries in Redis."""
    with client(start_orchestrator(EDITTHINKER_ARCHIVE_RETENTION_S="4", **SHORT)) as api:
        session = create(api, wait=20).json()
        folder = tmp_path / "blobs" / session["id"]
        until((folder / "session.json").exists)
        archived(database, session["id"])
        # On a busy machine its time may be over by now.
        kept = api.get(session["urls"]["self"]).status_code == 200
        assert kept or time.time() >= session["expires_at"]

        until(lambda: api.get(session["urls"]["self"]).status_code == 404)
        until(lambda: not folder.exists())
        assert api.get("/v1/sessions").json()["data"] == []
        until(lambda: not [key for key in database.scan_iter() if session["id"].encode() in key])


def test_images_of_a_crashed_attempt_are_removed_by_archiving(server: Server, script: Script) -> None:
    """An image that no event names: its replica died between storing it and recording it."""
    script.hold_edit = 1
    with client(server.process) as api:
        session = create(api, max_turns=1).json()
        folder = server.blobs / session["id"]
        until(lambda: len(script.edits) == 1)
        orphan = folder / ("e" * 64)
        orphan.write_bytes(b"lost")
        script.release.set()

        until(lambda: (folder / "session.json").exists() and not orphan.exists())
        done = api.get(session["urls"]["self"]).json()
        named = {done["source"]["sha256"], done["turns"][0]["candidates"][0]["image"]["sha256"]}
        assert {path.name for path in folder.iterdir()} == {"session.json", *named}


def test_refused_requests_leave_no_folder(start_orchestrator: Start, script: Script, tmp_path: Path) -> None:
    """Too many sessions, a mask of the wrong size, a repeat under the same key."""
    script.hold_every = True
    files = {"image": ("a.png", picture(), "image/png")}
    with client(start_orchestrator(EDITTHINKER_MAX_UNFINISHED="1")) as api:
        kept = [api.post("/v1/sessions", files=files, data={"prompt": "x"}, headers={"Idempotency-Key": "k"}) for _ in range(2)]
        full = create(api)

        assert [reply.json()["id"] for reply in kept] == [kept[0].json()["id"]] * 2
        assert full.status_code == 429
        assert [path.name for path in (tmp_path / "blobs").glob("ses_*")] == [kept[0].json()["id"]]
        script.release.set()


def run_sweep(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator", "sweep", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **env}, check=False)


def test_the_sweep_removes_folders_without_a_session(
    start_orchestrator: Start, redis: Process, upstreams: str, tmp_path: Path
) -> None:
    """A dry run lists them; sessions in Redis and archived ones keep theirs."""
    env = settings(redis, upstreams, tmp_path / "blobs", EDITTHINKER_REDIS_URL=f"redis://127.0.0.1:{redis.port}/1")
    orphan = tmp_path / "blobs" / f"ses_{'0' * 32}"
    with client(start_orchestrator()) as api:
        session = create(api, wait=20, max_turns=1).json()
        orphan.mkdir()
        (orphan / ("a" * 64)).write_bytes(b"source")

        default = run_sweep(env)
        dry = run_sweep(env, "--older-than", "0", "--dry-run")
        assert (default.returncode, default.stdout) == (0, "2 folders, 0 without a session removed\n"), default.stderr
        assert (dry.returncode, dry.stdout) == (0, f"{orphan.name}\n2 folders, 1 without a session would be removed\n")
        assert orphan.exists()

        swept = run_sweep(env, "--older-than", "0")
        assert (swept.returncode, swept.stdout) == (0, f"{orphan.name}\n2 folders, 1 without a session removed\n")
        assert not orphan.exists()
        assert api.get(session["urls"]["image"]).status_code == 200


def test_a_sweep_without_redis_removes_nothing(upstreams: str, redis: Process, tmp_path: Path) -> None:
    """The folder stays, and the exit status reports it; so it does for a wrong setting."""
    orphan = tmp_path / "blobs" / f"ses_{'0' * 32}"
    orphan.mkdir(parents=True)
    env = settings(redis, upstreams, tmp_path / "blobs", EDITTHINKER_REDIS_URL="redis://127.0.0.1:1/0")

    away = run_sweep(env, "--older-than", "0")
    wrong = run_sweep({**env, "EDITTHINKER_ARCHIVE_RETENTION_S": "10"}, "--older-than", "0")

    assert (away.returncode, "Redis" in away.stderr, "Traceback" in away.stderr) == (1, True, False)
    assert (wrong.returncode, "redis_retention_s" in wrong.stderr) == (2, True)
    assert orphan.exists()


def test_an_export_is_the_sessions(server: Server, script: Script) -> None:
    """The events of each line, folded, show what the API shows; oldest first, the unfinished left out, filtered."""
    with client(server.process) as api:
        empty = api.get("/v1/export")
        assert (empty.status_code, empty.text) == (200, "")
        first = create(api, wait=20, seed=1).json()
        archived(server.database, first["id"])
        script.edit_fault = lambda _: refusal()
        second = create(api, wait=20).json()
        assert second["status"] == "failed"
        script.edit_fault = lambda _: None
        third = create(api, wait=20, max_turns=1).json()
        script.hold_every = True
        unfinished = create(api).json()

        reply = api.get("/v1/export")
        assert reply.headers["content-type"] == "application/jsonl"
        lines = [json.loads(line) for line in reply.text.splitlines()]
        for line, session in zip(lines, (first, second, third), strict=True):
            events = [load(json.dumps(event)) for event in line["events"]]
            assert [event["seq"] for event in line["events"]] == list(range(1, session["last_event"] + 1))
            assert show(line["id"], fold(events), len(events)).model_dump(mode="json") == session
            assert {key: line[key] for key in ("object", "version", "tenant")} == {
                "object": "session_archive",
                "version": 1,
                "tenant": "default",
            }
            assert (line["created_at"], line["finished_at"]) == (session["created_at"], session["finished_at"])

        def ids(**params: object) -> list[str]:
            text = api.get("/v1/export", params={key: str(value) for key, value in params.items()}).text
            return [json.loads(line)["id"] for line in text.splitlines()]

        assert ids(status="failed") == [second["id"]]
        assert ids(status="succeeded") == [first["id"], third["id"]]
        assert ids(since=second["created_at"] - 0.001) == [second["id"], third["id"]]
        assert ids(until=second["created_at"] - 0.001) == [first["id"]]
        assert ids(since=third["finished_at"] + 100) == []
        assert api.get("/v1/export?status=running").status_code == 400
        assert unfinished["id"] not in ids()
        script.release.set()


def refusal() -> Response:
    """An editor's refusal."""
    return JSONResponse({"error": {"message": "no"}}, 400)


def test_an_interrupted_export_does_not_look_complete(server: Server) -> None:
    """The blob store fails in the middle: the body does not end properly. It fails at the start: 503."""
    with client(server.process) as api:
        session = create(api, wait=20, max_turns=1).json()
        archived(server.database, session["id"])
        document = (server.blobs / session["id"] / "session.json").read_bytes()
        for number in range(40):
            folder = server.blobs / f"ses_{number:032x}"
            folder.mkdir()
            (folder / "session.json").write_bytes(document)
            server.database.zadd("et:{0}:index:default", {folder.name: 1000 + number})
        assert len(api.get("/v1/export").text.splitlines()) == 41

        broken = server.blobs / f"ses_{39:032x}"
        (broken / "session.json").unlink()
        broken.rmdir()
        broken.write_text("no folder")
        received = b""
        with pytest.raises(httpx.RemoteProtocolError), api.stream("GET", "/v1/export") as reply:  # noqa: PT012
            for chunk in reply.iter_bytes():
                received += chunk
        assert received.count(b"\n") == 32

        early = api.get("/v1/export?since=1.035")
        assert (early.status_code, early.json()["error"]["code"]) == (503, "storage_unavailable")


def test_archiving_that_failed_is_repeated_by_another_replica(
    start_orchestrator: Start, script: Script, database: redis_client.Redis, tmp_path: Path
) -> None:
    """The blob store failed, then the replica was killed; the session stays in Redis until another one archives it."""
    script.hold_edit = 1
    brief = {"EDITTHINKER_LEASE_S": "0.6", **SHORT}
    first = start_orchestrator(**brief)
    with client(first) as api:
        session = create(api, max_turns=1).json()
        obstacle = tmp_path / "blobs" / session["id"] / "session.json"
        obstacle.mkdir()
        script.release.set()
        until(lambda: f"archive:{session['id']} is postponed" in first.log.read_text())
        assert api.get(session["urls"]["self"]).json()["status"] == "succeeded"
    first.kill()
    obstacle.rmdir()
    with client(start_orchestrator(**brief)) as api:
        archived(database, session["id"])
        assert obstacle.is_file()
        assert api.get(session["urls"]["image"]).status_code == 200
