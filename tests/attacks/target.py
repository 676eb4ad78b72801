"""The target of the attacks: a real orchestrator that requires keys, with two tenants and test doubles as upstreams.

target(folder)      a context manager that runs one
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from redis.asyncio import Redis

from orchestrator.store.api_keys import ApiKeyStore
from orchestrator.store.scripts import KeySpace
from tests.doubles.processes import Process, free_port, module, redis_server, wait_ready
from tests.doubles.upstreams import Script, application, picture, serving

MIB = 1024 * 1024
LARGEST = 20_000_000
"""Limit of a picture in bytes; small, so that endless uploads are refused soon."""
TENANTS = ("ann", "bob")
IMAGE = picture()
EDITOR_SECRET = "sk-the-editors-own-key-0123456789"


@dataclass
class Target:
    """The orchestrator under attack.

    Attributes:
        keys: an API key of each tenant.
        script: what the editor and the thinker do, and the requests that they got.
        busy: times the seconds that an answer may take: 1 on a machine that does nothing else, as of `make attacks`.
    """

    process: Process
    script: Script
    redis_port: int
    blobs: Path
    keys: dict[str, str] = field(default_factory=dict)
    busy: float = 1

    @property
    def secrets(self) -> list[str]:
        """What must not appear in answers or logs."""
        return [*self.keys.values(), EDITOR_SECRET]

    def client(self, tenant: str | None = "ann", **headers: str) -> httpx.Client:
        """A client with the key of a tenant, or without one."""
        headers |= {"authorization": f"Bearer {self.keys[tenant]}"} if tenant else {}
        return httpx.Client(base_url=self.process.url, headers=headers, timeout=30 * self.busy, trust_env=False)

    def many(self, tenant: str | None = "ann", connections: int = 100) -> httpx.AsyncClient:
        """A client for many requests at a time."""
        headers = {"authorization": f"Bearer {self.keys[tenant]}"} if tenant else {}
        limits = httpx.Limits(max_connections=connections)
        return httpx.AsyncClient(
            base_url=self.process.url, headers=headers, timeout=60 * self.busy, trust_env=False, limits=limits
        )

    def connect(self) -> socket.socket:
        """A plain connection."""
        return socket.create_connection(("127.0.0.1", self.process.port), 20)

    def rss(self, name: str = "VmRSS") -> float:
        """Resident memory of the process in MiB; with VmHWM its peak since `reset_peak`."""
        status = Path(f"/proc/{self.process.popen.pid}/status").read_text()
        return int(status.partition(f"{name}:")[2].split()[0]) / 1024

    def reset_peak(self) -> None:
        """Reset the peak of the resident memory."""
        Path(f"/proc/{self.process.popen.pid}/clear_refs").write_text("5")

    def descriptors(self) -> int:
        """Number of open files and connections of the process."""
        return len(list(Path(f"/proc/{self.process.popen.pid}/fd").iterdir()))

    def normal(self) -> float:
        """Time of a normal request in seconds."""
        began = time.monotonic()
        with self.client() as client:
            assert client.get("/v1/sessions?limit=1").status_code == httpx.codes.OK
        return time.monotonic() - began

    def settle(self) -> None:
        """Release held requests and cancel running sessions."""
        self.script.release.set()
        for tenant in TENANTS:
            with self.client(tenant) as client:
                for session in client.get("/v1/sessions?limit=100").json()["data"]:
                    if not session["finished_at"]:
                        client.post(f"/v1/sessions/{session['id']}/cancel")


async def _keys(port: int) -> dict[str, str]:
    redis = Redis(port=port)
    try:
        store = ApiKeyStore(redis, KeySpace())
        return {tenant: (await store.create(tenant, ["edit", "read"]))[0] for tenant in TENANTS}
    finally:
        await redis.aclose()


@contextlib.contextmanager
def target(folder: Path, **extra: str) -> Iterator[Target]:
    """Run a target with its own Redis."""
    script = Script()
    with redis_server(folder) as redis, serving(application(script)) as upstreams:
        thinker = {"url": f"{upstreams}/thinker/v1", "model": "double", "attempts": 2}
        editor = {"url": f"{upstreams}/editor/v1", "attempts": 3, "api_key": EDITOR_SECRET}
        env = {
            "EDITTHINKER_REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
            "EDITTHINKER_BLOBS": str(folder / "blobs"),
            "EDITTHINKER_EDITORS": json.dumps({"double": editor}),
            "EDITTHINKER_JUDGE_CHECK": "off",
            "EDITTHINKER_THINKERS": json.dumps({"double": thinker}),
            "EDITTHINKER_KEYS": "required",
            **extra,
        }
        process = module("orchestrator", free_port(), folder / "orchestrator.log", env=env)
        try:
            wait_ready(process)
            yield Target(process, script, redis.port, folder / "blobs", asyncio.run(_keys(redis.port)))
        finally:
            script.release.set()
            process.stop()
