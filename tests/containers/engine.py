"""Podman, with the images and settings that `prepare.sh` made in a folder, and podman-compose."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
_EXPECTED = ("unable to get systemd connection", "Error validating CNI config")


def report(line: str) -> None:
    """Print a figure (visible with ``pytest -s``)."""
    sys.stdout.write(f"{line}\n")


def until(what: Callable[[], object], seconds: float, failure: str) -> None:
    """Poll until it is true."""
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends, f"after {seconds} s: {failure}"
        time.sleep(0.2)


def until_equal(read: Callable[[], object], wanted: object, seconds: float, what: str) -> None:
    """Poll until it reads as wanted; a failure tells what was read last."""
    ends = time.monotonic() + seconds
    while (seen := read()) != wanted:
        assert time.monotonic() < ends, f"after {seconds} s {what}: {seen}, not {wanted}"
        time.sleep(0.2)


def compose_file() -> Any:
    """The compose file, unmodified."""
    return yaml.safe_load(COMPOSE.read_text("utf-8"))


@dataclass
class Engine:
    """The podman commands that the tests need."""

    folder: Path
    env: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.env = {
            **os.environ,
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            # The other format has no health checks.
            "BUILDAH_FORMAT": "docker",
            "PATH": f"{self.folder / 'venv/bin'}:{os.environ['PATH']}",
        }

    def podman(self, *words: str, check: bool = True, seconds: float = 60) -> str:
        """Run a command and return what it printed."""
        return self._run(["podman", *words], self.env, check=check, seconds=seconds)

    def succeeds(self, *words: str) -> bool:
        """Whether a command ends with 0."""
        return subprocess.run(["podman", *words], env=self.env, capture_output=True, check=False, timeout=60).returncode == 0

    def build(self, service: Mapping[str, Any]) -> float:
        """Build a service's image as its `build` says, and return the seconds that it took."""
        build, began = service["build"], time.monotonic()
        target = ["--target", build["target"]] if "target" in build else []
        words = ["build", "--quiet", "--layers", *target, *self._pip_of_this_machine()]
        self.podman(*words, "--file", build["dockerfile"], "--tag", f"localhost/{service['image']}", ".", seconds=900)
        return time.monotonic() - began

    def inspect(self, name: str, template: str) -> str:
        """Read a property of a container or image, given as a Go template."""
        return self.podman("inspect", "--format", template, name).strip()

    def pid(self, container: str) -> int:
        """The pid of its first process on this machine."""
        return int(self.inspect(container, "{{.State.Pid}}"))

    def address(self, container: str) -> str:
        """Its address on its network, which is reachable from this machine."""
        return self.inspect(container, "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}").split()[0]

    def logs(self, container: str) -> str:
        """The last lines of both its output streams."""
        words = ["podman", "logs", "--tail", "15", container]
        done = subprocess.run(
            words, env=self.env, text=True, check=False, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        return f"{container}:\n{done.stdout}"

    def healthy(self, container: str) -> bool:
        """Run the health check of its image or of the compose file once. Podman needs systemd to schedule them."""
        return self.succeeds("healthcheck", "run", container)

    def _pip_of_this_machine(self) -> list[str]:
        """Mount this machine's pip configuration into a build, because no Dockerfile names an index."""
        listed = self._run([sys.executable, "-m", "pip", "config", "list"], os.environ, seconds=60)
        # Lines such as `global.find-links='/opt/wheels'`: files first, and the environment last, which takes precedence.
        values = {
            name.rpartition(".")[2]: value.strip("'") for name, _, value in (line.partition("=") for line in listed.split("\n"))
        }
        values.pop("", None)
        conf = self.folder / "pip.conf"
        conf.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in values.items()))
        words = (word.removeprefix("file://") for value in values.values() for word in value.split())
        # …/simple/<name> may link to wheels in a neighbouring folder.
        paths = {
            str(path.parent if path.name == "simple" else path)
            for path in map(Path, words)
            if path.is_absolute() and path.exists()
        }
        return [
            "--volume",
            f"{conf}:/etc/pip.conf:ro",
            *(word for path in sorted(paths) for word in ("--volume", f"{path}:{path}:ro")),
        ]

    @staticmethod
    def _run(command: list[str], env: Mapping[str, str], *, check: bool = True, seconds: float) -> str:
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=seconds)
        errors = "\n".join(line for line in done.stderr.split("\n") if not any(words in line for words in _EXPECTED))
        assert done.returncode == 0 or not check, f"{' '.join(command[:6])} …: {done.stdout[-2000:]}\n{errors[-6000:]}"
        return done.stdout


@dataclass
class Stack:
    """The compose file under its own project name."""

    engine: Engine
    project: str
    port: int
    folder: Path
    profiles: tuple[str, ...] = ("cpu",)
    settings: dict[str, str] = field(default_factory=dict)

    def compose(self, *words: str, seconds: float = 180) -> str:
        """Run podman-compose."""
        profiles = [word for profile in self.profiles for word in ("--profile", profile)]
        files = ["-f", str(COMPOSE), "-f", str(self._override())]
        subprocess.run(["sh", str(ROOT / "deploy/compose/secrets.sh")], check=True, timeout=10)
        env = {**self.engine.env, "EDITTHINKER_PUBLISHED_PORT": str(self.port), **self.settings}
        return self.engine._run(["podman-compose", "-p", self.project, *files, *profiles, *words], env, seconds=seconds)

    def container(self, service: str, number: int = 1) -> str:
        """Its name."""
        return f"{self.project}_{service}_{number}"

    def containers(self) -> list[str]:
        """Names of the running containers."""
        ours = f"label=com.docker.compose.project={self.project}"
        return self.engine.podman("ps", "--filter", ours, "--format", "{{.Names}}").split()

    def up(self, *words: str) -> None:
        """Start it with images that are built already."""
        self.compose("up", "-d", "--no-build", "--no-recreate", *words)

    def down(self) -> None:
        """Remove containers, networks and volumes."""
        # podman-compose knows only as many of a service as the file says.
        if containers := self.containers():
            self.engine.podman("rm", "--force", "--time", "5", "--depend", *containers)
        self.compose("down", "--volumes")

    def _override(self) -> Path:
        """Wait for services to start instead of to be healthy, because podman runs no health checks here."""
        waiting = {
            name: {"depends_on": {other: {"condition": "service_started"} for other in service["depends_on"]}}
            for name, service in compose_file()["services"].items()
            if "depends_on" in service
        }
        path = self.folder / "override.yml"
        path.write_text(json.dumps({"services": waiting}))
        return path
