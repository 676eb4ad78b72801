"""What `editthinker eval` and `editthinker export` say of broken folders, data, pictures, servers and disks: one line each, which
names what is wrong, and never a traceback.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from editthinker.cli.app import app
from tests.doubles.chat_judge import chat_judge
from tests.doubles.layouts import picture
from tests.doubles.runs import made_run
from tests.integration.test_cli_commands import command

NOWHERE = "http://127.0.0.1:9"
JUDGE = ("--judge-url", f"{NOWHERE}/v1", "--judge-model", "m")
DEEP = "[" * 100_000
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_run(tmp_path_factory.mktemp("made"), ["own"], 3)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "run")


def refused(*words: object) -> str:
    """The one line that a command ends with."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code in {1, 2}, done.output
    assert isinstance(done.exception, SystemExit), done.exception
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("editthinker: ")]
    return line


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest of a run."""
    manifest = json.loads((folder / "run.json").read_text())
    change(manifest)
    (folder / "run.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "run.json: Input should be a valid dictionary"),
        ("{}", "run.json: version: Field required"),
        ("", "run.json is not JSON"),
        (DEEP, "run.json is not JSON: maximum recursion depth"),
        ('{"version": 2}', "run.json is of version 2, and this editthinker reads 1"),
        ('{"version": 1, "arms": [], "datasets": {}}', "run.json: arms: Input should be a valid dictionary"),
        ('{"version": 1, "arms": {}, "datasets": {"own": {}}}', "run.json: datasets.own.path: Field required"),
        ('{"version": 1, "arms": {}, "datasets": {"own": {"path": 3}}}', "run.json: datasets.own.path: Input should be"),
        ('{"version": 1, "arms": {}, "datasets": {"x": {"path": "/x"}}}', "run.json: datasets.x"),
        ('{"version": 1, "arms": {}, "datasets": {"own": {"path": "/nowhere"}}}', "/nowhere does not exist"),
    ],
)
def test_a_manifest_that_is_none(text: str, said: str, folder: Path) -> None:
    data = folder.parent / "data"
    data.mkdir()
    (data / "a.png").write_bytes(picture(1))
    (folder / "run.json").write_text(text)
    assert said in refused("eval", "report", folder)
    assert said in refused("eval", "score", folder, *JUDGE)
    if "does not exist" not in said:
        assert said in refused("eval", "run", folder, "--data", f"own={data}", "--instruction", "x", "--server", NOWHERE)


def test_a_journal_of_others_is_read_as_far_as_it_can_be(folder: Path) -> None:
    journal = folder / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    lines[0]["row"]["overall"] = "good"
    lines[1]["row"]["output"] = "../../secret.png"
    lines[2]["row"] |= {"instruction": "\ud800 sepia", "arm": "\x1b[31msingle"}
    journal.write_text(f"{DEEP}\n" + "".join(json.dumps(line) + "\n" for line in lines))
    done = CliRunner().invoke(app, ["eval", "report", str(folder)])
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.output and len((folder / "results.jsonl").read_text().splitlines()) == len(lines) - 2
    (folder / "journal.jsonl").write_text(DEEP)
    assert "the run has no results" in refused("eval", "report", folder)


@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda _: b"junk", None])
def test_a_result_that_cannot_be_read(damage: Callable[[bytes], bytes] | None, folder: Path) -> None:
    path = next((folder / "own/think").glob("*.png"))
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    assert str(path) in refused("eval", "export", folder, "--as", "geditv2", "-o", folder.parent / "gallery")
    assert CliRunner().invoke(app, ["eval", "report", str(folder)]).exit_code == 0
    assert "think: cannot be read" in (folder / "report.html").read_text()
    if damage is None:
        assert "repeat `editthinker eval run`" in refused("eval", "compare", folder, "--judge", f"a:url={NOWHERE}/v1,model=m")


ROWS: list[tuple[str, str]] = [
    ("", "items.jsonl: there are no items"),
    ("{x", "line 1 is not JSON"),
    (DEEP, "line 1 is not JSON: maximum recursion depth"),
    ("[]", "line 1: expected an object, found a list"),
    ('{"image": "a.png"}', "line 1: the field instruction or prompt is missing"),
    ('{"instruction": "x"}', "line 1: the field image is missing"),
    ('{"instruction": "x", "image": 3}', "line 1: the field image is a number"),
    ('{"instruction": "x", "image": "b.png"}', "line 1: the field image names a file that does not exist"),
    ('{"instruction": "x", "image": "/etc/passwd"}', "line 1: the field image leads out of"),
    ('{"instruction": "\\ud800", "image": "a.png"}', "line 1: the field instruction has half of a surrogate pair"),
    ('{"id": "../x", "instruction": "x", "image": "a.png"}', "line 1: '../x' cannot be a file name"),
    ('{"id": "\\udfff", "instruction": "x", "image": "a.png"}', "cannot be a file name"),
    (json.dumps({"id": "x" * 300, "instruction": "x", "image": "a.png"}), "has 300 bytes as a file name; at most 200"),
]


@pytest.mark.parametrize(("row", "said"), ROWS)
def test_a_table_of_ones_own_that_is_broken(row: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text(row + "\n" if row else "")
    (tmp_path / "a.png").write_bytes(picture(1))
    assert said in refused("eval", "run", tmp_path / "out", "--data", f"own={tmp_path}", "--server", NOWHERE)


def test_tables_and_folders_that_are_broken(tmp_path: Path) -> None:
    for name, data, said in (
        ("a.csv", b"id,image\n\xff", "a.csv: 'utf-8' codec"),
        ("a.json", DEEP.encode(), "a.json is not JSON"),
        ("a.parquet", b"PAR1", "the file is damaged, or no parquet file"),
    ):
        (tmp_path / name).write_bytes(data)
        assert said in refused("eval", "run", tmp_path / "out", "--data", f"own={tmp_path / name}", "--server", NOWHERE)
    empty = tmp_path / "empty"
    empty.mkdir()
    for kind in ("imgedit", "gedit", "risebench", "krisbench", "own"):
        assert str(empty) in refused("eval", "run", tmp_path / "out", "--data", f"{kind}={empty}", "--instruction", "x")
    (empty / os.fsdecode(b"\xff.png")).write_bytes(picture(1))
    said = refused("eval", "run", tmp_path / "out", "--data", f"own={empty}", "--instruction", "x")
    assert "cannot be a file name" in said


def test_a_parquet_file_that_is_damaged_within(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"instruction": ["x" * 1000] * 99, "image": [picture(1)] * 99}), path, compression="none")
    data = bytearray(path.read_bytes())
    data[50:400] = b"\xff" * 350
    path.write_bytes(data)
    assert "items.parquet: " in refused("eval", "run", tmp_path / "out", "--data", f"own={path}", "--server", NOWHERE)


def test_a_path_that_is_not_utf_8_is_as_good_as_any(tmp_path: Path) -> None:
    data = tmp_path / os.fsdecode(b"\xe9")
    data.mkdir()
    (data / "a.png").write_bytes(picture(1))
    words = ("eval", "run", tmp_path / "out", "--data", f"own={data}", "--instruction", "x", "--server", NOWHERE)
    for _ in range(2):  # the second reads what the first wrote
        assert "cannot connect" in refused(*words)
    assert "no results" in refused("eval", "report", tmp_path / "out")


def test_a_server_or_judge_that_is_none(folder: Path, tmp_path: Path) -> None:
    data = folder.parent / "data"
    data.mkdir()
    (data / "a.png").write_bytes(picture(1))
    run = ("eval", "run", tmp_path / "out", "--data", f"own={data}", "--instruction", "x", "--server")
    assert "is the server running?" in refused(*run, NOWHERE)
    assert "is not the URL of a server" in refused(*run, f"http://{'a' * 70}.example")
    assert "does the judge run, and is this its URL?" in refused("eval", "score", folder, *JUDGE)
    assert "'x' is not the URL of a judge" in refused("eval", "score", folder, "--judge-url", "x", "--judge-model", "m")
    votes = tmp_path / "votes.jsonl"
    votes.write_text(json.dumps({"choice": "a", "a": {"session_id": "ses_1"}, "b": {}}) + "\n")
    judge = ("--judge", f"a:url={NOWHERE}/v1,model=m", "--votes", votes)
    assert "is the server running?" in refused("eval", "compare", folder, *judge, "--server", NOWHERE)
    assert "is the server running?" in refused("export", "--as", "trl", "-o", tmp_path / "e", "--server", NOWHERE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "is not the manifest of an export"),
        ("{}", "is not the manifest of an export"),
        (DEEP, "is not the manifest of an export (maximum recursion depth"),
        ('{"version": 2}', "is of version 2, and not 1"),
        ('{"version": 1}', "is not the manifest of an export ('options')"),
        ('{"version": 1, "options": {}, "cursor": []}', "is not the manifest of an export"),
    ],
)
def test_an_export_into_a_folder_of_something_else(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    assert said in refused("export", "--as", "trl", "-o", tmp_path, "--server", NOWHERE)


def test_an_export_whose_index_is_damaged(tmp_path: Path) -> None:
    refused("export", "--as", "trl", "-o", tmp_path, "--server", NOWHERE)
    (tmp_path / ".seen.sqlite").write_bytes(b"junk" * 1000)
    assert ".seen.sqlite: file is not a database" in refused("export", "--as", "trl", "-o", tmp_path, "--server", NOWHERE)


def no_space(kibibytes: int, *words: object) -> str:
    """What a command says whose files cannot be larger, as on a disk that is full."""
    script = f'ulimit -f {kibibytes}; exec "$@"'
    done = subprocess.run(["bash", "-c", script, "_", *command(*words)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    return done.stderr


def test_a_full_disk_is_told_with_the_file_that_has_no_space(folder: Path, tmp_path: Path) -> None:
    assert f"{folder / 'report.html'}: File too large" in no_space(1, "eval", "report", folder)
    assert "data-00000-of-00001.parquet: File too large" in no_space(
        1, "eval", "export", folder, "--as", "genarena", "-o", tmp_path / "a"
    )
    assert ".png: File too large" in no_space(1, "eval", "export", folder, "--as", "geditv2", "-o", tmp_path / "g")
    with chat_judge(lambda *_: '{"score": [8, 7]}') as judge:
        said = no_space(1, "eval", "score", folder, "--judge-url", judge.url, "--judge-model", "m")
    assert f"{folder / 'replies.jsonl'}: File too large" in said
    assert ".seen.sqlite: disk I/O error" in no_space(1, "export", "--as", "trl", "-o", tmp_path / "t", "--server", NOWHERE)


def test_a_gallery_stays_in_its_folder(tmp_path: Path) -> None:
    folder = made_run(tmp_path, ["own"], 2, {"one": {}})
    table = folder.parent / "data/own/items.jsonl"
    rows = [json.loads(line) | {"group": f"../../{EVIL}"} for line in table.read_text().splitlines()]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "x" / "y" / "gallery"
    done = CliRunner().invoke(app, ["eval", "export", str(folder), "--as", "geditv2", "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert [path.relative_to(tmp_path).as_posix() for path in (tmp_path / "x").glob("*/*")] == ["x/y/gallery"]
    assert len(list((out / "one").glob("*.png"))) == 2
    named = made_run(tmp_path / "2", ["own"], 1, {"source": {}})
    assert "an arm is named 'source'" in refused("eval", "export", named, "--as", "geditv2", "-o", tmp_path / "z")


def test_judges_with_hostile_names_and_a_huge_instruction(tmp_path: Path) -> None:
    folder = made_run(tmp_path, ["own"], 2)
    table = folder.parent / "data/own/items.jsonl"
    rows = [json.loads(line) | {"instruction": f"{EVIL} " + "word " * 200_000} for line in table.read_text().splitlines()]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with chat_judge(lambda *_: '{"score": [8, 7]}') as judge:
        asked = ("--judge-url", judge.url, "--judge-model", "m", "--name", f"j{EVIL}\x1b]52;")
        done = CliRunner().invoke(app, ["eval", "score", str(folder), *asked])
        assert done.exit_code == 0, done.output
        named = f"k{EVIL}:url={judge.url},model={EVIL}"
        compared = CliRunner().invoke(app, ["eval", "compare", str(folder), "--judge", named])
        assert compared.exit_code == 0, compared.output
    reported = CliRunner().invoke(app, ["eval", "report", str(folder)])
    assert "\x1b" not in reported.output
    for name in ("report.html", "compare.html"):
        page = (folder / name).read_text()
        assert EVIL not in page and "\x1b" not in page and len(page) < 2**20
        assert "&lt;img src=x onerror=alert(1)&gt;" in page
