"""Parses the deployment files without a container engine: the compose file, Dockerfiles, and Kubernetes manifests."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import AliasChoices
from pydantic_settings import BaseSettings

from orchestrator.settings import Settings
from services.editor.settings import Settings as EditorSettings
from services.thinker.settings import Settings as ThinkerSettings

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"


class _Loader(yaml.SafeLoader):
    """A YAML loader that knows compose's own tag."""


def _as_it_is(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


_Loader.add_constructor("!override", _as_it_is)


def interpolated(text: str, given: Mapping[str, str] | None = None) -> str:
    """Interpolate variables as compose does; only ``${NAME:-default}`` is used."""
    done = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: (given or {}).get(found[1]) or found[2], text)
    assert "$" not in done.replace("$$", ""), re.findall(r".*\$.*", done)
    return done.replace("$$", "$")


def compose(path: str = "docker-compose.yml") -> Any:
    """A compose file with the defaults of its variables."""
    return yaml.load(interpolated((ROOT / path).read_text("utf-8")), _Loader)


def redis_command(command: list[str], server: str, password: Path) -> list[str]:
    """The command of a Redis of these files, with another server program and another file of the password."""
    words = [word.replace("/run/secrets/editthinker_redis_password", str(password)) for word in command]
    return [word.replace("exec valkey-server", f"exec {server}") for word in words]


def seconds(duration: str) -> int:
    """Parse compose's ``2m`` or ``40s``."""
    return int(duration[:-1]) * {"s": 1, "m": 60}[duration[-1]]


@dataclass(frozen=True)
class Image:
    """A Dockerfile up to one of its targets."""

    path: str
    instructions: tuple[tuple[str, str], ...]

    def last(self, keyword: str) -> str:
        """The last instruction with this keyword, which takes effect."""
        return [rest for name, rest in self.instructions if name == keyword][-1]

    def all(self, keyword: str) -> list[str]:
        """All instructions with this keyword, in order."""
        return [rest for name, rest in self.instructions if name == keyword]

    @property
    def entrypoint(self) -> list[str]:
        """The entry point's command."""
        command: list[str] = json.loads(self.last("ENTRYPOINT"))
        return command

    @property
    def check(self) -> list[str]:
        """The health check's command."""
        command: list[str] = json.loads(self.last("HEALTHCHECK").partition("CMD ")[2])
        return command

    @property
    def user(self) -> int:
        """The uid that it runs as."""
        return int(self.last("USER").partition(":")[0])

    @property
    def env(self) -> dict[str, str]:
        """Environment variables that its stages set."""
        return dict(word.split("=", 1) for rest in self.all("ENV") for word in shlex.split(rest))


def image(path: str, target: str | None = None) -> Image:
    """Read a Dockerfile. With a target, only the stages that it builds on are included."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / path).read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.strip().partition(" ") for line in text.split("\n") if line.strip()]
    stages: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    for keyword, _, rest in lines:
        if keyword == "FROM":
            base, _, name = rest.partition(" AS ")
            current = [*stages.get(base, []), ("FROM", base)]
            stages[name or "the last"] = current
        else:
            current.append((keyword, rest.strip()))
    return Image(path, tuple(stages[target] if target else current))


def copied(path: str) -> list[str]:
    """Paths of the checkout that a Dockerfile copies, in any of its stages."""
    found = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / path).read_text("utf-8"), re.MULTILINE)
    return [source for sources in found for source in sources.split()]


def variables(settings: type[BaseSettings]) -> set[str]:
    """The environment variables of a settings class."""
    names = set()
    for name, field in settings.model_fields.items():
        alias = field.validation_alias
        choices = alias.choices if isinstance(alias, AliasChoices) else [f"{settings.model_config.get('env_prefix', '')}{name}"]
        names |= {str(choice).upper() for choice in choices}
    return names


def orchestrator(environment: Mapping[str, str]) -> Settings:
    """The orchestrator's settings in that environment, validated as at its start."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        nothing: dict[str, Any] = {}
        return Settings(**nothing)


def context() -> set[str]:
    """Top-level names of the checkout that `.dockerignore` lets into a build."""
    rules = [line for line in (ROOT / ".dockerignore").read_text("utf-8").split("\n") if line and not line.startswith("#")]
    let_in = set()
    for path in ROOT.iterdir():
        kept = True
        for rule in rules:
            # What is let in of a folder lets the folder in.
            pattern = rule[1:].partition("/")[0] if rule.startswith("!") else rule
            if fnmatch(path.name, pattern):
                kept = rule.startswith("!")
        if kept:
            let_in.add(path.name)
    return let_in


def documents(*folders: str) -> Iterator[dict[str, Any]]:
    """The complete manifests below these folders, without patches and kustomizations."""
    for folder in folders:
        for path in sorted((KUBERNETES / folder).rglob("*.yaml")):
            for document in yaml.safe_load_all(path.read_text("utf-8")):
                patch = document.get("kind") in {"Deployment", "StatefulSet"} and "selector" not in document["spec"]
                if document.get("kind") not in {"Kustomization", "Component"} and not patch:
                    yield document


def rendered(folder: str) -> list[dict[str, Any]] | None:
    """Render a folder with kustomize; None where kustomize is not installed."""
    if shutil.which("kubectl"):
        command = ["kubectl", "kustomize"]
    elif shutil.which("kustomize"):
        command = ["kustomize", "build"]
    else:
        return None
    done = subprocess.run([*command, str(KUBERNETES / folder)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def pods(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The pod templates of Deployments and StatefulSets, by name."""
    kinds = {"Deployment", "StatefulSet"}
    return {found["metadata"]["name"]: found["spec"]["template"] for found in manifests if found["kind"] in kinds}


def role(name: str) -> str:
    """The role of a service of the compose file, in either profile."""
    return name.removesuffix("-gpu")


COMPOSE = compose()
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
DOCKERFILES = sorted({service["build"]["dockerfile"] for service in OURS.values()})
IMAGES = {service["image"]: image(service["build"]["dockerfile"], service["build"].get("target")) for service in OURS.values()}
# Variables of the hub's client, and those that other variables refer to.
ALSO = {"HF_TOKEN", "HF_HOME", "POD_NAMESPACE"}
KNOWN = {
    "orchestrator": variables(Settings),
    "editor": variables(EditorSettings),
    "thinker": variables(ThinkerSettings),
    "pool": set(re.findall(r"\bEDITORS_\w+", (ROOT / "deploy/haproxy/editors.cfg").read_text("utf-8"))),
}
