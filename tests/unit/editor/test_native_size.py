"""``native_size`` and ``draft`` over HTTP: who honours them, who refuses, and what a repeat gets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.editor.pipelines import Capabilities
from services.editor.pipelines.base import EditJob, EditResult
from tests.unit.editor.interleaved import Steps
from tests.unit.editor.workers import client, post, running


class Sized(Steps):
    """Keeps the jobs it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[EditJob] = []

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, native_pixels=4096, draft=True)

    def finish(self, job: EditJob, result: EditResult) -> EditResult:
        self.jobs.append(job)
        return super().finish(job, result)


@pytest.mark.parametrize("name", ["native_size", "draft"])
async def test_the_pipeline_is_told(name: str) -> None:
    pipeline = Sized()
    async with running(lambda: pipeline) as app, client(app) as http:
        asked: list[dict[str, Any]] = [{}, {name: "false"}, {name: "true"}]
        replies = [await post(http, **fields) for fields in asked]
    assert [reply.status_code for reply in replies] == [200, 200, 200]
    assert [getattr(job, name) for job in pipeline.jobs] == [False, False, True]


async def test_models_tell_who_can() -> None:
    async with running(Sized) as app, client(app) as http:
        told = (await http.get("/v1/models")).json()["data"][0]["capabilities"]
    async with running() as app, client(app) as http:
        classical = (await http.get("/v1/models")).json()["data"][0]["capabilities"]
    assert (told["native_pixels"], told["draft"]) == (4096, True)
    assert (classical["native_pixels"], classical["draft"]) == (None, False)


async def test_an_editor_without_a_size_of_its_own_edits_at_the_sources() -> None:
    """The classical editor's native size is the source's; it has no draft, and says what it takes."""
    async with running() as app, client(app) as http:
        whole, native = await post(http, seed=1), await post(http, seed=1, native_size="true")
        refused = await post(http, draft="true")
    assert native.json()["data"] == whole.json()["data"] and native.json()["size"] == whole.json()["size"]
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", "draft")
    assert "leave it out" in error["message"]


async def test_a_repeat_without_native_size_joins_the_edit_and_one_without_draft_does_not() -> None:
    """Another replica, which has not read the list of models yet, repeats an edit under its key."""
    pipeline = Sized()
    async with running(lambda: pipeline) as app, client(app) as http:
        key: dict[str, Any] = {"headers": {"idempotency-key": "k"}}
        first = await post(http, **key, native_size="true")
        again = await post(http, **key)
        draft = await post(http, **key, draft="true")
    assert again.headers["idempotent-replayed"] == "true" and again.json()["data"] == first.json()["data"]
    assert draft.status_code == 422
    assert len(pipeline.jobs) == 1
