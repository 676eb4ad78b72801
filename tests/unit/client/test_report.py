"""The report page: well formed, self-contained, and deaf to what the texts in it try."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from editthinker.client import Session
from editthinker.report import Pictures, render
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
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

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
    assert page.count('<section class="inputs"') == page.count('<figure class="mask">') == 1
    assert page.index("Picture 2 <small>reference") < page.index("Picture 3 <small>reference") < page.index("Mask <small>")
    assert "outside the mask 3.4% changed" in page
    plain = render(shown, Pictures(PNG, {(1, 1): PNG}))
    assert "inputs" not in plain.partition("</style>")[2]


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
    assert "<script" not in page
    assert page.count("</style>") == 1
    assert page.count("<article") == articles
    assert not re.search(r"""(?:src|href)=(?!"data:image/png;base64,)""", page)
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
    assert "<script>" not in page


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
    assert re.findall(r'<span class="place" aria-hidden="true" style="([^"]*)"><b>(\d)</b>', page) == [
        ("inset: 20.0% 70.0% 55.0% 10.0%", "1"),
        ("inset: 0.0% 0.0% 0.0% 0.0%", "2"),
    ]
    assert "<script>" not in page and "<li>here</li>" in page
    assert page.index('<div class="places">') < page.index('<ol class="words"')
    # Without the picture there is nothing to draw on; the words are still told.
    assert '<div class="places">' not in render(shown, Pictures(PNG, {})) and '<ol class="words"' in render(
        shown, Pictures(PNG, {})
    )
