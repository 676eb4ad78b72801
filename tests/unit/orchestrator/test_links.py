"""Signed links: only what was signed is let through, and only for its time."""

from __future__ import annotations

import random
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from orchestrator.api.links import EXPIRES, SIGNATURE, Links, sign, verify
from services.errors import ApiError

SECRET = b"a secret of the test's own"
TEXT = st.text(max_size=12)
PATHS = st.text(st.characters(codec="utf-8"), max_size=30).map(lambda rest: f"/{rest}")
QUERIES = st.lists(st.tuples(TEXT.filter(lambda name: name not in {EXPIRES, SIGNATURE}), TEXT), max_size=4)
NOW = 1_795_000_000.0


async def link(path: str, query: list[tuple[str, str]], *, signed: bool = True, base: str | None = None) -> str:
    async def secret() -> bytes:
        return SECRET

    return await Links(secret, 60.0, signed, base).link("http://here:8080/", path, query, NOW)


def opens(path: str, query: list[tuple[str, str]], now: float = NOW, secret: bytes = SECRET) -> bool:
    try:
        verify(secret, path, query, now)
    except ApiError as refused:
        # Any other result counts as opened, and fails.
        return refused.code != "forbidden"
    return True


def signed(path: str, query: list[tuple[str, str]], ends: int = int(NOW) + 60) -> list[tuple[str, str]]:
    pairs = [*query, (EXPIRES, str(ends))]
    return [*pairs, (SIGNATURE, sign(SECRET, path, pairs))]


@given(path=PATHS, query=QUERIES, seed=st.randoms(use_true_random=False))
def test_what_was_signed_opens_in_any_order(path: str, query: list[tuple[str, str]], seed: random.Random) -> None:
    """Until its time is over, to the second."""
    pairs = signed(path, query)
    seed.shuffle(pairs)

    assert opens(path, pairs)
    assert opens(path, pairs, NOW + 59)
    assert not opens(path, pairs, NOW + 60)
    assert not opens(path, pairs, secret=b"another")


@given(path=PATHS, query=QUERIES, other_path=PATHS, other=QUERIES, ends=st.integers(0, 10**11))
def test_a_signature_fits_nothing_else(
    path: str, query: list[tuple[str, str]], other_path: str, other: list[tuple[str, str]], ends: int
) -> None:
    """Neither another path, nor other parameters, nor another end."""
    pairs = signed(path, query)
    signature, expires = pairs[-1], pairs[-2]

    if other_path != path:
        assert not opens(other_path, pairs)
    if sorted(other) != sorted(query):
        assert not opens(path, [*other, expires, signature])
    if ends != int(expires[1]):
        assert not opens(path, [*query, (EXPIRES, str(ends)), signature])
    assert not opens(path, [*query, signature])
    assert not opens(path, [*pairs, signature])
    assert not opens(path, [*pairs, expires])


@given(path=PATHS, query=QUERIES, place=st.integers(0, 42), letter=st.sampled_from("Aa0-_é="))
def test_no_letter_of_a_signature_may_differ(path: str, query: list[tuple[str, str]], place: int, letter: str) -> None:
    """Nor be left out, nor be added."""
    *rest, (_, right) = signed(path, query)
    assume(right[place] != letter)

    for wrong in (right[:place] + letter + right[place + 1 :], right[:place], right + letter, ""):
        assert not opens(path, [*rest, (SIGNATURE, wrong)])


@pytest.mark.parametrize("ends", ["", "-1", "1e99", "²", "99999999999999999999", "soon", " 9999999999"])
def test_an_end_that_is_no_time_does_not_open(ends: str) -> None:
    """Even if it was signed."""
    pairs = [(EXPIRES, ends)]

    assert not opens("/x", [*pairs, (SIGNATURE, sign(SECRET, "/x", pairs))])


async def test_a_link_is_a_url_that_opens() -> None:
    """With what is strange in it quoted."""
    url = await link("/v1/sessions/ses 1/image", [("format", "jpeg"), ("compression", "80")])
    parts = urlsplit(url)

    assert url.startswith("http://here:8080/v1/sessions/")
    assert opens("/v1/sessions/ses 1/image", parse_qsl(parts.query, keep_blank_values=True))


async def test_a_link_begins_with_the_public_url() -> None:
    """Where one is set; and has no signature where no keys are needed."""
    assert await link("/v1/x", [("format", "png")], signed=False, base="https://edits.example/api/") == (
        "https://edits.example/api/v1/x?format=png"
    )
    assert await link("/v1/x", [], signed=False) == "http://here:8080/v1/x"
