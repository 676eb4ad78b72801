"""The checker passes a correct run, and each rule catches a planted violation."""

from __future__ import annotations

import copy
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.chaos.checker import SESSION_RULES, WHOLE_RULES, check
from tests.chaos.evidence import MACHINE, CallerRecord, Evidence, FaultRecord, ListenerRecord, Route
from tests.doubles.replica import POISON

ID = "ses_1"
KEY = "session-1"


def stored(blobs: Path, shade: int) -> dict[str, Any]:
    """Store a small picture, and return its reference in events."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 0, 0)).save(buffer, "PNG")
    data = buffer.getvalue()
    name = hashlib.sha256(data).hexdigest()
    (blobs / ID).mkdir(parents=True, exist_ok=True)
    (blobs / ID / name).write_bytes(data)
    return {"sha256": name, "media_type": "image/png", "bytes": len(data), "width": 8, "height": 6}


def turn(number: int, image: dict[str, Any]) -> list[dict[str, Any]]:
    place = {"turn": number, "candidate": 1}
    key = f"{ID}/{number}/1"
    return [
        {"type": "turn_started", "turn": number, "instruction": "x", "candidates": 1, "first_seed": number},
        {"type": "edit_started", **place, "attempt": 1, "key": key, "seed": number},
        {"type": "edited", **place, "image": image, "editor_seconds": 0.5},
        {"type": "critiqued", **place, "semantic": 5.0, "quality": 5.0},
    ]


def write_document(blobs: Path, events: list[dict[str, Any]]) -> None:
    numbered = [{"seq": place, **event} for place, event in enumerate(events, 1)]
    (blobs / ID / "session.json").write_text(json.dumps({"events": numbered}))


def sound(blobs: Path) -> Evidence:
    """One session of two turns, with its caller and one listener; without violations."""
    events: list[dict[str, Any]] = [
        {"type": "session_created", "source": stored(blobs, 1), "user": KEY, "limits": {"max_turns": 2, "deadline_at": 1000.0}},
        *turn(1, stored(blobs, 2)),
        *turn(2, stored(blobs, 3)),
    ]
    best = {"turn": 2, "candidate": 1}
    totals = {"turns": 2, "edits": 2, "editor_seconds": 1.0}
    events.append({"type": "finished", "reason": "max_turns", "best": best, "results": [best], "totals": totals})
    events = [{**event, "at": float(place)} for place, event in enumerate(events)]
    heard = ListenerRecord(
        ID, [(place, {"seq": place, **copy.deepcopy(event)}) for place, event in enumerate(events, 1)], 2, ended=True
    )
    write_document(blobs, events)
    return Evidence(
        told=[CallerRecord(KEY, {ID}, [heard])],
        logs={ID: [(f"{place}-0", event) for place, event in enumerate(events, 1)]},
        metas={ID: {"seq": str(len(events)), "fence": "1", "owner": "", "tenant": "default", "lane": "x", "state": "done"}},
        views={ID: {"status": "succeeded", "finish_reason": "max_turns", "best": best, "last_event": len(events)}},
        leftovers={},
        blobs=blobs,
        faults=[],
    )


def test_a_correct_run_has_no_violation(tmp_path: Path) -> None:
    """Both layouts of the blob store are read."""
    assert check(sound(tmp_path)) == []
    for path in [path for path in (tmp_path / ID).iterdir() if path.name != "session.json"]:
        by_content = tmp_path / path.name[:2]
        by_content.mkdir(exist_ok=True)
        path.rename(by_content / path.name)
    assert check(sound(tmp_path)) == []


Plant = Callable[[Evidence], object]


def at(evidence: Evidence, kind: str, number: int = 0) -> dict[str, Any]:
    """The event of that type; changing it changes the log."""
    return [event for event in evidence.events(ID) if event["type"] == kind][number]


def insert(place: int, kind: str, number: int = 0) -> Plant:
    """Repeat an event at that position; the ids stay dense."""

    def plant(evidence: Evidence) -> None:
        events = evidence.events(ID)
        events.insert(place if place >= 0 else len(events) + 1 + place, at(evidence, kind, number))
        evidence.logs[ID] = [(f"{seq}-0", event) for seq, event in enumerate(events, 1)]

    return plant


def drop(kind: str) -> Plant:
    def plant(evidence: Evidence) -> None:
        events = evidence.events(ID)
        events.remove(at(evidence, kind))
        evidence.logs[ID] = [(f"{seq}-0", event) for seq, event in enumerate(events, 1)]

    return plant


def put(kind: str, number: int = 0, **fields: Any) -> Plant:
    return lambda evidence: at(evidence, kind, number).update(fields)


def blob(evidence: Evidence) -> Path:
    return evidence.blobs / ID / str(at(evidence, "edited")["image"]["sha256"])


def spoil(evidence: Evidence) -> None:
    """Store half a picture under its own digest and size."""
    data = blob(evidence).read_bytes()[:40]
    name = hashlib.sha256(data).hexdigest()
    (evidence.blobs / ID / name).write_bytes(data)
    at(evidence, "edited")["image"].update(sha256=name, bytes=len(data))


def cancel(evidence: Evidence) -> None:
    evidence.logs[ID].insert(4, ("5-0", {"type": "cancel_requested", "at": 4.5}))


def cancelled_and_gone_on(evidence: Evidence) -> None:
    cancel(evidence)
    at(evidence, "finished")["reason"] = "cancelled"


def second_session(evidence: Evidence) -> None:
    """A second session of the same key that no caller got."""
    evidence.logs["ses_2"] = copy.deepcopy(evidence.logs[ID])


def listener(evidence: Evidence) -> ListenerRecord:
    return evidence.told[0].heard[0]


def fault(began: float, ended: float, source: str = "orchestrator-1", target: str = "redis-1") -> FaultRecord:
    return FaultRecord(began, ended, source, target)


def wait_until(evidence: Evidence, at: float, *faults: FaultRecord, picture: bool = True) -> None:
    """Its caller waited for the picture; the session ended at 9."""
    evidence.told[0].waited = ID, at, picture
    evidence.told[0].route = Route("front-1", "orchestrator-1", since=7)
    evidence.faults = list(faults)


def late_append(evidence: Evidence) -> None:
    evidence.finished_at[ID] = 12
    wait_until(evidence, 14.5)


def none_with_a_picture(evidence: Evidence) -> None:
    at(evidence, "finished")["best"] = None
    wait_until(evidence, 9)


PLANTS: list[tuple[str, str, Plant]] = [
    ("dense ids", "a gap", lambda e: e.logs[ID].__setitem__(3, ("9-0", e.logs[ID][3][1]))),
    ("dense ids", "a second writer", lambda e: e.logs[ID].__setitem__(3, ("4-1", e.logs[ID][3][1]))),
    ("meta", "seq behind the log", lambda e: e.metas[ID].update(seq="3")),
    ("meta", "still owned", lambda e: e.metas[ID].update(owner="replica-1")),
    ("meta", "not done", lambda e: e.metas[ID].update(state="parked")),
    ("meta", "no hash", lambda e: e.metas.clear()),
    ("begins and ends", "created twice", insert(2, "session_created")),
    ("begins and ends", "not created first", drop("session_created")),
    ("begins and ends", "finished twice", insert(-1, "finished")),
    ("begins and ends", "never finished", drop("finished")),
    ("begins and ends", "goes on after the end", insert(-1, "critiqued")),
    ("turns", "a turn twice", insert(6, "turn_started")),
    ("turns", "a turn left out", put("turn_started", 1, turn=3)),
    ("turns", "more than the limit", lambda e: at(e, "session_created")["limits"].update(max_turns=1)),
    ("recorded twice", "edited", insert(4, "edited")),
    ("recorded twice", "critiqued", insert(5, "critiqued")),
    ("order", "no intent", drop("edit_started")),
    ("order", "edited before its turn", put("edit_started", turn=2, key=f"{ID}/2/1")),
    ("order", "an attempt twice", insert(3, "edit_started")),
    ("order", "a key of another place", put("edit_started", key=f"{ID}/2/1")),
    ("order", "a key of another session", put("edit_started", key="ses_2/1/1")),
    ("order", "critiqued before edited", insert(2, "critiqued")),
    ("dangling image", "gone", lambda e: blob(e).unlink()),
    ("dangling image", "half written", lambda e: blob(e).write_bytes(blob(e).read_bytes()[:20])),
    ("dangling image", "no picture", spoil),
    ("dangling image", "another size", lambda e: at(e, "edited")["image"].update(width=9)),
    ("dangling image", "another length", lambda e: at(e, "edited")["image"].update(bytes=9)),
    ("dangling image", "the source", lambda e: at(e, "session_created")["source"].update(sha256="0" * 64)),
    ("best", "none", put("finished", best=None, results=[])),
    ("best", "of no turn", put("finished", best={"turn": 3, "candidate": 1})),
    ("best", "a result without an image", put("finished", results=[{"turn": 2, "candidate": 2}])),
    ("totals", "an edit too many", lambda e: at(e, "finished")["totals"].update(edits=3)),
    ("totals", "seconds forgotten", lambda e: at(e, "finished")["totals"].update(editor_seconds=0.5)),
    ("cancelled", "a cancel without effect", cancel),
    ("cancelled", "cancelled by nobody", put("finished", reason="cancelled")),
    ("cancelled", "gone on after a cancel", cancelled_and_gone_on),
    ("deadline", "late", lambda e: at(e, "session_created")["limits"].update(deadline_at=-100.0)),
    ("deadline", "early", put("finished", reason="deadline")),
    ("api", "not finished", lambda e: e.views[ID].update(status="running")),
    ("api", "another best", lambda e: e.views[ID].update(best={"turn": 1, "candidate": 1})),
    ("api", "unknown", lambda e: e.views.clear()),
    ("archive", "none", lambda e: (e.blobs / ID / "session.json").unlink()),
    ("archive", "not all", lambda e: write_document(e.blobs, e.events(ID)[:-1])),
    ("lost", "a session that was told of", lambda e: e.told[0].ids.add("ses_3")),
    ("lost", "a caller without an answer", lambda e: e.told[0].ids.clear()),
    ("lost", "a whole log", lambda e: e.logs.clear()),
    ("made twice", "told", lambda e: e.told[0].ids.add("ses_3")),
    ("made twice", "untold", second_session),
    ("refused", "an answer that makes no sense", lambda e: e.told[0].refusals.append("404")),
    ("cancel acknowledged", "and forgotten", lambda e: setattr(e.told[0], "cancelled_at", "running")),
    ("heard", "a gap", lambda e: listener(e).events.pop(3)),
    ("heard", "an event twice", lambda e: listener(e).events.insert(3, listener(e).events[3])),
    ("heard", "out of order", lambda e: listener(e).events.reverse()),
    ("heard", "no end", lambda e: setattr(listener(e), "ended", False)),
    ("heard", "not all", lambda e: listener(e).events.pop()),
    ("heard", "more than there is", lambda e: listener(e).events.append((11, {"seq": 11, "type": "critiqued"}))),
    ("heard", "other content", lambda e: listener(e).events[3][1].update(image=None)),
    ("heard", "another number inside", lambda e: listener(e).events[3][1].update(seq=5)),
    ("poison", "an innocent one", put("finished", error={"code": "driver_crashed"})),
    ("poison", "not ended", put("session_created", instruction=POISON)),
    ("left waiting", "a caller", lambda e: wait_until(e, 12.5)),
    ("left waiting", "a listener", lambda e: setattr(listener(e), "finished_at", 12.5)),
    ("left waiting", "after a fault", lambda e: wait_until(e, 16.5, fault(9, 14))),
    ("left waiting", "before a fault", lambda e: wait_until(e, 16.5, fault(12, 16))),
    ("left waiting", "with a fault elsewhere", lambda e: wait_until(e, 12.5, fault(8, 14, "orchestrator-2"))),
    ("left waiting", "for an append that came late", late_append),
    ("answered", "without the picture", lambda e: wait_until(e, 9, picture=False)),
    ("answered", "with a picture that is none", none_with_a_picture),
    ("answered", "never", lambda e: e.told[0].heard.clear()),
    ("left behind", "a queue", lambda e: e.leftovers.update({"et:{0}:q:x:default": "ses_1"})),
]


@pytest.mark.parametrize(("rule", "what", "plant"), PLANTS, ids=[f"{rule}: {what}" for rule, what, _ in PLANTS])
def test_a_planted_violation_is_caught(tmp_path: Path, rule: str, what: str, plant: Plant) -> None:
    evidence = sound(tmp_path)
    plant(evidence)

    assert rule in {violation.rule for violation in check(evidence)}, what


@pytest.mark.parametrize(
    ("at_s", "faults"),
    [
        (10.9, []),
        (13.0, [fault(8, 11.1)]),
        (13.0, [fault(8, 11.1, "front-1", "orchestrator-1")]),
        (13.0, [fault(8, 11.1, "callers", "front-1")]),
        (13.0, [fault(6, 11.1, "orchestrator-2", "redis-1")]),
        (13.0, [fault(8, 11.1, MACHINE, "")]),
        (15.0, [fault(10.5, 12), fault(11, 13.2)]),
        (20.0, [fault(0, 5), fault(9, 19), fault(10, 12)]),
    ],
)
def test_who_waits_for_the_network_is_not_left_waiting(tmp_path: Path, at_s: float, faults: list[FaultRecord]) -> None:
    """Two seconds in a row without a fault are needed."""
    evidence = sound(tmp_path)
    wait_until(evidence, at_s, *faults)

    assert check(evidence) == []


def test_every_rule_has_a_planted_violation() -> None:
    assert {rule for rule, _, _ in PLANTS} == set(SESSION_RULES) | set(WHOLE_RULES)
