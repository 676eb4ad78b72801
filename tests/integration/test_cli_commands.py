"""The command line as a user runs it: against a real orchestrator with stand-ins for editor and thinker."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest
from PIL import Image

from editthinker import EditThinker
from editthinker.cli.progress import Progress, follow
from editthinker.local import Plan, Service, Stack
from editthinker.local.home import Home
from editthinker.local.ports import free_port
from editthinker.local.redis_server import redis_service
from tests.doubles.processes import ended
from tests.integration.test_cli_stack import until

HERE = Path(__file__).parent
UPSTREAM = str(HERE / "cli_upstream.py")


def png(width: int, height: int) -> bytes:
    """A small picture, made by hand."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes((x * 9 + y) % 256 for x in range(width * 3)) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def plan(home: Home, port: int) -> Plan:
    """The real orchestrator and Redis; stand-ins for the rest."""
    redis, redis_url = redis_service(home.redis, free_port())
    at = free_port()
    url = f"http://127.0.0.1:{at}"
    env = {
        "EDITTHINKER_REDIS_URL": redis_url,
        "EDITTHINKER_BLOBS": str(home.blobs),
        "EDITTHINKER_EDITORS": json.dumps({"classical": {"url": f"{url}/v1"}}),
        "EDITTHINKER_THINKERS": json.dumps({"rules": {"url": f"{url}/v1", "model": "rules"}}),
        # The stand-in's script says what each critique of a session is.
        "EDITTHINKER_CONFIRMATIONS": "0",
        "EDITTHINKER_JUDGE_CHECK": "off",
    }
    command = [sys.executable, "-P", "-m", "orchestrator", "--host", "127.0.0.1", "--port", str(port)]
    services = [
        redis,
        Service("upstream", [sys.executable, UPSTREAM, str(at)], f"{url}/v1/models"),
        Service("orchestrator", command, f"http://127.0.0.1:{port}/readyz", env, ["redis", "upstream"]),
    ]
    return Plan(services, f"http://127.0.0.1:{port}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Stack(tmp_path_factory.mktemp("data"), planner=plan) as stack:
        yield stack.base_url


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(png(48, 32))
    return path


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "editthinker", *map(str, arguments)]


def run(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own; neither a traceback nor a warning is ever right."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=180, check=False, env={**os.environ, **(env or {})}
    )
    assert "Traceback" not in done.stderr
    return done


def test_edit_writes_the_picture_and_prints_a_summary(server: str, photo: Path, tmp_path: Path) -> None:
    out, report, turns = tmp_path / "out.jpg", tmp_path / "report.html", tmp_path / "turns"
    done = run("edit", photo, "golden hour <i>", "-o", out, "--server", f"{server}/v1", "--report", report, "--save-turns", turns)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes().startswith(b"\xff\xd8\xff")
    assert "satisfied after 3 turns; best: turn 3; semantic 9.0, quality 9.0, overall 9.0" in done.stdout
    assert f"result: {out}" in done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("turn ")]
    assert re.fullmatch(r"turn 1: semantic 4.0  quality 9.0  overall 6.0  “golden hour <i>”: .*warm enough\.", lines[0])
    assert len(lines) == 3
    assert {path.name for path in turns.iterdir()} == {"turn-1.png", "turn-2.png", "turn-3.png", "session.json"}
    assert json.loads((turns / "session.json").read_text())["status"] == "succeeded"
    check_report(report.read_text())


def check_report(page: str) -> None:
    assert "golden hour &lt;i&gt;" in page
    assert "It is &lt;b&gt;not&lt;/b&gt; &amp; warm enough." in page
    assert "<i>" not in page
    assert page.count("<script") == 1, "our own, whose hash the policy names"
    assert not re.search(r"(?:src|href)=\"(?!data:image/webp;base64,|#)", page)
    assert len(re.findall(r"<article", page)) == 3
    assert page.count("★ best") == 1


def test_edit_sends_references_and_a_mask_and_the_report_shows_them(server: str, photo: Path, tmp_path: Path) -> None:
    """In the order of the options."""
    others = [tmp_path / "hat.png", tmp_path / "scarf.png"]
    for place, path in enumerate(others):
        path.write_bytes(png(20 + place, 10))
    mask, report = tmp_path / "mask.png", tmp_path / "report.html"
    image = Image.new("RGBA", (48, 32), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 24, 16))
    image.save(mask)
    options = ["--mask", mask, *(word for path in others for word in ("--reference", path))]
    done = run(
        "edit", photo, "golden hour <i>", *options, "--server", server, "--report", report, "--json", "-o", tmp_path / "o.png"
    )
    assert done.returncode == 0, done.stderr
    session = json.loads(done.stdout)
    with EditThinker(server) as client:
        assert [client.sessions.reference(session["id"], number) for number in (1, 2)] == [path.read_bytes() for path in others]
        assert client.sessions.mask(session["id"]) == mask.read_bytes()
    page = report.read_text()
    check_report(page)
    assert [f"Picture {number}" in page for number in (1, 2, 3, 4)] == [False, True, True, False]
    assert "The mask: the picture may change" in page and "outside the mask 0.0% changed" in page


def test_only_one_picture_comes_from_stdin(server: str, photo: Path, tmp_path: Path) -> None:
    done = run("edit", "-", "x", "--mask", "-", "--server", server, "-o", tmp_path / "o.png")
    assert done.returncode == 2
    assert "only one picture can come from standard input" in done.stderr
    missing = run("edit", photo, "x", "--reference", tmp_path / "none.png", "--server", server)
    assert missing.returncode == 2 and "none.png: No such file" in missing.stderr


def test_more_pictures_than_the_editor_takes_are_refused_with_its_limit(server: str, photo: Path) -> None:
    done = run("edit", photo, "x", *["--reference", photo] * 3, "--server", server)
    assert done.returncode != 0
    assert "4 pictures were sent, and the editor 'classical' takes 3 pictures" in done.stderr


def test_with_json_stdout_is_one_json_document(server: str, photo: Path, tmp_path: Path) -> None:
    done = run("edit", photo, "x", "-o", tmp_path / "out.webp", "--json", "--max-turns", 1, env={"EDITTHINKER_SERVER": server})
    session = json.loads(done.stdout)
    assert (session["status"], session["finish_reason"], session["limits"]["max_turns"]) == ("succeeded", "max_turns", 1)
    assert (tmp_path / "out.webp").read_bytes()[8:12] == b"WEBP"


def test_an_edit_that_changes_nothing_is_told_and_writes_no_picture(server: str, photo: Path, tmp_path: Path) -> None:
    """With an exit status of its own, for one photo and for a batch."""
    out = tmp_path / "out.png"
    done = run("edit", photo, "nothing", "-o", out, "--max-turns", 1, "--server", server)
    assert done.returncode == 3
    assert "Nothing was changed: the editor did not understand \u201cnothing\u201d." in done.stdout
    assert not out.exists()
    folder = tmp_path / "folder"
    other = tmp_path / "other.png"
    other.write_bytes(photo.read_bytes())
    many = run("edit", photo, other, "nothing", "-o", folder, "--max-turns", 1, "--server", server)
    assert many.returncode == 3
    assert "unchanged" in many.stdout
    assert not list(folder.glob("*.png"))


def test_quiet_prints_nothing(server: str, photo: Path) -> None:
    done = run("edit", photo, "x", "-q", "--server", server, "--strategy", "best_of_n", "--candidates", 2, "--seed", 7)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert photo.with_name("photo-edited.png").exists()


def test_a_result_has_the_format_of_its_photo(server: str, tmp_path: Path) -> None:
    """As a file, whose name has it too, and on standard output."""
    photo = tmp_path / "photo.JPG"
    Image.new("RGB", (48, 32), (90, 60, 30)).save(photo, "JPEG")
    assert run("edit", photo, "x", "-q", "--server", server, "--max-turns", 1).returncode == 0
    words = command("edit", "-", "x", "-q", "--server", server, "--max-turns", 1)
    done = subprocess.run(words, input=photo.read_bytes(), capture_output=True, timeout=60, check=False)
    for picture in (photo.with_name("photo-edited.JPG").read_bytes(), done.stdout):
        assert picture.startswith(b"\xff\xd8\xff")


def test_a_picture_can_come_from_stdin_and_go_to_stdout(server: str, photo: Path) -> None:
    """The summary goes to standard error then."""
    words = command("edit", "-", "golden hour", "--server", server)
    for output in ([], ["-o", "-"]):
        done = subprocess.run([*words, *output], input=photo.read_bytes(), capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(b"\x89PNG\r\n\x1a\n")
        assert b"satisfied after 3 turns" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-o", "-", "--json"], "cannot both go to standard output"),
        (["--report", "-"], "the report needs a file name"),
    ],
)
def test_standard_output_is_for_one_thing(photo: Path, words: list[str], says: str) -> None:
    done = run("edit", photo, "x", *words, "--server", "http://127.0.0.1:1")
    assert (done.returncode, says in done.stderr) == (2, True)


def test_a_failed_session_exits_with_1_and_writes_no_picture(server: str, photo: Path, tmp_path: Path) -> None:
    done = run("edit", photo, "fail", "-o", tmp_path / "out.png", "--server", server, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["status"] == "failed"
    assert re.search(r"^editthinker: session ses_\w+ failed: .*I refuse", done.stderr, re.MULTILINE)
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["edit", "missing.png", "x"], 2, "missing.png: No such file"),
        (["edit", "TEXT", "x"], 2, "is not an image"),
        (["edit", "PHOTO", "x", "-o", "out.gif"], 2, "name the result with .png, .jpg or .webp"),
        (["edit", "PHOTO", "x", "-o", "nowhere/out.png"], 2, "does not exist"),
        (["edit", "PHOTO", "x", "--strategy", "hope"], 2, "hope"),
        (["edit", "PHOTO", "x", "--server", "ftp://x"], 2, "not the URL of a server"),
        (["edit", "PHOTO", "x", "--editor", "nobody"], 1, "nobody"),
        (["edit", "PHOTO", "", "-o", "out.png"], 1, "param prompt, request req_"),
        (["edit", "TRUNCATED", "x"], 1, "param image, request req_"),
        (["edit", "PHOTO", "x", "--server", "http://127.0.0.1:9"], 1, "is the server running?"),
        (["sessions", "show", "ses_unknown"], 1, "session_not_found"),
        (["sessions", "watch", "ses_unknown"], 1, "session_not_found"),
        (["sessions", "frobnicate"], 2, "frobnicate"),
    ],
)
def test_an_error_is_one_line_on_stderr(
    server: str, photo: Path, tmp_path: Path, arguments: Sequence[str], code: int, says: str
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "truncated.png").write_bytes(photo.read_bytes()[:40])
    places = {"PHOTO": photo, "TEXT": tmp_path / "text.png", "TRUNCATED": tmp_path / "truncated.png"}
    done = run(*(places.get(word, word) for word in arguments), env={"EDITTHINKER_SERVER": server, "COLUMNS": "200"})
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert done.stdout == ""
    if "Usage" not in done.stderr:
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_cancels_the_session(server: str, photo: Path, stop: signal.Signals) -> None:
    with EditThinker(server) as client:
        before = {session.id for session in client.sessions.list().data}
        with ended(
            subprocess.Popen(
                command("edit", photo, "slowly", "--server", server), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        ) as running:
            assert until(lambda: {each.id for each in client.sessions.list().data} > before)
            (started,) = {session.id for session in client.sessions.list().data} - before
            assert until(lambda: bool(client.sessions.get(started).turns))
            running.send_signal(stop)
            _, errors = running.communicate(timeout=180)
        assert running.returncode == 130
        assert errors.endswith("editthinker: interrupted\n")
        assert "Traceback" not in errors
        assert until(lambda: client.sessions.get(started).status == "cancelled")


def test_sessions_can_be_listed_shown_watched_and_cancelled(server: str, photo: Path) -> None:
    with EditThinker(server) as client:
        made = client.edit(photo, "golden hour [bold]", max_turns=2).session
    env = {"EDITTHINKER_SERVER": server, "COLUMNS": "160"}
    listed = run("sessions", "ls", "--limit", 1, env=env)
    assert made.id in listed.stdout
    assert "golden hour [bold]" in listed.stdout
    assert json.loads(run("sessions", "ls", "--json", env=env).stdout)["data"][0]["id"] == made.id
    shown = run("sessions", "show", made.id, env=env).stdout
    assert "golden hour [bold]" in shown
    assert "2 ★" in shown
    assert json.loads(run("sessions", "show", made.id, "--json", env=env).stdout)["id"] == made.id
    events = [json.loads(line) for line in run("sessions", "watch", made.id, "--json", env=env).stdout.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, made.last_event + 1))
    assert events[-1]["type"] == "finished"
    assert "max_turns after 2 turns" in run("sessions", "watch", made.id, env=env).stdout
    assert "succeeded" in run("sessions", "cancel", made.id, env=env).stdout


def test_the_table_on_a_terminal(server: str, photo: Path) -> None:
    from rich.console import Console  # noqa: PLC0415 - this test's alone

    console = Console(force_terminal=True, width=160, record=True, file=io.StringIO())
    with EditThinker(server) as client:
        session = client.sessions.create(photo, "golden [hour]", strategy="think_best_of_n", max_turns=1)
        follow(client.sessions.events(session.id), progress := Progress(), console)
    text = console.export_text()
    assert "the thinker says" in text
    assert "golden [hour]" in text
    assert set(progress.rows) == {(1, 1), (1, 2)}
    assert progress.finish_reason == "max_turns"


def on_standins(*arguments: object, home: Path, **variables: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """The command line, in a process of its own, with the plan of stand-ins as its embedded stack."""
    program = (
        "from functools import partial; from editthinker.cli import main, processes, target;"
        "from tests.integration.test_cli_commands import plan;"
        "processes.Stack = target.Stack = partial(processes.Stack, planner=plan); main()"
    )
    env = {name: value for name, value in os.environ.items() if name not in {"EDITTHINKER_SERVER", "REDIS_URL"}}
    running = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=HERE.parent.parent,
        env=env | {"EDITTHINKER_HOME": str(home), **variables},
    )
    return ended(running)


def up(data: Path, port: int) -> AbstractContextManager[subprocess.Popen[str]]:
    return on_standins("up", "--port", port, "--data-dir", data, home=data)


def test_edit_without_a_server_starts_and_stops_a_stack(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    with on_standins("edit", photo, "golden hour", "-o", out, home=tmp_path / "home") as running:
        printed, errors = running.communicate(timeout=180)
    assert running.returncode == 0, errors
    assert "satisfied after 3 turns" in printed
    assert errors.startswith("starting the embedded stack …\n")
    assert out.exists()
    assert not any(str(tmp_path) in " ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))


def test_edit_uses_a_temporary_directory_while_another_stack_runs(photo: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with Stack(home, planner=plan), on_standins("edit", photo, "golden hour", "--json", home=home) as running:
        printed, errors = running.communicate(timeout=180)
    assert running.returncode == 0, errors
    assert f"{home} is in use by another stack; this session will not be stored" in errors
    assert json.loads(printed)["status"] == "succeeded"


def test_edit_uses_the_stack_of_up_and_prints_where_its_session_is_seen(photo: Path, tmp_path: Path) -> None:
    port = free_port()
    with up(tmp_path, port) as running:
        assert running.stdout is not None
        url = running.stdout.readline().strip()
        with on_standins("edit", photo, "golden hour", "--json", home=tmp_path) as edit:
            printed, errors = edit.communicate(timeout=180)
        assert edit.returncode == 0, errors
        session = json.loads(printed)["id"]
        assert f"using the stack that runs at {url}\nstudio: {url}/studio/sessions/{session}\n" in errors
        with EditThinker(url) as client:
            assert client.sessions.get(session).status == "succeeded"
        running.kill()
        running.communicate(timeout=180)
    # What a killed stack left says nothing about the next one.
    with Stack(tmp_path, planner=plan), on_standins("edit", photo, "golden hour", home=tmp_path) as edit:
        _, errors = edit.communicate(timeout=180)
    assert "this session will not be stored" in errors
    assert "studio:" not in errors


@pytest.mark.parametrize("browser", ["/bin/true", "/bin/false"])
def test_up_opens_the_studio_where_that_is_asked_for(tmp_path: Path, browser: str) -> None:
    with on_standins("up", "--port", 0, "--open", home=tmp_path, BROWSER=f"{browser} %s") as running:
        assert running.stdout is not None
        url = running.stdout.readline().strip()
        assert running.stderr is not None
        lines = iter(running.stderr.readline, "")
        assert next(line for line in lines if line.startswith("see: ")) == f"see: {url}/studio\n"
        told = f"there is no browser to open {url}/studio in\n"
        if browser == "/bin/false":
            assert told in lines
        running.terminate()
        _, rest = running.communicate(timeout=180)
    assert told not in rest


@pytest.mark.parametrize("when", ["starting", "editing"])
def test_ctrl_c_in_an_edit_stops_its_stack(photo: Path, tmp_path: Path, when: str) -> None:
    with on_standins("edit", photo, "slowly", home=tmp_path / "home") as running:
        process = psutil.Process(running.pid)
        enough = 1 if when == "starting" else 3
        assert until(lambda: len(process.children(recursive=True)) >= enough)
        log = tmp_path / "home" / "logs" / "upstream.log"
        assert when == "starting" or until(lambda: "editing" in log.read_text())
        children = process.children(recursive=True)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=180)
    assert running.returncode == 130, errors
    assert "Traceback" not in errors
    assert not any(child.is_running() for child in children)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_up_prints_its_url_and_stops_with_everything(tmp_path: Path, stop: signal.Signals) -> None:
    port = free_port()
    with up(tmp_path, port) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == f"http://127.0.0.1:{port}\n"
        children = psutil.Process(running.pid).children(recursive=True)
        assert len(children) == 3
        running.send_signal(stop)
        rest, errors = running.communicate(timeout=180)
    assert running.returncode == 0
    assert rest == ""
    assert f"curl http://127.0.0.1:{port}/v1/images/edits" in errors
    assert not any(child.is_running() for child in children)


def test_sessions_outlive_up(photo: Path, tmp_path: Path) -> None:
    made = ""
    for _ in range(2):
        port = free_port()
        with up(tmp_path / "data", port) as running, EditThinker(f"127.0.0.1:{port}") as client:
            assert running.stdout is not None
            assert running.stdout.readline()
            made = made or client.edit(photo, "golden hour").session.id
            assert client.sessions.get(made).status == "succeeded"
            assert client.sessions.image(made)
            running.terminate()
            running.communicate(timeout=180)


def test_up_reports_that_its_port_is_in_use(server: str, tmp_path: Path) -> None:
    port = int(server.rpartition(":")[2])
    with up(tmp_path, port) as running:
        _, errors = running.communicate(timeout=180)
    assert running.returncode == 1
    assert errors == f"editthinker: port {port} is already in use on 127.0.0.1; give another --port, or 0 for any free one\n"


@pytest.mark.parametrize(
    ("words", "usage", "option"),
    [
        (["serve"], "editthinker serve", "--host"),
        (["editor", "serve"], "editthinker editor serve", "--pipeline"),
        (["thinker", "serve"], "editthinker thinker serve", "--profile"),
        (["keys", "create"], "editthinker keys create", "--tenant"),
        (["quota", "set"], "editthinker quota set", "--rate"),
        (["sweep"], "editthinker sweep", "--older-than"),
    ],
)
def test_help_of_a_command_that_hands_over_is_the_other_processs(words: list[str], usage: str, option: str) -> None:
    shown = run(*words, "--help")
    assert shown.returncode == 0
    assert f"Usage: {usage} [OPTIONS]" in shown.stdout
    assert option in shown.stdout


def test_the_separator_reaches_the_thinker() -> None:
    """What follows it is vLLM's, also where the thinker has an option of that name."""
    shown = run("thinker", "serve", "--profile", "tiny", "--print", "--port", "1", "--", "--port", "2")
    assert shown.stdout.split()[-2:] == ["--port", "2"]
    assert "--port 1 " in shown.stdout


def test_a_command_that_hands_over_ends_with_the_other_processs_status(tmp_path: Path) -> None:
    """2 for wrong use and wrong settings, 1 for a failure, and a line without a traceback."""
    wrong = run("serve", "--port", "70000")
    assert (wrong.returncode, wrong.stderr.startswith("EDITTHINKER_PORT: Input should be ")) == (2, True)
    unknown = run("keys", "destroy")
    assert (unknown.returncode, "No such command 'destroy'" in unknown.stderr) == (2, True)
    away = run("keys", "list", env={"EDITTHINKER_REDIS_URL": "redis://127.0.0.1:1/0"})
    assert (away.returncode, away.stderr.count("\n")) == (1, 1)


def test_the_version_is_printed() -> None:
    assert re.fullmatch(r"editthinker \d+\.\d+\.\d+\n", run("--version").stdout)


def test_the_shell_completes_commands() -> None:
    script = Path(sys.executable).with_name("editthinker")
    env = {"_EDITTHINKER_COMPLETE": "complete_bash", "COMP_WORDS": "editthinker ses", "COMP_CWORD": "1"}
    done = subprocess.run([str(script)], env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["sessions"], done.stderr
