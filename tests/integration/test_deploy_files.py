"""Dockerfiles, the compose file and what it mounts, as far as they can be tried without an engine or a GPU: schemas, linters,
and every command, entry point and health check that they name run as a process. `make test-containers` builds and runs the
rest; Kubernetes' manifests are `test_deploy_kubernetes`'s.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import yaml
from compose_spec import PyCompose
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from yamllint import linter  # type: ignore[import-untyped]
from yamllint.config import YamlLintConfig  # type: ignore[import-untyped]

from services.editor.settings import Settings as EditorSettings
from tests.containers import deployment_files
from tests.containers.deployment_files import ALSO, COMPOSE, DOCKERFILES, IMAGES, KNOWN, OURS, ROOT, SERVICES, Image, role
from tests.doubles.haproxy import haproxy_binary
from tests.doubles.processes import Process, free_port, redis_binary, start, wait_ready
from tests.doubles.prometheus import promtool
from tests.doubles.signing import Certificate

# --- every file -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["docker-compose.yml", *(str(p.relative_to(ROOT)) for p in sorted(ROOT.glob("deploy/**/*.y*ml")))]
)
def test_yaml_is_clean(path: str) -> None:
    """No key twice, nothing indented at random."""
    rules = {"line-length": "disable", "document-start": "disable", "braces": {"max-spaces-inside": 1}}
    config = YamlLintConfig(json.dumps({"extends": "default", "rules": rules | {"truthy": {"check-keys": False}}}))
    assert [str(problem) for problem in linter.run((ROOT / path).read_text("utf-8"), config)] == []


@pytest.mark.parametrize("path", DOCKERFILES)
def test_a_dockerfile_is_clean(path: str) -> None:
    """As hadolint sees it; every source that it copies exists, and `.dockerignore` lets it in."""
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, ROOT / path], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout
    sources = deployment_files.copied(path)
    assert sources and all((ROOT / source).exists() for source in sources)
    assert {source.partition("/")[0] for source in sources} <= deployment_files.context()
    text = (ROOT / path).read_text("utf-8")
    extras = re.search(r"'\.\[([\w,]+)\]'", text)
    assert not extras or all(f"\n{name} = [" in (ROOT / "pyproject.toml").read_text("utf-8") for name in extras[1].split(","))
    assert not re.search(r"https?://(?!127\.0\.0\.1)|index-url|latest", text), (
        "where packages come from is the machine's business"
    )


LOCKS = {
    "orchestrator": ("orchestrator/Dockerfile", "orchestrator,otel,c2pa"),
    "embedded": ("services/embedded/Dockerfile", "editor,thinker,otel"),
}


def required(extras: str) -> set[str]:
    """The packages that these extras of the project name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names: set[str] = set()
    waiting = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras.split(","))]
    for requirements in waiting:
        for requirement in map(Requirement, requirements):
            if requirement.name == "editthinker":
                waiting += [project["optional-dependencies"][extra] for extra in requirement.extras]
            else:
                names.add(canonicalize_name(requirement.name))
    return names


@pytest.mark.parametrize("name", sorted(LOCKS))
def test_an_image_installs_by_hash_what_the_project_asks_for(name: str) -> None:
    """The versions of constraints.txt, with everything that they need; pip refuses other files."""
    path, extras = LOCKS[name]
    text = (ROOT / path).read_text("utf-8")
    installs = re.findall(r"pip install (.*?)(?: \\\\)?$", text, re.MULTILINE)
    assert all("--require-hashes" in words or "--no-index" in words for words in installs) and len(installs) == 3
    assert f"locks/{name}.txt" in text
    versions = r"^([\w.-]+)==([^\s;]+)"
    pinned = dict(re.findall(versions, (ROOT / "constraints.txt").read_text("utf-8").lower(), re.MULTILINE))
    pinned = {canonicalize_name(package): version for package, version in pinned.items()}
    for lock in (name, "build"):
        listed = (ROOT / f"deploy/locks/{lock}.txt").read_text("utf-8")
        locked = dict(re.findall(versions, listed, re.MULTILINE))
        assert all(entry.count("--hash=sha256:") for entry in re.split(r"\n(?=\w)", listed.strip()))
        assert {package: pinned.get(package, version) for package, version in locked.items()} == locked
        wanted = required(extras) if lock == name else {"hatchling"}
        assert wanted - set(locked) == set(), "run deploy/locks/update.sh"


def test_digests_are_pinned_where_a_registry_names_them(tmp_path: Path) -> None:
    """No registry can be reached here: the script runs on a copy, with a docker that names a digest."""
    for folder in ("orchestrator", "services", "deploy"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.py", "__pycache__", "swagger_ui"))
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    program = tmp_path / "bin/docker"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho sha256:{'5' * 64}\n")
    program.chmod(0o755)
    env = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    script = str(tmp_path / "deploy/audit/pin-digests.sh")
    before = subprocess.run(["sh", script, "--check"], env=env, check=False, capture_output=True, text=True, timeout=60)
    assert before.returncode == 1 and "valkey/valkey" in before.stderr
    for _ in range(2):
        subprocess.run(["sh", script], env=env, check=True, capture_output=True, timeout=60)
    assert subprocess.run(["sh", script, "--check"], env=env, check=False, timeout=60).returncode == 0
    text = (tmp_path / "docker-compose.yml").read_text("utf-8")
    assert f"image: valkey/valkey:8.1@sha256:{'5' * 64}\n" in text and "image: editthinker/orchestrator:0.1.0\n" in text
    pinned = (tmp_path / "orchestrator/Dockerfile").read_text("utf-8")
    assert re.search(r"^ARG BASE=python:3.11-slim-bookworm@sha256:5{64}$", pinned, re.MULTILINE)
    assert "8.1@sha256" in (tmp_path / "deploy/kubernetes/base/redis.yaml").read_text("utf-8")


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_an_image_is_unprivileged_and_tells_how_it_is(name: str) -> None:
    """A user that is not root, a port, a health check on it, and a version."""
    image = IMAGES[name]
    assert image.user > 0
    assert f"127.0.0.1:{image.last('EXPOSE')}/" in image.check[-1]
    port = next(value for key, value in image.env.items() if key.endswith("_PORT"))
    assert image.last("EXPOSE") == port
    assert image.last("STOPSIGNAL") == "SIGTERM"


# --- compose --------------------------------------------------------------------------------------------------------------


def test_the_compose_files_keep_to_the_specification() -> None:
    """Every key is one of it; and a checker that would let a wrong one pass is none."""
    PyCompose.from_yaml(yaml.safe_dump(COMPOSE)).validate()
    for name in ("more-gpus", "signing"):
        PyCompose.from_yaml(yaml.safe_dump(deployment_files.compose(f"deploy/compose/{name}.yml")))
    with pytest.raises(ValueError, match="helthcheck"):
        PyCompose.from_yaml(yaml.safe_dump({"services": {"redis": {"image": "redis:7", "helthcheck": {}}}}))


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_is_hardened(name: str) -> None:
    """Read-only, without capabilities, published on loopback alone, of a stated version, and its files are there."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[\w./-]+:v?\d[\w.]*(@sha256:[0-9a-f]{64})?", service["image"])
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert "container_name" not in service, "it could not be scaled"
    for mount in service.get("volumes", []):
        source = mount.split(":")[0]
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
    assert name in OURS or "healthcheck" in service or name == "otel-collector"


def test_profiles_hold_what_they_promise() -> None:
    """Each has everything that its orchestrator names; only `gpu` reserves devices."""
    by_profile: dict[str, set[str]] = {profile: set() for profile in ("cpu", "gpu", "observability")}
    for name, service in SERVICES.items():
        for profile in service.get("profiles", by_profile):
            by_profile[profile].add(name)
    assert {role(name) for name in by_profile["cpu"]} == {role(name) for name in by_profile["gpu"]}
    assert by_profile["observability"] == {"redis", "prometheus", "grafana", "otel-collector"}
    reserved = {name for name, service in SERVICES.items() if "deploy" in service}
    assert reserved == {"editor-gpu", "thinker-gpu"}
    for name in reserved:
        assert role(name) in networks(name).values()


def networks(name: str) -> dict[str, str]:
    """The networks of a service, and the name that it has on each."""
    given = SERVICES[name]["networks"]
    if isinstance(given, list):
        return dict.fromkeys(given, name)
    return {network: (options or {}).get("aliases", [name])[0] for network, options in given.items()}


def test_each_service_reaches_those_that_it_talks_to_and_no_others() -> None:
    """Over internal networks; the Internet is reached by the orchestrator, and by what downloads a model."""
    outward = {name for name, options in COMPOSE["networks"].items() if not options.get("internal")}
    assert outward == {"edge", "hub", "watching"}

    def peers(name: str) -> set[str]:
        return {other for other in SERVICES if other != name and set(networks(other)) & set(networks(name))}

    assert peers("redis") == {"orchestrator", "orchestrator-gpu"}
    watchers = {"prometheus", "otel-collector"}
    assert peers("editor") == {"pool", "editor-gpu"} | watchers
    assert peers("thinker") == {"orchestrator", "orchestrator-gpu", "pool", "thinker-gpu"} | watchers
    assert peers("grafana") == watchers
    assert {name for name in SERVICES if set(networks(name)) & {"edge", "hub"}} == {
        *("orchestrator", "orchestrator-gpu", "editor-gpu", "thinker-gpu")
    }
    published = {name for name, service in SERVICES.items() if "ports" in service}
    assert published == {"orchestrator", "orchestrator-gpu", "prometheus", "grafana", "otel-collector"}


def test_secrets_are_files_that_a_script_makes(tmp_path: Path) -> None:
    """Random, in a folder of their own; a second run keeps them. Nothing has a password that others know."""
    script = tmp_path / "deploy/compose/secrets.sh"
    script.parent.mkdir(parents=True)
    script.write_bytes((ROOT / "deploy/compose/secrets.sh").read_bytes())
    for _ in range(2):
        subprocess.run(["sh", str(script)], check=True, timeout=60)
        made = {path.name: path.read_text() for path in (tmp_path / ".secrets").iterdir()}
        assert len(set(made.values())) == len(made) == 2 and all(len(value) == 48 for value in made.values())
    assert made == {path.name: path.read_text() for path in (tmp_path / ".secrets").iterdir()}
    assert (tmp_path / ".secrets").stat().st_mode & 0o777 == 0o700
    assert {f"./.secrets/{name}" for name in made} == {secret["file"] for secret in COMPOSE["secrets"].values()}
    assert ".secrets/" in (ROOT / ".gitignore").read_text("utf-8").split("\n")
    assert {name: service["secrets"] for name, service in SERVICES.items() if "secrets" in service} == {
        **{name: ["editthinker_redis_password"] for name in ("redis", "orchestrator", "orchestrator-gpu")},
        "grafana": ["grafana_password"],
    }
    assert not re.search(r"PASSWORD: |admin/admin|:-admin", (ROOT / "docker-compose.yml").read_text("utf-8"))


@pytest.mark.parametrize("name", sorted(name for name, service in SERVICES.items() if "environment" in service))
def test_a_services_variables_are_settings(name: str) -> None:
    """A name that nothing reads is a mistake; and no secret stands in the file."""
    for variable, value in SERVICES[name]["environment"].items():
        assert variable.startswith("GF_") or variable in KNOWN[role(name)] | ALSO, variable
        secret = re.search(r"TOKEN|PASSWORD|API_KEY|SECRET", variable)
        assert not secret or variable.endswith("__FILE") or f"{variable}: ${{" in (ROOT / "docker-compose.yml").read_text("utf-8")
        assert value is None or "api_key" not in value


@pytest.mark.parametrize("name", ["orchestrator", "orchestrator-gpu"])
def test_an_orchestrators_settings_are_accepted(name: str) -> None:
    """By the code that will read them, and they name hosts of the network."""
    environment = {variable: value for variable, value in SERVICES[name]["environment"].items() if value is not None}
    settings = deployment_files.orchestrator(environment)
    names = {known for service in SERVICES for known in networks(service).values()}
    for url in (settings.redis_url, *(up.url for up in (*settings.editors.values(), *settings.thinkers.values()))):
        assert httpx.URL(url).host in names | set(SERVICES)


def test_the_signing_file_names_what_it_mounts(tmp_path: Path) -> None:
    """Its settings are those of the code, and are accepted where its secrets are."""
    signing = deployment_files.compose("deploy/compose/signing.yml")
    Certificate.made(tmp_path)
    for name in ("orchestrator", "orchestrator-gpu"):
        service, settings = signing["services"][name], {k: v for k, v in SERVICES[name]["environment"].items() if v is not None}
        for secret in service["secrets"]:
            file = signing["secrets"][secret]["file"]
            assert file.startswith("./.secrets/c2pa/")
            (tmp_path / secret).write_bytes((tmp_path / Path(file).name).read_bytes())
        here = {name: value.replace("/run/secrets", str(tmp_path)) for name, value in service["environment"].items()}
        assert set(here) <= KNOWN["orchestrator"]
        credentials = deployment_files.orchestrator({**settings, **here}).signs_with()
        assert credentials is not None and credentials.key == str(tmp_path / "c2pa_key")


def test_what_stops_gets_the_time_that_it_takes() -> None:
    """Longer than an editor drains, by some seconds."""
    for name in ("editor", "editor-gpu"):
        default = EditorSettings.model_fields["drain_s"].default
        drain = float((SERVICES[name].get("environment") or {}).get("EDITTHINKER_EDITOR_DRAIN_S", default))
        assert deployment_files.seconds(SERVICES[name]["stop_grace_period"]) >= drain + 5


REDIS = {
    "compose": SERVICES["redis"]["command"],
    "kubernetes": deployment_files.pods(list(deployment_files.documents("base")))["redis"]["spec"]["containers"][0]["args"],
}


@pytest.mark.parametrize("command", REDIS.values(), ids=REDIS)
def test_redis_runs_as_it_is_told(command: list[str], tmp_path: Path) -> None:
    """A real one with these arguments keeps an append-only file, and refuses rather than forgets."""
    port = free_port()
    secret = tmp_path / "password"
    secret.write_text("0123abc\n")
    command = deployment_files.redis_command(command, redis_binary(), secret)
    words = [*command, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path)]
    process = start(words, port, tmp_path / "log")
    try:
        retry = redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), 1000)
        with redis.Redis(port=port, password="0123abc", retry=retry) as client:
            assert client.ping()
            wanted = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "save": ""}
            assert {name: client.config_get(name)[name] for name in wanted} == wanted
            assert int(client.config_get("maxmemory")["maxmemory"]) == 1024**3
        with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.keys()
        arguments = Path(f"/proc/{process.popen.pid}/cmdline").read_bytes()
        assert redis_binary().encode() in arguments and b"0123abc" not in arguments
        secret.unlink()
        assert subprocess.run(words, capture_output=True, check=False, timeout=60).returncode == 1, "no password, no server"
    finally:
        process.stop()


def test_haproxy_accepts_its_command_and_variables() -> None:
    """The file that is mounted, with the compose file's environment."""
    pool = SERVICES["pool"]
    mounted = dict(mount.split(":")[:2] for mount in pool["volumes"])
    assert mounted == {"./deploy/haproxy": str(Path(pool["command"][-1]).parent)}
    words = [haproxy_binary(), "-c", *pool["command"][1:-1], str(ROOT / "deploy/haproxy" / Path(pool["command"][-1]).name)]
    done = subprocess.run(
        words, env={**os.environ, **pool["environment"]}, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert pool["stop_signal"] == "SIGUSR1"


class Processes(ExitStack):
    """Entry points of images, run here as they stand in the Dockerfiles."""

    def run(self, image: Image, log: Path, env: dict[str, str]) -> tuple[Process, list[str]]:
        """The process, and its health check as a command."""
        port, prefix = free_port(), next(name for name in image.env if name.endswith("_PORT")).removesuffix("PORT")
        assert image.env[f"{prefix}HOST"] == "0.0.0.0"
        own = {name: value for name, value in image.env.items() if name.startswith("EDITTHINKER")}
        own |= {f"{prefix}HOST": "127.0.0.1", f"{prefix}PORT": str(port), **env}
        command, check = (
            [sys.executable if word == "python" else word.replace(f":{image.last('EXPOSE')}/", f":{port}/") for word in words]
            for words in (image.entrypoint, image.check)
        )
        process = start(command, port, log, own)
        self.callback(process.stop)
        return process, check


def passes(check: list[str]) -> bool:
    return subprocess.run(check, capture_output=True, check=False, timeout=30).returncode == 0


def test_the_cpu_profile_runs_as_processes(tmp_path: Path) -> None:
    """Entry points, variables and health checks of the three images: an edit comes back, and SIGTERM ends each in time."""
    environment = {name: value for name, value in SERVICES["orchestrator"]["environment"].items() if value is not None}
    with Processes() as processes:
        redis_port = free_port()
        secret = tmp_path / "editthinker_redis_password"
        secret.write_text("0123abc")
        command = deployment_files.redis_command(SERVICES["redis"]["command"], redis_binary(), secret)
        command += ["--port", str(redis_port), "--dir", str(tmp_path)]
        processes.callback(start(command, redis_port, tmp_path / "redis.log").stop)
        editor, editor_check = processes.run(IMAGES[SERVICES["editor"]["image"]], tmp_path / "editor.log", {})
        thinker, thinker_check = processes.run(IMAGES[SERVICES["thinker"]["image"]], tmp_path / "thinker.log", {})
        hosts = {
            "redis://redis:6379": f"redis://127.0.0.1:{redis_port}",
            "http://pool:8000": editor.url,
            "http://thinker:8200": thinker.url,
        }
        for host, here in hosts.items():
            assert any(host in value for value in environment.values())
            environment = {name: value.replace(host, here) for name, value in environment.items()}
        environment |= {"EDITTHINKER_BLOBS": str(tmp_path / "blobs"), "EDITTHINKER_SECRETS_DIR": str(tmp_path)}
        # In its container it listens on all addresses, so that `auto` requires keys; here on loopback.
        assert environment["EDITTHINKER_ALLOW_OPEN"] == "false"
        environment["EDITTHINKER_KEYS"] = "required"
        server, check = processes.run(IMAGES[SERVICES["orchestrator"]["image"]], tmp_path / "orchestrator.log", environment)
        wait_ready(server)
        assert passes(check) and passes(editor_check) and passes(thinker_check)
        files = {"image": (ROOT / "examples/photos/coffee.jpg").read_bytes()}
        make_key = [*server.popen.args, "keys", "create", "--tenant", "acme"]  # type: ignore[attr-defined]  # of subprocess.Popen
        env = {**os.environ, **environment}
        made = subprocess.run(make_key, env=env, capture_output=True, text=True, check=True, timeout=120).stdout
        headers = {"authorization": f"Bearer {re.findall(r'et_[A-Za-z0-9_-]+', made)[0]}"}
        whole: dict[str, Any] = {"files": files, "data": {"prompt": "a sepia print"}}
        with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
            assert client.post("/v1/images/edits", **whole).status_code == 401
            reply = client.post("/v1/images/edits", headers=headers, **whole)
        assert reply.status_code == 200, reply.text
        for name, process in {"orchestrator": server, "editor": editor, "thinker": thinker}.items():
            began = time.monotonic()
            process.popen.send_signal(signal.SIGTERM)
            assert process.popen.wait(deployment_files.seconds(SERVICES[name].get("stop_grace_period", "10s"))) in {
                0,
                -signal.SIGTERM,
            }
            # Nothing runs, so none waits until its time to drain (30 s) is over.
            assert time.monotonic() - began < 25
        assert not passes(check), "it passes while nothing listens"


LAUNCH = """
import runpy, sys
sys.argv = ["services.thinker", "--print"]
try:
    runpy.run_module("services.thinker", run_name="__main__")
except SystemExit:
    print(*{name.partition(".")[0] for name in sys.modules})
"""


def test_what_the_launcher_on_vllm_imports_comes_with_vllm() -> None:
    """Its image installs nothing: every library that the entry point imports is of the environment that tests/vllm pins."""
    env = {**os.environ, "EDITTHINKER_THINKER_PROFILE": "editthinker-8b"}
    done = subprocess.run(
        [sys.executable, "-c", LAUNCH], cwd=ROOT, env=env, capture_output=True, text=True, check=True, timeout=60
    )
    owners = importlib.metadata.packages_distributions()
    used = {owner.lower().replace("_", "-") for name in done.stdout.split("\n")[-2].split() for owner in owners.get(name, [])}
    pinned = (ROOT / "tests/vllm/requirements.txt").read_text("utf-8").lower().replace("_", "-")
    brought = set(re.findall(r"^([\w.-]+)==", pinned, re.MULTILINE))
    assert used - brought <= {"editthinker", "setuptools", "pip"}


def test_the_stand_ins_are_called_as_the_compose_file_calls_them() -> None:
    """Or `make test-containers` would look for an image registry."""
    script = (ROOT / "tests/containers/prepare.sh").read_text("utf-8")
    assert all(re.search(rf"[/=]{re.escape(SERVICES[name]['image'])}[ ;]", script) for name in ("redis", "pool", "prometheus"))
    assert {image.all("FROM")[0] for image in IMAGES.values()} == {"${BASE}"}
    for path in ("orchestrator/Dockerfile", "services/embedded/Dockerfile"):
        (base,) = re.findall(r"^ARG BASE=(\S+)$", (ROOT / path).read_text("utf-8"), re.MULTILINE)
        assert f"docker.io/library/{base}" in script


# --- observability --------------------------------------------------------------------------------------------------------


def test_prometheus_asks_services_at_ports_that_have_metrics() -> None:
    """Every job is a service's name, and its port one that the image or the configuration opens."""
    jobs = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))["scrape_configs"]
    opened = {role(name): {int(IMAGES[service["image"]].last("EXPOSE"))} for name, service in OURS.items()}
    collector = yaml.safe_load((ROOT / "deploy/otel/collector.yaml").read_text("utf-8"))
    reader = collector["service"]["telemetry"]["metrics"]["readers"][0]["pull"]["exporter"]["prometheus"]
    opened |= {"pool": {8404}, "otel-collector": {reader["port"]}}
    assert {job["job_name"] for job in jobs} == set(opened)
    assert "SUCCESS" in promtool("check", "config", "--syntax-only", str(ROOT / "deploy/prometheus/prometheus.yml"))
    for job in jobs:
        if "static_configs" in job:
            (target,) = job["static_configs"][0]["targets"]
            name, _, port = target.partition(":")
        else:
            (found,) = job["dns_sd_configs"]
            (name,), port = found["names"], found["port"]
        assert name == job["job_name"]
        assert int(port) in opened[name]


def test_prometheus_scrapes_nothing_twice() -> None:
    """A name server may list an address for each network that is shared, so only on one are a name's addresses its replicas."""
    jobs = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))["scrape_configs"]
    by_address = {job["job_name"] for job in jobs if "dns_sd_configs" in job}
    assert by_address == {role(name) for name in OURS}
    for name in SERVICES:
        if role(name) in by_address:
            assert len(set(networks(name)) & set(networks("prometheus"))) == 1, name


def test_the_collectors_pipelines_name_what_is_defined() -> None:
    """And its receiver listens where compose publishes it."""
    config = yaml.safe_load((ROOT / "deploy/otel/collector.yaml").read_text("utf-8"))
    for pipeline in config["service"]["pipelines"].values():
        for kind, names in pipeline.items():
            assert set(names) <= set(config[kind])
    assert set(config["service"]["extensions"]) <= set(config["extensions"])
    assert config["receivers"]["otlp"]["protocols"]["http"]["endpoint"].endswith(":4318")
    assert SERVICES["otel-collector"]["ports"][0].endswith(":4318")


def test_grafana_is_provisioned_from_where_it_is_mounted() -> None:
    """Paths in its files are paths in its container."""
    mounted = next(mount.split(":")[1] for mount in SERVICES["grafana"]["volumes"] if mount.startswith("./deploy/grafana"))
    assert SERVICES["grafana"]["environment"]["GF_PATHS_PROVISIONING"] == f"{mounted}/provisioning"
    providers = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/editthinker.yaml").read_text("utf-8"))["providers"]
    assert providers[0]["options"]["path"] == f"{mounted}/dashboards"
    sources = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yaml").read_text("utf-8"))["datasources"]
    assert httpx.URL(sources[0]["url"]).host in SERVICES
