"""What OpenTelemetry's conventions for generative AI say of a chat completion, at either end of it.

Counts and names only: what was asked and answered is in the session, and does not belong in a trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from services.serving.tracing import Value

_ASKED: Final = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "seed": "gen_ai.request.seed",
}


def asked(fields: Mapping[str, Any]) -> dict[str, Value]:
    """Of a request's fields."""
    # The provider is the API's, as OpenAI's own client says of every compatible server.
    out: dict[str, Value] = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"}
    if isinstance(fields.get("model"), str):
        out["gen_ai.request.model"] = fields["model"]
    out |= {attribute: fields[name] for name, attribute in _ASKED.items() if type(fields.get(name)) in {int, float}}
    if isinstance(fields.get("n"), int) and fields["n"] > 1:
        out["gen_ai.request.choice.count"] = fields["n"]
    return out


def answered(completion: Any) -> dict[str, Value]:
    """Of a completion, as far as it is one."""
    if not isinstance(completion, dict):
        return {}
    usage = completion.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("prompt_tokens_details")
    numbers = {
        "gen_ai.usage.input_tokens": usage.get("prompt_tokens"),
        "gen_ai.usage.output_tokens": usage.get("completion_tokens"),
        "gen_ai.usage.cache_read.input_tokens": details.get("cached_tokens") if isinstance(details, dict) else None,
    }
    names = {"gen_ai.response.model": completion.get("model"), "gen_ai.response.id": completion.get("id")}
    out: dict[str, Value] = {name: value for name, value in numbers.items() if type(value) is int}
    out |= {name: value[:200] for name, value in names.items() if isinstance(value, str)}
    choices = completion.get("choices")
    if isinstance(choices, list):
        reasons = [choice.get("finish_reason") for choice in choices if isinstance(choice, dict)]
        out["gen_ai.response.finish_reasons"] = [str(reason) for reason in reasons]
    return out
