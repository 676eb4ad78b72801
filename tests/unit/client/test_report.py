"""The report page: well formed, self-contained, and deaf to what the texts in it try."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from editthinker.client import Session
from editthinker.report import Pictures, collect, render
from editthinker.report import pictures as report_pictures
from editthinker.report.markup import changes
from tests.component.client.scripted import PNG, session

HOSTILE = "</p></style><script>alert(1)</script>{brace} \"q\" 'a' <b>"
IMAGE = {"sha256": "a", "media_type": "text/html", "bytes": 1, "width": 3, "height": 2}
SCORES = {"semantic": 1.0, "quality": 2.0, "overall": 1.4}
TURN: dict[str, Any] = {
    "turn": 1,
    "instruction": HOSTILE,
    "author": HOSTILE,
    "candidates": [
        {"candidate": 1, "status": "critiqued", "scores": SCORES, "reasoning": HOSTILE, "image": IMAGE},
        {"candidate": 2, "status": HOSTILE, "error": {"code": HOSTILE, "message": HOSTILE}, "refined_instruction": HOSTILE},
    ],
}


class Balance(HTMLParser):
    """Finds end tags that close nothing, and tags that are never closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "img", "br", "input"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag == "rect", (tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_references_and_the_mask_are_shown_once_and_named() -> None:
    turn = {**TURN, "candidates": [{**TURN["candidates"][0], "outside_mask": {"changed": 0.034, "difference": 3.2}}]}
    shown = Session.model_validate(session(instruction="x", turns=[turn]))
    page = render(shown, Pictures(PNG, {(1, 1): PNG}, [PNG, PNG], PNG))
    balance = Balance()
    balance.feed(page)
    assert (balance.open, balance.wrong) == ([], [])
    assert page.count('<section class="inputs"') == page.count("Mask <small>") == 1
    assert page.index("Picture 2 <small>reference") < page.index("Picture 3 <small>reference") < page.index("Mask <small>")
    assert "outside the mask 3.4% changed" in page
    plain = render(shown, Pictures(PNG, {(1, 1): PNG}))
    assert '<section class="inputs"' not in plain


def test_turns_of_drafts_and_the_render_are_named() -> None:
    given = {**TURN, "author": "caller"}
    turns = [{**given, "draft": True}, {**given, "turn": 2, "renders": {"turn": 1, "candidate": 1}}]
    page = render(Session.model_validate(session(instruction="x", turns=turns)), Pictures(PNG, {}))

    assert "<small>as given · drafts</small>" in page
    assert "<small>as given · the draft of turn 1 in full</small>" in page


def test_repeated_critiques_and_comparisons_are_shown() -> None:
    candidate = {**TURN["candidates"][0], "critiques": [{**SCORES, "overall": 8.5}, {**SCORES, "overall": 5.0}]}
    first = {"turn": 1, "candidate": 1}
    comparisons = [
        {"first": first, "second": None, "winner": "second"},
        {"first": first, "second": {"turn": 2, "candidate": 1}, "winner": "tie"},
    ]
    told: dict[str, Any] = {
        "turns": [{**TURN, "candidates": [candidate]}],
        "preferred": False,
        "comparisons": comparisons,
        "best": first,
    }
    page = render(Session.model_validate(session(instruction="x", **told)), Pictures(PNG, {(1, 1): PNG}))

    assert "means of 2 critiques (overall 8.5, 5.0)" in page
    assert "The judge does not prefer it to the unedited picture." in page
    assert "the unedited picture over turn 1" in page and "turn 1 and turn 2 are as good" in page


@pytest.mark.parametrize(
    ("more", "articles"),
    [
        ({"turns": [TURN, {**TURN, "turn": 2}], "id": HOSTILE, "editor": HOSTILE, "revised_prompt": HOSTILE}, 4),
        ({"turns": [], "status": "failed", "best": None, "error": {"code": HOSTILE, "message": HOSTILE}}, 0),
    ],
)
def test_the_page_is_valid_for_any_text(more: dict[str, Any], articles: int) -> None:
    shown = Session.model_validate(session(**{"instruction": HOSTILE, **more}))
    page = render(shown, Pictures(PNG, {(1, 1): PNG, (2, 1): PNG}))
    balance = Balance()
    balance.feed(page)
    assert (balance.open, balance.wrong) == ([], [])
    assert page.count("<script") == page.count("</script") == page.count("<style") == page.count("</style>") == 1
    assert page.count("<article") == articles
    assert not re.search(r"""(?:src|href)=(?!"data:image/png;base64,|"#turn-\d+")""", page.partition("<script>")[0])
    assert not re.search(r"https?://", page)
    assert ("★ best" in page) == bool(articles)


@pytest.mark.parametrize(
    ("preparation", "says"),
    [
        ({"preparer": "pup", "instruction": "long", "thinker_seconds": 1.5}, "Rewriting by pup</dt><dd>1.50 s"),
        ({"preparer": "pup", "error": {"code": "thinker_failed", "message": HOSTILE}}, "failed: &lt;/p&gt;"),
    ],
)
def test_a_rewritten_instruction_is_told_as_such(preparation: dict[str, Any], says: str) -> None:
    turn = {**TURN, "author": "preparer"}
    page = render(Session.model_validate(session(instruction="x", turns=[turn], preparation=preparation)), Pictures(PNG, {}))

    assert says in page
    assert "Turn 1 <small>rewritten for the editor" in page
    assert page.count("<script>") == 1


def test_places_are_drawn_over_their_picture_and_named() -> None:
    """Within the picture, also if the server says otherwise; their words are text."""
    pointed = [
        {"left": 100, "top": 200, "right": 300, "bottom": 450, "word": HOSTILE},
        {"left": -50, "top": 0, "right": 5000, "bottom": 1000, "word": ""},
    ]
    turn = {**TURN, "candidates": [{**TURN["candidates"][0], "places": pointed}]}
    shown = Session.model_validate(session(instruction="x", turns=[turn]))
    page = render(shown, Pictures(PNG, {(1, 1): PNG}))
    balance = Balance()
    balance.feed(page)

    assert (balance.open, balance.wrong) == ([], [])
    assert re.findall(r'<rect x="([^"]*)" y="([^"]*)" width="([^"]*)" height="([^"]*)"/><text [^>]*>(\d)</text>', page) == [
        ("10.0%", "20.0%", "20.0%", "25.0%", "1"),
        ("0.0%", "0.0%", "100.0%", "100.0%", "2"),
    ]
    assert page.count("<script>") == 1 and "<li>here</li>" in page
    assert page.index('<svg class="boxes"') < page.index('<ol class="words"')
    # Without the picture there is nothing to draw on; the words are still told.
    bare = render(shown, Pictures(PNG, {}))
    assert '<svg class="boxes"' not in bare and '<ol class="words"' in bare


def three_turns(**more: Any) -> Session:
    """The second won, of two candidates."""
    first, second = ({**TURN["candidates"][0], "candidate": number} for number in (1, 2))
    turns = [
        {"turn": 1, "instruction": "warm it by 5%", "author": "caller", "candidates": [first]},
        {"turn": 2, "instruction": "warm it by 9%", "author": "thinker", "candidates": [first, second]},
        {"turn": 3, "instruction": "something else", "author": "thinker", "candidates": [first]},
    ]
    return Session.model_validate(session(**{"instruction": "x", "turns": turns, "best": {"turn": 2, "candidate": 2}, **more}))


def test_the_winning_turn_comes_first_and_every_picture_once() -> None:
    pictures = {(1, 1): PNG + b"1", (2, 1): PNG + b"2", (2, 2): PNG + b"3", (3, 1): PNG + b"4"}
    page = render(three_turns(), Pictures(PNG, pictures))
    main = page.partition("<main>")[2]

    assert re.findall(r"<h3>Turn (\d) <small>([^<]*)", main) == [
        ("2", "refined by the thinker"),
        ("2", "the other candidates"),
        ("1", "as given"),
        ("3", "refined by the thinker"),
    ]
    assert main.index("\u2605 best") < main.index("the other candidates")
    for picture in (PNG, *pictures.values()):
        assert main.count(f'base64,{base64.b64encode(picture).decode()}"') == 1
    assert re.findall(r'<a href="#(turn-\d)"', main) == ["turn-1", "turn-2", "turn-3"]
    assert sorted(re.findall(r'id="(turn-\d)"', main)) == ["turn-1", "turn-2", "turn-3"]


def test_changes_of_an_instruction_are_marked_as_text() -> None:
    page = render(three_turns(), Pictures(PNG, {}))

    assert "<blockquote>warm it by <del>5%</del> <ins>9%</ins></blockquote>" in page
    assert page.count("Marked: the changes since turn") == 1
    assert changes("keep the <b> sky", "keep the <i> sky") == "keep the <del>&lt;b&gt;</del> <ins>&lt;i&gt;</ins> sky"
    assert changes("a b c", "a b c") is None
    assert changes("one two three", "four five six") is None
    assert changes("a " * 1500, "a " * 1501) is None


@pytest.mark.parametrize(
    ("refined", "says"),
    [
        ("warm it by 9%", '<a href="#turn-2">the instruction of turn 2</a>'),
        ("warm it by 5%", "the same instruction"),
        (HOSTILE, "&lt;/p&gt;&lt;/style&gt;"),
    ],
)
def test_a_refined_instruction_is_read_once(refined: str, says: str) -> None:
    shown = three_turns().model_dump()
    shown["turns"][0]["candidates"][0]["refined_instruction"] = refined
    assert f'<p class="next"><span>Next:</span> {says}' in render(Session.model_validate(shown), Pictures(PNG, {}))


def test_a_candidate_that_is_its_source_has_no_picture_of_its_own() -> None:
    same = {**TURN["candidates"][0], "unchanged": True, "not_understood": [HOSTILE]}
    turns = [{**TURN, "candidates": [same]}]
    told: dict[str, Any] = {"turns": turns, "best": {"turn": 1, "candidate": 1}, "unchanged": True, "finish_reason": "unchanged"}
    page = render(Session.model_validate(session(instruction="x", **told)), Pictures(PNG, {(1, 1): PNG + b"1"}))

    assert page.count("<img") == 1
    assert "Source <small>and answer: nothing was changed</small>" in page
    assert "the source, unchanged" in page
    assert "The editor did not understand \u201c&lt;/p&gt;" in page


def test_the_policy_allows_this_style_this_script_and_nothing_else() -> None:
    page = render(three_turns(instruction=HOSTILE), Pictures(PNG, {}))
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert found is not None

    def digest(tag: str) -> str:
        text = page.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    assert found[1] == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest('style')}'; script-src 'sha256-{digest('script')}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert page.index("Content-Security-Policy") < page.index("<style>")
    # The policy would stop them without a word.
    assert not re.search(r"<[^>]*\s(?:style|on\w+)=", page.partition("<script>")[0])


class Sessions:
    """A server's pictures: a thousand bytes each."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def source(self, _: str, **how: Any) -> bytes:
        self.asked.append(("source", how))
        return b"s" * 1000

    def image(self, _: str, *at: int, **how: Any) -> bytes:
        self.asked.append((*at, how))
        return b"i" * 1000


def collected(shown: Session, monkeypatch: pytest.MonkeyPatch, most: int) -> tuple[Pictures, Sessions]:
    monkeypatch.setattr(report_pictures, "MOST_BYTES", most)
    client: Any = type("Client", (), {})()
    client.sessions = Sessions()
    return collect(client, shown), client.sessions


def test_pictures_that_have_no_space_are_left_out_and_never_the_winner(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, _ = collected(three_turns(), monkeypatch, 3000)
    assert (sorted(pictures.candidates), pictures.left_out) == ([(1, 1), (2, 2)], 2)
    assert "Pictures left out for their size</dt><dd>2" in render(three_turns(), pictures)
    pictures, _ = collected(three_turns(), monkeypatch, 10)
    assert (sorted(pictures.candidates), pictures.left_out) == ([(2, 2)], 3)
    pictures, sessions = collected(three_turns(), monkeypatch, 5000)
    assert (len(pictures.candidates), pictures.left_out) == (4, 0)
    assert "left out" not in render(three_turns(), pictures)
    assert {str(asked[-1]["format"]) for asked in sessions.asked} == {"webp"}


def test_many_pixels_are_compressed_further_but_for_the_winner_and_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = three_turns().model_dump()
    for turn in shown["turns"]:
        for candidate in turn["candidates"]:
            candidate["image"] |= {"width": 20_000, "height": 3000}
    _, sessions = collected(Session.model_validate(shown), monkeypatch, 100_000)
    how = {asked[:-1]: asked[-1] for asked in sessions.asked}
    assert "compression" not in how[("source",)] and how[2, 2]["compression"] is None
    assert {how[at]["compression"] for at in ((1, 1), (2, 1), (3, 1))} == {75}
    # WebP ends at 16,383 pixels a side.
    assert how[2, 2]["format"] == "jpeg"
