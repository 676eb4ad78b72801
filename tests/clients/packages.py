"""Clients with environments of their own: LiteLLM and its proxy, Pydantic AI, and the field's load generators."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import openai
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tests.clients.server import PROMPT, Check, Client, Server, server
from tests.doubles.processes import free_port, start, wait_ready

LAUNCHERS = Path(__file__).parent / "launchers"
_OFFLINE = {"HF_HUB_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
"""No client may wait for a hub that is not reached from a test."""


def _installed(running: Server, name: str) -> Path:
    assert running.packages, "set EDITTHINKER_CLIENTS, or run `make test-clients`"
    return running.packages / name


def _version(name: str) -> Callable[[Server], str]:
    def version(running: Server) -> str:
        lines = (_installed(running, name) / "installed").read_text().splitlines()
        return next(line for line in lines if line.startswith(name)).partition("==")[2]

    return version


def _run(running: Server, program: Path | str, *arguments: str, seconds: float = 300, **env: str) -> str:
    """What a program writes."""
    given = {"BASE_URL": running.base_url, "API_KEY": running.key, "OPENAI_API_KEY": running.key, "PROMPT": PROMPT}
    done = subprocess.run(
        [str(program), *arguments],
        env={**os.environ, **_OFFLINE, **given, "HOME": str(running.folder), **env},
        cwd=running.folder,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-12:])
    return done.stdout


def _edit(name: str, script: str, *pictures: str) -> Callable[[Server], None]:
    def run(running: Server) -> None:
        paths = [str(running.folder / picture) for picture in pictures]
        running.check(_run(running, _installed(running, name) / "bin/python", str(LAUNCHERS / script), *paths).strip())

    return run


LITELLM = Client("LiteLLM", _version("litellm"), "`image_edit`; the newest version whose proxy could be installed")
PROXY = Client("LiteLLM proxy", _version("litellm"), "openai-python through it; a model of its list is `openai/…` with our URL")
PYDANTIC = Client("Pydantic AI", _version("pydantic-ai"), "`ImageGenerator`")


def _proxy(running: Server, *, pictures: tuple[str, ...], model: str) -> None:
    """The openai client, through the proxy."""
    params = {"model": f"openai/{model}", "api_base": running.base_url, "api_key": running.key}
    models = [{"model_name": "retouch", "litellm_params": params, "model_info": {"mode": "image_edit"}}]
    config = running.folder / "litellm.yaml"
    config.write_text(json.dumps({"model_list": models, "general_settings": {"master_key": "sk-proxy"}}))
    port = free_port()
    program = _installed(running, "litellm") / "bin/litellm"
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    process = start(command, port, running.folder / "litellm.log", {**_OFFLINE, "HOME": str(running.folder)})
    try:
        wait_ready(process, "/health/liveliness", seconds=180)
        with openai.OpenAI(base_url=f"{process.url}/v1", api_key="sk-proxy", max_retries=0) as client, running.one_session():
            images = [running.folder / picture for picture in pictures]
            reply = client.images.edit(image=images if len(images) > 1 else images[0], prompt=PROMPT, model="retouch")
        assert reply.data
        running.check(reply.data[0].b64_json)
    finally:
        process.stop()


AIPERF = Client("AIPerf", _version("aiperf"), "`--endpoint-type image_edit`")
VLLM_OMNI = Client(
    "`vllm bench serve --omni`",
    _version("vllm-omni"),
    "the load generator of the wheel; it does not start next to our vLLM as it is",
)
SGLANG = Client(
    "SGLang `bench_serving`", _version("sglang"), "the load generator of the wheel; it sends no key, so the server has none"
)


def _tokenizer(folder: Path) -> Path:
    """A tokenizer of bytes: AIPerf counts an instruction's tokens with one, and would fetch its own."""
    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(alphabet, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    made = folder / "tokenizer"
    made.mkdir(exist_ok=True)
    tokenizer.save(str(made / "tokenizer.json"))
    (made / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    return made


def _aiperf(*dataset: str) -> Callable[[Server], None]:
    def run(running: Server) -> None:
        rows = [{"text": PROMPT, "image": str(running.photo)}]
        (running.folder / "edits.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        with tempfile.TemporaryDirectory() as folder:
            _run(
                running,
                _installed(running, "aiperf") / "bin/aiperf",
                *("profile", "--model", "gpt-image-1", "--url", running.url, "--api-key", running.key),
                *(
                    "--endpoint-type",
                    "image_edit",
                    "--tokenizer",
                    str(_tokenizer(running.folder)),
                    "--request-count",
                    "3",
                    "--concurrency",
                    "2",
                ),
                *("--artifact-dir", folder, "--ui", "none", "--no-gpu-telemetry", "--no-server-metrics"),
                *dataset,
                # Offline, it takes a folder for the name of a cached repository.
                HF_HUB_OFFLINE="",
            )
            (report,) = Path(folder).rglob("profile_export_aiperf.json")
            seen = json.loads(report.read_text())
        assert seen["request_count"]["avg"] == 3, seen.get("error_summary")

    return run


def _vllm_omni(running: Server) -> None:
    vllm = os.environ.get("EDITTHINKER_VLLM")
    assert vllm, "set EDITTHINKER_VLLM, or run `make test-clients`"
    row = {"prompt": PROMPT, "image_files": [str(running.photo)]}
    (running.folder / "edits.jsonl").write_text(f"{json.dumps(row)}\n")
    text = _run(
        running,
        Path(vllm).absolute().with_name("python"),
        *(str(LAUNCHERS / "vllm_omni_bench.py"), str(_installed(running, "vllm-omni"))),
        *("--backend", "openai-image-edits-omni", "--endpoint", "/v1/images/edits", "--base-url", running.url),
        *("--model", "gpt-image-1", "--dataset-name", "custom_image", "--dataset-path", "edits.jsonl", "--skip-tokenizer-init"),
        *("--num-prompts", "2", "--max-concurrency", "1"),
    )
    figures = dict(line.rsplit(maxsplit=1) for line in text.splitlines() if ":" in line and len(line.split()) > 1)
    assert figures.get("Successful requests:") == "2", text[-600:]


def _sglang(running: Server) -> None:
    # VBench's folders.
    dataset = running.folder / "vbench/data/i2v-bench-info.json"
    (dataset.parent / "origin").mkdir(parents=True, exist_ok=True)
    dataset.write_text(json.dumps([{"file_name": "photo.png", "caption": PROMPT}]))
    (dataset.parent / "origin/photo.png").write_bytes(running.photo.read_bytes())
    with tempfile.TemporaryDirectory() as folder, server(Path(folder), keys=False) as open_server:
        output = open_server.folder / "metrics.json"
        _run(
            running,
            _installed(running, "aiperf") / "bin/python",
            *(str(LAUNCHERS / "sglang_bench.py"), str(_installed(running, "sglang"))),
            *("--base-url", open_server.url, "--model", "classical", "--task", "image-to-image", "--dataset", "vbench"),
            *("--dataset-path", str(dataset), "--num-prompts", "2", "--max-concurrency", "1", "--output-file", str(output)),
            seconds=120,
        )
        seen = json.loads(output.read_text())
    assert (seen["completed_requests"], seen["failed_requests"]) == (2, 0), seen


CLIENTS = (LITELLM, PROXY, PYDANTIC, AIPERF, VLLM_OMNI, SGLANG)
CHECKS = (
    Check(LITELLM.name, "a file", _edit("litellm", "litellm_edit.py", "photo.png")),
    Check(LITELLM.name, "two pictures", _edit("litellm", "litellm_edit.py", "photo.png", "second.jpg")),
    Check(PROXY.name, "a file", partial(_proxy, pictures=("photo.png",), model="classical")),
    Check(PROXY.name, "two pictures", partial(_proxy, pictures=("photo.png", "second.jpg"), model="gpt-image-1")),
    Check(PYDANTIC.name, "a picture", _edit("pydantic-ai", "pydantic_ai_edit.py", "photo.png")),
    Check(PYDANTIC.name, "two pictures", _edit("pydantic-ai", "pydantic_ai_edit.py", "photo.png", "second.jpg")),
    Check(AIPERF.name, "an input file", _aiperf("--input-file", "edits.jsonl", "--custom-dataset-type", "single_turn")),
    Check(AIPERF.name, "synthetic pictures", _aiperf("--image-width-mean", "96", "--image-height-mean", "96")),
    Check(VLLM_OMNI.name, "pictures as `url` fields", _vllm_omni),
    Check(SGLANG.name, "image-to-image", _sglang),
)
