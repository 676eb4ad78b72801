"""A process that runs a stack of stand-ins until it is killed: ``cli_parent.py DATA_DIR``. Prints the pids."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from editthinker.local import Plan, Service, Stack
from editthinker.local.home import Home
from editthinker.local.ports import free_port

STANDIN = str(Path(__file__).with_name("cli_standin.py"))


def plan(_: Home, port: int) -> Plan:
    services = []
    for name, at in (("one", free_port()), ("two", port)):
        # Deaf to SIGTERM: only the kernel's SIGKILL can end them.
        command = [sys.executable, STANDIN, str(at), "deaf"]
        services.append(Service(name, command, f"http://127.0.0.1:{at}/readyz"))
    return Plan(services, f"http://127.0.0.1:{port}")


if __name__ == "__main__":
    with Stack(Path(sys.argv[1]), planner=plan) as stack:
        sys.stdout.write(json.dumps(stack.pids()) + "\n")
        sys.stdout.flush()
        stack.wait()
