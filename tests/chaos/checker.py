"""Rules that must hold after a run; independent of the orchestrator's code.

A rule is a function from one session's evidence (or all of it) to violations. `test_checker` plants a violation of each.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from PIL import Image

from tests.chaos.evidence import Evidence, FaultRecord, Route
from tests.doubles.replica import POISON

LATE_S = 45.0
"""How long after its deadline a session may end, if its replica was killed or Redis was unreachable."""
_CLOCKS_S = 0.1
"""Between the clock reading that decides and the one that is recorded."""
_WITH_IMAGE = {"satisfied", "max_turns", "plateau", "accepted"}
_ONCE = ("edited", "critiqued")


@dataclass(frozen=True)
class Violation:
    """One rule that does not hold."""

    rule: str
    session_id: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.session_id}: {self.text}"


Events = list[dict[str, Any]]
SessionRule = Callable[[Evidence, str, Events], Iterator[str]]
WholeRule = Callable[[Evidence], Iterator[tuple[str, str]]]


def check(evidence: Evidence) -> list[Violation]:
    """Every violation of every rule."""
    found = []
    for name, whole in WHOLE_RULES.items():
        found += [Violation(name, session_id, text) for session_id, text in whole(evidence)]
    for session_id in evidence.logs:
        events = evidence.events(session_id)
        for name, rule in SESSION_RULES.items():
            try:
                found += [Violation(name, session_id, text) for text in rule(evidence, session_id, events)]
            except (KeyError, IndexError, TypeError, ValueError) as exc:  # an unreadable log is a violation too
                found.append(Violation(name, session_id, f"cannot be checked: {exc!r}"))
    return found


# --- one session -------------------------------------------------------------------------------------------------


def _dense(evidence: Evidence, session_id: str, events: Events) -> Iterator[str]:
    """Stream ids are 1-0, 2-0, 3-0 …"""
    names = [name for name, _ in evidence.logs[session_id]]
    if names != [f"{number}-0" for number in range(1, len(names) + 1)]:
        yield f"ids are {names}"


def _meta(evidence: Evidence, session_id: str, events: Events) -> Iterator[str]:
    """The hash agrees with the log, and says that the session is done and has no owner."""
    meta = evidence.metas.get(session_id, {})
    if meta.get("seq") != str(len(events)):
        yield f"seq is {meta.get('seq')}, the log has {len(events)}"
    if meta.get("owner"):
        yield f"still owned by {meta['owner']}"
    if meta.get("state") != "done":
        yield f"state is {meta.get('state')}"


def _begins_and_ends(evidence: Evidence, session_id: str, events: Events) -> Iterator[str]:
    """One session_created, first; one finished, last."""
    kinds = [event["type"] for event in events]
    if kinds[0] != "session_created" or kinds.count("session_created") != 1:
        yield f"session_created at {[place for place, kind in enumerate(kinds) if kind == 'session_created']}"
    if kinds[-1] != "finished" or kinds.count("finished") != 1:
        yield f"finished at {[place for place, kind in enumerate(kinds) if kind == 'finished']} of {len(kinds)}"


def _turns(evidence: Evidence, session_id: str, events: Events) -> Iterator[str]:
    """Turns are started once each, in order, and within the limits and the feedback."""
    numbers = [event["turn"] for event in events if event["type"] == "turn_started"]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"turns started: {numbers}"
    words = sum(event["type"] == "feedback_given" for event in events)
    most = events[0]["limits"]["max_turns"] * (1 + words)
    if len(numbers) > most:
        yield f"{len(numbers)} turns of at most {most}"


def _once(evidence: Evidence, session_id: str, events: Events) -> Iterator[str]:
    """No candidate is edited twice, none is critiqued twice."""
    for kind in _ONCE:
        counts = Counter((event["turn"], event["candidate"]) for event in events if event["type"] == kind)
        for place, count in counts.items():
            if count > 1:
                yield f"turn {place[0]} candidate {place[1]} was {kind} {count} times"


def _order(evidence: Evidence, session_id: str, events: Events) -> Iterator[str]:
    """Turn before edit, intent before outcome, edit before critique; attempts count up; keys name their candidate."""
    started: set[int] = set()
    attempts: Counter[tuple[int, int]] = Counter()
    made: set[tuple[int, int]] = set()
    for event in events:
        kind, place = event["type"], (event.get("turn", 0), event.get("candidate", 0))
        if kind == "turn_started":
            started.add(event["turn"])
        elif kind == "edit_started":
            if event["turn"] not in started:
                yield f"edit_started {place} before its turn"
            attempts[place] += 1
            if event["attempt"] != attempts[place] or place in made:
                yield f"edit_started {place}: attempt {event['attempt']} is number {attempts[place]}"
            if event["key"] != f"{session_id}/{place[0]}/{place[1]}":
                yield f"edit_started {place}: the key is {event['key']}"
        elif kind in {"edited", "edit_failed"}:
            if not attempts[place]:
                yield f"{kind} {place} before edit_started"
            made |= {place} if kind == "edited" else set()
        elif kind in {"critiqued", "critique_failed", "verified", "verify_failed"} and place not in made:
            yield f"{kind} {place} before edited"


def _images(evidence: Evidence, session_id: str, events: Events) -> Iterator[str]:
    """Every image that is named exists, matches its digest, and has the recorded size."""
    named = [events[0]["source"], *(event["image"] for event in events if event["type"] == "edited")]
    for image in {image["sha256"]: image for image in named}.values():
        name = image["sha256"]
        data = evidence.blob(session_id, name)
        if data is None:
            yield f"image {name} does not exist"
        elif hashlib.sha256(data).hexdigest() != name or len(data) != image["bytes"]:
            yield f"image {name} has other bytes than its name says ({len(data)} of {image['bytes']})"
        else:
            try:
                with Image.open(io.BytesIO(data)) as picture:
                    picture.load()
                    size = picture.size
            except OSError as exc:
                yield f"image {name} cannot be decoded: {exc}"
                continue
            if size != (image["width"], image["height"]):
                yield f"image {name} is {size}, recorded as {image['width']}x{image['height']}"


def _best(evidence: Evidence, session_id: str, events: Events) -> Iterator[str]:
    """The answer is a candidate that has an image, and exists if the reason implies one."""
    made = {(event["turn"], event["candidate"]) for event in events if event["type"] == "edited"}
    end = events[-1]
    best = end.get("best")
    answers = [(ref["turn"], ref["candidate"]) for ref in end.get("results") or []]
    if best is None and (end["reason"] in _WITH_IMAGE or (made and end["reason"] != "failed")):
        yield f"finished {end['reason']} without a best candidate"
    for place in [(best["turn"], best["candidate"]), *answers] if best else answers:
        if place not in made:
            yield f"the answer {place} has no image"


def _totals(evidence: Evidence, session_id: str, events: Events) -> Iterator[str]:
    """The totals of the end agree with the events."""
    totals = events[-1]["totals"]
    turns = sum(event["type"] == "turn_started" for event in events)
    edits = sum(event["type"] == "edit_started" for event in events)
    seconds = sum(event["editor_seconds"] for event in events if event["type"] in {"edited", "edit_failed"})
    if (totals["turns"], totals["edits"]) != (turns, edits):
        yield f"{totals['turns']} turns and {totals['edits']} edits are reported, {turns} and {edits} recorded"
    if abs(totals["editor_seconds"] - seconds) > 0.01:
        yield f"{totals['editor_seconds']} editor seconds are reported, {seconds} recorded"


def _cancelled(evidence: Evidence, session_id: str, events: Events) -> Iterator[str]:
    """A recorded cancel ends a session as cancelled, and nothing starts after it. No other session is cancelled."""
    kinds = [event["type"] for event in events]
    asked = "cancel_requested" in kinds
    if asked != (events[-1]["reason"] == "cancelled"):
        yield f"cancel_requested is {'' if asked else 'not '}there, the end is {events[-1]['reason']}"
    if asked:
        after = {"turn_started", "edit_started", "review_requested"} & set(kinds[kinds.index("cancel_requested") :])
        if after:
            yield f"{sorted(after)} after the cancel"


def _deadline(evidence: Evidence, session_id: str, events: Events) -> Iterator[str]:
    """A session ends at its deadline. With that reason it may end earlier if no edit fits, never with half of its time left."""
    deadline = events[0]["limits"]["deadline_at"]
    late = events[-1]["at"] - deadline
    if late > LATE_S:
        yield f"it ended {late:.1f} s after its deadline"
    if events[-1]["reason"] == "deadline" and -late > (deadline - events[0]["at"]) / 2 + _CLOCKS_S:
        yield f"it ended {-late:.1f} s before its deadline, because of it"


def _poison(evidence: Evidence, session_id: str, events: Events) -> Iterator[str]:
    """A session that kills its drivers is ended as such, and no other one is."""
    crashed = (events[-1].get("error") or {}).get("code") == "driver_crashed"
    if crashed != (events[0].get("instruction") == POISON):
        yield f"it was{'' if crashed else ' not'} ended as one that kills its drivers: {events[-1]['reason']}"


def _view(evidence: Evidence, session_id: str, events: Events) -> Iterator[str]:
    """The API agrees with the log: a terminal status, the reason, the best candidate, the last event."""
    view, end = evidence.views.get(session_id), events[-1]
    if view is None:
        yield "the API does not know it"
        return
    status = "cancelled" if end["reason"] == "cancelled" else "succeeded" if end["best"] else "failed"
    reported = {name: view.get(name) for name in ("status", "finish_reason", "best", "last_event")}
    wanted = {"status": status, "finish_reason": end["reason"], "best": end["best"], "last_event": len(events)}
    if reported != wanted:
        yield f"the API says {reported}, the log says {wanted}"


def _archive(evidence: Evidence, session_id: str, events: Events) -> Iterator[str]:
    """The archive next to the images is the complete log."""
    kept = evidence.archived(session_id)
    if kept is None:
        yield "it is finished and not archived"
    elif kept != [{"seq": place, **event} for place, event in enumerate(events, 1)]:
        yield f"its document has {len(kept)} events that are not the {len(events)} of the log"


SESSION_RULES: dict[str, SessionRule] = {
    "dense ids": _dense,
    "meta": _meta,
    "begins and ends": _begins_and_ends,
    "turns": _turns,
    "recorded twice": _once,
    "order": _order,
    "dangling image": _images,
    "best": _best,
    "totals": _totals,
    "cancelled": _cancelled,
    "deadline": _deadline,
    "poison": _poison,
    "api": _view,
    "archive": _archive,
}


# --- all of them -------------------------------------------------------------------------------------------------


def _lost(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Every request got a session, and every session that a caller got exists."""
    for told in evidence.told:
        if not told.ids:
            yield "-", f"{told.key} was never answered"
        for session_id in told.ids - evidence.logs.keys():
            yield session_id, f"{told.key} got its id, and it does not exist"


def _doubled(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """One session per key: a caller got no two, and every session has a caller."""
    for told in evidence.told:
        if len(told.ids) > 1:
            yield min(told.ids), f"{told.key} made {sorted(told.ids)}"
    known = {session_id for told in evidence.told for session_id in told.ids}
    for session_id in evidence.logs.keys() - known:
        yield session_id, f"no caller got its id; {evidence.events(session_id)[0].get('user')} requested it"
    by_key = Counter(str(evidence.events(session_id)[0].get("user")) for session_id in evidence.logs)
    for key, count in by_key.items():
        if count > 1:
            yield "-", f"{key} has {count} sessions in the store"


def _refusals(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """No client got an invalid answer."""
    for told in evidence.told:
        for text in told.refusals:
            yield next(iter(told.ids), "-"), f"{told.key}: {text}"


def _acknowledged(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """A cancel that was acknowledged while the session ran is recorded."""
    for told in evidence.told:
        for session_id in told.ids & evidence.logs.keys():
            kinds = {event["type"] for event in evidence.events(session_id)}
            running = told.cancelled_at not in {None, "succeeded", "failed"}
            if running and "cancel_requested" not in kinds:
                yield session_id, f"a cancel was acknowledged ({told.cancelled_at}), and is not recorded"


def _heard(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Every listener received 1, 2, 3 … up to `finished`, each once, with the content of the log."""
    for told in evidence.told:
        for heard in told.heard:
            numbers = [number for number, _ in heard.events]
            if any(after != before + 1 for before, after in pairwise([0, *numbers])):
                yield heard.session_id, f"a listener of {heard.connections} connections received {numbers}"
            if not heard.ended:
                yield heard.session_id, f"a listener did not receive the end; it received {numbers}"
            if heard.session_id not in evidence.logs:
                continue
            log = evidence.events(heard.session_id)
            if len(numbers) != len(log):
                yield heard.session_id, f"a listener received {len(numbers)} of {len(log)} events"
            for number, event in heard.events:
                # An empty frame is a violation too.
                if not 1 <= number <= len(log) or {**event, "seq": number} != {**log[number - 1], "seq": event.get("seq")}:
                    yield heard.session_id, f"a listener received event {number} with other content than was recorded: {event}"


@dataclass(frozen=True)
class Wait:
    """From the end of a session until its caller, or a listener, knew.

    Attributes:
        undisturbed: the longest time in a row, in seconds, in which no fault was on the way.
    """

    key: str
    session_id: str
    end: float
    knew: float
    undisturbed: float
    route: Route


def waits(evidence: Evidence) -> Iterator[Wait]:
    """Of every caller and listener that was told of the end."""
    for told in evidence.told:
        knew = [(heard.session_id, heard.finished_at, heard.route) for heard in told.heard if heard.finished_at is not None]
        knew += [(*told.waited[:2], told.route)] if told.waited else []
        for session_id, at, route in knew:
            if session_id in evidence.logs:
                decided = evidence.events(session_id)[-1]["at"]
                end = max(decided, evidence.finished_at.get(session_id, decided))
                faults = [fault for fault in evidence.faults or () if fault.meets(route)]
                yield Wait(told.key, session_id, end, at, undisturbed(end, at, faults), route)


def undisturbed(began: float, ended: float, faults: Iterable[FaultRecord]) -> float:
    """The longest time in a row, in seconds, in which no fault was on the way."""
    longest, free_from = 0.0, began
    for fault in sorted(faults, key=lambda fault: fault.began):
        if fault.ended > free_from and fault.began < ended:
            longest = max(longest, fault.began - free_from)
            free_from = max(free_from, fault.ended)
    return max(longest, ended - free_from)


def _left_waiting(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Nobody waits for a session that has finished, once the network lets the answer through."""
    for wait in waits(evidence) if evidence.faults is not None else ():
        if wait.undisturbed > evidence.may_wait_s:
            text = f"{wait.key} waited {wait.knew - wait.end:.1f} s longer than its session, until {wait.knew:.3f}"
            yield wait.session_id, f"{text}; for {wait.undisturbed:.1f} s no fault was on the way, {wait.route}"


def _pictures(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """A caller that waited got the picture of a session that has one, and an error otherwise."""
    for told in evidence.told:
        if told.ids and not told.heard and told.waited is None:
            yield min(told.ids), f"{told.key} was never answered"
        if told.waited and told.waited[0] in evidence.logs:
            session_id, _, picture = told.waited
            end = evidence.events(session_id)[-1]
            if picture != (end.get("best") is not None):
                yield session_id, f"{told.key} got {'a' if picture else 'no'} picture of a session that ended {end.get('reason')}"


def _leftovers(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """No session is queued, owned or counted."""
    for key, content in evidence.leftovers.items():
        yield "-", f"{key} holds {content}"


WHOLE_RULES: dict[str, WholeRule] = {
    "lost": _lost,
    "made twice": _doubled,
    "refused": _refusals,
    "cancel acknowledged": _acknowledged,
    "heard": _heard,
    "left waiting": _left_waiting,
    "answered": _pictures,
    "left behind": _leftovers,
}
