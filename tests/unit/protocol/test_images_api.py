"""The Images API's form and fields: what the official client and curl send is read, the rest is refused by name."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.datastructures import FormData, UploadFile

from services.errors import TABLE, ApiError, shown
from services.protocol.images_api import (
    MAX_PROMPT,
    EditFields,
    EditForm,
    ImageData,
    ImagesResponse,
    form_schema,
    read_form,
    source_and_references,
    validate,
)


def upload(data: bytes = b"picture", name: str = "x.png") -> UploadFile:
    return UploadFile(io.BytesIO(data), filename=name)


async def read(*items: tuple[str, str | UploadFile]) -> EditForm:
    return await read_form(FormData(list(items)))


def refusal(fields: object, model: type[BaseModel] = EditFields) -> ApiError:
    with pytest.raises(ApiError) as caught:
        validate(model, fields)
    return caught.value


@pytest.mark.parametrize("names", [["image"], ["image[]"], ["image", "image"], ["image[]", "image[]"], ["image", "image[]"]])
async def test_images_under_either_name(names: list[str]) -> None:
    """`image`, repeated `image` and `image[]` are one list, in the order sent."""
    pictures = [b"picture %d" % number for number in range(len(names))]
    form = await read(("prompt", "x"), *((name, upload(data)) for name, data in zip(names, pictures, strict=True)))

    assert form == EditForm({"prompt": "x"}, tuple(pictures), None)


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["image[0]", "image[1]", "image[2]"], [0, 1, 2]),
        (["image[2]", "image[0]", "image[10]"], [1, 0, 2]),
        (["image[1]", "image", "image[]"], [1, 2, 0]),
    ],
)
async def test_numbered_images_come_in_the_order_of_their_numbers(names: list[str], order: list[int]) -> None:
    """PHP's curl names a list so."""
    pictures = [b"picture %d" % number for number in range(len(names))]
    form = await read(*((name, upload(data)) for name, data in zip(names, pictures, strict=True)))

    assert form.images == tuple(pictures[place] for place in order)


async def test_a_number_that_is_given_twice_is_refused() -> None:
    with pytest.raises(ApiError) as caught:
        await read(("image[1]", upload(b"a")), ("image[01]", upload(b"b")))

    assert (caught.value.code, caught.value.param) == ("invalid_value", "image")
    assert "more than once" in caught.value.message


@pytest.mark.parametrize("name", ["image[x]", "image[-1]", "image[12345]", "images", "image["])
async def test_other_names_are_no_images(name: str) -> None:
    with pytest.raises(ApiError) as caught:
        await read((name, upload(b"a")))

    assert (caught.value.code, caught.value.param) == ("invalid_value", name)


async def test_a_mask_is_a_file() -> None:
    """In addition to the image."""
    form = await read(("image", upload(b"a")), ("mask", upload(b"b")))

    assert (form.images, form.mask) == ((b"a",), b"b")


async def test_an_empty_form_is_read() -> None:
    """What is missing is for the fields to say."""
    assert await read() == EditForm({}, (), None)


@pytest.mark.parametrize(
    ("items", "param", "words"),
    [
        ([("image", "AAAA")], "image", "file part"),
        ([("image[]", "text")], "image", "file part"),
        ([("mask", "text")], "mask", "file part"),
        ([("prompt", upload(b"make it golden"))], "prompt", "text field"),
        ([("user", upload(b"7", ""))], "user", "text field"),
        ([("prompt", "a"), ("prompt", "a")], "prompt", "more than once"),
        ([("mask", upload(b"a")), ("mask", upload(b"b"))], "mask", "more than once"),
        ([("image", upload(b"a")), ("url", "photo.png")], "url", "https URL"),
        ([("image_url[]", "")], "image_url[]", "https URL"),
    ],
)
async def test_a_part_of_the_wrong_kind(items: list[tuple[str, str | UploadFile]], param: str, words: str) -> None:
    """Text where a file is due, a file where text is due, and anything given twice: which part it was, and what to send."""
    with pytest.raises(ApiError) as caught:
        await read(*items)

    assert (caught.value.code, caught.value.param) == ("invalid_value", param)
    assert param in caught.value.message and words in caught.value.message and "send it" in caught.value.message


def test_the_first_image_is_the_source_and_the_others_are_its_references() -> None:
    """Up to sixteen; none and too many are different errors."""
    assert source_and_references([b"a"]) == (b"a", ())
    assert source_and_references([b"%d" % number for number in range(16)])[1] == tuple(b"%d" % number for number in range(1, 16))
    with pytest.raises(ApiError) as none:
        source_and_references([])
    with pytest.raises(ApiError) as several:
        source_and_references([b"a"] * 17)

    assert (none.value.code, none.value.param) == ("missing_parameter", "image")
    assert (several.value.code, several.value.param) == ("invalid_value", "image")
    assert "17 times" in several.value.message and "at most 16" in several.value.message


def test_text_fields_become_their_types() -> None:
    """A form holds only text."""
    fields = validate(
        EditFields, {"prompt": " golden ", "n": "2", "stream": "true", "output_compression": "0", "size": "640x480"}
    )

    assert (fields.prompt, fields.n, fields.stream, fields.output_compression) == (" golden ", 2, True, 0)
    assert fields.pixels() == (640, 480)
    assert validate(EditFields, {"prompt": "x"}).pixels() is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", "x" * (MAX_PROMPT + 1)),
        ("prompt", ""),
        ("prompt", " \n\t"),
        ("prompt", 7),
        ("prompt", None),
        ("n", "0"),
        ("n", "11"),
        ("n", "1.5"),
        ("n", "many"),
        ("n", ""),
        ("n", None),
        ("size", "big"),
        ("size", "0x10"),
        ("size", "10x"),
        ("size", "-1x5"),
        ("size", "100000x1"),
        ("size", "640X480"),
        ("size", "640x480\n"),
        ("size", "\u0666\u0664\u0660x\u0664\u0668\u0660"),
        ("response_format", "b64"),
        ("output_format", "gif"),
        ("output_format", "PNG"),
        ("output_compression", "-1"),
        ("output_compression", "101"),
        ("stream", "perhaps"),
        ("partial_images", "4"),
        ("partial_images", "-1"),
        ("quality", "best"),
        ("background", "white"),
        ("user", "x" * 501),
        ("model", "x" * 201),
    ],
)
def test_a_wrong_value_is_named(field: str, value: object) -> None:
    """The message names the field and says what it must be, in a sentence without a library's jargon."""
    error = refusal({"prompt": "x", field: value})

    assert (error.code, error.param) == ("invalid_value", field)
    assert error.message.startswith(f"{field}: ") and len(error.message) < 300
    assert not any(
        word in error.message for word in ("items", "validation", "pydantic", "pattern", "Value error", "https://", "\n")
    )


def test_a_missing_field_is_named() -> None:
    """And the message says to send it."""
    error = refusal({"n": "1"})

    assert (error.code, error.param) == ("missing_parameter", "prompt")
    assert error.message == "prompt is missing; send it"


@pytest.mark.parametrize(
    ("given_", "meant"),
    [("promt", "prompt"), ("output_formt", "output_format"), ("partial_image", "partial_images"), ("N", None)],
)
def test_an_unknown_field_suggests_the_one_meant(given_: str, meant: str | None) -> None:
    """A typing error gets its correction, anything else the list of what there is."""
    error = refusal({"prompt": "x", given_: "1"})

    assert (error.code, error.param) == ("unknown_parameter", given_)
    expected = f"did you mean {meant}?" if meant else "known are: background, model, n, output_compression,"
    assert expected in error.message


@given(name=st.text(min_size=1, max_size=12).filter(lambda name: name not in EditFields.model_fields))
def test_any_unknown_field_is_named(name: str) -> None:
    error = refusal({"prompt": "x", name: "1"})

    assert (error.code, error.param) == ("unknown_parameter", shown(name))
    assert error.message.startswith(f"{shown(name)} is not a parameter")


@pytest.mark.parametrize("name", ["body", "body_type", "function-x", "function-before", "", "."])
def test_an_unknown_field_with_a_tricky_name_is_named(name: str) -> None:
    """Names that look like a validator's own places are a caller's fields, too."""
    error = refusal({"prompt": "x", name: "1"})

    assert error.code == "unknown_parameter"
    assert error.param == (name or None) and "None" not in error.message


@pytest.mark.parametrize("fields", [[], "x", 7, None, [["prompt", "x"]]])
def test_what_is_no_object_is_refused(fields: object) -> None:
    """Fields come as an object."""
    error = refusal(fields)

    assert (error.code, error.param) == ("invalid_value", None)
    assert error.message == "the request body: it must be an object with named fields"


def test_a_long_prompt_is_counted_in_characters() -> None:
    """Not in items."""
    assert refusal({"prompt": "x" * (MAX_PROMPT + 1)}).message == "prompt: string should have at most 32000 characters"


def test_a_field_inside_a_field_is_named_with_its_path() -> None:
    """Nested models and validators of any kind name the caller's own path."""

    class Inner(BaseModel):
        model_config = ConfigDict(extra="forbid")
        depth: int | str = Field(ge=1)

        @field_validator("depth", mode="before")
        @classmethod
        def check(cls, value: Any) -> Any:
            if value == 3:
                raise ValueError("three is not allowed")
            return value

    class Outer(BaseModel):
        inner: Inner
        many: list[Inner] = []

    assert refusal({"inner": {"depth": 3}}, Outer).param == "inner.depth"
    assert refusal({"inner": {"depth": 3}}, Outer).message == "inner.depth: three is not allowed"
    assert refusal({"inner": {"depth": 1}, "many": [{"depth": 1}, {}]}, Outer).param == "many.1.depth"
    assert refusal({"inner": {"depth": 1, "dept": 1}}, Outer).param == "inner.dept"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(fields=st.dictionaries(st.sampled_from([*EditFields.model_fields, "promt", "body"]), json_values) | json_values)
def test_validating_raises_only_our_error(fields: object) -> None:
    """Any JSON value is valid, or an error from the table that blames the caller."""
    try:
        validate(EditFields, fields)
        code = ""
    except ApiError as exc:
        code, status, message = exc.code, exc.status, exc.message
        assert status == 400 and message
    assert not code or code in TABLE


def test_the_schema_of_the_form_shows_files_and_fields() -> None:
    """OpenAPI readers see the image as a required file, and every field with a description."""
    schema = form_schema(EditFields)["content"]["multipart/form-data"]["schema"]

    assert schema["required"] == ["image", "prompt"]
    one, several = schema["properties"]["image"]["anyOf"]
    assert one["format"] == several["items"]["format"] == schema["properties"]["mask"]["format"] == "binary"
    assert (several["minItems"], several["maxItems"]) == (1, 16)
    assert set(EditFields.model_fields) < set(schema["properties"])
    assert all("description" in field for field in schema["properties"].values())


def test_replies_keep_further_keys() -> None:
    """Services add their own, and the official client keeps them."""
    body = {"created": 1, "data": [{"b64_json": "AAAA", "scores": {"semantic": 9}}], "session_id": "ses_1"}
    reply = ImagesResponse.model_validate(body)

    assert reply.model_dump(exclude_none=True) == body
    assert isinstance(reply.data[0], ImageData)
