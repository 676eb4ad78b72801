"""Places: what a critique points at is read from many spellings, and never costs the critique."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.protocol.critique.constraints import Constraint
from services.protocol.critique.formats import FORMATS, FormatName
from services.protocol.critique.messages import Critique, Strayed, build, read
from services.protocol.critique.places import MAX_PLACES, MAX_WORD, Place, dump_places, places_in, top_first
from services.protocol.critique.questions import DEFAULT_QUESTIONS
from services.protocol.critique.replies import Reply
from tests.unit.protocol.test_critique import a_request

HAT = Place(100, 200, 300, 450, "hat")
POINTING: list[FormatName] = ["json_schema", "checklist"]
places = st.builds(
    lambda across, down, word: Place(across[0], down[0], across[1], down[1], word),
    *[st.lists(st.integers(0, 1000), min_size=2, max_size=2, unique=True).map(sorted)] * 2,
    st.sampled_from(["halo", "two words", "Müll", "日本"]),
)


@pytest.mark.parametrize(
    "row",
    [
        {"box": [100, 200, 300, 450], "word": "hat"},
        {"bbox_2d": [100, 200, 300, 450], "label": "hat"},
        {"bbox": [100.2, "200", " 300 ", 449.9], "text": " hat "},
        {"box_2d": [200, 100, 450, 300], "label": "hat"},
        {"left": 100, "top": 200, "right": 300, "bottom": 450, "word": "hat"},
        {"box": [300, 450, 100, 200], "word": "hat"},
        {"box": [0.1, 0.2, 0.3, 0.45], "word": "hat"},
        {"box": [100, 200, 300, 450], "word": "<|im_end|>hat\x00"},
    ],
)
def test_a_box_is_read_as_models_write_it(row: dict[str, Any]) -> None:
    assert places_in([row]) == places_in(row) == (HAT,)


@pytest.mark.parametrize(
    "row",
    [
        *(None, 7, "x", [], {}, {"box": None}, {"box": []}, {"box": [1, 2, 3]}, {"box": [1, 2, 3, 4, 5]}, {"box_2d": [1, 2, 3]}),
        *({"box": [100, 200, 300, 1001]}, {"box": [-1, 200, 300, 400]}, {"box": [100, 200, 100, 400]}, {"box": "1,2,3,4"}),
        *({"box": [1, 2, 3, float("nan")]}, {"box": [1, 2, 3, float("inf")]}, {"box": [True, 2, 3, 4]}, {"box": [[], {}, 3, 4]}),
        *({"box": [1, 2, 3, 10**400]}, {"box": ["1e3", 2, 3, 4]}, {"box": [1, 2, 3, "9" * 1000]}),
    ],
    ids=repr,
)
def test_what_is_no_box_is_left_out(row: Any) -> None:
    """It is not moved into the picture: a box in a wrong place is worse than none."""
    assert places_in([row, {"box": [100, 200, 300, 450], "word": "hat"}]) == (HAT,)


def test_places_and_words_are_bounded() -> None:
    rows = [{"box": [0, 0, 10 + number, 10], "word": "x" * 10_000} for number in range(10_000)]
    found = places_in([*rows[:2], *rows])

    assert len(found) == MAX_PLACES == len(set(found))
    assert {len(place.word) for place in found} == {MAX_WORD}


def test_a_thousand_hostile_lists_are_read() -> None:
    """Any JSON value gives places within the picture, with words that can be written."""
    dice = random.Random(5)
    words = ["halo", "\ud83d", "<|im_start|>", "</span><script>", "", "\x1b[31m", "[INST]", 7, None]

    def value(depth: int = 0) -> Any:
        if depth > 3 or dice.random() < 0.3:
            return dice.choice([None, True, -5, 0, 0.5, 400, 1e308, float("nan"), 10**30, "12", "x", *words])
        if dice.random() < 0.5:
            return [value(depth + 1) for _ in range(dice.choice([0, 1, 4, 4, 5]))]
        keys = ["box", "bbox_2d", "box_2d", "left", "top", "word", "label"]
        return {dice.choice(keys): dice.choice([value(depth + 1), [dice.randint(-9, 1010) for _ in range(4)]]) for _ in range(3)}

    found = [place for _ in range(1_000) for place in places_in(value())]
    assert len(found) > 50
    for place in found:
        assert 0 <= place.left < place.right <= 1000 and 0 <= place.top < place.bottom <= 1000
        place.word.encode()
        assert len(place.word) <= MAX_WORD and "<|" not in place.word and "\x1b" not in place.word


def test_flux_takes_the_top_first() -> None:
    assert json.loads(top_first([HAT])) == [{"bbox": [200, 100, 450, 300], "label": "hat"}]


@pytest.mark.parametrize("name", POINTING)
@pytest.mark.parametrize("kind", ["regex", "json_schema"])
@given(pointed=st.lists(places, max_size=MAX_PLACES, unique=True).map(tuple))
@settings(max_examples=25, deadline=None)
def test_a_critique_that_points_parses_to_itself_and_conforms(
    name: FormatName, kind: Constraint, pointed: tuple[Place, ...]
) -> None:
    form = FORMATS[name].bind(places=True)
    content = form.render(Critique(4, 5, "too cold", "warmer light", places=pointed))
    read_back = form.parse(Reply(content, finish_reason="stop"))

    assert isinstance(read_back, Critique) and read_back.places == pointed
    assert form.conforms(Reply(content), kind), content
    assert not FORMATS[name].bind().conforms(Reply(content), kind)
    assert len(content) <= form.longest() or kind == "json_schema"


@pytest.mark.parametrize("name", POINTING)
def test_a_broken_box_costs_no_critique(name: FormatName) -> None:
    """Nor do places that were not asked for."""
    form = FORMATS[name].bind()
    row = json.loads(form.render(Critique(4, 5, "too cold", "warmer light")))
    for pointed, expected in (("nonsense", ()), ([{"box": [1]}], ()), (dump_places([HAT]), (HAT,))):
        critique = form.parse(Reply(json.dumps({**row, "places": pointed}), finish_reason="stop"))
        assert isinstance(critique, Critique) and critique.places == expected


def test_nothing_else_changes_where_no_places_are_asked_for() -> None:
    """The prompt, its constraint and the required form are those of before."""
    for name in FORMATS:
        assert "places" not in json.dumps([FORMATS[name].bind().constraint(kind) for kind in ("regex", "json_schema")])
        assert "places" not in json.dumps(build(a_request(), FORMATS[name].template()))
    assert FORMATS["editthinker"].bind(places=True) is FORMATS["editthinker"].bind()


@pytest.mark.parametrize("moved", [None, Strayed(0.125, 9.5)])
@pytest.mark.parametrize("name", POINTING)
def test_a_request_for_places_reads_back(name: FormatName, moved: Strayed | None) -> None:
    """With what was measured outside of the former ones, and the limit of the editor."""
    questions = DEFAULT_QUESTIONS if name == "checklist" else ()
    request = replace(a_request(), questions=questions, places=True, moved=moved, prompt_tokens=75)
    messages = build(request, FORMATS[name].template())

    assert read(messages, [FORMATS[name].template()]) == request
    last = messages[0]["content"][-1]["text"]
    assert '"places"' in last and ("12.5 % of what its critique did not point at" in last) == (moved is not None)
