"""Kubernetes' manifests, as far as they can be tried without a cluster: schemas, and what one says of another."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from orchestrator.app import create_app
from services.editor.app import create_app as create_editor
from services.editor.settings import Settings as EditorSettings
from services.embedded.thinker.app import Limits
from services.embedded.thinker.app import create_app as create_thinker
from services.imaging.codec import ImageLimits
from tests.containers import deployment_files
from tests.containers.deployment_files import ALSO, IMAGES, KNOWN, KUBERNETES, ROOT, SERVICES
from tests.doubles.signing import Certificate

RAW = list(deployment_files.documents("base", "components", "overlays"))
RENDERED = {name: deployment_files.rendered(name) for name in ("base", "overlays/embedded", "overlays/gpu")}
ALL = [*RAW, *chain.from_iterable(found for found in RENDERED.values() if found)]
needs_kustomize = pytest.mark.skipif(None in RENDERED.values(), reason="neither kubectl nor kustomize is installed")
CUSTOM = {"ScaledObject": "keda.sh/v1alpha1", "PodMonitor": "monitoring.coreos.com/v1"}
PODS = {
    f"{folder}/{name}": pod
    for folder, found in {"raw": RAW, **RENDERED}.items()
    for name, pod in deployment_files.pods(found or []).items()
}
LABELS = [pod["metadata"]["labels"] for pod in deployment_files.pods(RAW).values()]
PORTS = {
    port["name"]: port["containerPort"]
    for pod in deployment_files.pods(RAW).values()
    for port in pod["spec"]["containers"][0]["ports"]
}


_EDITORS, _THINKERS = '{"a": {"url": "http://a"}}', '{"a": {"url": "http://a", "model": "a"}}'


def paths(name: str) -> set[str]:
    """What answers GET in the application of that name."""
    if name == "pool":
        return set(re.findall(r"\{ path (/\w+) \}", (ROOT / "deploy/haproxy/editors.cfg").read_text("utf-8")))
    nothing: dict[str, Any] = {}
    if name == "orchestrator":
        app = create_app(deployment_files.orchestrator({"EDITTHINKER_EDITORS": _EDITORS, "EDITTHINKER_THINKERS": _THINKERS}))
    elif name == "editor":
        app = create_editor(EditorSettings(**nothing))
    else:
        app = create_thinker(Limits("rules", 1, 1, ImageLimits(1024, 1)))
    # vLLM's one path is held against a real vLLM by tests/vllm.
    return set(app.openapi()["paths"]) | ({"/health"} if name == "thinker" else set())


@pytest.mark.parametrize("document", ALL, ids=lambda found: f"{found['kind']}-{found['metadata']['name']}")
def test_a_manifest_keeps_to_its_schema(document: dict[str, Any]) -> None:
    """Kubernetes' own, strictly. What KEDA and the Prometheus operator define has none here: names and versions only."""
    if document["kind"] in CUSTOM:
        assert document["apiVersion"] == CUSTOM[document["kind"]]
    else:
        kubernetes_validate.validate(document, "1.33", strict=True)
    assert document["kind"] != "Secret", "operators create secrets; manifests only name them"


@needs_kustomize
def test_overlays_render() -> None:
    """The GPU one with its images and without the volume that a bucket replaces; every file is part of one."""
    embedded, gpu = RENDERED["overlays/embedded"] or [], RENDERED["overlays/gpu"] or []
    assert {(found["kind"], found["metadata"]["name"]) for found in embedded} > {
        ("Namespace", "editthinker"),
        ("Deployment", "editor"),
    }
    assert "blobs" not in {found["metadata"]["name"] for found in gpu}
    images = {pod["spec"]["containers"][0]["image"] for pod in deployment_files.pods(gpu).values()}
    assert images == {
        service["image"] for name, service in SERVICES.items() if name in {"redis", "pool"} or name.endswith("-gpu")
    }
    for name in ("editor", "thinker"):
        spec = deployment_files.pods(gpu)[name]["spec"]
        assert spec["nodeSelector"] and spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert all(found["metadata"].get("namespace", "editthinker") == "editthinker" for found in [*embedded, *gpu])


@pytest.mark.parametrize("key", sorted(PODS))
def test_a_pod_is_hardened_probed_and_drained(key: str) -> None:
    """Unprivileged as its image is, read-only, bounded; its probes ask for what its application answers."""
    name, spec = key.rpartition("/")[2], PODS[key]["spec"]
    (container,) = spec["containers"]
    assert container["image"] in {service["image"] for service in SERVICES.values()}
    assert spec["securityContext"]["runAsNonRoot"] is True and spec["automountServiceAccountToken"] is False
    if container["image"] in IMAGES:
        assert spec["securityContext"]["runAsUser"] == IMAGES[container["image"]].user
        assert str(container["ports"][0]["containerPort"]) == IMAGES[container["image"]].last("EXPOSE")
    own = container["securityContext"]
    assert (
        own["readOnlyRootFilesystem"] is True
        and own["allowPrivilegeEscalation"] is False
        and own["capabilities"] == {"drop": ["ALL"]}
    )
    assert container["resources"]["requests"] and "memory" in container["resources"]["limits"]
    for kind in ("readinessProbe", "livenessProbe", *(["startupProbe"] if "startupProbe" in container else [])):
        probe = container[kind]
        assert probe.get("exec") == {"command": SERVICES["redis"]["healthcheck"]["test"][1:]} if name == "redis" else True
        if name != "redis":
            assert probe["httpGet"]["path"] in paths(name) and probe["httpGet"]["port"] in {
                port["name"] for port in container["ports"]
            }
    env = {entry["name"]: entry.get("value") for entry in container.get("env", [])}
    assert set(env) <= KNOWN.get(name, set()) | ALSO
    assert all(value is None or not re.search(r"TOKEN|PASSWORD|KEY|SECRET", variable) for variable, value in env.items())
    if name == "redis":
        return
    before = container["lifecycle"]["preStop"]["exec"]["command"]
    waits = int(re.findall(r"\d+", before[-1])[0])
    drain = float(env.get("EDITTHINKER_EDITOR_DRAIN_S") or 0)
    assert spec["terminationGracePeriodSeconds"] >= waits + drain + 5
    # The command itself, in no time.
    program = sys.executable if before[0].startswith("python") else before[0]
    words = [word.replace(str(waits), "0") for word in before[1:]]
    assert subprocess.run([program, *words], check=False, timeout=30).returncode == 0


def test_every_selector_selects_something() -> None:
    """Services, budgets, policies and autoscalers: labels, ports and targets that exist; every workload has a budget."""
    for document in ALL:
        spec, kind = document.get("spec", {}), document["kind"]
        selectors = [spec["selector"]] if kind == "Service" else []
        selectors += [spec["selector"]["matchLabels"]] if kind == "PodDisruptionBudget" else []
        if kind == "NetworkPolicy":
            rules = [*spec.get("ingress", []), *spec.get("egress", [])]
            peers = [peer for rule in rules for peer in rule.get("from", []) + rule.get("to", [])]
            selectors += [peer["podSelector"]["matchLabels"] for peer in peers if "podSelector" in peer]
            selectors += [spec["podSelector"].get("matchLabels", {})]
            used = {port["port"] for rule in rules for port in rule["ports"]}
            assert used <= {53, 443, 8404, *(int(image.last("EXPOSE")) for image in IMAGES.values()), 6379, 8000}
        for selector in selectors:
            assert any(selector.items() <= labels.items() for labels in LABELS), document["metadata"]["name"]
        if kind in {"HorizontalPodAutoscaler", "ScaledObject"}:
            assert spec["scaleTargetRef"]["name"] in deployment_files.pods(RAW)
        if kind == "Service":
            assert all(port["targetPort"] in PORTS or port["targetPort"] == "redis" for port in spec["ports"])
    budgets = {found["metadata"]["name"] for found in RAW if found["kind"] == "PodDisruptionBudget"}
    assert budgets == set(deployment_files.pods(RAW))


@pytest.mark.parametrize("key", sorted(name for name, found in RENDERED.items() if found))
def test_the_orchestrators_configuration_is_accepted(key: str) -> None:
    """By the code that will read it; hosts are Services, and no key stands in it."""
    found = RENDERED[key] or []
    (values,) = [
        doc["data"] for doc in found if doc["kind"] == "ConfigMap" and doc["metadata"]["name"].startswith("orchestrator")
    ]
    assert set(values) <= KNOWN["orchestrator"] | ALSO and "api_key" not in str(values)
    settings = deployment_files.orchestrator(values)
    services = {doc["metadata"]["name"] for doc in found if doc["kind"] == "Service"}
    assert {httpx.URL(up.url).host for up in (*settings.editors.values(), *settings.thinkers.values())} <= services


@needs_kustomize
def test_the_signing_component_mounts_what_its_settings_name(tmp_path: Path) -> None:
    """The settings are accepted where the Secret's files are, and the paths are those of its volume."""
    names = [os.path.relpath(KUBERNETES / name, tmp_path) for name in ("overlays/embedded", "components/signing")]
    overlay = {"namespace": "editthinker", "resources": names[:1], "components": names[1:]}
    (tmp_path / "kustomization.yaml").write_text(json.dumps(overlay))
    found = deployment_files.rendered(str(tmp_path)) or []
    spec = deployment_files.pods(found)["orchestrator"]["spec"]
    (volume,) = [each for each in spec["volumes"] if each["name"] == "c2pa"]
    assert volume["secret"] == {"secretName": "c2pa", "defaultMode": 0o440}
    (mount,) = [each for each in spec["containers"][0]["volumeMounts"] if each["name"] == "c2pa"]
    for document in found:
        kubernetes_validate.validate(document, "1.33", strict=True)
    (values,) = [
        doc["data"] for doc in found if doc["kind"] == "ConfigMap" and doc["metadata"]["name"].startswith("orchestrator")
    ]
    assert mount["readOnly"] and values["EDITTHINKER_BLOBS"]
    Certificate.made(tmp_path)
    here = {name: value.replace(mount["mountPath"], str(tmp_path)) for name, value in values.items() if "C2PA" in name}
    credentials = deployment_files.orchestrator({**values, **here}).signs_with()
    assert credentials is not None and Path(credentials.key).parent == tmp_path


def test_autoscalers_ask_for_metrics_that_exist() -> None:
    """Those of ours by name, as they stand in the code."""
    asked = {
        name
        for path in (KUBERNETES / "components").rglob("*.yaml")
        for name in re.findall(r"editthinker_\w+", path.read_text("utf-8"))
    }
    known = (ROOT / "orchestrator/metrics.py").read_text("utf-8") + (ROOT / "services/editor/metrics.py").read_text("utf-8")
    assert asked == {"editthinker_sessions_queued", "editthinker_editor_in_flight"}
    assert '"editthinker_sessions_queued"' in known and '("in_flight", ' in known and 'f"editthinker_editor_' in known
