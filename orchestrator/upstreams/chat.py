"""A chat completion whose reply has a format: constrained where the server can, read tolerantly, and requested once more where it
cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, NamedTuple, TypeVar

from orchestrator.ports.collaborators import Usage
from orchestrator.ports.errors import ThinkerError
from orchestrator.upstreams.constraint_probe import ConstraintProbe
from orchestrator.upstreams.http import Call, HttpUpstream
from orchestrator.upstreams.liveness import Patience
from orchestrator.upstreams.reply_contract import ReplyContract
from services.protocol.critique.constraints import Constraint
from services.protocol.critique.messages import Unparseable, well_formed
from services.protocol.critique.replies import Reply, read_completions
from services.serving import tracing

_CUT: Final = frozenset({"length", "content_filter"})
"""Reasons to end a reply before its form is complete."""
_NOT_RETRYABLE: Final = frozenset({"instruction_too_long", "no_logprobs"})
_NOT_REPAIRABLE: Final = frozenset({"no_logprobs"})
"""Reasons that are the server's, which no other wording changes."""
_T = TypeVar("_T")


class Answers(NamedTuple, Generic[_T]):
    """What the usable replies of one request hold.

    Attributes:
        usage: the tokens used.
        repaired: whether it took a second, repairing request.
        texts: the replies as they came.
    """

    values: list[_T]
    usage: Usage
    repaired: bool
    texts: list[str]


class ChatModel:
    """A vision-language model behind ``POST /v1/chat/completions``.

    Args:
        upstream: where to post.
        model: the server's name for the model.
        sampling: further fields of the request.
        on_reply: called with the outcome of each reply: ``ok``, ``unconstrained``, or why it could not be read.
    """

    def __init__(
        self, upstream: HttpUpstream, model: str, sampling: Mapping[str, Any], on_reply: Callable[[str], None] = lambda _: None
    ) -> None:
        self._upstream = upstream
        self._model = model
        self._sampling = sampling
        self._on_reply = on_reply

    async def ready(self) -> bool:
        """Whether the server accepts requests now."""
        return await self._upstream.ready()

    @property
    def is_open(self) -> bool:
        """Whether it has stopped answering, and is not asked now."""
        return self._upstream.health.is_open

    async def ask(self, contract: ReplyContract[_T], probe: ConstraintProbe, patience: Patience, samples: int) -> Answers[_T]:
        """What the replies hold.

        Raises:
            ThinkerError: when the server fails, or neither its reply nor the repaired one can be read (``thinker_bad_reply``,
                ``thinker_refused``).
        """
        replies, usage = await self.complete(contract, probe, patience, samples)
        usable: list[_T] = []
        texts: list[str] = []
        failures: list[Unparseable] = []
        for reply in replies:
            result = self.parse(contract, reply)
            if isinstance(result, Unparseable):
                failures.append(result)
            else:
                usable.append(result)
                texts.append(_text(reply))
        if usable:
            return Answers(usable, usage, False, texts)
        # A reply without a message has no text to show.
        first = replies[0]
        if failures[0].reason in _NOT_REPAIRABLE:
            raise unreadable(failures[0], contract.wanted)
        shown = first.content or first.reasoning if isinstance(first, Reply) else ""
        repair = contract.repair(shown, failures[0])
        replies, more = await self.complete(repair, probe, patience, 1)
        result = self.parse(contract, replies[0])
        if isinstance(result, Unparseable):
            raise unreadable(result, contract.wanted)
        return Answers([result], usage + more, True, [_text(replies[0])])

    async def complete(
        self, contract: ReplyContract[Any], probe: ConstraintProbe, patience: Patience, samples: int
    ) -> tuple[list[Reply | Unparseable], Usage]:
        """The replies of one request, under the constraint that the server is known, or found, to enforce."""
        refusals: dict[Constraint, ThinkerError] = {}
        for kind in probe.kinds():
            try:
                completion = await self._post(contract, kind, samples, patience)
            except ThinkerError as exc:
                if not probe.may_be_refused(kind, exc):
                    raise
                refusals[kind] = exc
                continue
            probe.refused(refusals)
            replies = list(read_completions(completion, samples))
            proofs = [reply for reply in replies if _is_whole(reply)]
            enforced = all(isinstance(reply, Reply) and contract.format.conforms(reply, kind) for reply in proofs)
            if proofs and not probe.observed(kind, enforced=enforced) and kind != "none":
                self._on_reply("unconstrained")
            return replies, _usage(completion)
        raise AssertionError("the last kind is none, whose refusal is raised")  # pragma: no cover

    async def _post(self, contract: ReplyContract[Any], kind: Constraint, samples: int, patience: Patience) -> Any:
        """The JSON of a chat completion."""
        fields = {"model": self._model, **self._sampling, **contract.format.constraint(kind)}
        if samples > 1:
            fields["n"] = samples
        call = Call("/chat/completions", contract.body(fields), "application/json", {})
        with tracing.span(f"chat {self._model}", "client", tracing.chat_request(fields)) as span:
            completion = (await self._upstream.post(call, patience)).json
            span.set_attributes(tracing.chat_response(completion))
        return completion

    def parse(self, contract: ReplyContract[_T], reply: Reply | Unparseable) -> _T | Unparseable:
        """The reply in the contract's format, or why it is none; both are counted."""
        result = reply if isinstance(reply, Unparseable) else contract.format.parse(reply)
        self._on_reply(result.reason if isinstance(result, Unparseable) else "ok")
        return result


def _text(reply: Reply | Unparseable) -> str:
    """A reply's text; what a server told apart as reasoning is not part of it."""
    return "" if isinstance(reply, Unparseable) else well_formed(reply.content)


def _is_whole(reply: Reply | Unparseable) -> bool:
    """Whether a reply proves something about the constraint: one that was cut, filtered or refused does not."""
    if isinstance(reply, Unparseable):
        return True
    return reply.finish_reason not in _CUT and not reply.refusal


def unreadable(unparseable: Unparseable, wanted: str) -> ThinkerError:
    """The error of a call whose reply could not be read."""
    message = f"the thinker's reply holds no usable {wanted}: {unparseable.reason}"
    message += f" ({unparseable.detail})" if unparseable.detail else ""
    if unparseable.reason == "refusal":
        return ThinkerError("thinker_refused", message)
    return ThinkerError("thinker_bad_reply", message, retryable=unparseable.reason not in _NOT_RETRYABLE)


def _usage(completion: Any) -> Usage:
    usage = completion.get("usage") if isinstance(completion, dict) else None
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), _count(cached))


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
