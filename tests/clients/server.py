"""The embedded stack as the clients meet it: with keys, an allowed origin, and editors under the names of OpenAI's models.

Pickers of models allow no other names. ``gpt-image-1`` takes several pictures (`several`); ``gpt-image-1.5`` is the embedded
editor.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from PIL import Image, ImageChops, ImageStat
from redis.asyncio import Redis

from editthinker.local.home import Home
from editthinker.local.service import Plan
from editthinker.local.stack import Stack, embedded_plan
from orchestrator.store.api_keys import ApiKeyStore
from orchestrator.store.scripts import KeySpace
from tests.clients import several
from tests.doubles.browser import Pages
from tests.doubles.upstreams import serving

PHOTOGRAPH = Path(__file__).parents[2] / "examples/photos/coffee.jpg"
SIZE = (240, 160)
PROMPT = "increase the warmth by 40%"


@dataclass
class Server:
    """The stack.

    Attributes:
        url: of the orchestrator, without ``/v1``.
        key: an API key.
        folder: for files.
        site: pages that may call it from ``app.test``.
        packages: where `install.sh` put the clients; None in `make test`.
        editor_url: of the embedded editor, without ``/v1``.
        thinker_url: of the embedded thinker.
    """

    url: str
    key: str
    folder: Path
    site: Pages | None = None
    packages: Path | None = None
    editor_url: str = ""
    thinker_url: str = ""

    @property
    def base_url(self) -> str:
        """What a client of OpenAI's API calls its base URL."""
        return f"{self.url}/v1"

    @property
    def photo(self) -> Path:
        """The source: a PNG."""
        return self.folder / "photo.png"

    @property
    def second(self) -> Path:
        """Another picture, as a chat's second turn sends it: a JPEG."""
        return self.folder / "second.jpg"

    @property
    def data_url(self) -> str:
        """The source as a data URL."""
        return f"data:image/png;base64,{base64.b64encode(self.photo.read_bytes()).decode()}"

    def api(self) -> httpx.Client:
        """A client for checks."""
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def sessions(self) -> list[dict[str, Any]]:
        """The newest sessions."""
        with self.api() as client:
            return list(client.get("/v1/sessions?limit=100").json()["data"])

    @contextlib.contextmanager
    def one_session(self) -> Iterator[None]:
        """What is done inside costs one session."""
        before = {session["id"] for session in self.sessions()}
        yield
        made = [session["id"] for session in self.sessions() if session["id"] not in before]
        assert len(made) == 1, f"{len(made)} sessions were made instead of one"

    def ends(self, status: str) -> None:
        """The newest session ends with this status."""
        until = time.monotonic() + 30
        while (seen := self.sessions()[0]["status"]) != status:
            assert time.monotonic() < until, f"the session is {seen}, not {status}"
            time.sleep(0.05)

    def check(self, data: bytes | str | None, form: str = "PNG", size: tuple[int, int] = SIZE) -> None:
        """A result (bytes, or base64) decodes, has the form and the size, and is another picture than the source."""
        assert data, "there is no picture in the answer"
        edited = Image.open(io.BytesIO(base64.b64decode(data) if isinstance(data, str) else data))
        edited.load()
        assert (edited.format, edited.size) == (form, size), f"a {edited.format} of {edited.size}"
        source = Image.open(self.photo).convert("RGB").resize(size)
        change = ImageStat.Stat(ImageChops.difference(edited.convert("RGB"), source)).mean
        assert max(change) > 2, "the picture is the source"

    def check_reply(self, reply: str | bytes, form: str = "PNG", size: tuple[int, int] = SIZE) -> dict[str, Any]:
        """A body of ``/v1/images/edits``: its first picture; the body."""
        body: dict[str, Any] = json.loads(reply)
        assert "data" in body, body
        self.check(body["data"][0].get("b64_json"), form, size)
        return body


@dataclass(frozen=True)
class Check:
    """One way in which a client calls the server.

    Attributes:
        client: whose row of the table it belongs to.
        name: what is sent.
        run: sends it; an exception is the verdict.
        light: whether it is part of `make test`.
    """

    client: str
    name: str
    run: Callable[[Server], None]
    light: bool = False


@dataclass(frozen=True)
class Client:
    """A row of the table: a client, how its version is found, and whose limit is met."""

    name: str
    version: Callable[[Server], str]
    note: str = ""


def installed() -> Path | None:
    """Where `install.sh` put the clients, from anywhere: programs are started in folders of their own."""
    folder = os.environ.get("EDITTHINKER_CLIENTS")
    return Path(folder).absolute() if folder else None


def pictures(folder: Path) -> None:
    """Write the source and the second picture."""
    photo = Image.open(PHOTOGRAPH).convert("RGB")
    photo.resize(SIZE).save(folder / "photo.png")
    photo.resize(SIZE).rotate(180).save(folder / "second.jpg", quality=90)


@contextlib.contextmanager
def server(folder: Path, site: Pages | None = None, packages: Path | None = None, *, keys: bool = True) -> Iterator[Server]:
    """Run the stack; without `keys` it asks for none."""
    redis_url = ""
    urls: dict[str, str] = {}

    def plan(home: Home, port: int) -> Plan:
        nonlocal redis_url
        made = embedded_plan(home, port)
        *others, orchestrator = made.services
        env = dict(orchestrator.env)
        editors = json.loads(env["EDITTHINKER_EDITORS"])
        editors |= {"gpt-image-1.5": editors["classical"], "gpt-image-1": {"url": f"{several_url}/v1"}}
        urls["editor_url"] = editors["classical"]["url"].removesuffix("/v1")
        urls["thinker_url"] = json.loads(env["EDITTHINKER_THINKERS"])["rules"]["url"].removesuffix("/v1")
        redis_url = env["EDITTHINKER_REDIS_URL"]
        env |= {
            "EDITTHINKER_EDITORS": json.dumps(editors),
            "EDITTHINKER_KEYS": "required" if keys else "off",
            # What an editor cannot honour is named in the reply, as these programs send it by themselves.
            "EDITTHINKER_COMPATIBILITY": "lenient",
            # A caller who left is not waited for, so that checks see at once what becomes of the session.
            "EDITTHINKER_REJOIN_S": "0",
            "EDITTHINKER_CORS_ORIGINS": f"http://app.test:{site.port}" if site else "",
        }
        return replace(made, services=[*others, replace(orchestrator, env=env)])

    async def key() -> str:
        redis = Redis.from_url(redis_url)
        try:
            return (await ApiKeyStore(redis, KeySpace()).create("clients", ["edit", "read"]))[0]
        finally:
            await redis.aclose()

    pictures(folder)
    with serving(several.application()) as several_url, Stack(folder / "home", planner=plan) as stack:
        yield Server(stack.base_url, asyncio.run(key()), folder, site, packages, **urls)
