"""What must hold in every world."""

from __future__ import annotations

from statistics import fmean

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from orchestrator.loop import events as ev
from orchestrator.loop.actions import Rest
from orchestrator.loop.policy import decide
from orchestrator.loop.session import Session, fold
from tests.unit.loop.worlds import World, created, refold

worlds = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def _run(data: st.DataObject) -> tuple[World, Session]:
    world = World(data, [data.draw(created())])
    return world, world.run()


@worlds
@given(st.data())
def test_every_session_ends_once_and_stays_ended(data: st.DataObject) -> None:
    """Under any failures, delays and feedback, a session finishes exactly once."""
    world, session = _run(data)

    assert sum(isinstance(event, ev.Finished) for event in world.events) == 1
    assert isinstance(world.events[-1], ev.Finished)
    assert isinstance(decide(session, world.now + 1e9), Rest)


@worlds
@given(st.data())
def test_no_budget_is_exceeded(data: st.DataObject) -> None:
    """Edits, turns between feedback, and attempts; no edit is started once the editor seconds are spent."""
    world, session = _run(data)
    limits = session.created.limits
    started = [event for event in world.events if isinstance(event, ev.EditStarted)]

    if limits.budget_edits is not None:
        assert len(started) <= limits.budget_edits
    for place, event in enumerate(world.events):
        if isinstance(event, ev.EditStarted) and limits.budget_editor_s is not None:
            assert fold(world.events[:place]).totals.editor_seconds < limits.budget_editor_s
    assert all(event.attempt <= limits.edit_attempts for event in started)
    turns = [turn for turn in session.turns[session.floor :] if not turn.renders]
    first = session.turns[0] if session.turns and not session.floor else None
    refused = bool(first and first.author == "preparer" and not any(each.image for each in first.candidates))
    assert len(turns) - refused <= limits.max_turns or session.new_instruction
    failed = [event for event in world.events if isinstance(event, ev.CritiqueFailed | ev.PrepareFailed)]
    assert all(event.attempt <= limits.critique_attempts for event in failed)


@worlds
@given(st.data())
def test_nothing_is_started_after_the_deadline(data: st.DataObject) -> None:
    """Past the deadline only the end is recorded, and running jobs are cancelled."""
    world, session = _run(data)
    late = [event for event in world.events if event.at >= session.created.limits.deadline_at]

    assert not any(isinstance(event, ev.TurnStarted | ev.EditStarted | ev.ReviewRequested) for event in late)


def _means(world: World) -> dict[tuple[int, int], tuple[float, float]]:
    """By candidate, the means of all its critiques' scores."""
    heard: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for event in world.events:
        if isinstance(event, ev.Critiqued | ev.Verified):
            heard.setdefault((event.turn, event.candidate), []).append((event.semantic, event.quality))
    return {place: (fmean(s for s, _ in scores), fmean(q for _, q in scores)) for place, scores in heard.items()}


@worlds
@given(st.data())
def test_the_answer_is_the_best_of_what_was_critiqued(data: st.DataObject) -> None:
    """Unless a person picked or the judge compared: satisfying candidates first, then the overall score, then the earlier; drafts
    only where nothing was made in full.
    """
    world, session = _run(data)
    finished = session.finished
    assert finished
    made = [candidate for candidate in session.candidates if candidate.image]

    assert (finished.best is None) == (not made)
    if finished.best is None or (session.accepted and session.accepted.action == "pick"):
        return
    if any(isinstance(event, ev.Compared) and event.second for event in world.events):
        return
    limits = session.created.limits
    drafts = {(each.turn, each.number) for each in made if each.draft}
    in_full = [candidate for candidate in made if not candidate.draft]
    made = in_full or made
    judged = []
    for place, (semantic, quality) in _means(world).items():
        if in_full and place in drafts:
            continue
        meets = semantic >= limits.semantic_threshold and quality >= limits.quality_threshold
        judged.append(((meets, round((semantic * quality) ** 0.5, 9)), place))
    if not judged:
        assert finished.best == made[0].ref
        return
    top = max(rank for rank, _ in judged)
    first = min(place for rank, place in judged if rank == top)
    assert (finished.best.turn, finished.best.candidate) == first


@worlds
@given(st.data())
def test_a_compared_answer_is_one_of_the_pair_that_was_compared_last_or_scored_better(data: st.DataObject) -> None:
    """A comparison decides between the two best; it never lifts a third one above them."""
    world, session = _run(data)
    finished = session.finished
    assert finished
    if finished.best is None or (session.accepted and session.accepted.action == "pick"):
        return
    scores = sorted((round((s * q) ** 0.5, 9) for s, q in _means(world).values()), reverse=True)
    if len(scores) > 2 and (scored := _means(world).get((finished.best.turn, finished.best.candidate))):
        limits = session.created.limits
        meeting = [s >= limits.semantic_threshold and q >= limits.quality_threshold for s, q in _means(world).values()]
        assert any(meeting) or round((scored[0] * scored[1]) ** 0.5, 9) >= scores[1]


@worlds
@given(st.data())
def test_satisfied_needs_critiques_at_both_thresholds(data: st.DataObject) -> None:
    """`satisfied` needs a candidate whose critiques reach both thresholds on average, and as many images as were asked for."""
    world, session = _run(data)
    limits, finished = session.created.limits, session.finished
    assert finished
    if finished.reason == "satisfied":
        assert any(s >= limits.semantic_threshold and q >= limits.quality_threshold for s, q in _means(world).values())
        assert len(finished.results) == session.created.results


@worlds
@given(st.data())
def test_a_judge_is_asked_again_within_bounds(data: st.DataObject) -> None:
    """At most as often as the session says, with bounded attempts; and never where single scores are trusted."""
    world, session = _run(data)
    choosing, limits = session.created.choosing, session.created.limits
    more = [event for event in world.events if isinstance(event, ev.Verified)]
    again = [event for event in world.events if isinstance(event, ev.VerifyFailed | ev.CompareFailed)]

    if choosing is None:
        assert not more and not again and not session.comparisons
        return
    for candidate in session.candidates:
        assert len(candidate.critiques) <= 1 + choosing.confirmations
    assert all(event.attempt <= limits.critique_attempts for event in again)
    told = [(event.first, event.second) for event in world.events if isinstance(event, ev.Compared)]
    assert len(told) == len(set(map(str, told)))


@worlds
@given(st.data())
def test_resuming_after_any_event_gives_the_same_session(data: st.DataObject) -> None:
    """A resume from any event gives the same session and the same next action."""
    world, session = _run(data)
    cut = data.draw(st.integers(1, len(world.events)))

    assert refold(world.events, cut) == session
    assert fold([ev.load(ev.dump(event)) for event in world.events]) == session


@worlds
@given(st.data())
def test_turn_one_is_the_callers_instruction_and_edits_use_distinct_seeds(data: st.DataObject) -> None:
    """The caller's instruction comes first, or what a preparer made of it; one gets a seed twice only to render a draft."""
    _, session = _run(data)
    if session.turns:
        first, prepared = session.turns[0], session.preparation.instruction
        assert first.author == "person" or first.instruction == (prepared or session.created.instruction)
    tried = [(turn.instruction, c.seed, bool(turn.renders)) for turn in session.turns for c in turn.candidates]
    assert len(tried) == len(set(tried))


@worlds
@given(st.data())
def test_an_instruction_is_prepared_once_before_the_first_turn(data: st.DataObject) -> None:
    """And only where the session has a preparer; what fails costs time alone."""
    world, session = _run(data)
    told = [event for event in world.events if isinstance(event, ev.Prepared | ev.PrepareFailed)]

    assert not told or session.created.preparer
    assert sum(isinstance(event, ev.Prepared) for event in told) <= 1
    begun = [event.attempt for event in world.events if isinstance(event, ev.PrepareStarted)]
    assert begun == list(range(1, len(begun) + 1)) and len(told) <= len(begun) <= len(told) + 1
    others = [event for event in world.events if not isinstance(event, ev.PrepareStarted)]
    assert others[1 : 1 + len(told)] == told or any(
        isinstance(event, ev.FeedbackGiven | ev.CancelRequested) for event in others[: 1 + len(told)]
    )
    assert session.preparation.thinker_seconds == sum(event.thinker_seconds for event in told)
    assert session.totals.thinker_seconds == pytest.approx(session.preparation.thinker_seconds)


@worlds
@given(st.data())
def test_words_that_the_editor_refuses_are_given_up_for_the_callers_own(data: st.DataObject) -> None:
    """A session ends without a picture only after the caller's own words failed too, or no edit could be paid for."""
    world, session = _run(data)
    finished, first = session.finished, session.turns[0] if session.turns else None
    assert finished
    if finished.reason == "failed" and first and first.author == "preparer":
        refused = any(
            isinstance(event, ev.EditFailed) and not event.retryable and event.code == "x" and event.turn == 1
            for event in world.events
        )
        assert not refused or len(session.turns) > 1


@worlds
@given(st.data())
def test_a_draft_is_the_answer_only_where_nothing_was_made_in_full(data: st.DataObject) -> None:
    """Unless a person picked it and its render failed. What is called satisfied is never a draft."""
    _, session = _run(data)
    finished = session.finished
    assert finished
    top = session.candidate(finished.best) if finished.best else None

    if not session.created.draft:
        assert not any(candidate.draft for candidate in session.candidates)
    if top and top.draft:
        assert finished.reason != "satisfied"
        picked = session.accepted and session.accepted.action == "pick"
        assert picked or not any(each.image for each in session.candidates if not each.draft)


@worlds
@given(st.data())
def test_a_render_has_the_instruction_and_the_seed_of_its_draft(data: st.DataObject) -> None:
    """Every draft is rendered once at most, in a turn of its own, and never before an edit could be afforded."""
    _, session = _run(data)
    renders = [turn for turn in session.turns if turn.renders]

    assert len({turn.renders for turn in renders}) == len(renders)
    for turn in renders:
        assert turn.renders
        draft = session.candidate(turn.renders)
        assert draft and draft.draft and draft.image and not turn.draft
        assert [candidate.seed for candidate in turn.candidates] == [draft.seed]
        assert turn.instruction == session.turns[draft.turn - 1].instruction


@worlds
@given(st.data())
def test_drafts_leave_an_edit_and_half_of_the_seconds_for_a_render(data: st.DataObject) -> None:
    """However many are retried."""
    world, session = _run(data)
    limits = session.created.limits
    drafts = {turn.number for turn in session.turns if turn.draft}
    for place, event in enumerate(world.events):
        if isinstance(event, ev.EditStarted) and event.turn in drafts:
            before = fold(world.events[:place]).totals
            assert limits.budget_edits is None or before.edits + 1 < limits.budget_edits
            assert limits.budget_editor_s is None or before.editor_seconds < limits.budget_editor_s / 2


@worlds
@given(st.data())
def test_baselines_never_use_refined_instructions(data: st.DataObject) -> None:
    """`single` and `best_of_n` edit with the caller's (or a person's) instruction alone."""
    _, session = _run(data)
    if session.created.strategy in {"single", "best_of_n"}:
        assert all(turn.author != "thinker" for turn in session.turns)


@pytest.mark.parametrize("reason", ["satisfied", "max_turns", "plateau", "deadline", "budget", "accepted", "cancelled", "failed"])
def test_every_finish_reason_is_reached_by_some_world(reason: str) -> None:
    """No reason is dead code."""

    @st.composite
    def ended(draw: st.DrawFn) -> str:
        world = World(draw(st.data()), [draw(created())])
        finished = world.run().finished
        assert finished
        return finished.reason

    # The smallest such world is of no interest here.
    search = settings(max_examples=50_000, deadline=None, database=None, phases=[Phase.generate])
    try:
        find(ended(), lambda got: got == reason, settings=search)
    except NoSuchExample:
        pytest.fail(f"no world ends with {reason}")
