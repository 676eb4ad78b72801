"""``/studio``: the web page on which people make edits, watch and steer sessions, and compare pictures.

Files of this package, without data: the page is a client of the public API like any other. Its scripts and styles lie under a
path with their digest, so that browsers keep them for good and never mix two versions.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

import brotli
from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from services.errors import ApiError

router = APIRouter(include_in_schema=False)

_TYPES: Final = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_PAGE: Final = "page.html"
_ENTRY: Final = "app.js"
_SCREENS: Final = {
    "": "start.js",
    "sessions": "gallery.js",
    "sessions/": "session.js",
    "shared/": "shared.js",
    "blind": "blind.js",
    "operator": "operator.js",
}
"""The script of each screen, as `app.js` loads it, by its path; one that ends in a slash has more below it."""
_PICTURE: Final = (
    '<link rel="preload" as="image" crossorigin fetchpriority="high" '
    'href="/v1/sessions/{}/source?max_side=256&amp;format=webp&amp;compression=90">'
)
"""The first picture of the timeline, as `timeline.js` asks for it."""
_ONE_SESSION: Final = re.compile(r"sessions/(ses_\w+)", re.ASCII)
_IMPORT: Final = re.compile(r'(?:from|^import) "\./([^"]+)";$', re.MULTILINE)
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types lit-html"
)
"""Pictures that a person chose are shown from blob URLs. Lit makes its own templates through the policy `lit-html`."""
_COMMENT: Final = re.compile(
    rb"^ *+/\*\*(?:(?!\*/).)*+\*/ *$|/\*\* @(?:type|param)(?:(?!\*/)[^\n])*+\*/ ?|^ *+//[^\n]*+$", re.DOTALL | re.MULTILINE
)
"""Types and explanations in the studio's own scripts, an eighth of them; they are not sent."""
_INDENT: Final = re.compile(rb"^ +", re.MULTILINE)
_ALONE: Final = {"cross-origin-opener-policy": "same-origin", "cross-origin-resource-policy": "same-origin"}
"""A page that opens the studio in a window gets no hold of it."""
_LARGE: Final = 512
"""Bytes above which a file is sent compressed."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the studio.

    Attributes:
        compressed: the same by content coding, the smallest first. Browsers take Brotli over https and from this machine.
    """

    media_type: str
    content: bytes
    compressed: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Studio:
    """The page and its assets.

    Attributes:
        pages: by the script of their screen.
        digest: of all assets; part of their path.
        assets: by their path below that.
    """

    pages: dict[str, str]
    digest: str
    assets: dict[str, Asset]

    def page(self, screen: str) -> str:
        """The page at a path below ``/studio``. It names what its screen will ask for, so that all of it is asked for at once."""
        first, _, rest = screen.partition("/")
        script = _SCREENS.get(f"{first}/" if rest else first, _SCREENS[""])
        session = _ONE_SESSION.fullmatch(screen)
        return self.pages[script].replace("{picture}", _PICTURE.format(session[1]) if session else "")


@cache
def studio() -> Studio:
    """The files of the package. Compressing them takes a while the first time."""
    root = files("orchestrator").joinpath("studio")
    assets = dict(sorted(_assets(root, "")))
    digest = hashlib.sha256(repr([(name, asset.content) for name, asset in assets.items()]).encode()).hexdigest()[:16]
    path = f"/studio/assets/{digest}"
    template = root.joinpath(_PAGE).read_text("utf-8").replace("{assets}", path)
    pages = {}
    for script in _SCREENS.values():
        links = [f'<link rel="modulepreload" href="{path}/{name}">' for name in _imported(assets, _ENTRY, script)]
        # Guests need no key, and are not asked who they are.
        who = [] if script == _SCREENS["shared/"] else ['<link rel="preload" as="fetch" crossorigin href="/v1/sign_in">']
        pages[script] = template.replace("{preloads}", "\n".join([*who, *links]))
    return Studio(pages, digest, assets)


def _imported(assets: dict[str, Asset], *names: str) -> list[str]:
    """Scripts with all that they import, which is otherwise asked for only when the script that imports it was read."""
    found = list(names)
    for name in found:
        found += [each for each in _IMPORT.findall(assets[name].content.decode()) if each not in found]
    return found


async def _studio() -> Studio:
    """The same, without keeping other requests waiting."""
    return studio() if studio.cache_info().currsize else await asyncio.to_thread(studio)


def _assets(folder: Traversable, path: str) -> Iterator[tuple[str, Asset]]:
    for entry in folder.iterdir():
        suffix = entry.name[entry.name.rfind(".") :]
        if entry.is_dir():
            yield from _assets(entry, f"{path}{entry.name}/")
        elif suffix in _TYPES:
            content = entry.read_bytes()
            # Lines keep their numbers. Lit's own comments are its licence. No template and no string needs its indentation.
            if suffix == ".js" and not path:
                content = _COMMENT.sub(lambda comment: b"\n" * comment[0].count(b"\n"), content)
                content = _INDENT.sub(b"", content)
            compressed = {"br": brotli.compress(content), "gzip": gzip.compress(content, 9, mtime=0)}
            yield f"{path}{entry.name}", Asset(_TYPES[suffix], content, compressed)


@router.get("/")
async def home() -> Response:
    """The studio, for people who open the server's address in a browser."""
    return RedirectResponse("/studio")


@router.get("/studio/assets/{digest}/{name:path}")
async def asset(request: Request, digest: str, name: str) -> Response:
    """A script, a stylesheet or an icon."""
    files_of_studio = await _studio()
    found = files_of_studio.assets.get(name)
    if found is None or digest != files_of_studio.digest:
        raise ApiError("not_found", "there is no such file; load /studio again")
    headers = {"cache-control": "public, max-age=31536000, immutable", "vary": "Accept-Encoding"}
    taken = {coding.partition(";")[0].strip() for coding in request.headers.get("accept-encoding", "").split(",")}
    for coding, compressed in found.compressed.items():
        if coding in taken and len(found.content) > _LARGE:
            return Response(compressed, headers={**headers, "content-encoding": coding}, media_type=found.media_type)
    return Response(found.content, headers=headers, media_type=found.media_type)


@router.get("/studio/embed.js")
async def embed() -> Response:
    """The elements for pages of other origins: a stable address that leads to the version of this server."""
    content = f'export * from "/studio/assets/{(await _studio()).digest}/embed.js";\n'
    return Response(content, headers={"cache-control": "no-cache"}, media_type=_TYPES[".js"])


@router.get("/studio")
@router.get("/studio/{screen:path}")
async def page(screen: str = "") -> Response:
    """The page; its script shows the screen that the path names."""
    if screen.startswith("assets/"):
        raise ApiError("not_found", "there is no such file; load /studio again")
    headers = {"content-security-policy": POLICY, "cache-control": "no-cache", **_ALONE}
    return Response((await _studio()).page(screen), headers=headers, media_type="text/html; charset=utf-8")
