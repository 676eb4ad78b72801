"""The studio folds a session's events as the server does: after each event both show the same."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page, Route

from orchestrator.api.view import show
from orchestrator.loop import events as ev
from orchestrator.loop.session import apply, fold
from tests.doubles.chromium import chromium
from tests.doubles.debian import NoProgramError, browser
from tests.unit.loop.worlds import IMAGE, World, created

pytestmark = pytest.mark.xdist_group("browser")

RECORDED = Path(__file__).parents[1] / "recorded"
SITE = "http://studio.test/"
_FOLDED = """
async (events) => {
  const state = await import("/state.js");
  const round = (value) => Math.round(value * 1000) / 1000;
  const scores = (given) => given && [given.semantic, given.quality, given.overall, given.semantic_spread, given.quality_spread]
    .map(round);
  const candidate = (each) => ({
    status: state.candidateStatus(each), seed: each.seed, scores: scores(each.scores), unchanged: each.unchanged,
    image: each.image?.sha256 ?? null, answer: each.scaled?.sha256 ?? null,
    preview: each.preview?.sha256 ?? null, preview_scores: each.preview ? scores(each.preview_scores) : null,
    reasoning: each.reasoning || null, answers: each.answers, places: each.places, not_understood: each.not_understood,
    refined_instruction: each.refined_instruction, refinement_reasoning: each.refinement_reasoning || null,
    error: each.edit_error ?? each.critique_error, seconds: [round(each.editor_seconds), round(each.thinker_seconds)],
  });
  const shown = (session) => ({
    status: state.status(session), best: state.best(session), last_event: session.last_event,
    totals: Object.fromEntries(Object.entries(session.totals).map(([name, value]) => [name, round(value)])),
    checklist: session.checklist, comparisons: session.comparisons.map(({winner}) => winner),
    prepared: session.created.preparer ? session.preparation.instruction : null,
    turns: session.turns.map((turn) => ({
      instruction: turn.instruction, author: turn.author, draft: turn.draft, renders: turn.renders,
      candidates: turn.candidates.map(candidate),
    })),
  });
  const found = [];
  let session = state.begin(events[0]);
  for (const event of [null, ...events.slice(1)]) {
    if (event) session = state.apply(session, event);
    found.push(shown(session));
  }
  return found;
}
"""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page that can import the studio's modules."""
    try:
        browser()
    except NoProgramError as exc:
        pytest.skip(f"there is no browser: {exc}")

    def serve(route: Route) -> None:
        name = route.request.url.removeprefix(SITE)
        if not name:
            route.fulfill(body="<!doctype html><title>modules</title>", content_type="text/html")
        else:
            body = files("orchestrator").joinpath("studio", name).read_bytes()
            route.fulfill(body=body, content_type="text/javascript")

    with chromium() as running:
        opened = running.new_page()
        opened.route(f"{SITE}**", serve)
        opened.goto(SITE)
        yield opened


def expected(events: list[ev.Event]) -> list[dict[str, Any]]:
    """What the server shows after each event."""
    session = fold(events[:1])
    shown = [of_server(session, 1)]
    for number, event in enumerate(events[1:], 2):
        session = apply(session, event)
        shown.append(of_server(session, number))
    return shown


def of_server(session: Any, number: int) -> dict[str, Any]:
    view = json.loads(show("ses_1", session, number).model_dump_json())
    names = ("semantic", "quality", "overall", "semantic_spread", "quality_spread")

    def scores(given: dict[str, float] | None) -> list[float] | None:
        return [given[name] for name in names] if given else None

    def candidate(each: dict[str, Any]) -> dict[str, Any]:
        preview = each.get("preview")
        return {
            **{name: each[name] for name in ("status", "seed", "reasoning", "answers", "refined_instruction", "error")},
            "scores": scores(each["scores"]),
            "unchanged": each.get("unchanged", False),
            "image": (each["image"] or {}).get("sha256"),
            "answer": each.get("answer", {}).get("sha256"),
            "preview": preview["sha256"] if preview else None,
            "preview_scores": scores(preview["scores"]) if preview else None,
            "places": each.get("places", []),
            "not_understood": each.get("not_understood", []),
            "refinement_reasoning": each.get("refinement_reasoning"),
            "seconds": [round(each["editor_seconds"], 3), round(each["thinker_seconds"], 3)],
        }

    return {
        **{name: view[name] for name in ("status", "best", "last_event", "checklist")},
        "totals": {name: round(value, 3) for name, value in view["totals"].items()},
        "comparisons": [each["winner"] for each in view.get("comparisons", [])],
        "prepared": view.get("preparation", {}).get("instruction"),
        "turns": [
            {
                **{name: turn[name] for name in ("instruction", "author")},
                "draft": turn.get("draft", False),
                "renders": turn.get("renders"),
                "candidates": [candidate(each) for each in turn["candidates"]],
            }
            for turn in view["turns"]
        ],
    }


def compare(page: Page, events: list[dict[str, Any]]) -> None:
    """Fold on both sides, and compare after each event."""
    known = [ev.load(json.dumps(event)) for event in events]
    for number, (seen, wanted) in enumerate(zip(page.evaluate(_FOLDED, events), expected(known), strict=True), 1):
        assert close(seen) == close(wanted), (number, events[number - 1])


def close(value: Any) -> Any:
    """Numbers as they are shown: JavaScript and Python round halves differently."""
    if isinstance(value, dict):
        return {name: close(each) for name, each in value.items()}
    if isinstance(value, list):
        return [close(each) for each in value]
    return pytest.approx(value, abs=0.002) if isinstance(value, float) else value


def streams(text: str) -> list[dict[str, Any]]:
    """The events of a recorded stream, as the server sent them."""
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def recordings() -> dict[str, list[dict[str, Any]]]:
    with tarfile.open(RECORDED / "event-version-1.tar.gz") as archive:
        member = next(each for each in archive if each.name.endswith("sse.json"))
        file = archive.extractfile(member)
        assert file is not None
        first = {f"version 1, {name}": streams(text) for name, text in json.loads(file.read()).items()}
    later: dict[str, list[dict[str, Any]]] = json.loads((RECORDED / "studio-streams.json").read_text("utf-8"))
    return first | later


@pytest.mark.parametrize("name", sorted(recordings()))
def test_a_recorded_stream_is_shown_as_the_server_shows_it(page: Page, name: str) -> None:
    compare(page, recordings()[name])


def test_random_sessions_are_shown_as_the_server_shows_them(page: Page) -> None:
    """With drafts, judges of their own, previews, comparisons, failures, and people who speak at any moment."""
    seen: set[str] = set()

    @settings(max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def check(data: st.DataObject) -> None:
        world = World(data, [data.draw(created())])
        world.run()
        seen.update(event.type for event in world.events)
        compare(page, [{"seq": n, **orjson.loads(ev.dump(event))} for n, event in enumerate(world.events, 1)])

    check()
    assert {"previewed", "prepared", "checklist_made", "critiqued", "review_requested", "cancel_requested"} <= seen


def test_rejected_edits_and_repeated_critiques_are_shown_as_the_server_shows_them(page: Page) -> None:
    """What random sessions seldom have."""
    created = ev.SessionCreated(
        at=0, source=IMAGE, instruction="a", editor="e", thinker="t", limits=ev.Limits(deadline_at=99), reject_early=True
    )
    first, second = (ev.CandidateRef(turn=1, candidate=number) for number in (1, 2))

    def of(ref: ev.CandidateRef, at: float = 1) -> dict[str, Any]:
        return {"at": at, "turn": ref.turn, "candidate": ref.candidate}

    def scored(semantic: float, reasoning: str, **more: Any) -> dict[str, Any]:
        return {"semantic": semantic, "quality": 9, "reasoning": reasoning, "instruction": f"{reasoning} +", **more}

    events: list[ev.Event] = [
        created,
        ev.TurnStarted(at=1, turn=1, instruction="a", author="caller", candidates=3, first_seed=2**31 - 1),
        *(ev.EditStarted(**of(ref), attempt=1, key="k", seed=5) for ref in (first, second)),
        ev.Edited(**of(first), image=IMAGE, editor_seconds=1.5, not_understood=("b",)),
        ev.Edited(**of(second), image=IMAGE, editor_seconds=2, unchanged=True),
        ev.Critiqued(**of(first), **scored(7, "first"), samples=2, semantic_spread=0.5, thinker_seconds=1),
        ev.Critiqued(**of(second), **scored(7.1, "other")),
        ev.Verified(**of(first), **scored(9, "milder"), prompt_tokens=3),
        ev.Verified(**of(first), **scored(5, "stricter"), places=(ev.Place(left=1, top=2, right=3, bottom=4, word="halo"),)),
        ev.Refined(**of(first), instruction="refined", reasoning="because"),
        ev.Verified(**of(first), **scored(4, "strictest")),
        ev.Compared(at=2, first=first, second=second, winner="first", by="pair"),
        ev.EditStarted(**of(ev.CandidateRef(turn=1, candidate=3)), attempt=1, key="k", seed=5),
        ev.Previewed(at=3, turn=1, candidate=3, image=IMAGE),
        ev.PreviewCritiqued(at=3, turn=1, candidate=3, semantic=1, quality=2, instruction="early"),
        ev.EditRejected(at=4, turn=1, candidate=3),
        ev.EditFailed(at=4, turn=1, candidate=3, attempt=1, code="session_cancelled", message="m", retryable=True),
        ev.Finished(at=5, reason="plateau", best=first, results=(first,), scaled=(IMAGE,), totals=ev.Totals()),
    ]
    compare(page, [{"seq": n, **orjson.loads(ev.dump(event))} for n, event in enumerate(events, 1)])


def test_the_studio_listens_to_every_type_of_event(page: Page) -> None:
    types = page.evaluate("async () => (await import('/api.js')).EVENT_TYPES")

    assert sorted(types) == sorted(kind.model_fields["type"].default for kind in get_args(get_args(ev.Event)[0]))


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("a b c", "a b c", ["same:a b c"]),
        ("", "a b", ["added:a b"]),
        ("a b c d", "a x c", ["same:a", "removed:b", "added:x", "same:c", "removed:d"]),
        ("warm it", "warm it, gently", ["same:warm", "removed:it", "added:it, gently"]),
    ],
)
def test_the_difference_of_two_instructions_is_by_words(page: Page, before: str, after: str, told: list[str]) -> None:
    script = """async ([before, after]) => (await import("/word-diff.js")).wordDiff(before, after)
      .map(({kind, text}) => `${kind}:${text}`)"""

    assert page.evaluate(script, [before, after]) == told


@pytest.mark.parametrize("file", ["a b.png", "it's.png", '"x".png', "$(touch pwned).png", "-rf", "ä.png"])
def test_the_command_is_safe_to_paste(page: Page, file: str, tmp_path: Path) -> None:
    """A shell reads the words that were meant, and runs nothing else."""
    script = """async (file) => (await import("/snippets.js"))
      .curl("http://127.0.0.1:1", [file], [["prompt", `it's "so" $HOME`], ["seed", "1"]])"""
    command = page.evaluate(script, file)
    program = tmp_path / "curl"
    program.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env={"PATH": f"{tmp_path}:/bin:/usr/bin"}, capture_output=True, check=True
    )
    words = done.stdout.decode().split("\0")

    assert words[words.index("-F") + 1] == f"image=@{file}"
    assert 'prompt=it\'s "so" $HOME' in words
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curl"]
