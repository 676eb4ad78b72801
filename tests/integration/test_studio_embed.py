"""The elements on a page of another origin: the example of docs/studio.md, on the list of EDITTHINKER_CORS_ORIGINS and off it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.attacks.target import Target, target
from tests.doubles.chromium import chromium
from tests.doubles.debian import NoProgramError, browser
from tests.integration.test_shares import created, share

pytestmark = pytest.mark.xdist_group("browser")

ROOT = Path(__file__).parents[2]
_KEYED = """<!doctype html><title>a page</title>
<script type="module" src="SERVER/studio/embed.js"></script>
<edit-session session-id="SESSION"></edit-session>
<script type="module">
customElements.whenDefined("edit-session").then(() => (document.querySelector("edit-session").key = async () => "KEY"));
</script>
"""


class Site:
    """A web server of one page, whose policy is that of the docs."""

    def __init__(self) -> None:
        self.html = ""
        self.policy = ""
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serving_a_page() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.send_header("content-security-policy", site.policy)
            self.end_headers()
            self.wfile.write(site.html.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site.port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield site
        finally:
            server.shutdown()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving_a_page() as found:
        yield found


@pytest.fixture(scope="module")
def listed(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server that lists the page's origin."""
    with target(tmp_path_factory.mktemp("embed"), EDITTHINKER_CORS_ORIGINS=site.url) as running:
        yield running


@pytest.fixture(scope="module")
def chrome(listed: Target) -> Iterator[Browser]:
    """Started after the server, which makes its keys in an event loop; there can be no other within Playwright's."""
    try:
        browser()
    except NoProgramError as exc:
        pytest.skip(f"there is no browser: {exc}")
    with chromium() as running:
        yield running


@pytest.fixture
def page(chrome: Browser, listed: Target) -> Iterator[Page]:
    listed.script.begin()
    expect.set_options(timeout=30_000)
    profile = chrome.new_context(viewport={"width": 1280, "height": 900})
    profile.set_default_timeout(30_000)
    yield profile.new_page()
    profile.close()
    listed.settle()


def example(site: Site, server: Target, token: str) -> None:
    """Serve the page of docs/studio.md, with the policy that it names."""
    text = (ROOT / "docs" / "studio.md").read_text("utf-8")
    (page,) = re.findall(r"```html\n(<!doctype html>.*?)```", text, re.DOTALL)
    (policy,) = re.findall(r"```text\nContent-Security-Policy: (.*?)\n```", text, re.DOTALL)
    site.html = page.replace("https://edit.example.com", server.process.url).replace("shr_TOKEN", token)
    site.policy = policy.replace("https://edit.example.com", server.process.url)


def test_the_example_page_of_the_docs_shows_a_shared_session(page: Page, site: Site, listed: Target) -> None:
    example(site, listed, share(listed, created(listed))["token"])
    raised: list[str] = []
    page.context.on("weberror", lambda error: raised.append(str(error.error)))
    page.add_init_script(
        "window.broken = []; addEventListener('securitypolicyviolation', (event) => broken.push(event.blockedURI))"
    )
    page.goto(site.url)

    session = page.locator("edit-session")
    expect(session.get_by_text("Done", exact=True)).to_be_visible()
    expect(session.get_by_text("Read only")).to_be_visible()
    expect(page.locator("body > edit-timeline").get_by_role("button", name=re.compile("^Turn 3, candidate 1"))).to_be_visible()
    alone = page.locator("body > edit-compare .stage")
    expect(alone).to_have_attribute("aria-label", "Wipe: Source and Turn 3")
    # Its pixels can be read: the pictures came with CORS.
    box = alone.bounding_box()
    assert box
    alone.scroll_into_view_if_needed()
    alone.hover()
    expect(page.locator("body > edit-compare .pixel")).to_contain_text("#5a783c")
    # Keys are the page's own unless the focus is in an element, and the page keeps its title and its looks.
    page.locator("h1").first.click()
    page.keyboard.press("m")
    expect(session.locator(".stage")).to_have_attribute("aria-label", re.compile("^Wipe"))
    session.locator(".stage").focus()
    page.keyboard.press("m")
    expect(session.locator(".stage")).to_have_attribute("aria-label", re.compile("^Side by side"))
    assert page.title() == "Our review page"
    assert page.evaluate("getComputedStyle(document.body).marginTop") == "8px"
    assert page.evaluate("getComputedStyle(document.querySelector('edit-session')).getPropertyValue('--gap-4')").strip() == "1rem"
    assert (page.evaluate("broken"), raised) == ([], [])


def test_an_element_with_a_key_shows_and_steers(page: Page, site: Site, listed: Target) -> None:
    listed.script.scores = [(3, 9)]
    session = created(listed, wait=0, review="each_turn")
    words = {"SERVER": listed.process.url, "SESSION": session["id"], "KEY": listed.keys["ann"]}
    site.policy, site.html = "", _KEYED
    for word, value in words.items():
        site.html = site.html.replace(word, value)
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(site.url)

    expect(page.get_by_text("Waiting for you")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("^Turn 1, candidate 1: score"))).to_be_visible()
    thumb = page.locator("img.thumb").first
    expect(thumb).to_have_attribute("src", re.compile("^blob:"))
    assert thumb.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("button", name=re.compile("^Turn 2, candidate 1: score"))).to_be_visible()
    assert not any(listed.keys["ann"] in url for url in requested)


def test_a_page_off_the_list_gets_nothing(page: Page, listed: Target) -> None:
    """Neither the module, nor a session with a valid token."""
    session = created(listed, max_turns="1")
    token = share(listed, session)["token"]
    with serving_a_page() as other:
        example(other, listed, token)
        other.policy = ""
        page.goto(other.url)
        tried = page.evaluate(
            """async (url) => {
              const module = await import(url + "/studio/embed.js").then(() => "got", () => "refused");
              const path = url + PATH;
              const view = await fetch(path).then(() => "got", () => "refused");
              const events = await new Promise((done) => {
                const stream = new EventSource(path.replace("?", "/events?"));
                stream.onopen = () => done("got");
                stream.onerror = () => done("refused");
              });
              return [module, view, events];
            }""".replace("PATH", repr(f"/v1/sessions/{session['id']}?share={token}")),
            listed.process.url,
        )
        defined = page.evaluate("!!customElements.get('edit-session')")
    assert (tried, defined) == (["refused"] * 3, False)


def test_the_module_has_a_stable_address_and_its_parts_are_kept(listed: Target) -> None:
    with listed.client(None) as client:
        module = client.get("/studio/embed.js")
        (part,) = re.findall(r'"(/studio/assets/[0-9a-f]{16}/embed\.js)"', module.text)
        kept = client.get(part)
        gone = client.get(re.sub(r"assets/[0-9a-f]+", "assets/0123456789abcdef", part))
    assert (module.headers["cache-control"], module.headers["content-type"]) == ("no-cache", "text/javascript; charset=utf-8")
    assert "immutable" in kept.headers["cache-control"] and gone.status_code == 404
    assert "Origin" in kept.headers["vary"], "a copy for a page off the list is not one for a page on it"
