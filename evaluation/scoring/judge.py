"""A judge by URL: any server with OpenAI's chat completions."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import httpx

from editthinker.client import Retries
from editthinker.client.pictures import sniff
from editthinker.client.transport import sendable
from evaluation.scoring.questions import Shown

_RETRYABLE: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_REFUSED: Final = frozenset({401, 403, 404})
_FIRST_CONNECTS: Final = 3
"""Times that one connects to a judge that has never answered."""
_LONGEST_REPLY: Final = 2**20


class JudgeError(RuntimeError):
    """The judge does not answer, or every question would be refused in the same way."""


class QuestionError(RuntimeError):
    """The judge refused one question."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A judge's reply, and what it cost; seconds are of the request that was answered."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


class Judge:
    """A judge's endpoint. Use it in an ``async with``.

    Args:
        url: of the API, with ``/v1``.
        model: the name that the server knows.
        api_key: a bearer token, or "".
        extra: further fields of each request, such as ``{"temperature": 0.7}``.

    Raises:
        JudgeError: for what is no URL of an API, or no API key.
    """

    def __init__(
        self,
        url: str,
        model: str,
        api_key: str = "",
        *,
        timeout: float = 120.0,
        max_tokens: int = 1024,
        retries: Retries | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.url = _checked(url)
        self.model = model
        self._body = {"model": model, "temperature": 0, "max_tokens": max_tokens, **(extra or {})}
        self._retries = retries or Retries(attempts=6, max_retry_after=120.0)
        try:
            key = sendable(api_key)
        except ValueError as exc:
            message = f"judge {model}: {exc}"
            raise JudgeError(message) from None
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._answers = False
        self._http = httpx.AsyncClient(timeout=timeout, headers=headers)

    async def ask(self, text: str, pictures: Sequence[Shown], *, seed: int | None = None) -> Reply:
        """Ask one question.

        Raises:
            JudgeError: when the judge does not answer, or the URL, the key or the model is wrong.
            QuestionError: when it refuses this question.
        """
        body = {**self._body, "messages": [{"role": "user", "content": content(text, pictures)}]}
        if seed is not None:
            body["seed"] = seed
        attempt = 0
        while True:
            attempt += 1
            most = self._retries.attempts
            began = time.monotonic()
            try:
                response = await self._http.post(f"{self.url}/chat/completions", json=body)
            except httpx.TransportError as exc:
                failure: JudgeError | QuestionError = JudgeError(
                    f"{self.url} does not answer: {str(exc) or type(exc).__name__}; does the judge run, and is this its URL?"
                )
                if isinstance(exc, httpx.ConnectError) and not self._answers:
                    # More likely a wrong URL than a judge that restarts.
                    most = min(most, _FIRST_CONNECTS)
            else:
                self._answers = True
                if response.is_success:
                    return _reply(response, self.url, time.monotonic() - began)
                failure = _refusal(response, self.url)
                if response.status_code not in _RETRYABLE:
                    raise failure
            if attempt >= most:
                raise failure
            await asyncio.sleep(self._retries.pause(attempt))

    async def __aenter__(self) -> Self:
        """Use the judge in an ``async with``."""
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """Close the connections."""
        await self._http.aclose()


def _checked(url: str) -> str:
    try:
        given = httpx.URL(url)
        wrong = given.scheme not in {"http", "https"} or not given.host
        given.host.encode("idna")
    except (httpx.InvalidURL, UnicodeError):
        wrong = True
    if wrong:
        message = f"{url!r} is not the URL of a judge; give one such as http://127.0.0.1:8000/v1"
        raise JudgeError(message)
    return url.rstrip("/")


def content(text: str, pictures: Sequence[Shown]) -> list[dict[str, Any]]:
    """The parts of a message: the text, and then each picture after its words."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    for shown in pictures:
        if shown.words:
            parts.append({"type": "text", "text": shown.words})
        media_type = sniff(shown.picture) or "image/png"
        url = f"data:{media_type};base64,{base64.b64encode(shown.picture).decode('ascii')}"
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return parts


def _reply(response: httpx.Response, url: str, seconds: float) -> Reply:
    try:
        body = response.json()
        text = body["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError) as exc:
        message = f"{url} is not an API of chat completions: its reply has no message"
        raise JudgeError(message) from exc
    usage = body.get("usage") if isinstance(body.get("usage"), dict) else {}
    tokens = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (each if isinstance(each, int) else 0 for each in tokens)
    return Reply(text[:_LONGEST_REPLY] if isinstance(text, str) else "", prompt, completion, seconds)


def _refusal(response: httpx.Response, url: str) -> JudgeError | QuestionError:
    said = " ".join(response.text[:300].split())
    message = f"{url} answers {response.status_code}: {said}"
    kind = QuestionError if response.status_code not in _REFUSED | _RETRYABLE else JudgeError
    return kind(message)
