"""Names and values of any length: bounded before anything is done with them. Steps are counted, not seconds."""

from __future__ import annotations

import difflib
from typing import Any

import pytest

from orchestrator.api.fields import SessionFields
from services.errors import ApiError, error_body, shown
from services.protocol.images_api import MAX_PROMPT, validate

FIELDS = {"prompt": "make it golden"}


def refusal(fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        validate(SessionFields, fields)
    return caught.value


def test_a_long_name_is_refused_before_it_is_compared_with_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """difflib takes seconds for megabytes."""
    monkeypatch.setattr(difflib, "get_close_matches", lambda *_: pytest.fail("a long name was compared"))
    error = refusal({**FIELDS, "prompt" * 1_000_000: 1})
    assert (error.code, error.param) == ("unknown_parameter", "prompt" * 16 + "prom… (6,000,000 characters)")
    assert len(error.message) < 200


def test_a_name_of_ordinary_length_still_gets_its_hint() -> None:
    """As before."""
    assert "did you mean prompt?" in refusal({**FIELDS, "promt": 1}).message


def test_names_are_shown_escaped() -> None:
    """No control character, line end or bidirectional override of a stranger is repeated."""
    error = refusal({**FIELDS, "a\x1b]52;c;\x07\n\u202e": 1})
    assert error.param == "a\\x1b]52;c;\\x07\\n\\u202e"
    assert error.message.isprintable()


def test_many_names_are_refused_before_they_are_validated() -> None:
    """Pydantic would make an error of each."""
    error = refusal({**FIELDS, **{str(number): 1 for number in range(1_000)}})
    assert (error.code, error.param) == ("unknown_parameter", None)
    assert "1,001 fields" in error.message


class Unread(str):
    """A text that must not be walked."""

    __slots__ = ()

    def strip(self, *_: Any) -> str:
        pytest.fail("a text was read before its length was checked")


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_a_long_text_is_refused_for_its_length_before_it_is_read(field: str) -> None:
    """A blank one too."""
    error = refusal({**FIELDS, field: Unread(" " * (MAX_PROMPT + 1))})
    assert (error.code, error.param) == ("invalid_value", field)
    assert "32000 characters" in error.message


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b"], ids=["NUL", "surrogate"])
def test_a_text_that_no_model_can_read_is_refused(field: str, text: str) -> None:
    """In every text that enters a model."""
    error = refusal({**FIELDS, field: text})
    assert (error.code, error.param) == ("invalid_value", field)


def test_an_error_is_short_however_long_what_it_quotes() -> None:
    """The last bound, for every error of every service."""
    error = error_body("invalid_value", "x" * 1_000_000, "p" * 1_000_000)["error"]
    assert len(error["message"]) == 2_001 and len(error["param"]) < 250


def test_a_short_printable_text_is_shown_as_it_is() -> None:
    """In any language."""
    assert shown("größer, 大きく") == "größer, 大きく"
    assert shown("x" * 101) == "x" * 100 + "… (101 characters)"
