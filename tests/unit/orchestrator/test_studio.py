"""The studio's files: how they are served, and what a browser may do with them."""

from __future__ import annotations

import hashlib
import html
import re
from importlib.resources import files

import httpx
import pytest
from fastapi import FastAPI

from orchestrator.api import studio
from services.serving import middleware
from services.serving.origins import OriginPolicy

FOLDER = files("orchestrator").joinpath("studio")
SCRIPTS = sorted(name for name in studio.studio().assets if name.endswith(".js"))


SCREENS = [
    f"/studio{path}" for path in ("", "/sessions", "/sessions/ses_1", "/shared/shr_0.ses_1.x", "/blind", "/operator", "/x")
]


async def ask(path: str, **headers: str) -> httpx.Response:
    app = FastAPI()
    policy = OriginPolicy.of("127.0.0.1", keyless=True, setting="EDITTHINKER_")
    middleware.install(app, max_body=1000, policy=policy)
    app.include_router(studio.router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        return await client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize("path", ["/studio", "/studio/sessions", "/studio/sessions/ses_1", "/studio/shared/shr_0.ses_1.x"])
async def test_every_screen_is_the_page(path: str) -> None:
    page = await ask(path)

    assert (page.status_code, page.headers["cache-control"]) == (200, "no-cache")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"] == studio.POLICY


async def test_a_page_that_opens_the_studio_has_no_hold_of_it() -> None:
    page = await ask("/studio")

    assert page.headers["cross-origin-opener-policy"] == page.headers["cross-origin-resource-policy"] == "same-origin"
    assert (page.headers["referrer-policy"], page.headers["x-content-type-options"]) == ("no-referrer", "nosniff")


async def test_the_elements_have_an_address_that_stays() -> None:
    module = await ask("/studio/embed.js")

    assert (module.headers["content-type"], module.headers["cache-control"]) == ("text/javascript; charset=utf-8", "no-cache")
    (part,) = re.findall(r'^export \* from "(.+)";$', module.text)
    assert (await ask(part)).status_code == 200


async def test_the_root_leads_to_the_studio() -> None:
    reply = await ask("/")

    assert (reply.status_code, reply.headers["location"]) == (307, "/studio")


async def test_the_policy_allows_no_script_of_anywhere_else_and_no_text_that_becomes_markup() -> None:
    assert "unsafe" not in studio.POLICY and "*" not in studio.POLICY and "http" not in studio.POLICY
    for rule in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "base-uri 'none'", "frame-ancestors 'none'"):
        assert f"{rule};" in studio.POLICY
    assert studio.POLICY.endswith("require-trusted-types-for 'script'; trusted-types lit-html")


@pytest.mark.parametrize("path", SCREENS)
async def test_a_page_loads_only_files_of_the_package_that_browsers_keep_for_good(path: str) -> None:
    page = (await ask(path)).text
    names = [name for name in re.findall(r'(?:src|href)="([^"]+)"', page) if not name.startswith("/v1/")]
    for name in names:
        found = await ask(name)
        assert found.status_code == 200, name
        assert found.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "<style" not in page and not re.search(r"<script(?![^>]* src=)", page)


@pytest.mark.parametrize("path", SCREENS)
async def test_a_page_asks_at_once_for_every_script_of_its_screen_and_for_no_other(path: str) -> None:
    """Each would be asked for only when the one that imports it was read."""
    text = {name: asset.content.decode() for name, asset in studio.studio().assets.items() if name.endswith(".js")}
    # What app.js itself says about the path.
    branches = re.findall(r'startsWith\("/studio/(\w+/)"\)\) return import\("\./(.+?)"\)', text["app.js"])
    others = re.findall(r'"/studio/(\w+)": \(\) => import\("\./(.+?)"\)', text["app.js"])
    (start,) = re.findall(r'\?\? \(\(\) => import\("\./(.+?)"\)', text["app.js"])
    below = path.removeprefix("/studio").removeprefix("/")
    screen = dict(others).get(below) or next((name for start, name in branches if below.startswith(start)), start)
    needed: set[str] = set()
    left = ["app.js", screen]
    while left:
        name = left.pop()
        needed.add(name)
        left += set(re.findall(r'(?:from|^import) "\./(.+)";$', text[name], re.MULTILINE)) - needed

    page = (await ask(path)).text
    preloaded = re.findall(r'<link rel="modulepreload" href="/studio/assets/\w+/([^"]+)">', page)
    assert len(preloaded) == len(set(preloaded))
    assert set(preloaded) == needed


@pytest.mark.parametrize(
    ("path", "picture"),
    [
        ("/studio/sessions/ses_0a1", "/v1/sessions/ses_0a1/source?max_side=256&format=webp&compression=90"),
        ('/studio/sessions/ses_0a1"><script>', None),
        ("/studio/sessions/ses_0a1/x", None),
        ("/studio/sessions", None),
        ("/studio/shared/shr_0.ses_1.x", None),
    ],
)
async def test_the_page_of_a_session_asks_for_its_first_picture_at_once(path: str, picture: str | None) -> None:
    page = (await ask(path)).text

    found = re.findall(r'<link rel="preload" as="image" crossorigin fetchpriority="high" href="(.+)">', page)
    assert [html.unescape(each) for each in found] == ([picture] if picture else [])
    assert "{" not in page


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_imports_only_files_that_are_there(name: str) -> None:
    text = studio.studio().assets[name].content.decode()
    folder = name.rpartition("/")[0]
    for target in re.findall(r'(?:from|^import) "([^"]+)";$', text, re.MULTILINE):
        assert target.startswith("./"), target
        assert f"{folder}/{target[2:]}".lstrip("/") in studio.studio().assets, target


@pytest.mark.parametrize("name", [name for name in SCRIPTS if not name.startswith("lit/")])
def test_a_script_makes_no_markup_of_texts(name: str) -> None:
    text = studio.studio().assets[name].content.decode()

    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|unsafeHTML|eval\(|createPolicy", text)


async def test_a_file_of_another_version_is_not_served_as_this_one() -> None:
    """A page that was open during an upgrade must not mix two versions."""
    digest = studio.studio().digest
    assert (await ask(f"/studio/assets/{digest}/app.js")).status_code == 200
    for path in (
        "/studio/assets/0000000000000000/app.js",
        f"/studio/assets/{digest}/page.html",
        f"/studio/assets/{digest}/../app.py",
    ):
        assert (await ask(path)).status_code == 404, path


async def test_files_are_compressed_for_who_takes_it() -> None:
    path = f"/studio/assets/{studio.studio().digest}/tokens.css"
    content = FOLDER.joinpath("tokens.css").read_bytes()
    for taken, coding in (("gzip, deflate, br;q=1.0", "br"), ("gzip", "gzip"), ("identity", None)):
        sent = await ask(path, accept_encoding=taken)
        assert (sent.headers.get("content-encoding"), sent.headers["vary"]) == (coding, "Accept-Encoding")
        assert sent.content == content


def test_scripts_are_sent_without_their_comments_and_with_the_same_lines() -> None:
    for name, asset in studio.studio().assets.items():
        if name.endswith(".js") and "/" not in name:
            written, sent = FOLDER.joinpath(name).read_text("utf-8"), asset.content.decode()
            assert sent.count("\n") == written.count("\n"), name
            undocumented = re.sub(r"/\*\*.*?\*/|^ *//[^\n]*$", "", written, flags=re.DOTALL | re.MULTILINE)
            assert "".join(sent.split()) == "".join(undocumented.split()), name


def test_all_scripts_are_less_than_60_kb() -> None:
    sizes = {name: len(asset.compressed["br"]) for name, asset in studio.studio().assets.items() if name.endswith(".js")}

    assert sum(sizes.values()) < 60_000, sizes


def test_lit_is_the_bundle_that_its_page_names() -> None:
    listed = re.findall(r"\| `lit.js` \| `([0-9a-f]{64})` \|", FOLDER.joinpath("lit", "README.md").read_text("utf-8"))

    assert listed == [hashlib.sha256(FOLDER.joinpath("lit", "lit.js").read_bytes()).hexdigest()]
