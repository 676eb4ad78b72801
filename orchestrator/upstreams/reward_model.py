"""Judges in the format `http`: reward models with heads, by the contract of `services.protocol.judge_api`."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import orjson
import pybase64

from orchestrator.ports.collaborators import (
    ChecklistOrder,
    ChecklistReply,
    CompareOrder,
    CompareReply,
    CritiqueOrder,
    CritiqueReply,
    StoredImage,
)
from orchestrator.ports.errors import ThinkerError
from orchestrator.upstreams.http import Call, HttpUpstream, Lazy
from orchestrator.upstreams.liveness import Patience
from orchestrator.upstreams.pairwise import Opinion, in_both_orders, shown
from orchestrator.upstreams.scaling import Pictures
from services.imaging.decode_pool import DecodePool
from services.protocol import judge_api

_T = TypeVar("_T")


class RewardModel:
    """`orchestrator.ports.collaborators.Judge` over ``POST /v1/scores``.

    Args:
        upstream: where to post.
        model: sent as `model` if there is one, for servers of several.
        max_pixels: larger pictures are scaled down to it; None sends them unchanged.
        on_reply: called with the outcome of each reply: ``ok`` or ``wrong_shape``.
        decoder: scales pictures.
    """

    def __init__(
        self,
        upstream: HttpUpstream,
        model: str | None,
        max_pixels: int | None,
        on_reply: Callable[[str], None],
        decoder: DecodePool,
    ) -> None:
        self._upstream = upstream
        self._model = {"model": model} if model else {}
        self._on_reply = on_reply
        self._pictures = Pictures(max_pixels, decoder)

    async def ready(self) -> bool:
        """Whether the judge accepts requests now."""
        return await self._upstream.ready()

    @property
    def is_open(self) -> bool:
        """Whether it has stopped answering, and is not asked now."""
        return self._upstream.health.is_open

    async def critique(self, order: CritiqueOrder, patience: Patience | None = None) -> CritiqueReply:
        """The scores of one candidate, without an instruction.

        Raises:
            ThinkerError: when the server fails, or its reply does not keep to the contract (``thinker_bad_reply``).
        """
        common = await self._pictures.of_session(
            order.source, order.references, order.mask, order.tenant, candidate=order.candidate
        )
        edited = await self._pictures.fit(order.candidate, order.tenant)
        texts = {"instruction": order.instruction, "turn_instruction": order.turn_instruction}
        body = _body(self._model | texts, common, {"edited": edited}, has_area=order.mask is not None)
        found = await self._post(judge_api.SCORES, body, patience or Patience.of(order.timeout_s), judge_api.read_scores)
        return CritiqueReply(found.semantic, found.quality, found.reasoning, None)

    async def checklist(self, order: ChecklistOrder, patience: Patience | None = None) -> ChecklistReply:  # noqa: ARG002 - the port's
        """It writes none, and no session asks it to."""
        raise ThinkerError("thinker_misconfigured", "a judge of the format http writes no checklist")

    async def _post(self, path: str, body: Sequence[bytes | Lazy], patience: Patience, read: Callable[[object], _T]) -> _T:
        reply = await self._upstream.post(Call(path, body, "application/json", {}), patience)
        try:
            found = read(reply.json)
        except judge_api.ContractError as exc:
            self._on_reply("wrong_shape")
            message = f"the judge's reply to {path} does not keep to the contract: {exc}"
            raise ThinkerError("thinker_bad_reply", message, retryable=True) from exc
        self._on_reply("ok")
        return found


class ComparingRewardModel(RewardModel):
    """`orchestrator.ports.collaborators.Comparer` as well, over ``POST /v1/comparisons``."""

    async def compare(self, order: CompareOrder, patience: Patience | None = None) -> CompareReply:
        """The preference that holds in both orders; a tie otherwise.

        Raises:
            ThinkerError: as `critique`.
        """
        patience = patience or Patience.of(order.timeout_s)
        common, pair = await shown(self._pictures, order)
        texts = {**self._model, "instruction": order.instruction}

        async def ask(first: StoredImage, second: StoredImage) -> Opinion:
            body = _body(texts, common, {"first": first, "second": second}, has_area=order.mask is not None)
            found = await self._post(judge_api.COMPARISONS, body, patience, judge_api.read_comparison)
            return Opinion(found.winner, found.reasoning)

        return await in_both_orders(ask, pair)


def _body(
    texts: Mapping[str, str], common: Sequence[StoredImage], named: Mapping[str, StoredImage], *, has_area: bool
) -> list[bytes | Lazy]:
    """The request's JSON in pieces; pictures are loaded and encoded while they are sent.

    Args:
        texts: the other fields.
        common: the source, its references, and the area if there is one.
        named: the pictures to judge, by field.
        has_area: whether the last of `common` is the area.
    """
    pictures: list[StoredImage] = []

    def url(picture: StoredImage) -> str:
        """A mark that the picture takes the place of."""
        pictures.append(picture)
        return marks[len(pictures) - 1]

    marks = [secrets.token_hex(16) for _ in (*common, *named)]
    references = common[1 : len(common) - has_area]
    fields: dict[str, Any] = {**texts, "source": url(common[0]), **{name: url(each) for name, each in named.items()}}
    fields["references"] = [url(each) for each in references]
    fields["area"] = url(common[-1]) if has_area else None
    rest = orjson.dumps(fields)
    pieces: list[bytes | Lazy] = []
    for mark, picture in zip(marks, pictures, strict=True):
        head, rest = rest.split(mark.encode())
        prefix = f"data:{picture.ref.media_type};base64,".encode()
        pieces += [head + prefix, Lazy((picture.ref.bytes + 2) // 3 * 4, partial(_encoded, picture))]
    return [*pieces, rest]


async def _encoded(image: StoredImage) -> bytes:
    return pybase64.b64encode(await image.load())
