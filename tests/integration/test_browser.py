"""Pages in a real browser: what those of other sites can do to a server without keys (nothing), CORS with keys, and /docs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.target import IMAGE, Target, target
from tests.doubles.browser import Pages, pages, rendered, visiting
from tests.doubles.debian import NoProgramError, browser

pytestmark = pytest.mark.xdist_group("browser")

_FORM = f"""
const form = () => {{
  const body = new FormData();
  body.set("image", new Blob([new Uint8Array({list(IMAGE)})], {{type: "image/png"}}), "a.png");
  body.set("prompt", "a lighthouse");
  body.set("max_turns", "1");
  return body;
}};
"""
_FOREIGN = """
const blind = {method: "POST", mode: "no-cors"};
const image = (source) => new Promise((loaded) => {
  const shown = new Image();
  shown.onload = () => loaded("shown");
  shown.onerror = () => loaded("refused");
  shown.src = source;
});
const seen = {};
for (let i = 0; i < 5; i++) await attempt(() => fetch(url + "/v1/images/edits", {...blind, body: form()}));
await attempt(() => fetch(url + "/v1/sessions/SESSION/cancel", blind));
await attempt(() => fetch(url + "/v1/webhooks", {...blind, body: JSON.stringify({url: "https://evil.example"})}));
seen.list = await attempt(async () => (await fetch(url + "/v1/sessions")).status);
seen.remove = await attempt(async () => (await fetch(url + "/v1/sessions/SESSION", {method: "DELETE"})).status);
seen.picture = await image(url + "/v1/sessions/SESSION/source");
await report(seen);
"""
_REBOUND = """
const call = async (method, path, body) => (await fetch(path, {method, body})).status;
await report([
  await call("POST", "/v1/images/edits", form()),
  await call("GET", "/v1/sessions"),
  await call("GET", "/v1/sessions/SESSION/source"),
  await call("GET", "/v1/export"),
  await call("POST", "/v1/webhooks", JSON.stringify({url: "https://evil.example"})),
  await call("GET", "/docs"),
]);
"""
_KEYED = """
const headers = {authorization: "Bearer KEY", "idempotency-key": "a-key-of-the-page", "x-stainless-lang": "js"};
const seen = {};
seen.list = await attempt(async () => {
  const reply = await fetch(url + "/v1/sessions", {headers});
  return [reply.status, Boolean(reply.headers.get("x-request-id")), (await reply.json()).object];
});
seen.wrong = await attempt(async () => {
  const reply = await fetch(url + "/v1/sessions", {headers: {authorization: "Bearer et_wrong"}});
  return [reply.status, (await reply.json()).error.code];
});
seen.events = await attempt(async () => {
  const body = form();
  body.set("stream", "true");
  const reply = await fetch(url + "/v1/images/edits", {method: "POST", headers, body});
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const {value, done} = await reader.read();
    if (done) break;
    text += value;
  }
  const id = reply.headers.get("x-session-id");
  seen.events_after = await attempt(async () => {
    const resumed = await fetch(url + "/v1/sessions/" + id + "/events", {headers: {...headers, "last-event-id": "1"}});
    return [resumed.status, (await resumed.text()).includes("event: finished")];
  });
  seen.removed = await attempt(async () => (await fetch(url + "/v1/sessions/" + id, {method: "DELETE", headers})).status);
  return [...text.matchAll(/^event: (.+)$/gm)].map((found) => found[1]);
});
await report(seen);
"""


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    try:
        browser()
    except NoProgramError as exc:
        pytest.skip(f"there is no browser: {exc}")


@pytest.fixture(scope="module")
def keyless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with target(tmp_path_factory.mktemp("keyless"), EDITTHINKER_KEYS="off") as running:
        yield running


def session(running: Target) -> str:
    """A finished session of the server's own user."""
    with running.client(None) as client:
        files = {"image": ("a.png", IMAGE, "image/png")}
        reply = client.post("/v1/images/edits", files=files, data={"prompt": "a boat", "max_turns": "1"})
        assert reply.status_code == 200, reply.text
        return str(reply.json()["session_id"])


def visit(folder: Path, site: Pages, host: str, script: str) -> object:
    site.script = _FORM + script
    with visiting(folder, f"http://{host}:{site.port}/"):
        return site.seen()


@pytest.mark.parametrize("host", ["evil.test", "localhost", "127.0.0.1"])
def test_a_foreign_page_changes_and_reads_nothing(keyless: Target, tmp_path: Path, host: str) -> None:
    """From another site, and from another port of this machine."""
    mine = session(keyless)
    with pages(f"127.0.0.1:{keyless.process.port}") as site, keyless.client(None) as client:
        before = client.get("/v1/sessions").json()["data"]
        edits = len(keyless.script.edits)
        seen = visit(tmp_path, site, host, _FOREIGN.replace("SESSION", mine))

        assert seen == {"list": "TypeError: Failed to fetch", "remove": "TypeError: Failed to fetch", "picture": "refused"}
        assert client.get("/v1/sessions").json()["data"] == before
        assert client.get("/v1/webhooks").json()["data"] == []
        assert len(keyless.script.edits) == edits
        metrics = client.get("/metrics").text
    assert 'editthinker_origin_refused_total{reason="origin"}' in metrics


def test_a_page_whose_name_was_rebound_to_this_machine_is_refused(keyless: Target, tmp_path: Path) -> None:
    mine = session(keyless)
    edits = len(keyless.script.edits)
    with pages(f"127.0.0.1:{keyless.process.port}") as site:
        seen = visit(tmp_path, site, "rebound.test", _REBOUND.replace("SESSION", mine))

    assert seen == [403] * 6
    assert len(keyless.script.edits) == edits


def test_with_keys_only_allowed_pages_may_call_and_stream(tmp_path: Path) -> None:
    with pages("") as site:
        allowed = f"http://app.test:{site.port}"
        with target(tmp_path, EDITTHINKER_CORS_ORIGINS=allowed) as running:
            site.server = f"127.0.0.1:{running.process.port}"
            script = _KEYED.replace("KEY", running.keys["ann"])
            seen = visit(tmp_path, site, "app.test", script)
            blocked = visit(tmp_path, site, "evil.test", script)

    assert seen == {
        "list": [200, True, "list"],
        "wrong": [401, "invalid_api_key"],
        "events": ["image_edit.partial_image", "image_edit.completed"],
        "events_after": [200, True],
        "removed": 204,
    }
    assert blocked == dict.fromkeys(("list", "wrong", "events"), "TypeError: Failed to fetch")


def test_the_documentation_runs_its_own_scripts_under_its_policy(keyless: Target, tmp_path: Path) -> None:
    elements, log = rendered(tmp_path, f"{keyless.process.url}/docs")

    assert "/v1/images/edits" in elements
    assert elements.count("opblock-summary-path") > 15
    assert "Content Security Policy" not in log
