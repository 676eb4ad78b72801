"""What events say of critiques and pairs, the published reward, splits, marks, and pictures without metadata."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from evaluation.trajectories.critiques import critiques_of, reward, without_repeats
from evaluation.trajectories.layouts import Exchange, MarkInTextError, row
from evaluation.trajectories.pairs import pair_of_vote, pairs_of
from evaluation.trajectories.pictures import UnknownPictureError, stripped
from evaluation.trajectories.shards import split_of

POSITION = b"48.8584 N 2.2945 E"


def document(*events: dict[str, Any], **created: Any) -> dict[str, Any]:
    """A session of these events."""
    first = {"type": "session_created", "source": {"sha256": "s"}, "instruction": "golden", "editor": "e", "thinker": "t"}
    numbered = [{"seq": seq, **event} for seq, event in enumerate([{**first, "seed": 5, **created}, *events], 1)]
    return {"id": "ses_1", "tenant": "ann", "created_at": 1.0, "events": numbered}


def turn(number: int, instruction: str, author: str = "thinker", **more: Any) -> dict[str, Any]:
    return {"type": "turn_started", "turn": number, "instruction": instruction, "author": author, **more}


def edited(number: int, candidate: int = 1) -> list[dict[str, Any]]:
    place = {"turn": number, "candidate": candidate}
    image = {"sha256": f"{number}/{candidate}"}
    return [{"type": "edit_started", "seed": 10 * number + candidate, **place}, {"type": "edited", "image": image, **place}]


def critiqued(number: int, semantic: float, refined: str | None = None, kind: str = "critiqued", **more: Any) -> dict[str, Any]:
    found = {"type": kind, "turn": number, "candidate": 1, "semantic": semantic, "quality": 9.0, "instruction": refined}
    return {**found, "reply": f"reply {semantic}", **more}


def finished(number: int) -> dict[str, Any]:
    return {"type": "finished", "best": {"turn": number, "candidate": 1}}


def test_the_reward_is_the_published_one() -> None:
    """The form and the change of the semantic score, half each; a change of -10 to 10 points is 0 to 1."""
    assert [reward(gain) for gain in (-10, 0, 10)] == [0.5, 0.75, 1.0]
    assert reward(4, readable=False) == pytest.approx(0.35)


def test_a_critique_gains_what_the_turn_with_its_instruction_gained() -> None:
    """Although another turn came between, and not what a person's instruction gained."""
    found = critiques_of(
        document(
            turn(1, "golden", "caller"),
            *edited(1),
            critiqued(1, 5.0, "A"),
            turn(2, "A"),
            *edited(2),
            critiqued(2, 3.0, "B"),
            turn(3, "by hand", "person"),
            *edited(3),
            critiqued(3, 9.0, "C"),
            turn(4, "B"),
            *edited(4),
            critiqued(4, 7.0, "D"),
            finished(3),
        )
    )
    assert [critique.gain for critique in found] == [-2.0, 4.0, None, None]
    assert [critique.candidate.seed for critique in found] == [11, 21, 31, 41]


def test_a_turn_that_failed_gains_nothing_and_costs_nothing() -> None:
    failed = {"type": "edit_failed", "turn": 2, "candidate": 1}
    [found] = critiques_of(document(turn(1, "golden", "caller"), *edited(1), critiqued(1, 5.0, "A"), turn(2, "A"), failed))
    assert (found.gain, found.reward) == (None, None)


def test_the_render_of_a_draft_is_no_gain_of_a_critique() -> None:
    render = turn(2, "A", renders={"turn": 1, "candidate": 1})
    events = (turn(1, "A", "caller"), *edited(1), critiqued(1, 5.0, "A"), render, *edited(2), critiqued(2, 9.0))
    assert [critique.gain for critique in critiques_of(document(*events))] == [None, None]


def test_where_another_judge_scores_the_thinker_is_credited_with_its_refinement() -> None:
    judged = critiqued(1, 4.0, reply=None)
    refined = {"type": "refined", "turn": 1, "candidate": 1, "instruction": "A", "reply": "do A", "thinker": "spare"}
    events = (turn(1, "golden", "caller"), *edited(1), judged, refined, turn(2, "A"), *edited(2), critiqued(2, 6.0, reply=None))
    [found] = critiques_of(document(*events, judge="strict"))
    assert (found.role, found.thinker, found.judge, found.gain) == ("refine", "spare", "strict", 2.0)
    assert found.scores is not None and found.scores.semantic == 4.0


def test_of_several_critiques_the_one_that_led_on_is_kept() -> None:
    events = (
        turn(1, "golden", "caller"),
        *edited(1),
        critiqued(1, 6.0, "A"),
        critiqued(1, 4.0, "B", "verified"),
        turn(2, "B"),
        *edited(2),
        critiqued(2, 8.0),
    )
    found = critiques_of(document(*events))
    assert [critique.candidate.disagreement for critique in found] == [2.0, 2.0, 0.0]
    assert [critique.seq for critique in without_repeats(found)] == [6, 10]


def test_a_pair_names_the_better_side_wherever_it_stands() -> None:
    events = [turn(1, "golden", "caller")]
    for number in range(1, 9):
        events += [*([turn(number, f"i{number}")] if number > 1 else []), *edited(number), critiqued(number, float(number))]
    found = list(pairs_of(document(*events, finished(8))))
    assert len(found) == 7 and {pair.origin for pair in found} == {"keep_best"}
    better = [pair.left if pair.vote == "leftvote" else pair.right for pair in found]
    assert {side.turn for side in better} == {8}
    assert {pair.vote for pair in found} == {"leftvote", "rightvote"}
    assert all((pair.gap() or 0) > 0 for pair in found)


@pytest.mark.parametrize(("choice", "digest"), [("a", "1/1"), ("b", "2/1"), ("tie", None)])
def test_a_vote_is_a_pair(choice: str, digest: str | None) -> None:
    sides = [
        {"session_id": "x", "turn": n, "candidate": 1, "sha256": f"{n}/1", "editor": "e", "instruction": "i"} for n in (1, 2)
    ]
    pair = pair_of_vote({"source": "s", "instruction": "golden", "a": sides[0], "b": sides[1], "choice": choice})
    better = {"leftvote": pair.left.sha256, "rightvote": pair.right.sha256, "tie": None}[pair.vote]
    assert better == digest


def test_splits_follow_the_source_and_the_shares() -> None:
    shares = {"train": 0.9, "test": 0.1}
    names = [split_of(f"digest {number}", shares) for number in range(2000)]
    assert names == [split_of(f"digest {number}", shares) for number in range(2000)]
    assert 150 < names.count("test") < 250


def test_a_mark_in_a_text_is_refused_where_marks_stand_for_pictures() -> None:
    [critique] = critiques_of(document(turn(1, "golden", "caller"), *edited(1), critiqued(1, 5.0)))
    messages = [{"role": "user", "content": [{"type": "text", "text": "an <image> of"}]}]
    exchange = Exchange("k", critique, "golden", messages, [], "reply", "s", "", "train", {})
    with pytest.raises(MarkInTextError):
        row("verl", exchange, 0)
    assert row("trl", exchange, 0)["prompt"][0]["content"][0]["text"] == "an <image> of"


def photo(kind: str) -> bytes:
    """A picture that tells where it was made."""
    image = Image.linear_gradient("L").convert("RGB")
    exif = Image.Exif()
    exif[0x010E] = POSITION.decode()
    buffer = io.BytesIO()
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", POSITION.decode())
    own: dict[str, dict[str, Any]] = {"PNG": {"pnginfo": text}, "JPEG": {"comment": POSITION}, "WEBP": {"xmp": POSITION}}
    image.save(buffer, kind, exif=exif, **own[kind])
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_metadata_is_cut_out_and_pixels_stay(kind: str) -> None:
    given = photo(kind)
    found = stripped(given)
    assert POSITION in given and POSITION not in found
    with Image.open(io.BytesIO(given)) as before, Image.open(io.BytesIO(found)) as after:
        assert after.format == kind and not after.getexif() and before.tobytes() == after.tobytes()
    assert stripped(found) == found


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_that_is_cut_short_is_refused_or_whole(kind: str) -> None:
    """At any byte, and never with another error."""
    given = photo(kind)
    for length in range(0, len(given), 97):
        try:
            stripped(given[:length])
        except UnknownPictureError:
            continue
