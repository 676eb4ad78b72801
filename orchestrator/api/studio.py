"""``/studio``: the web page on which people make edits, watch and steer sessions, and compare pictures.

Files of this package, without data: the page is a client of the public API like any other. Its scripts and styles lie under a
path with their digest, so that browsers keep them for good and never mix two versions.
"""

from __future__ import annotations

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
        digest: of all assets; part of their path.
        assets: by their path below that.
    """

    page: bytes
    digest: str
    assets: dict[str, Asset]


@cache
def studio() -> Studio:
    """The files of the package. Compressing them takes a while the first time, so routes with it run in a thread."""
    root = files("orchestrator").joinpath("studio")
    assets = dict(sorted(_assets(root, "")))
    digest = hashlib.sha256(repr([(name, asset.content) for name, asset in assets.items()]).encode()).hexdigest()[:16]
    path = f"/studio/assets/{digest}"
    # Together, and not each once the one that imports it was read.
    modules = "\n".join(f'<link rel="modulepreload" href="{path}/{name}">' for name in assets if name.endswith(".js"))
    page = root.joinpath(_PAGE).read_text("utf-8").replace("{assets}", path).replace("{modules}", modules)
    return Studio(page.encode(), digest, assets)


def _assets(folder: Traversable, path: str) -> Iterator[tuple[str, Asset]]:
    for entry in folder.iterdir():
        suffix = entry.name[entry.name.rfind(".") :]
        if entry.is_dir():
            yield from _assets(entry, f"{path}{entry.name}/")
        elif suffix in _TYPES:
            content = entry.read_bytes()
            # Lines keep their numbers. Lit's own comments are its licence.
            if suffix == ".js" and not path:
                content = _COMMENT.sub(lambda comment: b"\n" * comment[0].count(b"\n"), content)
            compressed = {"br": brotli.compress(content), "gzip": gzip.compress(content, 9, mtime=0)}
            yield f"{path}{entry.name}", Asset(_TYPES[suffix], content, compressed)


@router.get("/")
async def home() -> Response:
    """The studio, for people who open the server's address in a browser."""
    return RedirectResponse("/studio")


@router.get("/studio/assets/{digest}/{name:path}")
def asset(request: Request, digest: str, name: str) -> Response:
    """A script, a stylesheet or an icon."""
    found = studio().assets.get(name)
    if found is None or digest != studio().digest:
        raise ApiError("not_found", "there is no such file; load /studio again")
    headers = {"cache-control": "public, max-age=31536000, immutable", "vary": "Accept-Encoding"}
    taken = {coding.partition(";")[0].strip() for coding in request.headers.get("accept-encoding", "").split(",")}
    for coding, compressed in found.compressed.items():
        if coding in taken and len(found.content) > _LARGE:
            return Response(compressed, headers={**headers, "content-encoding": coding}, media_type=found.media_type)
    return Response(found.content, headers=headers, media_type=found.media_type)


@router.get("/studio/embed.js")
def embed() -> Response:
    """The elements for pages of other origins: a stable address that leads to the version of this server."""
    content = f'export * from "/studio/assets/{studio().digest}/embed.js";\n'
    return Response(content, headers={"cache-control": "no-cache"}, media_type=_TYPES[".js"])


@router.get("/studio")
@router.get("/studio/{screen:path}")
def page(screen: str = "") -> Response:
    """The page; its script shows the screen that the path names."""
    if screen.startswith("assets/"):
        raise ApiError("not_found", "there is no such file; load /studio again")
    headers = {"content-security-policy": POLICY, "cache-control": "no-cache", **_ALONE}
    return Response(studio().page, headers=headers, media_type="text/html; charset=utf-8")
