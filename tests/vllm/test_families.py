"""The launcher serves Qwen2.5-VL too."""

from __future__ import annotations

from pathlib import Path

import httpx

from services.protocol.critique.formats import FORMATS
from services.protocol.critique.messages import Critique
from services.protocol.critique.replies import Reply, read_completion
from tests.vllm.serving import serve, write_model
from tests.vllm.test_server import ask, body


def test_a_qwen2_5_vl_critiques_too(tmp_path: Path) -> None:
    """Its processor takes other limits of a picture's area: 28 x 28 pixels a token, both ends given."""
    form = FORMATS["editthinker"].bind()
    request = body("editthinker", side=1600, seed=1, **form.constraint("regex"))
    model = write_model("qwen2_5_vl", tmp_path)
    with serve("tiny", model, tmp_path) as process, httpx.Client(base_url=process.url, timeout=180, trust_env=False) as client:
        answer = ask(client, request)
    reply = read_completion(answer)
    assert isinstance(reply, Reply)
    assert isinstance(form.parse(reply), Critique)
    assert answer["usage"]["prompt_tokens_details"]["multimodal_tokens"]["image"] <= 2 * (1024 / 28) ** 2
