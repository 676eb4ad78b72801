"""The embedded stack: Redis, an editor, a thinker and the orchestrator, as real processes on loopback.

>>> from editthinker import EditThinker
>>> from editthinker.local import Stack
>>> with Stack() as stack, EditThinker(stack.base_url) as server:  # doctest: +SKIP
...     server.edit("photo.jpg", "an overcast morning").save("out.png")
"""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from editthinker.environment import inherited
from editthinker.local.collaborators import role, setting
from editthinker.local.errors import PortBusyError, ServiceFailedError, StackError
from editthinker.local.home import Home, default_home
from editthinker.local.ports import LOOPBACK, free_port, is_taken
from editthinker.local.redis_server import redis_service
from editthinker.local.service import Plan, Service, isolated
from editthinker.local.supervisor import Supervisor, Timing
from editthinker.local.vllm_thinker import RULES, vllm_thinker

Planner = Callable[[Home, int], Plan]
"""Makes the plan of a stack for a data directory and the orchestrator's port."""

_ATTEMPTS: Final = 3
_PACKAGES: Final = ("aiohttp", "cv2", "fastapi", "obstore", "redis", "uvicorn")
"""One of each extra that the stack's processes import; without them their logs would be the first to say so."""
_INSTALL: Final = "pip install 'editthinker[local]', or name a running server with --server"
_SERVED_NAME: Final = "EDITTHINKER_THINKER_SERVED_NAME"
_TAKEN: Final = "address already in use"


def embedded_plan(home: Home, port: int, aliases: Sequence[str] = (), thinker: str | None = None) -> Plan:
    """The whole product on one machine: the classical editor and the rules thinker, and those that the environment names.

    Args:
        aliases: further names of the editor, for clients that know only some.
        thinker: a profile that vLLM is to serve (`vllm_thinker`), or ``rules``; it is the default. None: as the environment says.

    Raises:
        StackError: when the packages of ``editthinker[local]`` are not installed, the environment cannot be read, or there is no
            such profile.
    """
    if missing := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        message = f"the embedded stack needs packages that are not installed ({', '.join(missing)}): {_INSTALL}"
        raise StackError(message)
    editors, thinkers = role("editor"), role("thinker")
    if thinker is not None:
        # Who names a thinker on the command line means to use it.
        thinkers = replace(thinkers, default=False)
    services: list[Service] = []
    redis_url = inherited().get("REDIS_URL")
    if not redis_url:
        redis, redis_url = redis_service(home.redis, free_port())
        services.append(redis)
    editor_port = free_port()
    services.append(_service("editor", ["services.editor", "--pipeline", "classical"], editor_port))
    own_thinkers, entries = _thinkers(RULES if thinker is None else thinker, thinkers.entries)
    services += own_thinkers
    classical = {"url": f"http://{LOOPBACK}:{editor_port}/v1", "mask": True, "images": 1, "aliases": list(aliases)}
    settings = {
        "EDITTHINKER_REDIS_URL": redis_url,
        "EDITTHINKER_BLOBS": str(home.blobs),
        **editors.settings({"classical": classical}),
        **thinkers.settings(entries),
    }
    needs = [service.name for service in services if service.name == "redis"]
    services.append(_service("orchestrator", ["orchestrator"], port, settings, needs))
    return Plan(services, f"http://{LOOPBACK}:{port}")


class Stack:
    """The embedded stack, as a context manager. On Linux its processes die with this one, even after kill -9.

    Args:
        data_dir: where sessions and pictures are stored; by default the user's (see `default_home`).
        port: of the orchestrator; 0 takes a free one.
        planner: makes the plan of processes.
        timing: timeouts and restarts.
        note: called with a sentence when a service is restarted, from another thread.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        port: int = 0,
        *,
        planner: Planner = embedded_plan,
        timing: Timing | None = None,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._data_dir = data_dir or default_home()
        self._port = port
        self._planner = planner
        self._timing = timing or Timing()
        self._note = note
        self._home: Home | None = None
        self._supervisor: Supervisor | None = None
        self._base_url = ""

    @property
    def base_url(self) -> str:
        """The stack's URL; empty before it was started."""
        return self._base_url

    @property
    def data_dir(self) -> Path:
        """Where sessions, pictures and logs are stored."""
        return self._data_dir

    def start(self) -> Self:
        """Start every process and wait until the stack is ready.

        Raises:
            StackError: when it cannot start; every process is stopped then.
        """
        if self._supervisor is not None:
            message = "the stack was started already"
            raise StackError(message)
        self._home = Home(self._data_dir)
        try:
            self._start(self._home)
        except BaseException:
            # BaseException: Ctrl-C, too, must leave no process running.
            self.stop()
            raise
        return self

    def publish(self) -> None:
        """Tell other processes of this user, through the data directory, that the stack stays until a person stops it.

        Raises:
            StackError: when it does not run.
        """
        if self._home is None:
            message = "the stack does not run"
            raise StackError(message)
        self._home.publish(self._base_url)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the stack has ended, or for `timeout` seconds; whether it has ended.

        Raises:
            ServiceFailedError: when a process exited too often; all are stopped then.
        """
        return self._supervisor is None or self._supervisor.wait(timeout)

    def pids(self) -> dict[str, int]:
        """The process ids of the running services, by name."""
        return {} if self._supervisor is None else self._supervisor.pids()

    def stop(self) -> None:
        """Stop every process, the orchestrator first and Redis last. Idempotent."""
        if self._supervisor is not None:
            self._supervisor.stop()
            self._supervisor = None
        if self._home is not None:
            self._home.release()
            self._home = None

    def __enter__(self) -> Self:
        """Start the stack."""
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """Stop the stack."""
        self.stop()

    def _start(self, home: Home) -> None:
        self._check_port()
        for attempts_left in reversed(range(_ATTEMPTS)):
            plan = self._planner(home, self._port or free_port())
            self._supervisor = Supervisor(plan.services, home.logs, self._timing, self._note)
            try:
                self._supervisor.start()
            except ServiceFailedError as exc:
                if _TAKEN not in exc.tail.lower() or not attempts_left:
                    raise
                # Another process took a port between our choice and the service's bind: choose again.
                self._check_port()
            else:
                self._base_url = plan.base_url
                return

    def _check_port(self) -> None:
        if self._port and is_taken(self._port):
            message = f"port {self._port} is already in use on {LOOPBACK}; give another --port, or 0 for any free one"
            raise PortBusyError(message)


def _thinkers(default: str, others: Mapping[str, Any]) -> tuple[list[Service], dict[str, Any]]:
    """The stack's own thinkers, and their entries for the orchestrator, the default first: the rules, and what vLLM serves."""
    port = free_port()
    services = [_service("thinker", ["services.thinker", "--profile", RULES, "--model", RULES], port)]
    entries: dict[str, Any] = {RULES: {"url": f"http://{LOOPBACK}:{port}/v1", "model": RULES, "format": "editthinker"}}
    if default != RULES:
        vllm = vllm_thinker(default, free_port())
        if taken := vllm.entries.keys() & {RULES, *others}:
            message = (
                f"--thinker {default}: another thinker is named {taken.pop()!r}; give this one another name in {_SERVED_NAME}"
            )
            raise StackError(message)
        env = {"VLLM_NO_USAGE_STATS": inherited().get("VLLM_NO_USAGE_STATS", "1"), **_no_proxy()}
        # Its engine is a process of its own, which it ends at SIGTERM and which would outlive its SIGKILL.
        services.append(Service("vllm", vllm.command, vllm.ready_url, env, death_signal=signal.SIGTERM))
        entries = {**vllm.entries, **entries}
    # They all require a key that the environment gives them.
    if key := setting("EDITTHINKER_THINKER_API_KEY"):
        entries = {name: {**entry, "api_key": key} for name, entry in entries.items()}
    return services, entries


def _service(
    name: str, module: list[str], port: int, env: dict[str, str] | None = None, needs: list[str] | None = None
) -> Service:
    command = [*isolated(f"editthinker {name}", *module), "--host", LOOPBACK, "--port", str(port)]
    settings = {**_text_logs(), **_no_proxy(), **(env or {})}
    return Service(name, command, f"http://{LOOPBACK}:{port}/readyz", settings, needs or [])


def _text_logs() -> dict[str, str]:
    """Logs are text in files, too, because people read them; a format set in the environment is kept."""
    names = ("EDITTHINKER_LOG_FORMAT", "EDITTHINKER_EDITOR_LOG_FORMAT", "EDITTHINKER_THINKER_LOG_FORMAT")
    return {name: "text" for name in names if name not in inherited()}


def _no_proxy() -> dict[str, str]:
    """The services talk to each other over loopback, which a proxy of the environment cannot reach."""
    variables = {}
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [entry for entry in inherited().get(name, "").split(",") if entry]
        variables[name] = ",".join([*hosts, LOOPBACK, "localhost"])
    return variables
