"""Pydantic AI's `ImageGenerator` with input pictures; writes the picture in base64."""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path

from pydantic_ai import BinaryImage
from pydantic_ai.images import ImageGenerator
from pydantic_ai.images.openai import OpenAIImageGenerationModel
from pydantic_ai.providers.openai import OpenAIProvider

provider = OpenAIProvider(base_url=os.environ["BASE_URL"], api_key=os.environ["API_KEY"])
generator = ImageGenerator(OpenAIImageGenerationModel("gpt-image-1", provider=provider))
types = {".png": "image/png", ".jpg": "image/jpeg"}
pictures = [BinaryImage(Path(path).read_bytes(), media_type=types[Path(path).suffix]) for path in sys.argv[1:]]
result = generator.generate_sync(os.environ["PROMPT"], images=pictures)
sys.stdout.write(base64.b64encode(result.images[0].content.data).decode())
