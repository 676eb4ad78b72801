"""A judge whose scores are noisy: a proxy in front of a thinker that adds seeded Gaussian noise to the scores in its replies.

The embedded thinker measures pixels, so it gives the same scores whenever it is asked. A vision language model does not. The
proxy makes the one behave like the other, and changes nothing else: no reasons, no refined instructions, no other service.

    python -m benchmarks.noisy_judge --port 8101 --thinker http://127.0.0.1:8001 --noise 1 --seed 1
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from editthinker.local.home import Home
from editthinker.local.ports import LOOPBACK, free_port
from editthinker.local.service import Plan, Service
from editthinker.local.stack import Planner, embedded_plan

_SCORE: Final = re.compile(r'("(?:semantic|quality)"\s*:\s*)(\d+(?:\.\d+)?)')
_MODULE: Final = "benchmarks.noisy_judge"
_TIMEOUT_S: Final = 600.0


class Noise:
    """Seeded noise: the same for a picture that is scored for the n-th time, regardless of what else was scored before.

    Args:
        deviation: standard deviation, in points of 10.
        seed: another one gives other noise.
    """

    def __init__(self, deviation: float, seed: int) -> None:
        self._deviation = deviation
        self._seed = seed
        self._asked: Counter[str] = Counter()

    def on(self, reply: dict[str, Any], picture: str) -> dict[str, Any]:
        """The chat completion with noise on every score, within 0 to 10 and with one decimal, as constraints demand."""
        self._asked[picture] += 1
        rng = random.Random(f"{self._seed} {picture} {self._asked[picture]}")

        def noisy(match: re.Match[str]) -> str:
            score = min(10.0, max(0.0, float(match[2]) + rng.gauss(0, self._deviation)))
            return f"{match[1]}{round(score, 1):g}"

        for choice in reply.get("choices", []):
            choice["message"]["content"] = _SCORE.sub(noisy, choice["message"]["content"])
        return reply


def judged_picture(body: dict[str, Any]) -> str:
    """A key of the picture that a request asks to judge: the last one in its messages."""
    parts = [part for message in body["messages"] if isinstance(message["content"], list) for part in message["content"]]
    urls = [part["image_url"]["url"] for part in parts if part.get("type") == "image_url"]
    return hashlib.sha256("".join(urls[-1:]).encode()).hexdigest()


def application(thinker: httpx.AsyncClient, noise: Noise) -> Starlette:
    """The proxy, in front of the server that the client calls."""
    replies: dict[str, bytes] = {}  # the thinker measures the same again, so asking it once is enough

    async def completion(request: Request) -> Response:
        body = await request.body()
        asked = json.loads(body)
        key = hashlib.sha256(json.dumps({**asked, "seed": None}).encode()).hexdigest()
        if key not in replies:
            reply = await thinker.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
            if reply.is_error:
                return _passed_on(reply)
            replies[key] = reply.content
        noisy = noise.on(json.loads(replies[key]), judged_picture(asked))
        return Response(json.dumps(noisy), media_type="application/json")

    async def other(request: Request) -> Response:
        return _passed_on(await thinker.get(request.url.path))

    return Starlette(
        routes=[
            Route("/v1/chat/completions", completion, methods=["POST"]),
            Route("/{path:path}", other, methods=["GET"]),
        ]
    )


def _passed_on(reply: httpx.Response) -> Response:
    kept = {name: reply.headers[name] for name in ("content-type", "retry-after") if name in reply.headers}
    return Response(reply.content, reply.status_code, kept)


def noisy_plan(noise: float, seed: int) -> Planner:
    """The embedded stack with this proxy between the orchestrator and the thinker."""

    def plan(home: Home, port: int) -> Plan:
        made = embedded_plan(home, port)
        services = {service.name: service for service in made.services}
        thinkers = json.loads(services["orchestrator"].env["EDITTHINKER_THINKERS"])
        address = thinkers["rules"]["url"].removesuffix("/v1")
        proxy_port = free_port()
        proxy = f"http://{LOOPBACK}:{proxy_port}"
        thinkers["rules"]["url"] = f"{proxy}/v1"
        options = ["--port", str(proxy_port), "--thinker", address, "--noise", str(noise), "--seed", str(seed)]
        services["judge"] = Service("judge", [sys.executable, "-m", _MODULE, *options], f"{proxy}/readyz", {}, ["thinker"])
        orchestrator = services.pop("orchestrator")
        env = {**orchestrator.env, "EDITTHINKER_THINKERS": json.dumps(thinkers)}
        services["orchestrator"] = replace(orchestrator, env=env)
        return Plan(list(services.values()), made.base_url)

    return plan


def main(argv: Sequence[str] | None = None) -> None:
    """Serve."""
    parser = argparse.ArgumentParser(prog="noisy_judge", description="adds seeded noise to the scores of a thinker")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--thinker", required=True, metavar="URL", help="base URL of the thinker, without /v1")
    parser.add_argument("--noise", type=float, default=1.0, help="standard deviation of a score, in points of 10 (1)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    # trust_env: a proxy of the environment cannot reach the loopback.
    thinker = httpx.AsyncClient(base_url=options.thinker, timeout=_TIMEOUT_S, trust_env=False)
    app = application(thinker, Noise(options.noise, options.seed))
    uvicorn.run(app, host=LOOPBACK, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
