"""Requests of programs that are not installed here, part by part as their sources make them.

Each shape names where it was read; what the program takes from the answer is checked too.
"""

from __future__ import annotations

import asyncio
import base64
import io
import uuid
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import httpx
import openai

from tests.clients.server import PROMPT, Check, Client, Server

OPEN_WEBUI = Client(
    "Open WebUI",
    lambda _: "02530d50 (replayed)",
    "Images, Edit: engine OpenAI, our base URL; a second turn sends two pictures",
)
LIBRECHAT = Client("LibreChat", lambda _: "00b3bc32 (replayed)", "`IMAGE_GEN_OAI_BASEURL`; it asks for gpt-image-1")
N8N = Client("n8n", lambda _: "2475cbe0 (replayed)", "OpenAI node, Edit Image; the base URL is in its credential")
DIFY = Client("Dify", lambda _: "7af22831 (replayed)", "OpenAI tool, GPT Image Edit: `openai_base_url`; openai-python")

Parts = list[tuple[str, tuple[str | None, bytes, str | None]]]
_TYPES = {".png": "image/png", ".jpg": "image/jpeg"}


def _open_webui(pictures: tuple[str, ...], model: str) -> Check:
    """open-webui/open-webui @02530d50, ``backend/open_webui/routers/images.py``: ``image_edits``, engine ``openai``.

    aiohttp's form: the texts first; one picture as ``image``, a list as ``image[]``; names are UUIDs. Models whose name begins
    with gpt-image are not asked for base64.
    """

    async def send(server: Server) -> bytes:
        form = aiohttp.FormData()
        fields = {"model": model, "prompt": PROMPT}
        if not model.startswith("gpt-image"):
            fields["response_format"] = "b64_json"
        for name, value in fields.items():
            form.add_field(name, value)
        part = "image" if len(pictures) == 1 else "image[]"
        for picture in pictures:
            path = server.folder / picture
            data = io.BytesIO(path.read_bytes())
            form.add_field(part, data, filename=f"{uuid.uuid4()}{path.suffix}", content_type=_TYPES[path.suffix])
        headers = {"Authorization": f"Bearer {server.key}"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{server.base_url}/images/edits", headers=headers, data=form) as reply,
        ):
            return await reply.read()

    name = f"{'first turn' if len(pictures) == 1 else 'second turn, two pictures'}, model {model}"
    return Check(OPEN_WEBUI.name, name, lambda server: _first(server, asyncio.run(send(server))), light=True)


def _first(server: Server, reply: bytes, size: tuple[int, int] = (240, 160)) -> None:
    server.check_reply(reply, size=size)


def _file(path: Path, name: str) -> tuple[str, bytes, str]:
    return (name, path.read_bytes(), _TYPES[path.suffix])


def _parts(server: Server, parts: Parts, *, chunked: bool = False) -> bytes:
    """Send parts in this order, as the npm package form-data does."""
    files = [(name, value) for name, value in parts]
    with server.api() as client:
        request = client.build_request("POST", "/v1/images/edits", files=files)
        content = request.read()
        kind = {"content-type": request.headers["content-type"]}

        def pieces() -> Iterator[bytes]:
            for begin in range(0, len(content), 65536):
                yield content[begin : begin + 65536]

        reply: httpx.Response = client.post("/v1/images/edits", content=pieces() if chunked else content, headers=kind)
        return reply.content


def _text(value: str) -> tuple[None, bytes, None]:
    return (None, value.encode(), None)


def _librechat(*pictures: str) -> Check:
    """danny-avila/LibreChat @00b3bc32, ``api/app/clients/tools/structured/OpenAIImageTools.js``: ``image_edit_oai``.

    Texts first, then ``image[]`` as streams of unknown length, so the body is chunked; the answer's base64 is shown.
    """

    def run(server: Server) -> None:
        texts = {"model": "gpt-image-1", "prompt": PROMPT, "quality": "auto", "size": "auto"}
        parts: Parts = [(name, _text(value)) for name, value in texts.items()]
        parts += [("image[]", _file(server.folder / picture, f"{uuid.uuid4()}__{picture}")) for picture in pictures]
        _first(server, _parts(server, parts, chunked=True))

    return Check(LIBRECHAT.name, f"{len(pictures)} picture{'s' if len(pictures) > 1 else ''}", run, light=True)


def _n8n(size: str, *pictures: str, **options: str) -> Check:
    """n8n-io/n8n @2475cbe0, ``packages/@n8n/nodes-langchain/nodes/vendors/OpenAi/v2/actions/image/edit.operation.ts``.

    The pictures come before the texts; ``n``, ``size`` and ``quality`` are always sent, options when they were added.
    """

    model = "gpt-image-1.5" if len(pictures) == 1 else "gpt-image-1"

    def run(server: Server) -> None:
        parts: Parts = [("image[]", _file(server.folder / picture, picture)) for picture in pictures]
        texts = {"prompt": PROMPT, "model": model, "n": "1", "size": size, **options, "quality": "auto"}
        parts += [(name, _text(value)) for name, value in texts.items()]
        wanted = (240, 160) if size == "auto" else (1024, 1024)
        form = {"webp": "WEBP"}.get(options.get("output_format", ""), "PNG")
        server.check_reply(_parts(server, parts), form, wanted)

    chosen = ", ".join([f"size {size}", *(f"{name} {value}" for name, value in options.items())])
    return Check(N8N.name, f"{len(pictures)} picture{'s' if len(pictures) > 1 else ''}, {chosen}", run, light=size == "auto")


def _dify(server: Server) -> None:
    """langgenius/dify-official-plugins @7af22831, ``tools/openai/tools/gpt_image_edit.py``: a list, and ``n`` always."""
    file = io.BytesIO(server.photo.read_bytes())
    file.name = "input_image.png"
    with openai.OpenAI(base_url=server.base_url, api_key=server.key, organization=None) as client:
        reply = client.images.edit(model="gpt-image-1", prompt=PROMPT, image=[file], n=1, quality="high")
    assert reply.data
    server.check(base64.b64decode(reply.data[0].b64_json or ""))
    assert reply.usage is None or reply.usage.total_tokens >= 0


def _vllm_omni(server: Server) -> None:
    """vllm-project/vllm-omni 0.30.0, ``vllm_omni/benchmarks/patch/patch.py``: pictures as text parts ``url`` with data URLs."""
    texts = {"model": "gpt-image-1", "prompt": PROMPT, "response_format": "b64_json", "output_format": "png"}
    texts |= {"stream": "false", "size": "auto", "url": server.data_url}
    _first(server, _parts(server, [(name, _text(value)) for name, value in texts.items()]))


def _sglang(server: Server) -> None:
    """sgl-project/sglang 0.5.23, ``python/sglang/multimodal_gen/benchmarks/bench_serving.py``: ``image``, octets."""
    texts = {"model": "gpt-image-1", "prompt": PROMPT, "response_format": "b64_json", "n": "1"}
    parts: Parts = [(name, _text(value)) for name, value in texts.items()]
    parts.append(("image", ("photo.png", server.photo.read_bytes(), "application/octet-stream")))
    _first(server, _parts(server, parts))
    assert httpx.get(f"{server.url}/health", trust_env=False).status_code == 200, "it waits for /health"


GENERATORS = Client("load generators' requests", lambda _: "vllm-omni 0.30.0, SGLang 0.5.23 (replayed)")

CLIENTS = (OPEN_WEBUI, LIBRECHAT, N8N, DIFY, GENERATORS)
CHECKS = (
    _open_webui(("photo.png",), "gpt-image-1"),
    _open_webui(("photo.png",), "classical"),
    _open_webui(("photo.png", "second.jpg"), "gpt-image-1"),
    _librechat("photo.png"),
    _librechat("photo.png", "second.jpg"),
    _n8n("auto", "photo.png"),
    _n8n("1024x1024", "photo.png"),
    _n8n("auto", "photo.png", "second.jpg"),
    _n8n("auto", "photo.png", background="auto", input_fidelity="low", output_format="webp", output_compression="90"),
    Check(DIFY.name, "a list with one picture, quality high", _dify, light=True),
    Check(GENERATORS.name, "vllm-omni", _vllm_omni, light=True),
    Check(GENERATORS.name, "SGLang", _sglang, light=True),
)
