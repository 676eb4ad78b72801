"""The package in other surroundings: foreign packages of the same names, missing extras, no fcntl; and the wheel."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.component.client.scripted import EVENTS, PNG, Answer, as_json, in_turn, scripted, session, stream
from tests.integration.test_cli_commands import png

ROOT = Path(__file__).parents[2]
SCRIPT = Path(sys.executable).with_name("editthinker")


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A user's own project, whose packages have the names of ours and of what we import."""
    for name in ("services", "orchestrator", "redis", "limits"):
        package = tmp_path / "project" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(f"raise SystemExit('the foreign package {name} was imported')\n")
    return tmp_path / "project"


def run(
    *words: object, cwd: Path | None = None, env: Mapping[str, str] | None = None, data: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        input=data,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


# --- foreign packages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", [(SCRIPT,), (sys.executable, "-m", "editthinker")], ids=["script", "module"])
@pytest.mark.parametrize("words", [("serve",), ("editor", "serve"), ("thinker", "serve"), ("keys",), ("sweep",)], ids=" ".join)
def test_foreign_packages_do_not_shadow_a_service(foreign: Path, program: tuple[object, ...], words: tuple[str, ...]) -> None:
    """Neither in the working directory nor first on PYTHONPATH."""
    done = run(*program, *words, "--help", cwd=foreign, env={"PYTHONPATH": str(foreign)})
    assert (done.returncode, done.stderr) == (0, b"")
    assert f"Usage: editthinker {' '.join(words)}" in done.stdout.decode()


def test_foreign_packages_do_not_shadow_the_stack_of_an_edit(foreign: Path) -> None:
    (foreign / "photo.png").write_bytes(png(48, 32))
    words = ("edit", "photo.png", "make it brighter", "--max-turns", "1", "-o", "out.png")
    done = run(SCRIPT, *words, cwd=foreign, env={"PYTHONPATH": str(foreign), "EDITTHINKER_HOME": str(foreign / "home")})
    assert done.returncode == 0, done.stderr
    assert (foreign / "out.png").read_bytes().startswith(b"\x89PNG")


def test_foreign_packages_do_not_shadow_the_stack_of_up(foreign: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(foreign)}
    words = [str(SCRIPT), "up", "--port", "0", "--data-dir", str(foreign / "home")]
    process = subprocess.Popen(words, cwd=foreign, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+\n", process.stdout.readline())
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_pythonpath_still_adds_packages_to_a_service(tmp_path: Path) -> None:
    """Last, so that it shadows nothing: clusters make installed packages available through it."""
    (tmp_path / "only_on_pythonpath.py").write_text("")
    code = "import sys, editthinker.local.isolated as i; import services; i.main('x', 'probe', [])"
    (tmp_path / "probe").mkdir()
    (tmp_path / "probe" / "__main__.py").write_text(
        "import only_on_pythonpath, services\nmain = lambda: print(services.__file__)\n"
    )
    done = run(sys.executable, "-I", "-c", code, env={"PYTHONPATH": str(tmp_path)})
    assert done.stdout.decode().strip() == str(ROOT / "services" / "__init__.py")


# --- missing extras -------------------------------------------------------------------------------------------------------


def closure(*names: str) -> set[str]:
    """The distributions that these need, themselves included."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = canonicalize_name(left.pop())
        if name in found:
            continue
        found.add(name)
        needs = [Requirement(text) for text in distribution(name).requires or ()]
        left += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


def installed(folder: Path, *names: str) -> Path:
    """A folder with these distributions and what they need, and nothing else."""
    folder.mkdir()
    for name in closure(*names):
        tops = {file.parts[0] for file in distribution(name).files or () if file.parts[0] not in {"..", "__pycache__"}}
        for top in tops:
            (folder / top).symlink_to(Path(str(distribution(name).locate_file(top))))
    (folder / "editthinker").symlink_to(ROOT / "editthinker")
    return folder


def only(site: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    """The command line in an interpreter that finds nothing but the standard library and a folder."""
    code = f"import sys; sys.path.append({str(site)!r}); from editthinker.cli import main; main()"
    return run(sys.executable, "-I", "-S", "-c", code, *words)


def test_the_cli_extra_alone_says_what_the_stack_needs(tmp_path: Path) -> None:
    site = installed(tmp_path / "site", "httpx", "pydantic", "rich", "typer")
    photo = tmp_path / "photo.png"
    photo.write_bytes(png(48, 32))
    assert only(site, "sessions", "--help").returncode == 0
    for words in (("edit", str(photo), "warmer"), ("up", "--port", "0", "--data-dir", str(tmp_path / "home"))):
        done = only(site, *words)
        assert done.returncode == 1
        assert b"needs packages that are not installed (aiohttp, cv2, fastapi," in done.stderr
        assert b"pip install 'editthinker[local]'" in done.stderr


def test_the_client_alone_says_what_the_command_line_needs(tmp_path: Path) -> None:
    done = only(installed(tmp_path / "site", "httpx", "pydantic"), "--help")
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"pip install 'editthinker[cli]'" in done.stderr


@pytest.mark.parametrize("module", ["orchestrator", "services.editor", "services.thinker"])
def test_a_service_without_its_packages_says_which_extra_has_them(module: str) -> None:
    script = ROOT / "editthinker" / "local" / "isolated.py"
    done = run(sys.executable, "-I", "-S", script, "editthinker", module)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert re.search(rb"^editthinker: the package '\w+' is not installed: pip install 'editthinker\[local\]'", done.stderr)


# --- another system -------------------------------------------------------------------------------------------------------

WITHOUT_FCNTL = """
import signal, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name in {"fcntl", "resource", "termios", "pwd", "grp", "uvloop"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in ("fcntl", "resource", "termios", "pwd", "grp"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Blocked())
del signal.SIGHUP
from editthinker.cli import main
main()
"""


def test_the_command_line_works_against_a_server_without_fcntl(tmp_path: Path) -> None:
    """As on Windows; only what would start a server is refused."""
    photo, out = tmp_path / "photo.png", tmp_path / "out.png"
    photo.write_bytes(png(48, 32))
    program = (sys.executable, "-c", textwrap.dedent(WITHOUT_FCNTL))
    answers = (as_json(session("running")), stream(EVENTS), as_json(session()), Answer(200, PNG, {"content-type": "image/png"}))
    with scripted(in_turn(*answers)) as server:
        done = run(*program, "edit", photo, "golden hour", "-o", out, "--server", server.base_url)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == PNG
    with scripted(in_turn(*answers)) as server:
        many = run(*program, "edit", photo, "golden hour", "-o", tmp_path, "--server", server.base_url)
    assert (many.returncode, (tmp_path / "photo-2.png").read_bytes()) == (0, PNG), many.stderr
    refused = run(*program, "edit", photo, "golden hour", "-o", out, env={"EDITTHINKER_HOME": str(tmp_path / "home")})
    assert refused.returncode == 1
    assert b"the embedded stack runs on Linux and macOS only; name a running server with --server" in refused.stderr


# --- the wheel ------------------------------------------------------------------------------------------------------------


STUDIO = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
import httpx
from fastapi import FastAPI
from orchestrator.api import studio

async def serve():
    app = FastAPI()
    app.include_router(studio.router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        assert "<edit-studio>" in (await client.get("/studio")).text
        for name, asset in studio.studio().assets.items():
            reply = await client.get(f"/studio/assets/{studio.studio().digest}/{name}")
            assert reply.content == asset.content
            print(name)

assert studio.__file__.startswith(sys.argv[1])
asyncio.run(serve())
"""
"""The studio, from the wheel alone: every asset that it serves."""


def test_the_wheel_has_the_packages_data_and_no_dockerfile(tmp_path: Path) -> None:
    """Lua scripts, prompts, profiles, style sheets, a trainer's configuration; nothing that only builds images."""
    pytest.importorskip("hatchling")
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    built = run(sys.executable, "-c", code, tmp_path, cwd=ROOT)
    with zipfile.ZipFile(tmp_path / built.stdout.decode().split()[-1]) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
        wheel.extractall(tmp_path / "installed")
    assert {name.partition("/")[0] for name in names} == {"editthinker", "evaluation", "orchestrator", "services", "training"}
    assert {Path(name).suffix or Path(name).name for name in names} == {
        *(".py", ".lua", ".txt", ".css", ".js", ".html", ".svg", ".toml", ".typed"),
        # Of the vendored Swagger UI.
        *(".md", "LICENSE", "NOTICE"),
        # verl's configuration.
        ".yaml",
    }
    served = run(sys.executable, "-I", "-c", textwrap.dedent(STUDIO), tmp_path / "installed").stdout.decode().split()
    kept = [path.relative_to(ROOT / "orchestrator" / "studio") for path in (ROOT / "orchestrator" / "studio").rglob("*")]
    assert sorted(served) == sorted(str(path) for path in kept if path.suffix in {".js", ".css", ".svg"})
