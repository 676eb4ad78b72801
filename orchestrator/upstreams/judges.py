"""Judges by format: `MAKERS` has the client of each.

A new format is three lines and a client: its name in `orchestrator.upstreams.registry.JudgeFormatName`, in `NOT_SCORING` there if
it only compares, and a row of `MAKERS`. The client is a `Judge`, a `Comparer` or both (`orchestrator.ports.collaborators`), with
`is_open` for fallbacks; which of them it is decides what it is asked. Chat models have their reply formats in
`services.protocol.critique` and ask by `orchestrator.upstreams.chat.ChatModel`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from orchestrator.upstreams.http import HttpUpstream
from orchestrator.upstreams.pairwise import ComparingThinker, PairDialect, PairwiseJudge
from orchestrator.upstreams.registry import JudgeFormatName, JudgeSettings, ThinkerSettings
from orchestrator.upstreams.reward_model import ComparingRewardModel, RewardModel
from orchestrator.upstreams.scorer import HttpScorer, ScoreDialect
from orchestrator.upstreams.thinker import Dialect, HttpThinker
from services.imaging.decode_pool import DecodePool
from services.protocol.critique.formats import FORMATS, FormatName
from services.protocol.critique.pairs import pair_template
from services.protocol.critique.score_formats import SCORE_FORMATS, ScoreFormatName

OnReply = Callable[[str], None]
HttpJudge = HttpThinker | HttpScorer | PairwiseJudge | RewardModel
Maker = Callable[[HttpUpstream, JudgeSettings, OnReply, DecodePool], HttpJudge]


def thinker(
    upstream: HttpUpstream,
    settings: ThinkerSettings | JudgeSettings,
    name: FormatName | ScoreFormatName,
    on_reply: OnReply,
    decoder: DecodePool,
) -> HttpThinker | HttpScorer:
    """A chat model that critiques, or only gives scores, in this format, and compares if it is configured to."""
    if (scores := SCORE_FORMATS.get(name)) is not None:
        asks = ScoreDialect(
            settings.model or "",
            scores,
            settings.prompt_of(name),
            settings.quality_prompt_of(name),
            settings.constraint,
            dict(settings.sampling),
            settings.samples,
            settings.max_pixels,
        )
        return HttpScorer(upstream, asks, on_reply, decoder)
    dialect = Dialect(
        settings.model or "",
        FORMATS[name],
        settings.prompt_of(name),
        settings.constraint,
        dict(settings.sampling),
        settings.samples,
        settings.max_pixels,
        places=settings.places,
    )
    if not settings.pairs:
        return HttpThinker(upstream, dialect, on_reply, decoder)
    return ComparingThinker(_pairs(upstream, settings, None, on_reply, decoder), upstream, dialect, on_reply, decoder)


def _pairs(
    upstream: HttpUpstream,
    settings: ThinkerSettings | JudgeSettings,
    template: str | None,
    on_reply: OnReply,
    decoder: DecodePool,
) -> PairwiseJudge:
    model, sampling = settings.model or "", dict(settings.sampling)
    dialect = PairDialect(model, pair_template(template), settings.constraint, sampling, settings.max_pixels)
    return PairwiseJudge(upstream, dialect, on_reply, decoder)


def _scoring(name: FormatName | ScoreFormatName) -> Maker:
    return lambda upstream, settings, on_reply, decoder: thinker(upstream, settings, name, on_reply, decoder)


def _pairwise(upstream: HttpUpstream, settings: JudgeSettings, on_reply: OnReply, decoder: DecodePool) -> PairwiseJudge:
    template = settings.template.read_text("utf-8") if settings.template else None
    return _pairs(upstream, settings, template, on_reply, decoder)


def _http(upstream: HttpUpstream, settings: JudgeSettings, on_reply: OnReply, decoder: DecodePool) -> RewardModel:
    kind = ComparingRewardModel if settings.pairs else RewardModel
    return kind(upstream, settings.model, settings.max_pixels, on_reply, decoder)


MAKERS: Final[Mapping[JudgeFormatName, Maker]] = {
    "editthinker": _scoring("editthinker"),
    "json_schema": _scoring("json_schema"),
    "checklist": _scoring("checklist"),
    "editscore": _scoring("editscore"),
    "digit": _scoring("digit"),
    "pairwise": _pairwise,
    "http": _http,
}
