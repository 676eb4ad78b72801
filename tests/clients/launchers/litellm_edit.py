"""LiteLLM's `image_edit`; writes the picture in base64."""

from __future__ import annotations

import os
import sys

import litellm

paths = sys.argv[1:]
pictures = [open(path, "rb") for path in paths]  # noqa: SIM115 - as LiteLLM's documentation shows it
reply = litellm.image_edit(
    model="openai/gpt-image-1",
    image=pictures if len(pictures) > 1 else pictures[0],
    prompt=os.environ["PROMPT"],
    api_base=os.environ["BASE_URL"],
    api_key=os.environ["API_KEY"],
)
sys.stdout.write(reply.data[0].b64_json)
