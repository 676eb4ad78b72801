"""Streams that an earlier version recorded are folded, shown, resumed and archived by this one."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_client

from tests.doubles.processes import Process, free_port, module, wait_ready
from tests.integration.test_takeover import until

RECORDING = Path(__file__).parents[1] / "recorded" / "event-version-1.tar.gz"
ADDED: dict[str, Any] = {"metadata": {}, "expires_at": None, "references": []}
"""Fields of the view that earlier versions did not have."""
OTHER_TENANT = "acme_images_edits"
"""Recorded with keys required, so a server without keys does not show it."""


@dataclass
class Recorded:
    """The recording, and this version's orchestrator on top of it."""

    folder: Path
    redis: redis_client.Redis
    api: httpx.Client

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text("utf-8"))

    @property
    def views(self) -> dict[str, dict[str, Any]]:
        return {name: view for name, view in self.json("views.json").items() if name != OTHER_TENANT}

    def view(self, name: str) -> dict[str, Any]:
        view: dict[str, Any] = self.api.get(f"/v1/sessions/{self.views[name]['id']}").raise_for_status().json()
        return view


def load_keys(redis: redis_client.Redis, keys: dict[str, dict[str, Any]]) -> None:
    """Write every key as it was; times to live count from now."""

    def raw(text: str) -> bytes:
        return text.encode("latin-1")

    for name, key in keys.items():
        where, value = raw(name), key["value"]
        match key["type"]:
            case "string":
                redis.set(where, raw(value))
            case "hash":
                redis.hset(where, mapping={raw(field): raw(text) for field, text in value.items()})
            case "zset":
                redis.zadd(where, {raw(member): score for member, score in value})
            case "set":
                redis.sadd(where, *map(raw, value))
            case "list":
                redis.rpush(where, *map(raw, value))
            case "stream":
                for entry, fields in value:
                    redis.xadd(where, {raw(field): raw(text) for field, text in fields}, id=raw(entry))
            case other:
                raise AssertionError(f"{name} is a {other}")
        if key["ttl_ms"] is not None:
            redis.pexpire(where, key["ttl_ms"])


@pytest.fixture(scope="module")
def recorded(redis: Process, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """The recording in a Redis database of its own, real embedded upstreams, and an orchestrator that finds it there."""
    folder = tmp_path_factory.mktemp("recorded")
    with tarfile.open(RECORDING) as archive:
        archive.extractall(folder, filter="data")
    database = redis_client.Redis(port=redis.port, db=2)
    database.flushdb()
    load_keys(database, json.loads((folder / "redis.json").read_text("utf-8"))["keys"])
    editor = module("services.editor", free_port(), folder / "editor.log", "--pipeline", "classical")
    thinker = module("services.thinker", free_port(), folder / "thinker.log", "--profile", "rules")
    running = [editor, thinker]
    try:
        for process in running:
            wait_ready(process)
        # The recording's names: its upstreams that failed on purpose are whole now.
        url, model = f"{editor.url}/v1", {"url": f"{thinker.url}/v1", "model": "rules"}
        env = {
            "EDITTHINKER_REDIS_URL": f"redis://127.0.0.1:{redis.port}/2",
            "EDITTHINKER_BLOBS": str(folder / "blobs"),
            "EDITTHINKER_EDITORS": json.dumps({name: {"url": url, "mask": True} for name in ("classical", "hanging")}),
            "EDITTHINKER_THINKERS": json.dumps(dict.fromkeys(("rules", "hanging"), model)),
            "EDITTHINKER_MAX_DEADLINE_S": "1e10",
        }
        orchestrator = module("orchestrator", free_port(), folder / "orchestrator.log", env=env)
        running.append(orchestrator)
        wait_ready(orchestrator)
        with httpx.Client(base_url=orchestrator.url, timeout=30, trust_env=False) as api:
            yield Recorded(folder, database, api)
    finally:
        for process in reversed(running):
            process.stop()
        database.flushdb()


def as_shown_now(view: dict[str, Any], mask: Any) -> dict[str, Any]:
    """A recorded view with the fields that were added; its mask was not shown."""
    turns = [
        {**turn, "candidates": [{**candidate, "outside_mask": None} for candidate in turn["candidates"]]}
        for turn in view["turns"]
    ]
    return {**view, **ADDED, "judge": view["thinker"], "turns": turns, "mask": mask}


def test_every_finished_session_is_shown_as_it_was(recorded: Recorded) -> None:
    """Its view, its events and the export are those that the earlier version answered, byte for byte; its images are there."""
    finished = {name: view for name, view in recorded.views.items() if view["finished_at"] is not None}
    assert len(finished) > 20
    for name, view in finished.items():
        shown = recorded.view(name)
        assert shown == as_shown_now(view, shown["mask"]), name
        assert shown["mask"] is None or recorded.api.get(shown["mask"]["url"]).status_code == 200, name
        if view["best"]:
            assert recorded.api.get(view["urls"]["image"]).status_code == 200, name
    for name, text in recorded.json("sse.json").items():
        assert recorded.api.get(recorded.views[name]["urls"]["events"]).text == text, name
    export = (recorded.folder / "export.jsonl").read_bytes().splitlines()
    now = {json.loads(line)["id"]: line for line in recorded.api.get("/v1/export").content.splitlines()}
    assert [now[json.loads(line)["id"]] for line in export] == export


def outline(view: dict[str, Any]) -> dict[str, Any]:
    """The session without what today's embedded thinker judges: scores, instructions, and whether the last turn satisfied."""
    turns = [
        {
            "author": turn["author"],
            "instruction": turn["instruction"] if turn["author"] != "thinker" else "",
            "candidates": [(candidate["status"], candidate["seed"]) for candidate in turn["candidates"]],
        }
        for turn in view["turns"]
    ]
    judged = view["finish_reason"] in {"satisfied", "max_turns"}
    reason = "satisfied or max_turns" if judged else view["finish_reason"]
    return {**{name: view[name] for name in ("status", "best", "last_event")}, "finish_reason": reason, "turns": turns}


def test_every_unfinished_session_is_resumed_and_archived(recorded: Recorded) -> None:
    """They end as the earlier version ended them; then their logs leave Redis, and what is read of them is the same."""
    unfinished = [name for name, view in recorded.views.items() if view["finished_at"] is None]
    assert {"waiting_for_review", "interrupted_edit", "interrupted_critique", "interrupted_at_gate", "queued"} <= set(unfinished)

    def feedback(name: str, action: str) -> None:
        recorded.api.post(recorded.views[name]["urls"]["feedback"], json={"action": action}).raise_for_status()

    feedback("waiting_for_review", "go_on")
    feedback("waiting_before_finish", "accept")
    until(lambda: len(recorded.view("waiting_for_review")["turns"]) == 2, seconds=60)
    until(lambda: recorded.view("waiting_for_review")["status"] == "awaiting_review", seconds=60)
    feedback("waiting_for_review", "accept")
    for name in unfinished:
        until(lambda name=name: recorded.view(name)["finished_at"] is not None, seconds=60)  # type: ignore[misc]
    before = {name: recorded.view(name) for name in unfinished}
    assert {name: outline(view) for name, view in before.items()} == {
        name: outline(view) for name, view in recorded.json("resumed.json").items()
    }

    for name, view in before.items():
        document = recorded.folder / "blobs" / view["id"] / "session.json"
        until(document.exists, seconds=60)
        assert recorded.redis.delete(f"et:{{0}}:log:{view['id']}", f"et:{{0}}:s:{view['id']}"), name
    assert {name: recorded.view(name) for name in unfinished} == before
