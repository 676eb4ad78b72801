"""A chat server for one small model on a CPU, in place of vLLM: ``chat_server.py MODEL PORT NAME``. Runs in TRL's environment.

Greedy, one request at a time, no constraint: it knows what the orchestrator sends to a thinker, and no more.
"""

import base64
import io
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

folder, port, name = sys.argv[1:]
torch.set_num_threads(1)
processor = AutoProcessor.from_pretrained(folder)
model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
NEW_TOKENS = 320


def picture(part: dict) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2]))).convert("RGB")


@torch.inference_mode()
def completion(messages: list[dict], most: int) -> tuple[str, int, int, str]:
    """(reply, tokens of the prompt, tokens of the reply, why it ended)."""
    parts = [part for message in messages if not isinstance(message["content"], str) for part in message["content"]]
    images = [picture(part) for part in parts if part["type"] == "image_url"]
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    inputs = processor(text=[text], images=images or None, return_tensors="pt")
    asked = inputs["input_ids"].shape[1]
    made = model.generate(**inputs, max_new_tokens=min(most, NEW_TOKENS), do_sample=False)[0, asked:]
    ended = int(made[-1]) == processor.tokenizer.eos_token_id
    reply = processor.tokenizer.decode(made, skip_special_tokens=True)
    return reply, asked, len(made), "stop" if ended else "length"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({"object": "list", "data": [{"id": name, "object": "model", "created": 0, "owned_by": "test"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        reply, prompt, made, why = completion(asked["messages"], asked.get("max_tokens", NEW_TOKENS))
        sys.stderr.write(f"reply: {reply}\n")
        self._answer(
            {
                "id": "chatcmpl-0",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": name,
                "choices": [{"index": 0, "message": {"role": "assistant", "content": reply}, "finish_reason": why}],
                "usage": {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made},
            }
        )

    def _answer(self, body: dict) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
