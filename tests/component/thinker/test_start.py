"""Starting a thinker: settings from options and environment, and refusals of invalid ones."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from services.thinker import __main__ as command
from services.thinker.settings import Settings


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("EDITTHINKER_THINKER_")]:
        monkeypatch.delenv(name)


def _start(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    monkeypatch.setattr(sys, "argv", ["thinker", *words])
    with pytest.raises(SystemExit) as ended:
        command.main()
    return ended.value.code


@pytest.fixture
def fake_vllm(tmp_path: Path) -> Path:
    """An executable that prints its arguments."""
    path = tmp_path / "vllm"
    path.write_text(f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps([os.getpid(), *sys.argv[1:]]))\n", "utf-8")
    path.chmod(0o755)
    return path


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITTHINKER_THINKER_WORKERS", "5")
    nothing: dict[str, Any] = {}
    settings = Settings(**nothing)
    assert settings.workers == 5
    assert settings.profile == "rules"
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(("name", "value"), [("WORKERS", "0"), ("PORT", "99999"), ("PROFILE", "gpt"), ("LOG_LEVEL", "loud")])
def test_invalid_settings_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    monkeypatch.setenv(f"EDITTHINKER_THINKER_{name}", value)
    assert _start(monkeypatch) == 2
    assert f"EDITTHINKER_THINKER_{name}" in capsys.readouterr().err


def test_options_choose_profile_and_address(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Settings] = []
    monkeypatch.setattr(command, "_rules", served.append)
    assert _start(monkeypatch, "--profile", "rules", "--host", "0.0.0.0", "--port", "0", "--model", "m") == 0
    assert (served[0].host, served[0].port, served[0].model) == ("0.0.0.0", 0, "m")


def test_the_embedded_thinker_takes_no_arguments_of_vllm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt option is refused, not ignored."""
    assert _start(monkeypatch, "--prot", "8200") == 2
    assert "--prot 8200" in capsys.readouterr().err


def test_an_invalid_user_profile_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Naming the setting, the profile and the key."""
    (tmp_path / "own.toml").write_text('[mine]\nextends = "qwen3-vl-8b"\nmax_model_length = 9\n', "utf-8")
    monkeypatch.setenv("EDITTHINKER_THINKER_PROFILES", str(tmp_path / "own.toml"))
    assert _start(monkeypatch) == 2
    error = capsys.readouterr().err
    assert "EDITTHINKER_THINKER_PROFILES: [mine] max_model_length: there is no such key" in error


def test_print_shows_the_command_and_runs_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Arguments after -- come last, so they win; a key is masked; vLLM need not be installed."""
    monkeypatch.setenv("PATH", "")
    words = ["--profile", "qwen3-vl-8b", "--print", "--port", "1234", "--", "--max-num-seqs", "3", "--api-key", "hush"]
    assert _start(monkeypatch, *words) == 0
    printed = shlex.split(capsys.readouterr().out)
    assert printed[1:3] == ["serve", "Qwen/Qwen3-VL-8B-Instruct"]
    assert printed[printed.index("--port") + 1] == "1234"
    assert printed[-4:] == ["--max-num-seqs", "3", "--api-key", "***"]


def test_show_prints_the_orchestrator_s_setting(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A variable that the orchestrator's settings accept."""
    from orchestrator.upstreams.registry import ThinkerSettings  # noqa: PLC0415

    assert _start(monkeypatch, "--profile", "editthinker-8b", "--show") == 0
    profile, _, line = capsys.readouterr().out.partition("EDITTHINKER_THINKERS=")
    assert json.loads(profile)["model"] == "appletea2333/EditThinker-8B"
    entry = json.loads(shlex.split(line)[0])["editthinker-8b"]
    thinker = ThinkerSettings(**entry)
    assert (thinker.url, thinker.format, thinker.constraint) == ("http://127.0.0.1:8200/v1", "editthinker", "regex")


def test_show_prints_the_default_profile_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It is served without vLLM, and the setting is the same kind."""
    from orchestrator.upstreams.registry import ThinkerSettings  # noqa: PLC0415

    assert _start(monkeypatch, "--show", "--port", "8201") == 0
    profile, _, line = capsys.readouterr().out.partition("EDITTHINKER_THINKERS=")
    thinker = ThinkerSettings(**json.loads(shlex.split(line)[0])["rules"])
    assert json.loads(profile) == {"profile": "rules"}
    assert (thinker.url, thinker.model, thinker.format) == ("http://127.0.0.1:8201/v1", "rules", "editthinker")


def test_the_process_becomes_vllm(fake_vllm: Path) -> None:
    """The same process, after printing the command; arguments of vLLM pass through with and without the separator."""
    words = ["--profile", "tiny", "--model", "/m", "--max-num-seqs", "3", "--", "--seed", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "services.thinker", *words],
        env={**os.environ, "EDITTHINKER_THINKER_VLLM": str(fake_vllm)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, printed = process.communicate(timeout=60)
    pid, *called = json.loads(out)
    assert pid == process.pid
    assert called[:2] == ["serve", "/m"]
    assert called[-4:] == ["--max-num-seqs", "3", "--seed", "1"]
    warning, command = printed.splitlines()
    assert "EDITTHINKER_THINKER_REVISION" in warning
    assert shlex.split(command) == [str(fake_vllm), *called]


@pytest.mark.parametrize(("given", "message"), [(None, "pip install vllm"), ("/no/such/vllm", "EDITTHINKER_THINKER_VLLM")])
def test_without_vllm_it_fails_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, given: str | None, message: str
) -> None:
    """With status 2."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    if given is not None:
        monkeypatch.setenv("EDITTHINKER_THINKER_VLLM", given)
    assert _start(monkeypatch, "--profile", "tiny") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_reasoning_parser_causes_a_warning(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It is passed on nevertheless."""
    assert _start(monkeypatch, "--profile", "tiny", "--print", "--", "--reasoning-parser", "qwen3") == 0
    printed = capsys.readouterr()
    assert "warning: --reasoning-parser" in printed.err
    assert printed.out.endswith("--reasoning-parser qwen3\n")


def test_a_vllm_profile_imports_nothing_of_the_embedded_thinker(tmp_path: Path) -> None:
    """Nor vLLM: the launcher imports only packages of vLLM's environment."""
    code = (
        "import sys; sys.argv = ['t', '--profile', 'tiny', '--print']; from services.thinker.__main__ import main; main();"
        "sys.exit(any(name in sys.modules for name in ('vllm', 'numpy', 'cv2', 'torch', 'uvicorn', 'fastapi', 'structlog')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60).returncode == 0


def test_vllm_gets_its_key_in_the_environment_only(tmp_path: Path) -> None:
    """In its environment, not among its arguments, and not in the printed command."""
    path = tmp_path / "vllm"
    path.write_text(
        f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps([os.environ['VLLM_API_KEY'], *sys.argv]))\n", "utf-8"
    )
    path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "services.thinker", "--profile", "tiny", "--model", "/m"],
        env={**os.environ, "EDITTHINKER_THINKER_VLLM": str(path), "EDITTHINKER_THINKER_API_KEY": "s3cret"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    key, *words = json.loads(done.stdout)
    assert key == "s3cret"
    assert "s3cret" not in done.stderr + " ".join(words)
