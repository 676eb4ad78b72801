"""The table of OpenAI's fields: docs/api.md shows it, and it covers what the official client can send."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import image_edit_params

from orchestrator.api.compatibility import FIELDS, Verdict, ignored_header, quality_of, settle
from orchestrator.api.fields import ImagesEditFields, SessionFields, check
from orchestrator.loop import events as ev
from services.errors import ApiError
from tests.unit.orchestrator.test_fields import CATALOGUE, DEADLINES, SOURCE

API = (Path(__file__).parents[3] / "docs" / "api.md").read_text("utf-8")
NAMES = {name for field in FIELDS for name in field.name.split(", ")}


def accept(fields: ImagesEditFields | SessionFields) -> None:
    check(fields, CATALOGUE, DEADLINES, has_mask=False)


def test_the_page_shows_the_table() -> None:
    """Row by row, in the same order."""
    shown = re.findall(r"^\| (`[^|]+`) \| ([a-z ]+) \| (.+) \|$", API, re.MULTILINE)
    rows = [(", ".join(f"`{name}`" for name in field.name.split(", ")), field.verdict, field.does) for field in FIELDS]

    assert [row for row in shown if row[1] in get_args(Verdict)] == rows


def test_the_table_has_every_field_of_the_official_client() -> None:
    sent = {*image_edit_params.ImageEditParamsBase.__annotations__, "stream"}

    assert sent - NAMES == set()


def test_every_honoured_field_is_a_field_of_the_request() -> None:
    pictures = {"image", "image[]", "image[0]", "images", "image_url", "url", "mask"}
    for field in FIELDS:
        for name in field.name.split(", "):
            taken = name in ImagesEditFields.model_fields or name in pictures
            assert taken is (field.verdict not in {"not honoured", "refused"}), name


@pytest.mark.parametrize("field", [field for field in FIELDS if field.verdict in {"not honoured", "refused"}], ids=str)
def test_what_cannot_be_honoured_is_named_and_what_must_not_be_lost_is_refused(field: Any) -> None:
    for name in field.name.split(", "):
        given_ = {"prompt": "x", name: "1"}
        with pytest.raises(ApiError) as strict:
            settle(ImagesEditFields, given_, accept, "strict")
        assert strict.value.param == name and "leave it out" in strict.value.message
        if field.verdict == "refused":
            with pytest.raises(ApiError):
                settle(ImagesEditFields, given_, accept, "lenient")
        else:
            assert settle(ImagesEditFields, given_, accept, "lenient")[1] == (name,)


def test_members_of_an_object_in_a_form_are_its_fields() -> None:
    """`svg[model]`, as the official client sends it."""
    assert settle(ImagesEditFields, {"prompt": "x", "svg[model]": "m"}, accept, "lenient")[1] == ("svg[model]",)


@pytest.mark.parametrize(("field", "words"), [("stream", "events"), ("output_format", "format=jpeg"), ("background", "edits")])
def test_an_output_field_of_a_session_says_where_it_belongs(field: str, words: str) -> None:
    with pytest.raises(ApiError) as caught:
        settle(SessionFields, {"prompt": "x", field: "1"}, accept, "strict")

    assert caught.value.param == field and words in caught.value.message


@given(
    names=st.lists(st.sampled_from([*sorted(NAMES), "seed", "size", "max_turn", "zzz", "review", "n"]), unique=True),
    value=st.sampled_from(["1", "auto", "low", "640x480"]),
)
@settings(max_examples=150, deadline=None)
def test_lenient_accepts_or_refuses_what_strict_does_and_names_the_rest(names: list[str], value: str) -> None:
    """What is left after the ignored fields is what strict accepts; strict ignores nothing."""
    given_ = {"prompt": "x", **dict.fromkeys((name for name in names if name != "prompt"), value)}
    try:
        fields, ignored = settle(ImagesEditFields, given_, accept, "lenient")
    except ApiError:
        with pytest.raises(ApiError) as refused:
            settle(ImagesEditFields, given_, accept, "strict")
        assert refused.value.param is None or refused.value.param in refused.value.message
        return
    rest = {name: text for name, text in given_.items() if name not in ignored}
    assert settle(ImagesEditFields, rest, accept, "strict") == (fields, ())
    if ignored:
        with pytest.raises(ApiError):
            settle(ImagesEditFields, given_, accept, "strict")


@pytest.mark.parametrize(
    ("strategy", "max_turns", "quality"),
    [("single", 1, "low"), ("think", 2, "medium"), ("think", 1, "medium"), ("think", 3, "high"), ("best_of_n", 1, "high")],
)
def test_a_session_as_a_quality(strategy: Any, max_turns: int, quality: str) -> None:
    limits = ev.Limits(max_turns=max_turns, deadline_at=600)
    created = ev.SessionCreated(at=1.0, source=SOURCE, instruction="x", editor="e", thinker="t", strategy=strategy, limits=limits)

    assert quality_of(created) == quality


def test_the_header_has_no_odd_characters() -> None:
    """Names come from strangers."""
    assert ignored_header(()) == {}
    assert ignored_header(("style", "a, b", "ü\r\nx")) == {"EditThinker-Ignored": "style, a%2C%20b, %C3%BC%0D%0Ax"}


def test_the_header_is_no_longer_than_proxies_take() -> None:
    """The reply's `ignored` has all of them."""
    names = tuple(f"ü{'é' * 90}{number}" for number in range(190))
    header = ignored_header(names)["EditThinker-Ignored"]

    assert len(header) <= 1024 and header.endswith(", ...")
    assert header.startswith("%C3%BC")
    short = tuple(f"name{number}" for number in range(20))
    assert ignored_header(short) == {"EditThinker-Ignored": ", ".join(short)}


@pytest.mark.parametrize(
    "name", ["image[]", "image[1]", "images[]", "image2", "mask[]", "masks", "mask_url", "urls", "image_urls"]
)
def test_what_may_be_a_picture_is_not_ignored(name: str) -> None:
    """A request whose mask or reference is left out is another one."""
    with pytest.raises(ApiError) as caught:
        settle(ImagesEditFields, {"prompt": "x", name: "…"}, accept, "lenient")

    assert caught.value.param == name


def test_a_fit_goes_with_its_size() -> None:
    """For an editor that takes no size."""
    given_ = {"prompt": "x", "size": "64x64", "fit": "contain"}
    assert settle(ImagesEditFields, given_, accept, "lenient")[1] == ("size", "fit")
    with pytest.raises(ApiError) as caught:
        settle(ImagesEditFields, given_, accept, "strict")
    assert caught.value.param == "size"
