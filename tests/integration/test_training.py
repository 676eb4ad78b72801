"""Consent to training with real processes and two tenants: what is exported, what is withdrawn, and the requests of critiques."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner

from orchestrator.__main__ import app
from orchestrator.loop import events as ev
from orchestrator.loop.session import fold
from orchestrator.store.api_keys import ApiKeyStore
from orchestrator.store.scripts import KeySpace
from tests.doubles.processes import Process
from tests.doubles.upstreams import Script, picture
from tests.integration.conftest import Start
from tests.integration.test_takeover import until


@dataclass
class Site:
    """A server that requires keys."""

    start: Start
    redis: Process
    process: Process

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.redis.port}/1"

    def key(self, tenant: str, *scopes: str) -> str:
        async def create() -> str:
            redis = Redis.from_url(self.url)
            try:
                return (await ApiKeyStore(redis, KeySpace()).create(tenant, scopes or ("edit", "read")))[0]
            finally:
                await redis.aclose()

        return asyncio.run(create())

    @contextmanager
    def client(self, key: str, **headers: str) -> Iterator[httpx.Client]:
        headers |= {"authorization": f"Bearer {key}"}
        with httpx.Client(base_url=self.process.url, headers=headers, timeout=30, trust_env=False) as client:
            yield client

    def training(self, *arguments: str) -> str:
        """The operator's command: what it says."""
        done = CliRunner().invoke(app, ["training", *arguments], env={"EDITTHINKER_REDIS_URL": self.url})
        assert done.exit_code == 0, done.output
        return done.output

    def allow(self, tenant: str) -> str:
        return self.training("allow", "--tenant", tenant).split()[-1]


@pytest.fixture
def site(redis: Process, start_orchestrator: Start) -> Site:
    return Site(start_orchestrator, redis, start_orchestrator(EDITTHINKER_KEYS="required"))


def edit(client: httpx.Client, **fields: str) -> str:
    files = {"image": ("a.png", picture(), "image/png")}
    data = {"prompt": "make it golden", "max_turns": "2", **fields}
    reply = client.post("/v1/sessions", files=files, data=data, headers={"prefer": "wait=20"})
    assert reply.status_code == 200, reply.text
    found: str = reply.json()["id"]
    return found


def exported(client: httpx.Client, path: str = "/v1/export", **query: str) -> list[dict[str, Any]]:
    reply = client.get(path, params={"training": "allowed", **query})
    assert reply.status_code == 200, reply.text
    return [json.loads(line) for line in reply.text.splitlines()]


def names(client: httpx.Client, **query: str) -> set[str]:
    return {each["id"] for each in exported(client, **query)}


def first_critique(document: dict[str, Any]) -> int:
    return next(int(event["seq"]) for event in document["events"] if event["type"] == "critiqued")


def test_nothing_is_exported_for_training_unless_it_was_allowed_before(site: Site) -> None:
    with site.client(site.key("ann")) as ann:
        before = edit(ann)
        assert ann.get("/v1/training").json() == {"object": "training", "training": "denied"}
        assert names(ann) == set()
        site.allow("ann")
        after, refused = edit(ann), edit(ann, training="denied")

        assert ann.get("/v1/training").json()["training"] == "allowed"
        assert names(ann) == {after}
        told = {name: ann.get(f"/v1/sessions/{name}/training").json()["training"] for name in (before, after, refused)}
        assert told == {before: "denied", after: "allowed", refused: "denied"}
        assert len(ann.get("/v1/export").text.splitlines()) == 3


def test_a_request_cannot_allow_what_its_tenant_did_not(site: Site) -> None:
    with site.client(site.key("ann", "edit", "read", "admin")) as ann:
        files = {"image": ("a.png", picture(), "image/png")}
        reply = ann.post("/v1/sessions", files=files, data={"prompt": "x", "training": "allowed"})
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "training")
        assert ann.put("/v1/training", json={"training": "allowed"}).status_code == 405


def test_consent_of_one_tenant_is_not_that_of_another(site: Site) -> None:
    site.allow("ann")
    with site.client(site.key("ann")) as ann, site.client(site.key("bob")) as bob:
        of_ann, of_bob = edit(ann), edit(bob)
        assert (names(ann), names(bob)) == ({of_ann}, set())
        assert bob.get(f"/v1/sessions/{of_ann}/training").status_code == 404
        assert bob.delete(f"/v1/sessions/{of_ann}/training").status_code == 404
        assert bob.get(f"/v1/sessions/{of_ann}/critiques/1").status_code == 404
    with site.client(site.key("ops", "admin"), **{"x-tenant": "bob"}) as operator:
        assert names(operator) == set()
        assert operator.get(f"/v1/sessions/{of_bob}/critiques/5").json()["error"]["code"] == "training_denied"
    with site.client(site.key("ops", "admin"), **{"x-tenant": "ann"}) as operator:
        assert names(operator) == {of_ann}


@pytest.mark.parametrize("by", ["operator", "tenant"])
def test_a_withdrawn_consent_is_not_given_back_by_a_new_one(site: Site, by: str) -> None:
    grant = site.allow("ann")
    with site.client(site.key("ann")) as ann:
        first = edit(ann)
        document = exported(ann)[0]
        if by == "tenant":
            assert ann.delete("/v1/training").status_code == 204
        else:
            assert grant in site.training("deny", "--tenant", "ann")
        assert names(ann) == set()
        assert ann.get(f"/v1/sessions/{first}/critiques/{first_critique(document)}").status_code == 403
        site.allow("ann")
        second = edit(ann)
        assert names(ann) == {second}
        site.training("deny", "--tenant", "ann")
        site.training("allow", "--tenant", "ann", "--grant", grant)
        assert names(ann) == {first}
        assert grant in site.training("list")


def test_a_session_is_withheld_also_once_it_is_archived(redis: Process, start_orchestrator: Start) -> None:
    site = Site(start_orchestrator, redis, start_orchestrator(EDITTHINKER_KEYS="required", EDITTHINKER_REDIS_RETENTION_S="1"))
    site.allow("ann")
    with site.client(site.key("ann")) as ann:
        kept, withheld = edit(ann), edit(ann)

        async def in_redis() -> int:
            client = Redis.from_url(site.url)
            try:
                return int(await client.exists(KeySpace().log(kept), KeySpace().log(withheld)))
            finally:
                await client.aclose()

        until(lambda: asyncio.run(in_redis()) == 0)
        assert names(ann) == {kept, withheld}
        assert ann.delete(f"/v1/sessions/{withheld}/training").status_code == 204
        assert names(ann) == {kept}
        assert ann.get(f"/v1/sessions/{withheld}").status_code == 200


def test_votes_on_sessions_that_are_not_allowed_are_left_out(site: Site) -> None:
    site.allow("ann")
    with site.client(site.key("ann")) as ann:
        allowed, denied = edit(ann), edit(ann, training="denied")
        for turn, other in ((2, allowed), (1, denied)):
            body = {"a": {"session_id": allowed, "turn": 1}, "b": {"session_id": other, "turn": turn}, "choice": "b"}
            assert ann.post("/v1/preferences", json=body).status_code == 201
        pairs = exported(ann, "/v1/preferences/export")
        assert [pair["b"]["session_id"] for pair in pairs] == [allowed]
        assert len(ann.get("/v1/preferences/export").text.splitlines()) == 2


def test_a_critique_is_served_as_the_thinker_got_it(site: Site, script: Script) -> None:
    """The training prompt is the serving prompt, byte for byte, with references, measures and all."""
    site.allow("ann")
    with site.client(site.key("ann")) as ann:
        name = edit(ann, max_turns="3")
        [document] = exported(ann)
        seqs = [event["seq"] for event in document["events"] if event["type"] in {"critiqued", "verified"}]
        served = [ann.get(f"/v1/sessions/{name}/critiques/{seq}").json() for seq in seqs]
    assert len(script.critiques) == len(served) == 3
    assert [each["messages"] for each in served] == [each["messages"] for each in script.critiques]
    assert [each["reply"].partition("critique ")[2][0] for each in served] == ["1", "2", "3"]


def test_a_refinement_after_another_judge_is_served_with_its_judgement(site: Site, script: Script) -> None:
    site.allow("ann")
    with site.client(site.key("ann")) as ann:
        name = edit(ann, judge="strict")
        [document] = exported(ann)
        [seq] = [event["seq"] for event in document["events"] if event["type"] == "refined"]
        served = ann.get(f"/v1/sessions/{name}/critiques/{seq}").json()
    assert served["messages"] == script.critiques[0]["messages"]
    assert "Another judge has scored" in json.dumps(served["messages"])


def test_a_prompt_that_has_changed_is_refused(site: Site, upstreams: str) -> None:
    site.allow("ann")
    key = site.key("ann")
    with site.client(key) as ann:
        name = edit(ann)
        seq = first_critique(exported(ann)[0])
    site.process.stop()
    thinkers = {"double": {"url": f"{upstreams}/thinker/v1", "model": "double", "format": "json_schema"}}
    site.process = site.start(EDITTHINKER_KEYS="required", EDITTHINKER_THINKERS=json.dumps(thinkers))
    with site.client(key) as ann:
        reply = ann.get(f"/v1/sessions/{name}/critiques/{seq}")
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "prompt_changed")


def test_replies_are_kept_only_for_training(site: Site) -> None:
    with site.client(site.key("ann")) as ann:
        edit(ann)
        [document] = [json.loads(line) for line in ann.get("/v1/export").text.splitlines()]
    assert [event for event in document["events"] if event.keys() & {"reply", "prompt", "training"}] == []


def test_events_of_earlier_versions_are_not_allowed() -> None:
    image = ev.ImageRef(sha256="0" * 64, media_type="image/png", bytes=1, width=1, height=1)
    made = ev.SessionCreated(at=0, source=image, instruction="x", editor="e", thinker="t", limits=ev.Limits(deadline_at=1))
    assert b"training" not in ev.dump(made)
    assert fold([ev.load(ev.dump(made))]).created.training is None


def test_a_deleted_session_leaves_no_trace_among_those_withheld(site: Site) -> None:
    site.allow("ann")
    with site.client(site.key("ann")) as ann:
        name = edit(ann)
        ann.delete(f"/v1/sessions/{name}/training")
        assert ann.delete(f"/v1/sessions/{name}").status_code == 204

    async def left() -> int:
        redis = Redis.from_url(site.url)
        try:
            return int(await redis.scard(KeySpace().withheld("ann")))
        finally:
            await redis.aclose()

    assert asyncio.run(left()) == 0
