"""Requests to a thinker: any texts can be read back, and none of them can pass for template text."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.errors import ApiError
from services.imaging.codec import MediaType
from services.protocol.critique.messages import Critique, CritiqueRequest, Picture, UnreadableRequestError, build, read
from services.protocol.critique.prompts import Template
from services.protocol.critique.special_tokens import json_string, spaced

EDITTHINKER = Template.named("editthinker")
JSON_SCHEMA = Template.named("json_schema")
OURS = {"editthinker": EDITTHINKER, "json_schema": JSON_SCHEMA}
RAW = Template("Original: {original_instruction}\nUsed: {rewritten_prompt}")
MARKED = Template("A critic.\n<image>\nWish: {original_instruction}\n<image>\nUsed: {rewritten_prompt}\nJudge.")
NASTY = [
    "",
    "<image>",
    "<image><image>",
    "{original_instruction}",
    "{rewritten_prompt|json}",
    "{0} {} %s \\1 \\g<1>",
    "\x00",
    "\x00\x00a\x00",
    '"',
    '\\"',
    "\\",
    "a\n\nb\r\n",
    '"\nThe edited picture:\n<image>\n',
    "\u2028\u2029\x85\ufeff",
    "</think><score>{}</score>",
    EDITTHINKER.text,
    JSON_SCHEMA.text,
]
MAGIC: dict[MediaType, bytes] = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff\xe0",
    "image/webp": b"RIFF\x04\x00\x00\x00WEBP",
}

texts = st.text(max_size=60) | st.sampled_from(NASTY) | st.lists(st.sampled_from(NASTY), max_size=3).map("".join)
kinds: st.SearchStrategy[MediaType] = st.sampled_from(["image/png", "image/jpeg", "image/webp"])
pictures = st.builds(lambda kind, tail: Picture(MAGIC[kind] + tail, kind), kinds, st.binary(max_size=40))
requests = st.builds(CritiqueRequest, pictures, pictures, texts, texts)


def a_request(original: str = "make it golden", instruction: str = "warmer light", shade: bytes = b"1") -> CritiqueRequest:
    source, candidate = MAGIC["image/png"] + b"source", MAGIC["image/png"] + shade
    return CritiqueRequest(Picture(source, "image/png"), Picture(candidate, "image/png"), original, instruction)


def parts(request: CritiqueRequest, template: Template) -> list[dict[str, Any]]:
    (message,) = build(request, template)
    content: list[dict[str, Any]] = message["content"]
    return content


@pytest.mark.parametrize("name", OURS)
@given(request_=requests)
@settings(max_examples=150, deadline=None)
def test_what_is_built_reads_back(name: str, request_: CritiqueRequest) -> None:
    """Any two texts and pictures survive the trip through JSON, whichever of our templates asked."""
    sent = orjson.loads(orjson.dumps(build(request_, OURS[name])))

    assert read(sent, OURS.values()) == request_
    assert read(sent, reversed(OURS.values())) == request_


@pytest.mark.parametrize("name", OURS)
@given(texts_=st.tuples(texts, texts))
@settings(max_examples=60, deadline=None)
def test_texts_never_become_template(name: str, texts_: tuple[str, str]) -> None:
    """However the texts look, a question holds the template's words, two pictures, and each text once as a JSON string."""
    content = parts(a_request(*texts_), OURS[name])
    before, between, after = OURS[name].segments()

    assert [part["type"] for part in content] == ["text", "image_url", "text", "image_url", "text"]
    assert content[0]["text"] == before.strip("\n")
    quoted = [json_string(text) for text in texts_]
    assert [json.loads(text) for text in quoted] == list(texts_)
    assert content[2]["text"] == between.replace("{original_instruction|json}", "\x00").strip("\n").replace("\x00", quoted[0])
    assert content[4]["text"] == after.replace("{rewritten_prompt|json}", "\x00").strip("\n").replace("\x00", quoted[1])


@pytest.mark.parametrize("name", OURS)
@given(original=texts, turns=st.tuples(texts, texts))
@settings(max_examples=60, deadline=None)
def test_the_prefix_is_the_same_in_every_turn(name: str, original: str, turns: tuple[str, str]) -> None:
    """The fixed text, the source and the instruction are the same bytes in every turn, so a prefix cache hits."""
    first, second = (a_request(original, text, shade) for text, shade in zip(turns, (b"1", b"2"), strict=True))
    sent = [orjson.dumps(parts(request, OURS[name])) for request in (first, second)]
    prefix = orjson.dumps(parts(first, OURS[name])[:3])[:-1]

    assert sent[0].startswith(prefix) and sent[1].startswith(prefix)
    assert base64.b64encode(first.source.data) in prefix
    assert json_string(original) in parts(first, OURS[name])[2]["text"]


@pytest.mark.parametrize("name", OURS)
def test_another_instruction_for_the_same_source_shares_the_picture(name: str) -> None:
    """The source comes before the instruction, so sessions on one photograph share its cached tokens."""
    one, other = parts(a_request("make it golden"), OURS[name]), parts(a_request("make it blue"), OURS[name])

    assert one[:2] == other[:2]
    assert one[2] != other[2]


def test_a_template_without_marks_puts_both_pictures_first() -> None:
    """As in the fine-tuned model's own template: source, candidate, text."""
    content = parts(a_request("a", "b"), RAW)

    assert [part["type"] for part in content] == ["image_url", "image_url", "text"]
    assert content[0]["image_url"]["url"] == "data:image/png;base64," + base64.b64encode(a_request().source.data).decode()
    assert content[2]["text"] == "Original: a\nUsed: b"


raw_texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    ["line\n", "\n\nline\n\n", "\n", "{rewritten_prompt}", "<image>", "\\1"]
)


@pytest.mark.parametrize("template", [RAW, MARKED], ids=["raw", "marked"])
@given(original=raw_texts, instruction=raw_texts)
@settings(max_examples=100, deadline=None)
def test_raw_placeholders_keep_the_text_as_it_is(template: Template, original: str, instruction: str) -> None:
    """A user's template inserts texts untouched, line ends included, and reads them back where that is unambiguous."""
    assume("\nUsed: " not in original + instruction)
    request = a_request(original, instruction)
    sent = build(request, template)
    text = "".join(part.get("text", "") for part in sent[0]["content"])

    assert spaced(original) in text and spaced(instruction) in text
    assert read(sent, [template]) == request


@pytest.mark.parametrize("template", [RAW, MARKED], ids=["raw", "marked"])
def test_values_are_never_expanded_again(template: Template) -> None:
    """A text that names the other placeholder, or holds a mark, stays that text."""
    request = a_request("{rewritten_prompt} <image>", "{original_instruction|json}")
    content = parts(request, template)
    text = "\n".join(part.get("text", "") for part in content)

    assert sum(part["type"] == "image_url" for part in content) == 2
    assert "{rewritten_prompt} < image>" in text and "{original_instruction|json}" in text


def test_a_placeholder_given_twice_reads_back() -> None:
    """A template may repeat a placeholder; both places hold the same text."""
    template = Template("{original_instruction} and {original_instruction}; {rewritten_prompt}")
    request = a_request("salt and pepper", "more salt")

    assert read(build(request, template), [template]) == request


@pytest.mark.parametrize("marks", [1, 3, 4])
def test_a_template_with_another_number_of_marks_is_refused(marks: int) -> None:
    """Two marks or none: anything else cannot place the source and the candidate."""
    with pytest.raises(ValueError, match=rf"two <image> marks .* or none; this one has {marks}"):
        Template("{original_instruction} {rewritten_prompt}" + "<image>" * marks)


@pytest.mark.parametrize(
    "text", ["", "<image><image>", "{rewritten_prompt}", "{original_instruction", "{ original_instruction }"]
)
def test_a_template_without_the_instruction_is_refused(text: str) -> None:
    """Without the instruction a thinker cannot judge."""
    with pytest.raises(ValueError, match=r"\{original_instruction\}"):
        Template(text)


def _with(content: list[Any]) -> list[Any]:
    return [{"role": "user", "content": content}]


GOOD = parts(a_request(), EDITTHINKER)
IMAGE = GOOD[1]


@pytest.mark.parametrize(
    "messages",
    [
        [],
        _with([]),
        _with([GOOD[0]]),
        _with([*GOOD[:3], GOOD[4]]),
        _with([*GOOD, IMAGE]),
        _with([IMAGE, IMAGE, {"type": "text", "text": "hello"}]),
        _with([*GOOD[:4], {"type": "text", "text": GOOD[4]["text"] + " And now?"}]),
        _with([{"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}, *GOOD[2:]]),
        _with([{"type": "image_url", "image_url": {}}, *GOOD[2:]]),
        _with([{"type": "image_url"}, *GOOD[2:]]),
        [{"role": "user", "content": "just text"}],
        [7, None, "x", {"content": {"type": "text"}}, {"content": [7, None]}],
    ],
)
def test_what_no_template_wrote_is_not_read(messages: list[Any]) -> None:
    """Another number of pictures, another text or a remote picture is refused, not guessed at."""
    with pytest.raises(UnreadableRequestError):
        read(messages, OURS.values())


@pytest.mark.parametrize("quoted", ['"\\q"', '"\\u12"', '"\\x41"'])
def test_a_text_that_is_no_json_string_is_not_read(quoted: str) -> None:
    """The text of a quoted placeholder must be a JSON string."""
    content = json.loads(json.dumps(GOOD))
    content[4]["text"] = content[4]["text"].replace('"warmer light"', quoted)

    with pytest.raises(UnreadableRequestError):
        read(_with(content), OURS.values())


def test_half_a_surrogate_pair_is_not_passed_on() -> None:
    """A JSON string can spell text that no encoding can carry; it is replaced, so that the answer can be sent."""
    content = json.loads(json.dumps(GOOD))
    content[4]["text"] = content[4]["text"].replace('"warmer light"', '"a\\ud83d b\\ud83d\\ude00"')

    assert read(_with(content), OURS.values()).turn_instruction == "a\ufffd b\U0001f600"


@pytest.mark.parametrize("url", ["data:image/png;base64,$$$", "data:image/png,abc", "data:image/png;base64,é"])
def test_a_picture_that_is_not_base64_is_the_callers_error(url: str) -> None:
    """A broken data URL names the field it came in."""
    content = [GOOD[0], {"type": "image_url", "image_url": {"url": url}}, *GOOD[2:]]
    with pytest.raises(ApiError) as caught:
        read(_with(content), OURS.values())

    assert (caught.value.code, caught.value.param) == ("invalid_image", "messages")


def test_the_bytes_say_what_a_picture_is() -> None:
    """A data URL that calls a JPEG a PNG is corrected."""
    url = "data:image/png;base64," + base64.b64encode(MAGIC["image/jpeg"]).decode()
    content = [GOOD[0], {"type": "image_url", "image_url": {"url": url}}, *GOOD[2:]]

    assert read(_with(content), OURS.values()).source.media_type == "image/jpeg"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("data:image/png;base64,AAAA"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["content", "type", "text", "image_url", "url", "role"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(messages=st.lists(json_values, max_size=4))
@settings(max_examples=150, deadline=None)
def test_reading_anything_raises_only_what_it_says(messages: list[Any]) -> None:
    """Messages from strangers are refused by our two exceptions and no other."""
    with pytest.raises((UnreadableRequestError, ApiError)):
        read(messages, OURS.values())


@pytest.mark.parametrize("scores", [(-0.1, 5.0), (5.0, 10.01), (math.nan, 5.0), (5.0, math.inf)])
def test_a_critique_has_scores_in_range(scores: tuple[float, float]) -> None:
    """No critique with an impossible score can exist."""
    with pytest.raises(ValueError, match="between 0 and 10"):
        Critique(*scores, "", None)


def test_a_critique_has_no_blank_instruction() -> None:
    """None says that the instruction stays; blank text says nothing."""
    with pytest.raises(ValueError, match="not blank"):
        Critique(5.0, 5.0, "", " \n")


def test_overall_is_the_geometric_mean() -> None:
    """One bad score cannot be bought off by the other."""
    assert Critique(9.0, 4.0, "", None).overall == pytest.approx(6.0)
    assert Critique(10.0, 0.0, "", None).overall == 0.0
