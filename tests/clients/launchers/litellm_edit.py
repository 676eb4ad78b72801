"""LiteLLM's `image_edit`; writes the picture in base64."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import litellm

pictures = [Path(path).open("rb") for path in sys.argv[1:]]  # noqa: SIM115 - as LiteLLM's documentation shows it
reply = litellm.image_edit(
    model="openai/gpt-image-1",
    image=pictures if len(pictures) > 1 else pictures[0],
    prompt=os.environ["PROMPT"],
    api_base=os.environ["BASE_URL"],
    api_key=os.environ["API_KEY"],
)
sys.stdout.write(reply.data[0].b64_json)
