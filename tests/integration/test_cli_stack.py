"""The embedded stack's process handling, with stand-ins for the services."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic

import psutil
import pytest

from editthinker.local import (
    DataDirBusyError,
    Plan,
    PortBusyError,
    Restarts,
    Service,
    ServiceFailedError,
    Stack,
    StackError,
    Timing,
)
from editthinker.local.home import Home
from editthinker.local.ports import free_port, is_taken
from editthinker.local.redis_server import redis_service
from editthinker.local.service import is_ready
from editthinker.local.stack import Planner, embedded_plan
from tests.doubles.leftovers import no_children_left
from tests.doubles.processes import ended

HERE = Path(__file__).parent
STANDIN = str(HERE / "cli_standin.py")
QUICK = Timing(start=60, grace=30, restarts=Restarts(attempts=2, initial=0.05, max=0.1))


def until(true: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether something became true in time."""
    deadline = monotonic() + seconds
    pause = threading.Event()
    while not true():
        if monotonic() > deadline:
            return False
        pause.wait(0.02)
    return True


def standins(*modes: str, env: Mapping[str, str] | None = None) -> Planner:
    """A plan of three services; the modes are the second one's."""

    def plan(_: Home, port: int) -> Plan:
        services = []
        for name in ("first", "second", "last"):
            at = port if name == "last" else free_port()
            command = [sys.executable, STANDIN, str(at), *(modes if name == "second" else ())]
            names = {"STANDIN_NAME": name, **(env or {})}
            needs = ["first"] if name == "last" else []
            services.append(Service(name, command, f"http://127.0.0.1:{at}/readyz", names, needs))
        return Plan(services, f"http://127.0.0.1:{port}")

    return plan


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie has)."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def test_services_are_started_in_order_and_stopped_in_reverse(tmp_path: Path) -> None:
    order = tmp_path / "order"
    with Stack(tmp_path / "data", planner=standins(env={"STANDIN_ORDER": str(order)}), timing=QUICK) as stack:
        pids = stack.pids()
        assert set(pids) == {"first", "second", "last"}
        assert is_ready(f"{stack.base_url}/readyz")
        assert "listening on" in (tmp_path / "data" / "logs" / "second.log").read_text()
        assert not stack.wait(0)
    assert order.read_text().split() == ["last", "second", "first"]
    assert all(gone(pid) for pid in pids.values())
    stack.stop()


def test_a_service_that_fails_to_start_is_named_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(ServiceFailedError, match="second exited with status 1") as caught:
        Stack(tmp_path, planner=standins("fail"), timing=QUICK).start()
    assert "a reason to fail" in caught.value.tail
    assert no_children_left()


def test_a_command_that_does_not_exist_is_named(tmp_path: Path) -> None:
    plan = Plan([Service("ghost", ["/no/such/program"], "http://127.0.0.1:1/")], "")
    with pytest.raises(ServiceFailedError, match="ghost exited with status 127") as caught:
        Stack(tmp_path, planner=lambda _home, _port: plan, timing=QUICK).start()
    assert "cannot run /no/such/program" in caught.value.tail


def test_a_service_that_is_not_ready_in_time_fails_the_start(tmp_path: Path) -> None:

    def only_the_second(home: Home, port: int) -> Plan:
        # The first to be late is named, and half a second may be too short for any of them.
        plan = standins("never")(home, port)
        return Plan([service for service in plan.services if service.name == "second"], plan.base_url)

    with pytest.raises(ServiceFailedError, match=r"second was not ready within 0\.5 seconds"):
        Stack(tmp_path, planner=only_the_second, timing=Timing(start=0.5)).start()
    assert no_children_left()


def test_a_service_that_exits_is_restarted(tmp_path: Path) -> None:
    notes: list[str] = []
    with Stack(tmp_path, planner=standins(), timing=QUICK, note=notes.append) as stack:
        before = stack.pids()["last"]
        os.kill(before, signal.SIGKILL)
        assert until(lambda: stack.pids().get("last", before) != before)
        assert until(lambda: is_ready(f"{stack.base_url}/readyz"))
    assert notes == [f"last was killed by SIGKILL; restarting it in 0.05 s, its log is {tmp_path / 'logs' / 'last.log'}"]
    assert no_children_left()


def test_a_service_that_keeps_exiting_stops_the_stack(tmp_path: Path) -> None:
    with Stack(tmp_path, planner=standins(), timing=QUICK) as stack:
        done = threading.Event()

        def kill_it_again_and_again() -> None:
            while not done.wait(0.01):
                if (pid := stack.pids().get("second")) is not None:
                    os.kill(pid, signal.SIGKILL)

        killer = threading.Thread(target=kill_it_again_and_again)
        killer.start()
        try:
            with pytest.raises(ServiceFailedError, match="second exited 3 times in a row"):
                stack.wait(60)
        finally:
            done.set()
            killer.join()
        assert no_children_left()


def test_a_service_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    stack = Stack(tmp_path, planner=standins("deaf"), timing=Timing(grace=0.3)).start()
    pids = stack.pids()
    began = monotonic()
    stack.stop()
    # It would never end by itself.
    assert monotonic() - began >= 0.3
    assert all(gone(pid) for pid in pids.values())


def test_the_children_of_a_service_are_killed_with_it(tmp_path: Path) -> None:
    marker = tmp_path / "grandchild"
    with Stack(tmp_path / "data", planner=standins("family", env={"STANDIN_MARKER": str(marker)}), timing=QUICK):
        grandchild = int(marker.read_text())
        assert not gone(grandchild)
    assert until(lambda: gone(grandchild))


def test_kill_9_of_the_parent_ends_its_services_and_frees_the_lock(tmp_path: Path) -> None:
    data = tmp_path / "data"
    command = [sys.executable, "-m", "tests.integration.cli_parent", str(data)]
    with ended(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parent.parent)) as parent:
        assert parent.stdout is not None
        pids = json.loads(parent.stdout.readline())
        with pytest.raises(DataDirBusyError, match=str(parent.pid)):
            Stack(data, planner=standins(), timing=QUICK).start()
        parent.kill()
    assert until(lambda: all(gone(pid) for pid in pids.values()))
    with Stack(data, planner=standins(), timing=QUICK):
        pass


def test_a_port_in_use_is_reported_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortBusyError, match=f"port {port} is already in use"):
            Stack(tmp_path, port, planner=standins(), timing=QUICK).start()
    assert no_children_left()


def test_a_port_taken_by_another_process_is_replaced(tmp_path: Path) -> None:
    env = {"STANDIN_MARKER": str(tmp_path / "tried")}
    with Stack(tmp_path / "data", planner=standins("taken-once", env=env), timing=QUICK) as stack:
        assert set(stack.pids()) == {"first", "second", "last"}


def test_two_stacks_do_not_share_a_data_directory(tmp_path: Path) -> None:
    with Stack(tmp_path, planner=standins(), timing=QUICK), pytest.raises(DataDirBusyError, match="--data-dir"):
        Stack(tmp_path, planner=standins(), timing=QUICK).start()
    with Stack(tmp_path, planner=standins(), timing=QUICK):
        pass


def test_an_unusable_data_directory_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="cannot be used"):
        Stack(tmp_path / "file", planner=standins(), timing=QUICK).start()


def test_free_ports_differ_and_can_be_bound() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    assert not any(is_taken(port) for port in ports)


def test_redis_keeps_its_data_and_asks_for_its_password(tmp_path: Path) -> None:
    redis = pytest.importorskip("redis")

    def plan(home: Home, port: int) -> Plan:
        service, url = redis_service(home.redis, port)
        return Plan([service], url)

    data = tmp_path / 'a "quoted" folder'
    with Stack(data, planner=plan, timing=QUICK) as stack, redis.Redis.from_url(stack.base_url) as client:
        client.set("kept", "yes")
        assert not is_ready(stack.base_url.replace("default:", "default:not"))
        assert not is_ready(stack.base_url.partition("default:")[0] + stack.base_url.partition("@")[2])
    with Stack(data, planner=plan, timing=QUICK) as stack, redis.Redis.from_url(stack.base_url) as client:
        assert client.get("kept") == b"yes"
    assert (data / "redis" / "redis.conf").stat().st_mode & 0o077 == 0


def test_an_existing_data_directory_is_made_private(tmp_path: Path) -> None:
    """Folders and logs that an earlier version, or a backup, has left readable; and all that the services write."""
    data = tmp_path / "data"
    for folder in (data, data / "logs", data / "blobs", data / "redis"):
        folder.mkdir()
        folder.chmod(0o755)
    log = data / "logs" / "redis.log"
    log.touch()
    log.chmod(0o644)

    def plan(home: Home, port: int) -> Plan:
        service, url = redis_service(home.redis, port)
        return Plan([service], url)

    with Stack(data, planner=plan, timing=QUICK):
        pass

    assert (data / "redis" / "appendonlydir").is_dir()
    open_to_others = [path for path in [data, *data.rglob("*")] if path.stat().st_mode & 0o077]
    assert open_to_others == []


def test_the_plan_tells_the_orchestrator_where_everything_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere:1/2")
    monkeypatch.setenv("NO_PROXY", "example.com")
    home = Home(tmp_path)
    plan = embedded_plan(home, 1234)
    home.release()
    assert [service.name for service in plan.services] == ["editor", "thinker", "orchestrator"]
    env = plan.services[-1].env
    assert env["EDITTHINKER_REDIS_URL"] == "redis://elsewhere:1/2"
    assert env["EDITTHINKER_BLOBS"] == str(tmp_path / "blobs")
    editor = json.loads(env["EDITTHINKER_EDITORS"])["classical"]["url"]
    assert plan.services[0].ready_url == editor.removesuffix("/v1") + "/readyz"
    assert json.loads(env["EDITTHINKER_THINKERS"])["rules"]["format"] == "editthinker"
    assert env["NO_PROXY"] == "example.com,127.0.0.1,localhost"
