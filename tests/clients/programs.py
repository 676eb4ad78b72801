"""Programs of the machine: the JDK's HTTP client, and pages in Chromium."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from tests.clients.server import PROMPT, Check, Client, Server
from tests.doubles.browser import visiting
from tests.doubles.debian import browser


def _java(_: Server) -> str:
    done = subprocess.run(["java", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.split()[1]


def _chromium(server: Server) -> str:
    program, env = browser()
    done = subprocess.run(
        [program, "--version", "--no-sandbox"],
        check=True,
        env={**env, "HOME": str(server.folder)},
        capture_output=True,
        text=True,
    )
    return done.stdout.split()[1]


JDK = Client("JDK `HttpClient`", _java, "by default; it offers HTTP/2, which is not taken up")
CHROMIUM = Client("Chromium, a page of another origin", _chromium, "`EDITTHINKER_CORS_ORIGINS`; others are refused")


def _jdk(server: Server) -> None:
    assert shutil.which("java"), "install a JDK of version 11 or later (Debian's openjdk-17-jdk-headless)"
    out = server.folder / "java"
    source = Path(__file__).with_name("Edit.java")
    command = ["java", str(source), server.base_url, server.key, str(server.photo), PROMPT, str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.stdout.split() == ["200", "HTTP_1_1"] * 2, done.stdout + done.stderr
    server.check_reply(out.with_suffix(".false").read_text())
    last = out.with_suffix(".true").read_text().strip().split("\n\n")[-1]
    assert last.startswith("event: image_edit.completed"), last[:200]
    server.check(json.loads(last.partition("data: ")[2])["b64_json"])


_SCRIPT = """
const bytes = Uint8Array.from(atob("PICTURE"), (letter) => letter.charCodeAt(0));
const body = new FormData();
body.set("image", new Blob([bytes], {type: "image/png"}), "photo.png");
body.set("prompt", "PROMPT");
const send = (more) => {
  for (const [name, value] of Object.entries(more)) body.set(name, value);
  return fetch(url + "/v1/images/edits", {method: "POST", headers: {authorization: "Bearer KEY"}, body});
};
const seen = {};
seen.edit = await attempt(async () => (await (await send({})).json()).data[0].b64_json);
seen.link = await attempt(async () => {
  const link = (await (await send({response_format: "url"})).json()).data[0].url;
  const reply = await fetch(link);
  return [reply.status, reply.headers.get("content-type")];
});
body.delete("response_format");
seen.stream = await attempt(async () => {
  const text = await (await send({stream: "true"})).text();
  return [...text.matchAll(/^event: (.+)$/gm)].map((found) => found[1]).at(-1);
});
await report(seen);
"""


def _visit(server: Server, host: str) -> dict[str, object]:
    assert server.site, "there are no pages"
    picture = server.data_url.partition(",")[2]
    server.site.script = _SCRIPT.replace("PROMPT", PROMPT).replace("KEY", server.key).replace("PICTURE", picture)
    server.site.server = server.url.removeprefix("http://")
    with visiting(server.folder, f"http://{host}:{server.site.port}/"):
        seen: dict[str, object] = server.site.seen()
    return seen


def _allowed(server: Server) -> None:
    seen = _visit(server, "app.test")
    server.check(str(seen["edit"]))
    assert seen["link"] == [200, "image/png"], seen["link"]
    assert seen["stream"] == "image_edit.completed", seen["stream"]


def _foreign(server: Server) -> None:
    before = len(server.sessions())
    seen = _visit(server, "evil.test")
    assert set(map(str, seen.values())) == {"TypeError: Failed to fetch"}, seen
    assert len(server.sessions()) == before, "a page that is not allowed made a session"


CLIENTS = (JDK, CHROMIUM)
CHECKS = (
    Check(JDK.name, "a form and a stream", _jdk),
    Check(CHROMIUM.name, "allowed: an edit, a link, a stream", _allowed),
    Check(CHROMIUM.name, "not allowed: refused, and no session", _foreign),
)
