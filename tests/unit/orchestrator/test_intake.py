"""A new session's pictures are stored before it is recorded, and removed only if it was not."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from PIL import Image
from starlette.requests import Request

from orchestrator.api import intake as intake_module
from orchestrator.api.fields import ImagesEditFields, SessionFields
from orchestrator.api.intake import Intake, Pictures
from orchestrator.loop import events as ev
from orchestrator.ports.collaborators import EditorCapabilities
from orchestrator.ports.errors import PortError, StorageUnavailableError
from orchestrator.ports.stores import Bounds, Created, Idempotency
from services.errors import ApiError
from services.imaging import codec
from services.imaging.codec import CheckedImage, ImageLimits
from tests.doubles.decoding import InProcessPool
from tests.doubles.images import checked
from tests.unit.imaging.pictures import saved
from tests.unit.orchestrator.test_fields import CATALOGUE, DEADLINES

IMAGE = ev.ImageRef(sha256="0" * 64, media_type="image/png", bytes=1, width=4, height=3)
EVENT = ev.SessionCreated(at=1.0, source=IMAGE, instruction="x", editor="e", thinker="t", limits=ev.Limits(deadline_at=600))
OWN = "its own"


@dataclass
class Folders:
    there: dict[str, list[CheckedImage]] = field(default_factory=dict)

    async def put(self, session_id: str, image: CheckedImage) -> None:
        self.there.setdefault(session_id, []).append(image)

    async def remove(self, session_id: str) -> None:
        del self.there[session_id]


@dataclass
class Sessions:
    """Answers a create with what the test says, or with the new session's own id."""

    answer: Created | PortError

    async def create(self, session_id: str, event: ev.SessionCreated, *_: object) -> Created:
        if isinstance(self.answer, PortError):
            raise self.answer
        return replace(self.answer, session_id=session_id) if self.answer.session_id == OWN else self.answer


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (Created(OWN, fresh=True, fingerprint="f"), True),
        # It is this session, also if it is reported as a repeat.
        (Created(OWN, fresh=False, fingerprint="f"), True),
        (Created("ses_another", fresh=False, fingerprint="f"), False),
        (PortError("overloaded", "too many", retryable=True), False),
        # It may have been made, although we were not told.
        (StorageUnavailableError("Redis did not answer"), True),
    ],
)
async def test_pictures_stay_unless_their_session_was_surely_not_made(answer: Created | PortError, kept: bool) -> None:  # noqa: FBT001
    """Removing it in doubt would take the source from a running session."""
    folders, images = Folders(), [checked(b"source"), checked(b"mask")]
    intake = Intake(Sessions(answer), folders, None, None, None, None)  # type: ignore[arg-type]  # what recording needs
    with contextlib.suppress(PortError):
        await intake._record(images, EVENT, Idempotency("k", "f"), Bounds())

    assert list(folders.there.values()) == ([images] if kept else [])


@pytest.mark.parametrize("passed_on_unchanged", [True, False])
async def test_an_upload_is_opened_once_and_hashed_once_for_each_bytes_it_has(
    monkeypatch: pytest.MonkeyPatch,
    passed_on_unchanged: bool,  # noqa: FBT001
) -> None:
    data = saved(Image.new("RGB", (4, 3)), "PNG") + (b"" if passed_on_unchanged else b"behind the picture")
    calls: list[str] = []

    def counted(name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            calls.append(name)
            return inner(*args, **options)

        return call

    digest = counted("hash", codec.digest)
    monkeypatch.setattr(codec, "digest", digest)
    monkeypatch.setattr(Image, "open", counted("open", Image.open))
    sessions: Any = Sessions(Created(OWN, fresh=True, fingerprint="f"))
    unused: Any = None
    intake = Intake(sessions, unused, unused, unused, unused, ImageLimits(), InProcessPool())
    [image], mask, received = await intake._check(Pictures(data), "ann")
    assert mask is None

    assert sorted(calls) == (["hash", "open"] if passed_on_unchanged else ["hash", "hash", "open"])
    assert (received.source, received.mask, received.references) == (hashlib.sha256(data).hexdigest(), "", ())
    assert image.sha256 == hashlib.sha256(image.data).hexdigest()
    assert (image.data == data) is passed_on_unchanged


def request(body: dict[str, Any]) -> Request:
    async def receive() -> Any:
        return {"type": "http.request", "body": json.dumps(body).encode()}

    return Request({"type": "http", "method": "POST", "headers": [(b"content-type", b"application/json")]}, receive)


URL, MASK_URL = "https://example.com/photo.png", "https://example.com/mask.png"


@pytest.mark.parametrize(
    ("body", "fetched"),
    [
        ({"prompt": "x", "images": [{"image_url": URL}]}, [("image", URL)]),
        (
            {"prompt": "x", "url": URL, "model": "able", "mask": {"image_url": MASK_URL}},
            [("image", URL), ("mask", MASK_URL)],
        ),
        ({"prompt": "x", "url": URL, "max_turn": 3}, []),
        ({"prompt": "x", "url": [URL, URL], "model": "two"}, [("image[0]", URL), ("image[1]", URL)]),
        ({"prompt": "x", "url": [URL, URL]}, []),
        ({"prompt": "x", "url": URL, "mask": URL}, []),
        ({"url": URL}, []),
    ],
    ids=["one", "with a mask", "misspelt", "two", "two for an editor of one", "mask for an editor without", "no prompt"],
)
async def test_urls_are_fetched_once_all_fields_are_right(
    monkeypatch: pytest.MonkeyPatch, body: dict[str, Any], fetched: list[tuple[str, str]]
) -> None:
    """A request that is refused makes none of ours."""
    seen: list[tuple[str, str]] = []

    async def fetch(url: str, *, param: str, **_: Any) -> bytes:
        seen.append((param, url))
        return param.encode()

    async def reserve(_: int) -> None:
        pass

    monkeypatch.setattr(intake_module, "fetch_image", fetch)
    unused: Any = None
    catalogue = replace(CATALOGUE, editors={**CATALOGUE.editors, "two": EditorCapabilities(frozenset(), mask=False, images=2)})
    intake = Intake(unused, unused, unused, lambda: catalogue, DEADLINES, ImageLimits(), unused, unused)
    with contextlib.nullcontext() if fetched else pytest.raises(ApiError):
        given = await intake.receive(request(body), ImagesEditFields, "ann", reserve)
        assert [param.encode() for param, _ in fetched] == [
            picture for picture in (given.pictures.source, *given.pictures.references, given.pictures.mask) if picture
        ]

    assert seen == fetched


async def test_urls_that_take_too_long_together_are_not_fetched_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen slow ones would outlast every client, before a session exists."""
    seen: list[str] = []

    async def fetch(_: str, *, param: str, **__: Any) -> bytes:
        seen.append(param)
        return b"picture"

    monkeypatch.setattr(intake_module, "fetch_image", fetch)
    monkeypatch.setattr(intake_module, "_URLS_S", 0.0)
    unused: Any = None
    catalogue = replace(CATALOGUE, editors={"two": EditorCapabilities(frozenset(), mask=False, images=2)})
    intake = Intake(unused, unused, unused, lambda: catalogue, DEADLINES, ImageLimits(), unused, unused)
    await intake.receive(request({"prompt": "x", "url": URL}), ImagesEditFields, "ann", unused)
    with pytest.raises(ApiError) as caught:
        await intake.receive(request({"prompt": "x", "url": [URL, URL]}), ImagesEditFields, "ann", unused)

    assert (caught.value.code, caught.value.param, seen) == ("url_unreachable", "image[1]", ["image", "image[0]"])


RECEIVED = intake_module._Digests(hashlib.sha256(b"source").hexdigest(), hashlib.sha256(b"mask").hexdigest())
UNMASKED = replace(RECEIVED, mask="")


def fingerprint(received: intake_module._Digests = RECEIVED, **fields: object) -> str:
    return intake_module._fingerprint(ImagesEditFields.model_validate({"prompt": "x", **fields}), received)


def test_the_former_fingerprint_is_that_of_version_0_1() -> None:
    """A repeat may follow an upgrade: the value is stored in Redis. These were computed by that version."""
    known = intake_module._former_fingerprint
    edit = ImagesEditFields.model_validate({"prompt": "x", "seed": 3, "output_format": "webp"})
    session = SessionFields.model_validate({"prompt": "x", "review": "each_turn"})

    assert known(edit, RECEIVED) == "188b45a565e238a5fd11cde45af9d67c1fd9dc69bc0c8ff592ac2f3ed57be22c"
    assert known(edit, UNMASKED) == "731fe315096f2c2e5bb234c3440f409de05d12ffbb89892ea4460cd6ac914301"
    assert known(session, RECEIVED) == "bf8998c86f85b9e6fe5c356c5b3992c6df6598b8e83c7d9836f3d0002ade8b4e"


def test_how_the_result_is_sent_is_not_part_of_the_request() -> None:
    """The same key with another format is a repeat; with another prompt, seed or picture it is not."""
    same: list[dict[str, object]] = [
        {"output_format": "webp", "output_compression": 50},
        {"response_format": "url"},
        {"stream": True, "partial_images": 2},
        {"n": 1, "strategy": "think", "size": "auto"},
    ]
    assert {fingerprint(RECEIVED, **fields) for fields in same} == {fingerprint()}
    other: list[dict[str, object]] = [{"prompt": "y"}, {"seed": 1}, {"n": 2}, {"user": "u"}, {"max_turns": 5}]
    assert len({fingerprint(), *(fingerprint(RECEIVED, **fields) for fields in other)}) == 6
    assert fingerprint(UNMASKED) != fingerprint()


def test_references_and_their_order_are_part_of_the_request() -> None:
    others = [(), ("r1",), ("r2",), ("r1", "r2"), ("r2", "r1")]
    assert len({fingerprint(replace(RECEIVED, references=references)) for references in others}) == len(others)


async def test_a_picture_is_named_by_its_place_when_it_is_refused() -> None:
    picture = saved(Image.new("RGB", (4, 3)), "PNG")
    unused: Any = None
    intake = Intake(unused, unused, unused, unused, unused, ImageLimits(), InProcessPool())
    with pytest.raises(ApiError) as caught:
        await intake._check(Pictures(picture, references=(picture, b"no picture")), "ann")

    assert (caught.value.code, caught.value.param) == ("invalid_image", "image[2]")
    assert caught.value.message.startswith("image[2] ")


async def test_pictures_that_grow_too_large_together_are_refused() -> None:
    """A palette picture is stored as RGB, which may be larger than what was sent."""
    noise = Image.effect_noise((64, 64), 90).convert("P")
    picture = saved(noise, "PNG")
    unused: Any = None
    limits = ImageLimits(max_bytes=14_000)
    intake = Intake(unused, unused, unused, unused, unused, limits, InProcessPool())
    assert len((await intake._check(Pictures(picture), "ann"))[0]) == 1
    with pytest.raises(ApiError) as caught:
        await intake._check(Pictures(picture, references=(picture,) * 15), "ann")

    assert (caught.value.code, caught.value.param) == ("image_too_large", "image")
    assert "42,000 bytes together" in caught.value.message


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (Image.new("RGBA", (4, 4)), "mask is 4x4, the image 4x3; send both in one size"),
        (Image.new("RGB", (4, 3)), "mask has no transparency"),
        (Image.new("RGBA", (4, 3), (0, 0, 0, 255)), "mask is opaque everywhere"),
    ],
)
async def test_a_mask_that_cannot_be_used_is_refused(mask: Image.Image, words: str) -> None:
    unused: Any = None
    intake = Intake(unused, unused, unused, unused, unused, ImageLimits(), InProcessPool())
    with pytest.raises(ApiError, match=words) as caught:
        await intake._check(Pictures(saved(Image.new("RGB", (4, 3)), "PNG"), saved(mask, "PNG")), "ann")

    assert (caught.value.code, caught.value.param) == ("invalid_image", "mask")


@pytest.mark.parametrize(("fit", "refused"), [("cover", True), ("contain", False)])
async def test_a_mask_of_which_a_crop_leaves_nothing_open_is_refused(fit: str, refused: bool) -> None:  # noqa: FBT001
    """Its opening is at the left edge, which a square of the middle does not have."""
    mask = Image.new("RGBA", (40, 20), "black")
    mask.paste((0, 0, 0, 0), (0, 0, 5, 20))
    unused: Any = None
    intake = Intake(unused, unused, unused, unused, unused, ImageLimits(), InProcessPool())
    [source], kept, _ = await intake._check(Pictures(saved(Image.new("RGB", (40, 20)), "PNG"), saved(mask, "PNG")), "ann")
    fields = ImagesEditFields.model_validate({"prompt": "x", "size": "64x64", "fit": fit})
    with pytest.raises(ApiError, match=r"mask: .* fit=contain") if refused else contextlib.nullcontext():
        framed, kept = await intake._in_shape(source, kept, fields, "ann")
        assert kept is not None
        assert (kept.width, kept.height) == (framed.width, framed.height) == (40, 40)


async def test_a_size_that_no_picture_may_have_is_refused_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "fetch_image", None)
    unused: Any = None
    intake = Intake(unused, unused, unused, lambda: CATALOGUE, DEADLINES, ImageLimits(), unused, unused)
    for size in ("99999x1", "9000x9000"):
        with pytest.raises(ApiError, match="size: ") as caught:
            await intake.receive(
                request({"prompt": "x", "url": URL, "size": size, "model": "able"}), ImagesEditFields, "ann", unused
            )
        assert caught.value.param == "size"


async def test_metadata_in_two_spellings_is_not_lost() -> None:
    body = {"prompt": "x", "url": URL, "metadata": {"a": "1"}, "metadata[b]": "2"}
    unused: Any = None
    intake = Intake(unused, unused, unused, lambda: CATALOGUE, DEADLINES, ImageLimits(), unused, unused)
    with pytest.raises(ApiError, match="metadata was given more than once"):
        await intake.receive(request(body), ImagesEditFields, "ann", unused)


def test_a_version_with_more_fields_makes_the_same_fingerprint() -> None:
    """Replicas of both run during an upgrade."""

    class Newer(ImagesEditFields):
        sharpness: float = 1.5

    newer = Newer.model_validate({"prompt": "x", "seed": 3})
    assert intake_module._fingerprint(newer, RECEIVED) == fingerprint(seed=3)
