"""Shares: what a guest without a key sees of one session, in the API and in a browser, and what it does not."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from redis.asyncio import Redis

from orchestrator.store.scripts import KeySpace
from orchestrator.store.shares import MOST, RedisShares
from tests.attacks.target import IMAGE, Target, target
from tests.doubles.chromium import chromium
from tests.doubles.debian import NoProgramError, browser

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server with keys, of two tenants."""
    with target(tmp_path_factory.mktemp("shared")) as running:
        yield running


@pytest.fixture(scope="module")
def chrome(keyed: Target) -> Iterator[Browser]:
    """Started after the server, which makes its keys in an event loop; there can be no other within Playwright's."""
    try:
        browser()
    except NoProgramError as exc:
        pytest.skip(f"there is no browser: {exc}")
    expect.set_options(timeout=30_000)
    with chromium() as running:
        yield running


@pytest.fixture
def server(keyed: Target) -> Iterator[Target]:
    keyed.script.begin()
    yield keyed
    keyed.settle()


def created(server: Target, *, wait: int = 20, **fields: str) -> dict[str, Any]:
    with server.client("ann", prefer=f"wait={wait}") as ann:
        files = {"image": ("a.png", IMAGE, "image/png")}
        data = {"prompt": "make it golden", "user": "mallory-7", "metadata[order]": "A-4711", **fields}
        reply = ann.post("/v1/sessions", files=files, data=data)
        assert reply.status_code in {200, 202}, reply.text
        return reply.json()  # type: ignore[no-any-return]


def share(server: Target, session: dict[str, Any], **wanted: Any) -> dict[str, Any]:
    with server.client("ann") as ann:
        reply = ann.post(f"/v1/sessions/{session['id']}/shares", json=wanted)
        assert reply.status_code == 201, reply.text
        return reply.json()  # type: ignore[no-any-return]


def guest(server: Target, token: str) -> httpx.Client:
    """A client with nothing but the token."""
    return httpx.Client(base_url=server.process.url, params={"share": token}, timeout=30, trust_env=False)


def refused(reply: httpx.Response) -> bool:
    """Whether a guest is told nothing but that its link is not valid for this, or that it needs a key."""
    error = reply.json()["error"]
    return (reply.status_code, error["code"]) in {(403, "forbidden"), (401, "invalid_api_key")}


# --- what a share gives access to ---------------------------------------------------------------------------------------------


def test_a_guest_sees_the_session_its_events_and_its_pictures_and_nothing_private(server: Target) -> None:
    session = created(server)
    made = share(server, session)
    path = f"/v1/sessions/{session['id']}"
    with guest(server, made["token"]) as visitor:
        view = visitor.get(path).json()
        events = visitor.get(f"{path}/events").text
        pictures = [
            visitor.get(url).status_code for url in (f"{path}/source", f"{path}/turns/1/candidates/1/image", f"{path}/image")
        ]
        about = visitor.get(f"{path}/shares/{made['id']}").json()

    assert (view["status"], view["instruction"], len(view["turns"])) == ("succeeded", "make it golden", 3)
    assert "event: finished" in events and pictures == [200, 200, 200]
    assert about == {name: value for name, value in made.items() if name not in {"token", "url"}}
    assert made["url"] == f"/studio/shared/{made['token']}" and made["expires_at"] - made["created_at"] == 7 * 86_400
    for private in ("mallory-7", "A-4711", '"tenant"', "editor_options"):
        assert private not in events and private not in json.dumps(view)


def test_a_guest_reaches_nothing_else(server: Target) -> None:
    """Not on any route of the document, with the token of another session, nor with one that is changed."""
    session, other = created(server, max_turns="1"), created(server, max_turns="1")
    token = share(server, session)["token"]
    elsewhere = share(server, other)
    ids = {"session_id": session["id"], "turn": "1", "candidate": "1", "number": "1", "share_id": elsewhere["id"]}
    ids |= {"webhook_id": "whk_0", "preference_id": "prf_0", "model": "double", "seq": "1"}
    own = re.compile(r"/v1/sessions/\{session_id\}(/events|/image|/source|/mask|/references/\{number\}|/turns/.+)?")
    with guest(server, token) as visitor:
        paths = visitor.get("/openapi.json", params={}).json()["paths"]
        tried = 0
        for template, methods in paths.items():
            for method in methods:
                if template in {"/health", "/healthz", "/readyz", "/metrics"}:
                    continue
                path = template.format(**ids)
                if not (method == "get" and own.fullmatch(template)):
                    assert refused(visitor.request(method, path)), (method, template)
                if "{session_id}" in template and "{share_id}" not in template:
                    reply = visitor.request(method, path.replace(session["id"], other["id"]))
                    assert refused(reply), (method, template)
                tried += 1
        assert tried > 25
        for wrong in (token[:-1], f"{token}A", token.swapcase(), token.replace(session["id"], other["id"]), "", "a.b.c", "."):
            assert refused(visitor.get(f"/v1/sessions/{session['id']}", params={"share": wrong})), wrong
            assert refused(visitor.get(f"/v1/sessions/{other['id']}", params={"share": wrong})), wrong
    with server.client("bob", **{"x-tenant": "bob"}) as bob:
        assert bob.get(f"/v1/sessions/{session['id']}").status_code == 404
        assert bob.get(f"/v1/sessions/{session['id']}/shares").status_code == 404
        assert bob.post(f"/v1/sessions/{session['id']}/shares", json={}).status_code == 404
        assert bob.delete(f"/v1/sessions/{other['id']}/shares/{elsewhere['id']}").status_code == 404


def test_a_comparison_shows_its_two_pictures_alone(server: Target) -> None:
    session = created(server)
    path = f"/v1/sessions/{session['id']}"
    made = share(server, session, pictures=["source", "2/1"])
    with guest(server, made["token"]) as visitor:
        about = visitor.get(f"{path}/shares/{made['id']}").json()
        assert [each["name"] for each in about["pictures"]] == ["source", "2/1"]
        assert [visitor.get(each["image"]["url"]).status_code for each in about["pictures"]] == [200, 200]
        others = ("/turns/1/candidates/1/image", "/turns/3/candidates/1/answer", "/turns/2/candidates/1/preview", "/mask")
        for part in ("", "/events", "/image", *others):
            assert refused(visitor.get(f"{path}{part}")), part
    with server.client("ann") as ann:
        missing = ann.post(f"{path}/shares", json={"pictures": ["source", "9/1"]})
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "image_not_found")
        for wrong in (["source"], ["source", "0/1"], ["source", "1/1", "2/1"], ["mask", "1/1"]):
            assert ann.post(f"{path}/shares", json={"pictures": wrong}).status_code == 400, wrong


@pytest.mark.parametrize("seconds", [59, 30 * 86_400 + 1, "nan", -1])
def test_the_life_of_a_share_is_bounded(server: Target, seconds: object) -> None:
    session = created(server, max_turns="1")
    with server.client("ann") as ann:
        reply = ann.post(f"/v1/sessions/{session['id']}/shares", json={"expires_in_s": seconds})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "expires_in_s")


# --- its end ------------------------------------------------------------------------------------------------------------------


def test_a_share_ends_when_its_time_is_over(server: Target) -> None:
    """By the clock that is given, although Redis still has it; Redis forgets it by itself."""

    async def seen() -> tuple[list[bool], int, int]:
        now = [1000.0]
        async with Redis(port=server.redis_port) as redis:
            shares = RedisShares(redis, KeySpace(), lambda: now[0])
            made = await shares.create("ses_1", "zoe", 60)
            longer = await shares.create("ses_1", "zoe", 600)
            assert made and longer
            found = []
            for at in (1059.9, 1060.0):
                now[0] = at
                found.append(await shares.find("ses_1", made.id) is not None)
            assert [each.id for each in await shares.all("ses_1", "zoe")] == [longer.id]
            assert await shares.find("ses_2", longer.id) is None
            return found, await redis.ttl(KeySpace().share(made.id)), await redis.ttl(KeySpace().shares("zoe"))

    found, ttl, index = asyncio.run(seen())
    assert found == [True, False]
    assert 0 < ttl <= 60 < index <= 600


def test_a_tenant_has_so_many_shares_at_a_time(server: Target) -> None:
    """Those that have expired are none of them."""

    async def many() -> list[bool]:
        now = [1000.0]
        async with Redis(port=server.redis_port) as redis:
            shares = RedisShares(redis, KeySpace(), lambda: now[0])
            await redis.zadd(KeySpace().shares("yan"), {f"ses_1/shr_{number}": 1060.0 for number in range(MOST)})
            full = await shares.create("ses_1", "yan", 60) is None
            other = await shares.create("ses_1", "yara", 60) is not None
            now[0] = 1060.0
            return [full, other, await shares.create("ses_1", "yan", 60) is not None]

    assert asyncio.run(many()) == [True, True, True]


def test_a_revoked_share_ends_the_stream_of_who_watches(server: Target) -> None:
    server.script.hold_every = True
    session = created(server, wait=0)
    made, kept = share(server, session), share(server, session)
    path = f"/v1/sessions/{session['id']}"
    with (
        guest(server, made["token"]) as visitor,
        server.client("ann") as ann,
        visitor.stream("GET", f"{path}/events") as stream,
    ):
        lines = stream.iter_lines()
        assert any(line.startswith("event: session_created") for line in lines)
        assert [each["id"] for each in ann.get(f"{path}/shares").json()["data"]] == [made["id"], kept["id"]]
        assert ann.delete(f"{path}/shares/{made['id']}").status_code == 204
        # It ends although the session goes on: were it not so, this would time out.
        assert not any(line.startswith("event: finished") for line in lines)
        assert refused(visitor.get(path)) and refused(visitor.get(f"{path}/events")) and refused(visitor.get(f"{path}/source"))
        assert ann.delete(f"{path}/shares/{made['id']}").json()["error"]["code"] == "share_not_found"
        assert [each["id"] for each in ann.get(f"{path}/shares").json()["data"]] == [kept["id"]]
    with guest(server, kept["token"]) as visitor:
        assert visitor.get(path).status_code == 200


def test_a_share_dies_with_its_session(server: Target) -> None:
    session = created(server, max_turns="1")
    made = share(server, session)
    path = f"/v1/sessions/{session['id']}"
    with server.client("ann") as ann:
        assert ann.delete(path).status_code == 204
    with guest(server, made["token"]) as visitor:
        assert refused(visitor.get(path)) and refused(visitor.get(f"{path}/source"))

    async def left() -> int:
        async with Redis(port=server.redis_port) as redis:
            return int(await redis.exists(KeySpace().share(made["id"])))

    assert asyncio.run(left()) == 0


def test_watchers_of_a_link_are_bounded(server: Target) -> None:
    """So that a link that went far does not take its owner's streams."""
    server.script.hold_every = True
    session = created(server, wait=0)
    token = share(server, session)["token"]
    path = f"/v1/sessions/{session['id']}/events"

    async def watch() -> tuple[list[int], int]:
        limits = httpx.Limits(max_connections=60)
        async with httpx.AsyncClient(base_url=server.process.url, timeout=30, trust_env=False, limits=limits) as client:
            request = [client.build_request("GET", path, params={"share": token}) for _ in range(51)]
            replies = [await client.send(each, stream=True) for each in request]
            owner = client.build_request("GET", path, headers={"authorization": f"Bearer {server.keys['ann']}"})
            own = await client.send(owner, stream=True)
            found = [reply.status_code for reply in replies], own.status_code
            for reply in (*replies, own):
                await reply.aclose()
            return found

    statuses, own = asyncio.run(watch())
    assert (statuses, own) == ([200] * 50 + [429], 200)


def test_the_token_is_in_no_log_and_no_metric(server: Target) -> None:
    """Also where the page is opened, a path is wrong, or the link is refused."""
    session = created(server, max_turns="1")
    made = share(server, session)
    token = made["token"]
    with guest(server, token) as visitor:
        page = visitor.get(made["url"], params={})
        assert page.status_code == 200 and page.headers["referrer-policy"] == "no-referrer"
        for path in (f"/v1/sessions/{session['id']}", f"/v1/sessions/{session['id']}/events", f"/v1/{token}", "/v1/sessions"):
            visitor.get(path)
        metrics = visitor.get("/metrics", params={}).text
    log = server.process.log.read_text()
    assert session["id"] in log and made["id"] in log, "who looked is told by the share's id"
    signature = token.rpartition(".")[2]
    assert signature not in log and signature not in metrics and made["id"] not in metrics


# --- in a browser -------------------------------------------------------------------------------------------------------------
# Last, since their event loop is there until the module ends.

_WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


@pytest.fixture
def people(chrome: Browser, server: Target) -> Iterator[tuple[Page, Page]]:
    """An owner, who is signed in, and a guest, who has nothing; no page breaks the policy or raises."""
    profiles = [chrome.new_context(viewport={"width": 1280, "height": 800}) for _ in range(2)]
    raised: list[str] = []
    for profile in profiles:
        profile.add_init_script(_WATCH)
        profile.set_default_timeout(30_000)
        profile.on("weberror", lambda error: raised.append(str(error.error)))
    owner, visitor = (profile.new_page() for profile in profiles)
    owner.goto(f"{server.process.url}/studio")
    owner.get_by_label("API key").fill(server.keys["ann"])
    owner.get_by_role("button", name="Sign in").click()
    expect(owner.get_by_label("Choose pictures")).to_be_attached()
    yield owner, visitor
    broken = [text for page in (owner, visitor) for text in page.evaluate("window.violations ?? []")]
    for profile in profiles:
        profile.close()
    assert (broken, raised) == ([], [])


def shared_by(owner: Page, server: Target, session: dict[str, Any], what: str = "The session") -> str:
    """The link that the owner makes with the screen."""
    owner.goto(f"{server.process.url}/studio/sessions/{session['id']}")
    expect(owner.get_by_role("button", name="Source", exact=True)).to_be_visible()
    owner.get_by_role("button", name="Share", exact=True).click()
    owner.get_by_label("What is shared").select_option(label=what)
    owner.get_by_label("Valid for").select_option(label="A day")
    owner.get_by_role("button", name="Make link").click()
    link = owner.get_by_label("Link, shown only now")
    expect(link).to_have_value(re.compile("/studio/shared/shr_"))
    return link.input_value()


def test_a_guest_watches_live_and_cannot_steer_until_the_link_is_revoked(people: tuple[Page, Page], server: Target) -> None:
    owner, visitor = people
    server.script.scores = [(3, 9)]
    session = created(server, wait=0, review="each_turn")
    url = shared_by(owner, server, session)
    requested: list[str] = []
    visitor.on("request", lambda request: requested.append(request.url))
    visitor.goto(url)

    expect(visitor.get_by_text("Waiting for you")).to_be_visible()
    expect(visitor.get_by_text("Read only")).to_be_visible()
    expect(visitor.get_by_role("button", name="Turn 1, candidate 1: score")).to_be_visible()
    assert visitor.locator("img.thumb").first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    for steering in ("Accept", "Instruct", "Go on", "Cancel", "Share", "Delete", "Sign out"):
        assert visitor.get_by_role("button", name=steering).count() == 0, steering
    assert visitor.get_by_role("link", name="Sessions").count() == 0
    for key in ("a", "r", "i", "g", "1"):
        visitor.keyboard.press(key)
    expect(visitor.get_by_text("Picking")).to_be_hidden()
    assert all("/v1/sessions/" not in each or session["id"] in each for each in requested)

    owner.get_by_role("button", name="Close").click()
    owner.get_by_role("button", name="Go on").click()
    expect(visitor.get_by_role("button", name="Turn 2, candidate 1: score")).to_be_visible()

    owner.get_by_role("button", name="Share", exact=True).click()
    owner.get_by_role("button", name="Revoke the link").click()
    expect(owner.get_by_role("button", name="Revoke the link")).to_have_count(0)
    expect(visitor.get_by_role("alert")).to_contain_text("has expired or was revoked")
    assert visitor.locator("img").count() == 0
    visitor.reload()
    expect(visitor.get_by_role("alert")).to_contain_text("has expired or was revoked")


def test_two_pictures_are_shared_and_the_link_is_copied(people: tuple[Page, Page], server: Target) -> None:
    owner, visitor = people
    session = created(server)
    owner.context.grant_permissions(["clipboard-read", "clipboard-write"])
    url = shared_by(owner, server, session, "These two pictures")
    owner.get_by_role("button", name="Copy").click()
    expect(owner.get_by_text("The link was copied")).to_be_attached()
    assert owner.evaluate("navigator.clipboard.readText()") == url
    expect(owner.get_by_text(re.compile("^the source and turn 3, until "))).to_be_visible()
    visitor.goto(url)

    expect(visitor.locator(".stage")).to_have_attribute("aria-label", "Wipe: Source and Turn 3")
    assert [each["id"] for page in people for each in Axe().run(page).response["violations"]] == []
    visitor.locator(".stage").focus()
    visitor.keyboard.press("m")
    expect(visitor.locator(".stage")).to_have_attribute("aria-label", "Side by side: Source and Turn 3")
    assert visitor.get_by_text("make it golden").count() == 0, "the instruction is not shared"


def test_a_link_that_is_not_valid_says_so(people: tuple[Page, Page], server: Target) -> None:
    _, visitor = people
    for path in ("shr_0.ses_0.x", "x"):
        visitor.goto(f"{server.process.url}/studio/shared/{path}")
        expect(visitor.get_by_role("alert")).to_contain_text("this link is not valid")
    visitor.get_by_role("link", name="EditThinker Studio").click()
    expect(visitor.get_by_label("API key")).to_be_visible()


def test_a_text_cannot_become_markup_or_script(chrome: Browser, server: Target) -> None:
    """Trusted Types are in effect, and no inline script or style is."""
    profile = chrome.new_context()
    page = profile.new_page()
    page.goto(f"{server.process.url}/studio/shared/x")
    expect(page.get_by_role("alert")).to_be_visible()
    tried = page.evaluate(
        """async () => {
          const attempt = (work) => { try { work(); return "done"; } catch (error) { return error.name; } };
          const image = document.createElement("img");
          const found = [
            attempt(() => (document.body.innerHTML = "<b>x</b>")),
            attempt(() => (document.createElement("script").text = "1")),
            attempt(() => image.setAttribute("onerror", "document.title = 'owned'")),
            attempt(() => trustedTypes.createPolicy("mine", {})),
          ];
          const style = document.createElement("style");
          style.textContent = "body { margin: 77px }";
          document.head.append(style);
          return [...found, getComputedStyle(document.body).margin, document.title];
        }"""
    )
    profile.close()
    assert tried == ["TypeError"] * 4 + ["0px", "EditThinker Studio"]
