"""The event stream: however it is cut, each event arrives exactly once, in order."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editthinker.client import APIConnectionError, APIResponseError, APITimeoutError, NotFoundError, RateLimitError
from editthinker.client.sse import Decoder, Message
from tests.component.client.conftest import Use
from tests.component.client.scripted import EVENTS, Answer, Asked, Script, as_json, error, in_turn, scripted, session, stream


def replaying(cut_after: int, *, broken: bool, extra: int = 0) -> Script:
    """A server whose first connection ends after some events; later ones replay from after Last-Event-ID.

    ``extra`` events before it are repeated, as a careless server might.
    """
    connections = []

    def script(asked: Asked) -> Answer:
        if not asked.path.endswith("/events"):
            return as_json(session("running", last_event=7))
        connections.append(asked)
        last = int(asked.headers.get("last-event-id", 0))
        if len(connections) == 1:
            half = json.dumps(EVENTS[cut_after])[:20] if cut_after < len(EVENTS) else ""
            return stream(EVENTS[:cut_after], cut=broken, tail=f"id: 99\ndata: {half}".encode())
        return stream(EVENTS[max(0, last - extra) :])

    return script


@pytest.mark.parametrize("broken", [True, False], ids=["reset", "closed"])
@pytest.mark.parametrize("cut_after", range(len(EVENTS) + 1))
def test_cut_after_any_event_each_arrives_exactly_once(use: Use, cut_after: int, broken: bool) -> None:  # noqa: FBT001
    with scripted(replaying(cut_after, broken=broken)) as server:
        events = use(server.base_url, lambda client: client.sessions.events("s"))
    assert [event.seq for event in events] == [1, 2, 3, 4, 5, 6, 7]
    assert [event.type for event in events] == [event["type"] for event in EVENTS]
    reconnects = [asked for asked in server.asked if asked.path.endswith("/events")][1:]
    assert [asked.headers.get("last-event-id") for asked in reconnects] == (
        [] if cut_after == len(EVENTS) else [str(cut_after)] if cut_after else [None]
    )


def test_what_a_server_repeats_is_not_repeated(use: Use) -> None:
    with scripted(replaying(4, broken=True, extra=3)) as server:
        events = use(server.base_url, lambda client: client.sessions.events("s"))
    assert [event.seq for event in events] == [1, 2, 3, 4, 5, 6, 7]


def test_after_starts_in_the_middle(use: Use) -> None:
    with scripted(replaying(99, broken=False)) as server:
        events = use(server.base_url, lambda client: client.sessions.events("s", after=5))
    assert [event.seq for event in events] == [6, 7]
    assert server.asked[0].headers["last-event-id"] == "5"


def test_unknown_events_and_fields_are_kept(use: Use) -> None:
    with scripted(in_turn(stream(EVENTS))) as server:
        events = use(server.base_url, lambda client: client.sessions.events("s"))
    assert events[5].data == EVENTS[5]
    assert events[4].reasoning == "dé\njà"
    assert events[6].best.turn == 1


def test_nothing_after_the_last_event_of_an_ended_session(use: Use) -> None:
    script = replaying(0, broken=False)

    def ended(asked: Asked) -> Answer:
        return script(asked) if asked.path.endswith("/events") else as_json(session(last_event=7))

    with scripted(ended) as server:
        assert use(server.base_url, lambda client: client.sessions.events("s", after=7)) == []


def test_it_gives_up_when_nothing_new_comes(use: Use) -> None:
    def script(asked: Asked) -> Answer:
        return stream([]) if asked.path.endswith("/events") else as_json(session("running"))

    with scripted(script) as server, pytest.raises(APIConnectionError, match="4 times"):
        use(server.base_url, lambda client: client.sessions.events("s"))


def test_progress_renews_its_patience(use: Use) -> None:
    # One event a connection: more connections than attempts, none of them in vain.
    def script(asked: Asked) -> Answer:
        last = int(asked.headers.get("last-event-id", 0))
        return stream(EVENTS[last : last + 1], cut=True)

    with scripted(script) as server:
        assert len(use(server.base_url, lambda client: client.sessions.events("s"))) == 7
    assert len(server.asked) == 7


def test_an_overloaded_or_restarting_server_is_asked_again(use: Use) -> None:
    answers = [error(503, "not_ready"), error(429, "overloaded", retry_after="0"), Answer(drop=True), stream(EVENTS)]
    with scripted(in_turn(*answers)) as server:
        assert len(use(server.base_url, lambda client: client.sessions.events("s"))) == 7


def test_an_unknown_session_is_an_error_at_once(use: Use) -> None:
    with scripted(in_turn(error(404, "session_not_found"))) as server, pytest.raises(NotFoundError):
        use(server.base_url, lambda client: client.sessions.events("s"))
    assert len(server.asked) == 1


def test_a_server_that_stays_overloaded_is_given_up(use: Use) -> None:
    with scripted(in_turn(error(429, "overloaded"))) as server, pytest.raises(RateLimitError):
        use(server.base_url, lambda client: client.sessions.events("s"))


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"<html>", {"content-type": "text/html"}),
        Answer(200, b"data: no json\n\n", {"content-type": "text/event-stream"}),
    ],
)
def test_a_response_that_is_not_an_event_stream_is_an_error(use: Use, answer: Answer) -> None:
    with scripted(in_turn(answer)) as server, pytest.raises(APIResponseError):
        use(server.base_url, lambda client: client.sessions.events("s"))


def test_a_silent_connection_is_replaced(use: Use) -> None:
    from threading import Event as Flag  # noqa: PLC0415 - Event is the client's here

    never = Flag()
    with scripted(in_turn(Answer(hold=never), stream(EVENTS))) as server:
        events = use(server.base_url, lambda client: client.sessions.events("s"), stall=1.0)
        never.set()
    assert len(events) == 7


def test_waiting_ends_with_its_timeout(use: Use) -> None:
    from threading import Event as Flag  # noqa: PLC0415 - Event is the client's here

    never = Flag()
    with scripted(in_turn(Answer(hold=never))) as server:
        with pytest.raises(APITimeoutError, match="continues"):
            use(server.base_url, lambda client: client.sessions.wait("s", timeout=0.2))
        never.set()


_TEXT = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), min_size=1)


@given(
    messages=st.lists(st.tuples(_TEXT, st.lists(_TEXT, min_size=1, max_size=3)), max_size=5),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    data=st.data(),
)
def test_the_decoder_does_not_mind_where_chunks_end(messages: list[tuple[str, list[str]]], end: str, data: st.DataObject) -> None:
    text = "".join(
        f": beat{end}id: {number}{end}event: {name}{end}" + "".join(f"data: {line}{end}" for line in lines) + end
        for number, (name, lines) in enumerate(messages)
    )
    # One more byte, so that a lone CR at the end is seen to be a line's end.
    raw = text.encode() + b":"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    decoder = Decoder()
    seen = []
    for start, stop in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        seen += decoder.feed(raw[start:stop])
    assert seen == [Message(name, "\n".join(lines), str(n)) for n, (name, lines) in enumerate(messages)]
