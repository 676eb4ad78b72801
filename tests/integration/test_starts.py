"""Servers that cannot start: a last line that says why, and status 1, since no setting is wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.processes import Process, free_port, module, wait_ready
from tests.integration.conftest import settings

SERVERS = ("orchestrator", "services.editor", "services.thinker")


@pytest.mark.parametrize("name", SERVERS)
def test_a_taken_port_is_status_1(redis: Process, upstreams: str, tmp_path: Path, name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        env = os.environ | settings(redis, upstreams, tmp_path / "blobs")
        command = [sys.executable, "-m", name, "--port", str(port)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert " cannot start: " in last
    assert f"{port}" in last
    assert "already in use" in last
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", SERVERS)
def test_ctrl_c_is_no_failure(redis: Process, upstreams: str, tmp_path: Path, name: str) -> None:
    """It ends without a traceback, as `up` does."""
    env = settings(redis, upstreams, tmp_path / "blobs")
    server = module(name, free_port(), tmp_path / "log", env=env)
    try:
        wait_ready(server)
        server.popen.send_signal(signal.SIGINT)
        assert server.popen.wait(120) == 0
    finally:
        server.stop()
    assert "Traceback" not in server.log.read_text()
