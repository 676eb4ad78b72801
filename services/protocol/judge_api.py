"""The contract of judges that are not chat models, such as reward models with heads: plain JSON over HTTP.

    POST /v1/scores       {"instruction", "turn_instruction", "source", "edited", "references", "area"}
                          ->  {"semantic": 0-10, "quality": 0-10}  or  {"overall": 0-10}, each with an optional "reasoning"
    POST /v1/comparisons  {"instruction", "source", "first", "second", "references", "area"}
                          ->  {"winner": "first" | "second" | "tie"}, with an optional "reasoning"

Pictures are data URLs of PNG, JPEG or WebP; `references` is a list, and `area` shows where the source may change (null without a
mask). `instruction` is the caller's, `turn_instruction` the one that the picture was made with. `overall` alone, of a model with
one head, stands for both scores. Models with another scale convert it themselves. Errors have OpenAI's form; 429 and 503 with
``Retry-After`` are retried. `docs/thinker.md` has an example.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

SCORES: Final = "/scores"
COMPARISONS: Final = "/comparisons"
MIN_SCORE: Final = 0.0
MAX_SCORE: Final = 10.0
MAX_REASONING: Final = 8_000
"""Characters of a reason that are kept."""

Better = Literal["first", "second", "tie"]


class ContractError(ValueError):
    """A reply that does not keep to the contract; the message says where."""


@dataclass(frozen=True, slots=True)
class HeadScores:
    """A reply to ``POST /v1/scores``."""

    semantic: float
    quality: float
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class HeadComparison:
    """A reply to ``POST /v1/comparisons``."""

    winner: Better
    reasoning: str = ""


def read_scores(body: object) -> HeadScores:
    """The scores of a reply, of any JSON value.

    Raises:
        ContractError: for anything else; a score out of range is never clamped, since it shows that the judge is broken.
    """
    if not isinstance(body, dict):
        raise ContractError("it is not an object")
    if "semantic" not in body and "quality" not in body and "overall" in body:
        both = _score(body["overall"], "overall")
        return HeadScores(both, both, _reasoning(body))
    return HeadScores(_score(body.get("semantic"), "semantic"), _score(body.get("quality"), "quality"), _reasoning(body))


def read_comparison(body: object) -> HeadComparison:
    """The preference of a reply, of any JSON value.

    Raises:
        ContractError: for anything else.
    """
    if not isinstance(body, dict):
        raise ContractError("it is not an object")
    winners: tuple[Better, ...] = get_args(Better)
    found = next((winner for winner in winners if winner == body.get("winner")), None)
    if found is None:
        raise ContractError(f"winner is none of {', '.join(winners)}")
    return HeadComparison(found, _reasoning(body))


def _score(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ContractError(f"{name} is missing or not a number")
    if not MIN_SCORE <= value <= MAX_SCORE:
        raise ContractError(f"{name} is not between {MIN_SCORE:g} and {MAX_SCORE:g}")
    return float(value)


def _reasoning(body: dict[str, object]) -> str:
    value = body.get("reasoning")
    # Unpaired surrogates cannot be stored.
    return value[:MAX_REASONING].encode("utf-8", "replace").decode() if isinstance(value, str) else ""
