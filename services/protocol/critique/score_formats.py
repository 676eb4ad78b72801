"""Formats of judges that only give scores: two requests a critique, and no refined instruction.

    editscore   {"reasoning": …, "score": [n, n]}, whole numbers from 0 to 25 (EditScore, ICLR 2026)
    digit       one token, 0 to 5; the score is its expected value (Edit-R1, UniWorld-V2)

The first request shows source and candidate and asks how well the instruction was followed, the second shows the candidate
alone and asks how sound it is as a picture. Both scores come to the 0 to 10 of every critique.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from services.protocol.critique.digit import DIGIT
from services.protocol.critique.editscore import EDITSCORE
from services.protocol.critique.formats import ReplyFormat
from services.protocol.critique.prompts import Template, packaged
from services.protocol.critique.scores import Rating

ScoreFormatName = Literal["editscore", "digit"]


@dataclass(frozen=True, slots=True)
class ScoreFormat:
    """A format of a judge that only gives scores.

    Attributes:
        name: its name in `SCORE_FORMATS`; its packaged templates are ``<name>`` and ``<name>_quality``.
        reply_format: of the replies to both requests.
        request: fields of each request that the format needs.
        sampled: whether replies differ when the same is asked again; otherwise several samples tell nothing.
    """

    name: ScoreFormatName
    reply_format: ReplyFormat[Rating]
    request: Mapping[str, Any] = field(default_factory=dict)
    sampled: bool = True

    def template(self) -> Template:
        """The default template of the first request."""
        return Template.named(self.name)

    def quality_prompt(self) -> str:
        """The default text of the second request, with an ``<image>`` mark for the candidate."""
        return packaged(f"{self.name}_quality")


def quality_messages(prompt: str, url: str) -> list[dict[str, Any]]:
    """The messages of the second request; a prompt without an ``<image>`` mark has the picture first."""
    before, mark, after = prompt.strip("\n").partition("<image>")
    texts: Sequence[str] = (before, after) if mark else ("", before)
    picture = {"type": "image_url", "image_url": {"url": url}}
    parts: list[dict[str, Any]] = [{"type": "text", "text": texts[0]}, picture, {"type": "text", "text": texts[1]}]
    return [{"role": "user", "content": [part for part in parts if part.get("text") != ""]}]


SCORE_FORMATS: Final[Mapping[str, ScoreFormat]] = {
    "editscore": ScoreFormat("editscore", EDITSCORE),
    # 20 is the most that OpenAI and, by default, vLLM report.
    "digit": ScoreFormat("digit", DIGIT, {"max_tokens": 1, "logprobs": True, "top_logprobs": 20}, sampled=False),
}
