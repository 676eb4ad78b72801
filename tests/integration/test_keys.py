"""API keys with real processes: two replicas, two tenants, every route of the OpenAPI document, and what each may use."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import openai
import pytest
import redis as redis_client
from PIL import Image
from redis.asyncio import Redis
from typer.testing import CliRunner

from editthinker import EditThinker
from editthinker.cli.app import app as cli
from editthinker.client import AuthenticationError
from orchestrator.__main__ import main
from orchestrator.api.links import sign
from orchestrator.app import create_app
from orchestrator.ports.stores import Quota
from orchestrator.settings import Settings
from orchestrator.store.api_keys import ApiKeyStore
from orchestrator.store.scripts import KeySpace
from tests.doubles.processes import Process, free_port, module, wait_ready
from tests.doubles.upstreams import Script, picture
from tests.integration.conftest import Start, settings
from tests.integration.test_takeover import until
from tests.unit.imaging.pictures import saved

DB = 6
OPEN = {("/health", "get"), ("/healthz", "get"), ("/readyz", "get"), ("/metrics", "get")}
"""The only routes of the document that need no key."""
UNDOCUMENTED = {
    *("/openapi.json", "/docs", "/docs/start.js", "/docs/{name}"),
    # The studio's files, which have no data.
    *("/", "/studio", "/studio/embed.js", "/studio/{screen}", "/studio/assets/{digest}/{name}"),
}
ANY_SCOPE = "/v1/sign_in"
"""About the key itself."""
FORM: dict[str, Any] = {
    # With a reference and a mask, which have routes too.
    "files": [
        ("image", ("a.png", picture(), "image/png")),
        ("image", ("b.png", picture(shade=9), "image/png")),
        ("mask", ("m.png", saved(Image.new("RGBA", (32, 24)), "PNG"), "image/png")),
    ],
    "data": {"prompt": "make it golden", "max_turns": "1"},
}
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("/v1/images/edits", "post"): FORM,
    ("/v1/sessions", "post"): FORM,
    ("/v1/sessions/{session_id}/feedback", "post"): {"json": {"action": "accept"}},
    ("/v1/preferences", "post"): {"json": {"session_id": "ses_0", "rating": 3}},
    ("/v1/sessions/{session_id}/shares", "post"): {"json": {}},
    ("/v1/provenance", "post"): {"files": [("image", ("a.png", picture(), "image/png"))]},
    ("/v1/webhooks", "post"): {"json": {"url": "https://hooks.invalid/ann"}},
}
READING = {("/v1/provenance", "post")}
"""Those that read, although they are sent a body."""


@dataclass
class Site:
    """Two replicas that require keys, and a key for each tenant."""

    replicas: list[Process]
    url: str
    keys: dict[str, str] = field(default_factory=dict)

    def key(self, tenant: str, *scopes: str, expires_at: float | None = None) -> str:
        return self.ask(lambda keys: keys.create(tenant, scopes or ("edit", "read"), expires_at=expires_at))[0]  # type: ignore[no-any-return]

    def ask(self, what: Any) -> Any:
        """Something of the keys in Redis."""

        async def asked() -> Any:
            redis = Redis.from_url(self.url)
            try:
                return await what(ApiKeyStore(redis, KeySpace()))
            finally:
                await redis.aclose()

        return asyncio.run(asked())

    def browser(self, key: str, replica: int = 0, **headers: str) -> httpx.Client:
        """A client that is signed in with a key, and does not have it any more; its requests are those of the studio's page."""
        url = self.replicas[replica].url
        own = {"origin": url, "sec-fetch-site": "same-origin", **headers}
        signed = httpx.post(f"{url}/v1/sign_in", headers={**own, "authorization": f"Bearer {key}"}, timeout=30, trust_env=False)
        assert signed.status_code == 200, signed.text
        return httpx.Client(base_url=url, headers=own, cookies=signed.cookies, timeout=30, trust_env=False)

    def client(self, key: str | None, replica: int = 0, **headers: str) -> httpx.Client:
        headers |= {"authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.replicas[replica].url, headers=headers, timeout=30, trust_env=False)

    def raw(self) -> redis_client.Redis:
        return redis_client.Redis.from_url(self.url)

    def edit(self, key: str, replica: int = 0, *, wait: int = 20, **fields: str) -> httpx.Response:
        with self.client(key, replica, prefer=f"wait={wait}") as client:
            return client.post("/v1/sessions", files=FORM["files"], data={**FORM["data"], **fields})


@pytest.fixture(scope="module")
def processes(redis: Process, upstreams: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Sessions leave Redis a second after their end, so that archived ones are covered too."""
    folder = tmp_path_factory.mktemp("keys")
    url = f"redis://127.0.0.1:{redis.port}/{DB}"
    redis_client.Redis.from_url(url).flushdb()
    editors = {"double": {"url": f"{upstreams}/editor/v1", "attempts": 3, "images": 2, "mask": True}}
    env = {
        "EDITTHINKER_REDIS_URL": url,
        "EDITTHINKER_KEYS": "required",
        "EDITTHINKER_REDIS_RETENTION_S": "1",
        "EDITTHINKER_EDITORS": json.dumps(editors),
    }
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        replicas = []
        for number, port in enumerate(ports):
            # Links that the second replica makes lead to the first.
            more = {"EDITTHINKER_PUBLIC_URL": f"http://127.0.0.1:{ports[0]}/"} if number else {}
            started = module(
                "orchestrator", port, folder / f"{number}.log", env=settings(redis, upstreams, folder / "blobs", **env, **more)
            )
            stack.callback(started.stop)
            replicas.append(started)
        for started in replicas:
            wait_ready(started)
        site = Site(replicas, url)
        site.keys |= {tenant: site.key(tenant) for tenant in ("ann", "bob")}
        yield site


@pytest.fixture
def site(processes: Site, script: Script) -> Iterator[Site]:
    """Sessions that a test leaves running are cancelled."""
    yield processes
    script.release.set()
    for key in processes.keys.values():
        with processes.client(key) as client:
            for session in client.get("/v1/sessions?limit=100").json()["data"]:
                if not session["finished_at"]:
                    client.post(f"/v1/sessions/{session['id']}/cancel")


def operations(site: Site) -> list[tuple[str, str]]:
    """Every route of the OpenAPI document; destructive ones last, and a session after what is below it."""
    with site.client(None) as client:
        paths = client.get("/openapi.json").json()["paths"]
    found = [(path, method) for path, methods in paths.items() for method in methods]
    return sorted(found, key=lambda operation: (operation[1] == "delete", -operation[0].count("/"), operation))


def call(client: httpx.Client, operation: tuple[str, str], ids: dict[str, str]) -> httpx.Response:
    """A request that is valid for an authorized caller."""
    path, method = operation
    names = set(re.findall(r"{(\w+)}", path))
    assert names <= ids.keys(), f"{path} is new: make one of {names - ids.keys()} in belongings()"
    return client.request(method, path.format(**ids), **BODIES.get(operation, {}))


def belongings(site: Site, script: Script) -> list[dict[str, str]]:
    """The resources of ann: an archived session, one waiting for review, a running one, and what belongs to them."""
    archived = site.edit(site.keys["ann"]).json()
    reviewed = site.edit(site.keys["ann"], wait=0, review="each_turn").json()
    raw = site.raw()
    with site.client(site.keys["ann"]) as client:
        until(lambda: not raw.exists(KeySpace().log(archived["id"])))
        until(lambda: client.get(reviewed["urls"]["self"]).json()["status"] == "awaiting_review")
        script.hold_every = True
        running = site.edit(site.keys["ann"], wait=0).json()
        webhook = client.post("/v1/webhooks", json={"url": "https://hooks.invalid/ann"})
        for session in (reviewed, archived):
            assert client.post("/v1/preferences", json={"session_id": session["id"], "rating": 4}).status_code == 201
        share = client.post(f"/v1/sessions/{running['id']}/shares", json={})
    shared = {
        "share_id": share.json()["id"],
        "turn": "1",
        "candidate": "1",
        "number": "1",
        "seq": "1",
        "webhook_id": webhook.json().get("id", "whk_0"),
        "model": "double",
    }
    return [
        {"session_id": session["id"], "preference_id": f"rating_{session['id']}", **shared}
        for session in (running, reviewed, archived)
    ]


def test_every_route_requires_a_key(site: Site) -> None:
    """Except those listed here. A wrong or expired key, or another scheme, is refused."""
    ids = {"session_id": "ses_0", "turn": "1", "candidate": "1", "number": "1", "webhook_id": "whk_0", "model": "double"}
    ids |= {"preference_id": "prf_0", "share_id": "shr_0", "seq": "1"}
    expired = site.key("ann", expires_at=time.time() - 1)
    listed = operations(site)
    assert len(listed) > 15 and set(listed) > OPEN
    for header in (None, "Bearer et_wrong", f"Bearer {expired}", f"Basic {site.keys['ann']}", "Bearer", site.keys["ann"]):
        with site.client(None, 0, **({"authorization": header} if header else {})) as client:
            for operation in listed:
                reply = call(client, operation, ids)
                if operation in OPEN:
                    assert reply.status_code == 200, operation
                    continue
                assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key"), (operation, header)
                assert reply.headers["www-authenticate"] == "Bearer"
                # Nor is anything read of what a stranger sends.
                path, method = operation[0].format(**ids), operation[1]
                broken = client.request(method, path, content=b"{", headers={"content-type": "application/json"})
                assert broken.status_code == 401, operation


def test_every_route_is_in_the_document() -> None:
    """The tests here take the routes from it."""
    upstream = {"url": "http://127.0.0.1:1/v1", "model": "x"}
    app: Any = create_app(Settings.model_validate({"editors": {"x": upstream}, "thinkers": {"x": upstream}}))
    routes = [route.path for route in app.routes if hasattr(route, "path")]
    routes += [route.path for part in app.routes if not hasattr(part, "path") for route in part.original_router.routes]
    routes = [route.replace(":path}", "}") for route in routes]

    assert sorted({*app.openapi()["paths"], *UNDOCUMENTED}) == sorted(set(routes))


def test_resources_of_another_tenant_do_not_exist(site: Site, script: Script) -> None:
    """Every route answers 404 for ids of another tenant's session in each state, and lists show nothing of it."""
    theirs = belongings(site, script)
    listed = operations(site)
    # Models are everybody's.
    by_id = [operation for operation in listed if "{" in operation[0] and "{model}" not in operation[0]]
    assert len(by_id) >= 9
    keys = site.keys
    with site.client(keys["bob"]) as bob, site.client(keys["bob"], 1) as elsewhere, site.browser(keys["bob"]) as browser:
        for number, ids in enumerate(theirs):
            for client in (bob, elsewhere, browser):
                for operation in by_id:
                    reply = call(client, operation, ids)
                    assert reply.status_code == 404, (operation, number, reply.text)
                    assert reply.json()["error"]["code"].endswith("not_found"), (operation, reply.text)
        for operation in listed:
            if "{" not in operation[0] and operation[1] == "get":
                shown = call(bob, operation, {}).text
                assert not any(value in shown for ids in theirs for name, value in ids.items() if name.endswith("_id")), operation
    with site.client(site.keys["bob"], 0, **{"x-tenant": "ann"}) as bold:
        for operation in listed:
            if operation not in OPEN:
                assert call(bold, operation, theirs[0]).json()["error"]["code"] == "forbidden", operation
    script.release.set()
    # That these ids are right is seen by their owner, who may do all of it: an answer other than 404, at least for one of them.
    with site.client(site.keys["ann"]) as ann:
        for operation in by_id:
            # Only an edit of an editor that streams leaves an unfinished picture: tests/integration/test_draft_sessions.py.
            if operation[0].endswith("/preview"):
                continue
            statuses = [call(ann, operation, ids).status_code for ids in theirs]
            assert any(status != 404 for status in statuses), (operation, statuses)


def test_lists_streams_and_exports_are_of_the_callers_tenant(site: Site) -> None:
    """Idempotency keys are separate for each tenant."""
    ids = {}
    for tenant, key in site.keys.items():
        with site.client(key, 0, **{"idempotency-key": "the-same", "prefer": "wait=20"}) as client:
            ids[tenant] = client.post("/v1/sessions", **FORM).json()["id"]
    assert ids["ann"] != ids["bob"]
    for replica, (tenant, other) in enumerate((("ann", "bob"), ("bob", "ann"))):
        with site.client(site.keys[tenant], replica) as client:
            listed = [session["id"] for session in client.get("/v1/sessions?limit=100").json()["data"]]
            exported = [json.loads(line) for line in client.get("/v1/export").text.splitlines()]
            events = client.get(f"/v1/sessions/{ids[tenant]}/events").text
        assert ids[tenant] in listed and ids[other] not in listed
        assert {line["tenant"] for line in exported} == {tenant}
        assert "event: finished" in events


def test_a_picture_is_known_to_the_tenant_that_it_was_made_for_alone(site: Site) -> None:
    """On both replicas; another tenant is told the same as of a picture that nobody made."""
    made = site.edit(site.keys["ann"]).json()
    with site.client(site.keys["ann"]) as ann, site.client(site.keys["ann"], 1) as there, site.client(site.keys["bob"]) as bob:
        data = ann.get(made["urls"]["image"]).content

        def told(client: httpx.Client, picture_of: bytes) -> dict[str, Any]:
            found: dict[str, Any] = client.post("/v1/provenance", files=[("image", ("a.png", picture_of, "image/png"))]).json()
            return found

        until(lambda: told(ann, data)["made_here"] == "yes")
        assert told(there, data)["made_here"] == "yes"
        for other in (data, picture(shade=201)):
            assert told(bob, other)["made_here"] == "not known" and told(bob, other)["tampered"] == []
        # What the file itself says is for everybody.
        assert told(bob, data)["says_ai"] is True


def test_scopes_bound_what_a_key_may_do(site: Site) -> None:
    """On every route `read` may read and `edit` may change; `admin` may do both, for the tenant that it names."""
    ids = {"session_id": site.edit(site.keys["ann"]).json()["id"], "turn": "1", "candidate": "1", "number": "1"}
    ids |= {"webhook_id": "whk_0", "preference_id": "prf_0", "model": "double", "share_id": "shr_0", "seq": "1"}
    for scope in ("read", "edit"):
        with site.client(site.key("ann", scope)) as client:
            for operation in operations(site):
                needs = "read" if operation[1] == "get" or operation in READING else "edit"
                if operation[0] == ANY_SCOPE:
                    assert call(client, operation, ids).status_code in {200, 204}, operation
                elif needs != scope and operation not in OPEN:
                    reply = call(client, operation, ids)
                    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "forbidden"), operation
            if scope == "read":
                assert client.get(f"/v1/sessions/{ids['session_id']}").status_code == 200
    admin = site.key("ops", "admin")
    with site.client(admin) as client:
        assert client.get(f"/v1/sessions/{ids['session_id']}").status_code == 404
        assert client.get(f"/v1/sessions/{ids['session_id']}", headers={"x-tenant": "ann"}).status_code == 200
        assert client.get("/v1/sessions", headers={"x-tenant": "no:name"}).json()["error"]["param"] == "X-Tenant"
        assert client.delete(f"/v1/sessions/{ids['session_id']}", headers={"x-tenant": "ann"}).status_code == 204


def test_a_browser_is_signed_in_without_its_key(site: Site) -> None:
    """The cookie cannot be read by scripts, stands for the key on every replica, and ends when it says so."""
    with site.browser(site.keys["ann"]) as browser:
        shown = browser.get("/v1/sign_in").json()
        assert (shown["tenant"], shown["scopes"], shown["key_required"]) == ("ann", ["edit", "read"], True)
        assert 0 < shown["expires_at"] - time.time() <= 12 * 3600
        (cookie,) = browser.cookies.jar
        assert (cookie.name, cookie.path, cookie.secure) == ("editthinker_sign_in", "/", False)
        assert cookie.has_nonstandard_attr("HttpOnly") and cookie.get_nonstandard_attr("SameSite") == "strict"
        created = browser.post("/v1/sessions", **FORM, headers={"prefer": "wait=20"}).json()
        assert browser.get(created["source"]["url"]).status_code == 200
        other = site.replicas[1].url
        assert browser.get(f"{other}{created['urls']['self']}", headers={"origin": other}).status_code == 200
        with site.client(None, 0, cookie=f"editthinker_sign_in={cookie.value}x") as stranger:
            assert stranger.get("/v1/sessions").json()["error"]["code"] == "invalid_api_key"
        with site.client("et_wrong", 0, cookie=f"editthinker_sign_in={cookie.value}") as wrong:
            assert wrong.get("/v1/sessions").status_code == 401, "a key that is sent counts, not the cookie"
    raw = site.raw()
    names = list(raw.scan_iter("*:sign_in:*"))
    stored = repr([(name, raw.get(name)) for name in names])
    assert names and all(0 < raw.ttl(name) <= 12 * 3600 for name in names)
    assert str(cookie.value) not in stored and site.keys["ann"] not in stored


def test_over_https_the_cookie_is_of_this_host_alone(site: Site) -> None:
    with site.client(site.keys["ann"], 0, origin="https://edits.example", host="edits.example") as client:
        cookie = client.post("/v1/sign_in").headers["set-cookie"]

    assert cookie.startswith("__Host-editthinker_sign_in=") and "Path=/" in cookie and "Domain" not in cookie
    assert {"Secure", "HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
    ],
    ids=str,
)
def test_a_page_of_another_origin_cannot_use_the_cookie(site: Site, headers: dict[str, str]) -> None:
    """On any route, also where SameSite does not keep the cookie back: another port or subdomain is the same site."""
    ids = {"session_id": site.edit(site.keys["ann"]).json()["id"], "turn": "1", "candidate": "1", "number": "1"}
    ids |= {"webhook_id": "whk_0", "preference_id": "prf_0", "model": "double", "share_id": "shr_0", "seq": "1"}
    with site.browser(site.keys["ann"]) as browser:
        for operation in operations(site):
            if operation not in OPEN:
                reply = browser.request(operation[1], operation[0].format(**ids), headers=headers, **BODIES.get(operation, {}))
                assert (reply.status_code, reply.json()["error"]["code"]) == (403, "forbidden"), operation
        assert browser.get("/v1/sessions").status_code == 200


def test_a_change_needs_the_origin_of_the_page(site: Site) -> None:
    with site.browser(site.keys["ann"]) as browser:
        del browser.headers["origin"]
        assert browser.get("/v1/sessions").status_code == 200
        assert browser.post("/v1/sessions", **FORM).status_code == 403
        assert browser.get("/v1/sessions", headers={"sec-fetch-site": "none"}).status_code == 200
        assert browser.delete("/v1/sign_in", headers={"sec-fetch-site": "none"}).status_code == 403


@pytest.mark.parametrize(
    "headers", [{"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "same-site"}], ids=str
)
def test_a_page_of_another_origin_cannot_sign_a_browser_in(site: Site, headers: dict[str, str]) -> None:
    """With a key of its own, so that what a person then uploads would be its tenant's."""
    own = {"origin": site.replicas[0].url, "sec-fetch-site": "same-origin"}
    with site.client(site.keys["bob"], 0, **{**own, **headers}) as page:
        reply = page.post("/v1/sign_in")
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "forbidden")
    assert "set-cookie" not in reply.headers


def test_over_https_a_cookie_of_the_plain_name_changes_nothing(site: Site) -> None:
    """Another host of the same site could have set it, to sign a person in as somebody else."""
    with site.browser(site.keys["bob"]) as planted:
        cookie = f"editthinker_sign_in={next(iter(planted.cookies.jar)).value}"
        assert planted.post("/v1/sessions", **FORM).status_code == 202
    https = {"origin": "https://edits.example", "host": "edits.example", "sec-fetch-site": "same-origin"}
    with site.client(None, 0, cookie=cookie, **https) as browser:
        assert browser.post("/v1/sessions", **FORM).status_code == 401
    with site.client(None, 0, cookie=f"__Host-{cookie}", **https) as browser:
        assert browser.post("/v1/sessions", **FORM).status_code == 202


def test_a_key_has_so_many_sign_ins_at_once(site: Site) -> None:
    """The oldest end: who signs in without end fills no store."""
    with site.client(site.keys["ann"]) as client:
        cookies = []
        for _ in range(102):
            cookies.append(client.post("/v1/sign_in").headers["set-cookie"].partition(";")[0])
            client.cookies.clear()
    for cookie, status in ((cookies[0], 401), (cookies[1], 401), (cookies[2], 200), (cookies[-1], 200)):
        with site.client(None, 0, cookie=cookie) as browser:
            assert browser.get("/v1/sign_in").status_code == status


def test_signing_in_again_ends_the_sign_in_before(site: Site) -> None:
    with site.browser(site.keys["ann"]) as browser:
        before = next(iter(browser.cookies.jar)).value
        key = {"authorization": f"Bearer {site.keys['bob']}"}
        assert browser.post("/v1/sign_in", headers=key).json()["tenant"] == "bob"
        assert browser.get("/v1/sign_in").json()["tenant"] == "bob"
    with site.client(None, 0, cookie=f"editthinker_sign_in={before}") as copy:
        until(lambda: copy.get("/v1/sessions").status_code == 401)


def test_a_browser_is_signed_out_on_every_replica(site: Site) -> None:
    """And a stolen copy of its cookie is worthless then."""
    with site.browser(site.keys["ann"]) as browser:
        copy = {"cookie": f"editthinker_sign_in={next(iter(browser.cookies.jar)).value}"}
        assert browser.delete("/v1/sign_in").status_code == 204
        assert not list(browser.cookies.jar)
    with site.client(None, 0, **copy) as thief, site.client(None, 1, **copy) as other:
        until(lambda: thief.get("/v1/sessions").status_code == other.get("/v1/sessions").status_code == 401)


def test_a_sign_in_ends_with_its_key(site: Site) -> None:
    secret, key = site.ask(lambda keys: keys.create("ann", ["read"]))
    with site.browser(secret) as browser:
        assert browser.get("/v1/sessions").status_code == 200
        assert browser.post("/v1/sessions", **FORM).json()["error"]["code"] == "forbidden", "its scope is that of the key"
        site.ask(lambda keys: keys.revoke(key.id))
        until(lambda: browser.get("/v1/sessions").status_code == 401)
        assert browser.get("/v1/sign_in").json()["error"]["message"].startswith("this browser is signed out")


def test_a_sign_in_ends_when_its_time_is_over(site: Site) -> None:
    """Although Redis may still have it: its clock and the server's may differ."""

    async def seen() -> list[bool]:
        now = [1000.0]
        async with Redis.from_url(site.url) as client:
            store = ApiKeyStore(client, KeySpace(), lambda: now[0])
            secret, _ = await store.create("ann", ["read"])
            token = await store.sign_in(secret, 60)
            found = []
            for at in (1059.0, 1060.0):
                now[0] = at
                found.append(await store.signed_in(token) is not None)
            return found

    assert asyncio.run(seen()) == [True, False]


def test_a_revoked_key_stops_within_a_second_on_every_replica(site: Site) -> None:
    """Although every replica had cached it, and gets requests all the time."""
    secret, key = site.ask(lambda keys: keys.create("ann", ["read"]))
    with site.client(secret) as first, site.client(secret, 1) as second:
        for client in (first, second):
            assert client.get("/v1/sessions").status_code == 200
        assert administer(site.url, "keys", "revoke", key.id) == 0
        revoked = time.monotonic()
        works = {first, second}
        while works:
            for client in list(works):
                # What counts is when it was asked: a busy machine may answer later.
                asked = time.monotonic()
                if client.get("/v1/models").status_code == 401:
                    works.remove(client)
                else:
                    assert asked - revoked < 1


def test_a_key_ends_when_it_expires(site: Site) -> None:
    """At that moment, although it was cached."""
    ends = time.time() + 3
    secret = site.key("ann", expires_at=ends)
    with site.client(secret) as client:
        # Asked all the time, so that it is cached at that moment.
        while time.time() < ends:
            reply = client.get("/v1/sessions")
            assert reply.status_code == 200 or time.time() >= ends
        assert client.get("/v1/sessions").status_code == 401


def test_a_secret_is_stored_nowhere(site: Site) -> None:
    """Redis has its digest, and logs do not contain it."""
    raw = site.raw()
    with site.client(site.keys["ann"]) as client:
        client.get("/v1/sessions")
    stored = b"".join(b"%r" % raw.hgetall(key) for key in raw.scan_iter("*keys*") if raw.type(key) == b"hash")
    logs = "".join(replica.log.read_text() for replica in site.replicas)

    assert b'"tenant": "ann"' in stored
    assert site.keys["ann"].encode() not in stored
    assert site.keys["ann"] not in logs


def test_signed_links_need_no_key_until_they_expire(site: Site) -> None:
    """`response_format=url` with the official client; the signature covers the path, the format and the expiry."""
    for replica in (0, 1):
        with openai.OpenAI(base_url=f"{site.replicas[replica].url}/v1", api_key=site.keys["ann"]) as client:
            reply = client.images.edit(
                image=picture(), prompt="x", response_format="url", output_format="jpeg", extra_body={"max_turns": 1}
            )
        assert reply.data and reply.data[0].url
        url = reply.data[0].url
        assert url.startswith(site.replicas[0].url + "/v1/sessions/")
    with site.client(None) as nobody, site.client(site.keys["bob"]) as bob:
        shown = nobody.get(url)
        assert (shown.status_code, shown.headers["content-type"]) == (200, "image/jpeg")
        assert nobody.get(url.replace(site.replicas[0].url, site.replicas[1].url)).content == shown.content
        assert bob.get(url).status_code == 200
        forged = [
            url.replace("format=jpeg", "format=png"),
            url.replace("format=jpeg&", ""),
            url + "&compression=1",
            url.replace("candidates/1/", "candidates/2/"),
            re.sub(r"/turns/.*/image", "/source", url),
            re.sub(r"expires=(\d)", r"expires=9\1", url),
            re.sub(r"expires=\d+&", "", url),
            url[:-1] + ("A" if url[-1] != "A" else "B"),
            url + "&signature=x",
        ]
        for altered in forged:
            refused = nobody.get(altered)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden"), altered
            assert bob.get(altered).status_code in {400, 404}, altered
        for other in ("", "/events", "/source"):
            path = re.sub(r"/turns/.*", other, urlsplit(url).path)
            assert nobody.get(f"{path}?{urlsplit(url).query}").status_code == (403 if other == "/source" else 401)
        secret = site.raw().get(f"{KeySpace().prefix}keys:links")
        assert isinstance(secret, bytes)
        path, pairs = urlsplit(url).path, [("format", "jpeg"), ("expires", str(int(time.time()) - 1))]
        late = nobody.get(path, params=dict([*pairs, ("signature", sign(secret, path, pairs))]))
        assert (late.status_code, late.json()["error"]["param"]) == (403, "expires")
    ends = int(dict(parse_qsl(urlsplit(url).query))["expires"])
    assert 3500 < ends - time.time() <= 3600


def test_our_client_and_command_line_send_a_key(site: Site) -> None:
    """Given as `api_key`, or as EDITTHINKER_API_KEY; without one they say what is missing."""
    with EditThinker(site.replicas[0].url, site.keys["ann"]) as client:
        session = client.sessions.create(picture(), "x", max_turns=1)
        assert client.sessions.wait(session.id).status == "succeeded"
    with EditThinker(site.replicas[0].url) as client, pytest.raises(AuthenticationError, match="API key"):
        client.sessions.get(session.id)
    words = ["sessions", "ls", "--json", "--server", site.replicas[1].url]
    listed = CliRunner().invoke(cli, words, env={"EDITTHINKER_API_KEY": site.keys["ann"]})
    assert listed.exit_code == 0 and session.id in listed.output
    refused = CliRunner().invoke(cli, words)
    assert refused.exit_code != 0 and "API key" in refused.output


# --- quotas --------------------------------------------------------------------------------------------------------------


def quota(site: Site, tenant: str, **bounds: Any) -> str:
    """A new tenant with these bounds; its key."""
    site.ask(lambda keys: keys.set_quota(tenant, Quota(**bounds)))
    site.keys[tenant] = site.key(tenant)
    return site.keys[tenant]


def refusal(reply: httpx.Response, code: str) -> int:
    """The error code of a refused create, and its Retry-After."""
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["type"]) == (429, code, "rate_limit_error"), reply.text
    return int(reply.headers["retry-after"])


def test_a_rate_is_counted_for_all_replicas_together(site: Site) -> None:
    """The third request in an hour is refused on every replica; other tenants are not affected."""
    key = quota(site, "cleo", rate="2/hour")

    assert [site.edit(key, replica, wait=0).status_code for replica in (0, 1)] == [202, 202]
    assert 1 <= refusal(site.edit(key, 0), "rate_limited") <= 3600
    assert 1 <= refusal(site.edit(key, 1), "rate_limited") <= 3600
    assert site.edit(site.keys["bob"]).status_code == 200


def test_what_is_left_of_a_rate_is_in_the_headers(site: Site) -> None:
    """Of the answers that count and of those that refuse, in the fields of the IETF's draft."""
    key = quota(site, "rita", rate="2/hour;100/day")
    replies = [site.edit(key, number % 2) for number in range(3)]
    reading = site.replicas[0]

    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert {reply.headers["ratelimit-policy"] for reply in replies} == {'"hour";q=2;w=3600, "day";q=100;w=86400'}
    left = [re.findall(r'"(\w+)";r=(\d+);t=\d+', reply.headers["ratelimit"]) for reply in replies]
    assert left == [[("hour", "1"), ("day", "99")], [("hour", "0"), ("day", "98")], [("hour", "0"), ("day", "98")]]
    listed = httpx.get(f"{reading.url}/v1/sessions", headers={"authorization": f"Bearer {key}"}, trust_env=False)
    assert "ratelimit" not in listed.headers


def test_unfinished_sessions_are_bounded(site: Site, script: Script) -> None:
    """Until one of them ends, on whichever replica."""
    script.hold_every = True
    key = quota(site, "dan", unfinished=2)
    running = [site.edit(key, replica, wait=0).json()["id"] for replica in (0, 1)]

    assert refusal(site.edit(key, 0, wait=0), "quota_exceeded") == 5
    assert site.edit(site.keys["bob"], wait=0).status_code == 202
    with site.client(key, 1) as client:
        client.post(f"/v1/sessions/{running[0]}/cancel")

    def let_in() -> bool:
        reply = site.edit(key, 0, wait=0)
        if reply.status_code != 202:
            refusal(reply, "quota_exceeded")
        return reply.status_code == 202

    until(let_in)
    assert refusal(site.edit(key, 1, wait=0), "quota_exceeded") == 5


def test_editor_seconds_of_a_day_are_bounded(site: Site, script: Script) -> None:
    """By what was used, failures included; the count resets at midnight UTC."""
    script.edit_delay_s = 0.05
    key = quota(site, "eve", editor_s_per_day=0.02)
    first = site.edit(key).json()

    wait_s = refusal(site.edit(key, 1), "quota_exceeded")
    assert 0 < wait_s - (86_400 - time.time() % 86_400) < 60
    spent = site.raw().hget(f"{KeySpace().prefix}spent:{int(time.time() // 86_400)}", "eve")
    assert isinstance(spent, bytes)
    assert float(spent) == pytest.approx(first["totals"]["editor_seconds"], abs=0.001)
    assert site.edit(site.keys["bob"]).status_code == 200


def test_a_tenant_without_a_quota_has_the_servers_own(start_orchestrator: Start) -> None:
    """Also where no keys are required and all callers are one tenant."""
    server = start_orchestrator(EDITTHINKER_QUOTA_UNFINISHED="0")
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
        plain = {**FORM, "files": FORM["files"][:1]}
        assert refusal(client.post("/v1/sessions", **plain), "quota_exceeded") == 5
        assert client.get("/v1/sessions", headers={"x-tenant": "default"}).status_code == 200
        assert client.get("/v1/sessions", headers={"x-tenant": "ann"}).json()["error"]["code"] == "forbidden"


# --- the command line ----------------------------------------------------------------------------------------------------


def administer(redis_url: str, *words: str) -> object:
    """``python -m orchestrator WORDS`` in this process; its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDITTHINKER_REDIS_URL", redis_url)
        patch.setattr(sys, "argv", ["orchestrator", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    return ended.value.code


def test_the_command_line_makes_lists_and_revokes_keys(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """In a process that knows Redis alone; the secret is printed once."""
    words = ["keys", "create", "--tenant", "acme", "--scope", "read", "--name", "a dashboard", "--expires-in", "90d"]
    command, env = [sys.executable, "-m", "orchestrator", *words], {"EDITTHINKER_REDIS_URL": site.url}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=True)
    secret, key_id = done.stdout.strip(), done.stderr.split()[0]

    assert re.fullmatch(r"et_[\w-]{43}", secret)
    with site.client(secret) as client:
        assert client.get("/v1/sessions").status_code == 200
    assert administer(site.url, "keys", "list") == 0
    listed = capsys.readouterr().out
    row = next(line for line in listed.splitlines() if line.startswith(key_id))
    assert "acme" in row and "read" in row and "a dashboard" in row
    assert secret not in listed
    assert administer(site.url, "keys", "revoke", key_id) == 0
    assert administer(site.url, "keys", "revoke", key_id) == 2


def test_quotas_and_mistakes_on_the_command_line(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """A malformed rate, a malformed tenant, an unknown tenant."""
    full = ["--rate", "60/minute", "--unfinished", "100", "--editor-seconds-per-day", "3600", "--redis-bytes", "1536KiB"]

    assert administer(site.url, "quota", "set", "--tenant", "acme", *full) == 0
    assert administer(site.url, "quota", "list") == 0
    assert re.search(r"acme +60/minute +100 +3600\S* +1536KiB +-", capsys.readouterr().out)
    assert administer(site.url, "quota", "remove", "--tenant", "acme") == 0
    assert administer(site.url, "quota", "remove", "--tenant", "acme") == 2
    assert administer(site.url, "quota", "set", "--tenant", "acme", "--rate", "often") == 2
    assert administer(site.url, "keys", "create", "--tenant", "a:b") == 2
    assert "letters" in capsys.readouterr().err
    assert administer("redis://127.0.0.1:1/0", "keys", "list") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["quota", "set", "--tenant", "acme", "--unfinished", "-1"], "'--unfinished': '-1': write a whole number, 0 or more"),
        (["quota", "set", "--tenant", "acme", "--unfinished", "1.5"], "'--unfinished': '1.5': write a whole number, 0 or more"),
        (["quota", "set", "--tenant", "acme", "--editor-seconds-per-day", "nan"], "'nan': write a number of seconds, 0 or more"),
        (["quota", "set", "--tenant", "acme", "--editor-seconds-per-day", "1e999"], "'1e999': write a number of seconds, 0 or"),
        (["quota", "set", "--tenant", "acme", "--editor-seconds-per-day", "-5"], "'-5': write a number of seconds, 0 or more"),
        (
            ["keys", "create", "--tenant", "acme", "--expires-in", "0s"],
            "'0s': write a number above 0 and s, m, h or d, as in 90d",
        ),
        (
            ["keys", "create", "--tenant", "acme", "--expires-in", "90"],
            "'90': write a number above 0 and s, m, h or d, as in 90d",
        ),
        (["keys", "create", "--tenant", "acme", "--name", "web\nshop"], "'--name': 'web\\nshop': write one line of text"),
        (
            ["keys", "create", "--tenant", "acme", "--name", "web\x1b[2Jshop"],
            "'--name': 'web\\x1b[2Jshop': write one line of text",
        ),
        (["keys", "create", "--tenant", "acme", "--name", "x" * 201], "200 characters at most"),
    ],
)
def test_invalid_options_of_keys_and_quota_are_refused(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before Redis is contacted, which is not running here."""
    assert administer("redis://127.0.0.1:1/0", *words) == 2
    assert told in capsys.readouterr().err


def test_a_list_of_keys_stays_a_table(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Also with names that earlier versions accepted, in every encoding."""
    _, key = site.ask(lambda keys: keys.create("ann", ["read"], name="web\nshop\x1b[2J für \u202eus"))
    try:
        assert administer(site.url, "keys", "list") == 0
        row = next(line for line in capsys.readouterr().out.split("\n") if line.startswith(key.id))
        env = {"EDITTHINKER_REDIS_URL": site.url, "PYTHONIOENCODING": "ascii"}
        narrow = subprocess.run([sys.executable, "-m", "orchestrator", "keys", "list"], env=env, capture_output=True, check=False)
    finally:
        administer(site.url, "keys", "revoke", key.id)
    assert row.endswith(r"web\nshop\x1b[2J für \u202eus")
    assert narrow.returncode == 0
    assert rb"f\xfcr" in narrow.stdout


def test_an_open_server_on_another_address_is_refused(tmp_path: Path, redis: Process, upstreams: str) -> None:
    """With the reason, before it listens."""
    env = settings(redis, upstreams, tmp_path, EDITTHINKER_KEYS="off")
    words = [sys.executable, "-m", "orchestrator", "--host", "0.0.0.0", "--port", str(free_port())]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 2
    assert "EDITTHINKER_KEYS=required" in done.stderr and "EDITTHINKER_ALLOW_OPEN=true" in done.stderr
