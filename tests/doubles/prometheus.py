"""The real Prometheus and promtool: installed, or Debian's, unpacked into `.prometheus/`."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.doubles.debian import program
from tests.doubles.processes import Process, free_port, start, wait_ready


def promtool(*arguments: str, given: str | None = None, folder: Path | None = None) -> str:
    """What promtool says; an `AssertionError` with it if it is not content."""
    command = [program("promtool", "prometheus", ".prometheus"), *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, cwd=folder, timeout=300, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


@dataclass
class Prometheus(Process):
    """A running Prometheus."""

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression has now."""
        reply = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=20, trust_env=False)
        body = reply.json()
        assert body["status"] == "success", (expression, body)
        result: list[dict[str, Any]] = body["data"]["result"]
        return result

    def rules(self) -> list[dict[str, Any]]:
        """Every rule, with its health."""
        groups = httpx.get(f"{self.url}/api/v1/rules", timeout=20, trust_env=False).json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@contextlib.contextmanager
def prometheus(folder: Path, jobs: Mapping[str, str], rules: Path) -> Iterator[Prometheus]:
    """A running one that scrapes every half second; `jobs` are addresses by the job's name."""
    scraped = [{"job_name": job, "static_configs": [{"targets": [address]}]} for job, address in jobs.items()]
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": scraped,
    }
    path, port = folder / "prometheus.yml", free_port()
    # JSON is YAML.
    path.write_text(json.dumps(config))
    listen = f"--web.listen-address=127.0.0.1:{port}"
    command = [program("prometheus", "prometheus", ".prometheus"), f"--config.file={path}", listen]
    command.append(f"--storage.tsdb.path={folder / 'tsdb'}")
    process = start(command, port, folder / "prometheus.log")
    running = Prometheus(process.popen, port, process.log)
    try:
        wait_ready(running, "/-/ready")
        yield running
    finally:
        running.stop()
