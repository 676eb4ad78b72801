"""The columns of each trainer. A row of TRL and one of verl are two views of the same critique.

trl      prompt and completion as content blocks, and images (TRL 1.16: SFTTrainer, GRPOTrainer)
verl     prompt as text with <image> marks, images, reward_model, extra_info (verl 0.9: RLHFDataset)
swift    messages with <image> marks, images as data URLs (ms-swift 4)
openai   messages of a chat completion, images as data URLs (OpenAI's fine-tuning, ms-swift)
pairs    two pictures and which is better, in the columns of EditReward-Data
folder   a folder for each critique: its pictures, and a JSON file
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import pyarrow as pa

from evaluation.trajectories.critiques import Critique, Scores
from evaluation.trajectories.pairs import Pair, Side
from evaluation.trajectories.pictures import data_url, extension, from_data_url

Form = Literal["trl", "verl", "swift", "openai", "pairs", "folder"]
FORMS: Final[tuple[Form, ...]] = ("trl", "verl", "swift", "openai", "pairs", "folder")
DATA_SOURCE: Final = "editthinker"
ABILITY: Final = "image_edit_critique"
_MARKS: Final = ("<image>", "<video>", "<audio>")
Row = dict[str, Any]
_IMAGE: Final = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_SCORES: Final = pa.struct([("semantic", pa.float64()), ("quality", pa.float64()), ("overall", pa.float64())])
_BLOCKS: Final = pa.list_(
    pa.struct([("role", pa.string()), ("content", pa.list_(pa.struct([("type", pa.string()), ("text", pa.string())])))])
)
_ABOUT: Final = [
    ("id", pa.string()),
    ("role", pa.string()),
    ("instruction", pa.string()),
    ("turn_instruction", pa.string()),
    ("turn", pa.int64()),
    ("candidate", pa.int64()),
    ("scores", _SCORES),
    ("gain", pa.float64()),
    ("reward", pa.float64()),
    ("seed", pa.int64()),
    ("editor", pa.string()),
    ("thinker", pa.string()),
    ("judge", pa.string()),
    ("session", pa.string()),
    ("licence", pa.string()),
]
_IDS: Final = [("tenant", pa.string()), ("created_at", pa.float64()), ("user", pa.string()), ("metadata", pa.string())]


class MarkInTextError(Exception):
    """A text of the prompt holds a mark that stands for a picture, so a prompt with marks would mean something else."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A critique with what the thinker was sent and what it replied.

    Attributes:
        key: 32 hex digits.
        messages: as they were sent; the URL of each picture is its place in `pictures`, as text.
        pictures: without metadata.
        session: its name in the data set.
        ids: the columns of `--with-ids`; empty without.
    """

    key: str
    critique: Critique
    instruction: str
    messages: Sequence[Mapping[str, Any]]
    pictures: Sequence[bytes]
    reply: str
    session: str
    licence: str
    split: str
    ids: Mapping[str, Any]


def separated(messages: Sequence[Mapping[str, Any]]) -> tuple[list[Row], list[bytes]]:
    """Messages whose pictures are named by their place, and the pictures.

    Raises:
        UnknownPictureError: for a picture that is no data URL of one.
    """
    pictures: list[bytes] = []
    found: list[Row] = []
    for message in messages:
        content = []
        for part in _parts(message):
            if part["type"] == "image_url":
                content.append({"type": "image_url", "image_url": {"url": str(len(pictures))}})
                pictures.append(from_data_url(part["image_url"]["url"]))
            else:
                content.append({"type": "text", "text": part["text"]})
        found.append({"role": message["role"], "content": content})
    return found, pictures


def schema(form: Form, *, ids: bool) -> pa.Schema:
    """The columns of a parquet file, with what `datasets` reads to decode its pictures."""
    more = _IDS if ids else []
    fields: list[tuple[str, pa.DataType]]
    if form == "trl":
        fields = [("prompt", _BLOCKS), ("completion", _BLOCKS), ("images", pa.list_(_IMAGE)), *_ABOUT, *more]
    elif form == "verl":
        texts = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
        model = pa.struct([("style", pa.string()), ("ground_truth", pa.string())])
        extra = pa.struct([("index", pa.int64()), ("split", pa.string()), ("completion", pa.string()), *_ABOUT, *more])
        fields = [("data_source", pa.string()), ("prompt", texts), ("images", pa.list_(_IMAGE))]
        fields += [("ability", pa.string()), ("reward_model", model), ("extra_info", extra)]
    else:
        fields = [("id", pa.string()), ("instruction", pa.string()), ("source_img", _IMAGE)]
        for side in ("left", "right"):
            fields += [(f"{side}_output_image", _IMAGE), (f"{side}_model", pa.string())]
            fields += [(f"{side}_{name}", pa.float64()) for name in _EDITREWARD]
            fields += [(f"{side}_scores", _SCORES), (f"{side}_instruction", pa.string()), (f"{side}_session", pa.string())]
        fields += [("vote_type", pa.string()), ("chosen", pa.string()), ("rejected", pa.string()), ("origin", pa.string())]
        fields += [("thinker", pa.string()), ("judge", pa.string()), ("licence", pa.string()), *more[:1]]
    columns = pa.schema(fields)
    features = {field.name: _feature(field.type) for field in columns}
    return columns.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def row(form: Form, exchange: Exchange, index: int) -> Row:
    """One critique in the columns of a trainer. For `folder` the values of `files` are the files of its folder.

    Raises:
        MarkInTextError: see there.
    """
    about = _about(exchange)
    if form == "trl":
        return {"prompt": _blocks(exchange), "completion": _reply_blocks(exchange), "images": _images(exchange), **about}
    if form == "verl":
        truth = {"scores": about["scores"], "instruction": exchange.instruction, "turn_instruction": about["turn_instruction"]}
        return {
            "data_source": DATA_SOURCE,
            "prompt": _marked(exchange),
            "images": _images(exchange),
            "ability": ABILITY,
            "reward_model": {"style": "model", "ground_truth": json.dumps(truth, ensure_ascii=False)},
            "extra_info": {"index": index, "split": exchange.split, "completion": exchange.reply, **about},
        }
    answer = {"role": "assistant", "content": exchange.reply}
    if form == "swift":
        images = [data_url(picture) for picture in exchange.pictures]
        return {"messages": [*_marked(exchange), answer], "images": images, **about}
    if form == "openai":
        return {"messages": [*_with_urls(exchange), answer]}
    names = [f"{number}.{extension(picture)}" for number, picture in enumerate(exchange.pictures, 1)]
    files = dict(zip(names, exchange.pictures, strict=True))
    body = {**about, "messages": _with_names(exchange, names), "reply": exchange.reply}
    return {"name": exchange.key, "files": {**files, "critique.json": json.dumps(body, ensure_ascii=False, indent=1).encode()}}


def pair_row(pair: Pair, pictures: tuple[bytes, bytes, bytes], licence: str, name: Any, ids: Mapping[str, Any]) -> Row:
    """One pair in EditReward-Data's columns.

    Args:
        pictures: source, left and right.
        name: gives a session its name in the data set.
    """
    key = pair.key.hex()
    found: Row = {"id": key, "instruction": pair.instruction, "source_img": _image(pictures[0], f"{key}-source")}
    for side, what, picture in ((pair.left, "left", pictures[1]), (pair.right, "right", pictures[2])):
        found |= _side(side, what, picture, key)
        found[f"{what}_session"] = name(side.session)
    better = {"leftvote": ("left", "right"), "rightvote": ("right", "left"), "tie": (None, None)}[pair.vote]
    found |= {"vote_type": pair.vote, "chosen": better[0], "rejected": better[1], "origin": pair.origin}
    return {**found, "thinker": pair.thinker, "judge": pair.judge, "licence": licence, **ids}


_EDITREWARD: Final = ("instruction_following_score", "quality_aesthetic_score", "overall_score")


def _side(side: Side, what: str, picture: bytes, key: str) -> Row:
    scores: tuple[float | None, ...] = (None, None, None)
    if side.scores is not None:
        # EditReward-Data scores from 1 to 4, and adds the two.
        followed, sound = (1 + 0.3 * score for score in (side.scores.semantic, side.scores.quality))
        scores = (followed, sound, followed + sound)
    found: Row = {f"{what}_output_image": _image(picture, f"{key}-{what}"), f"{what}_model": side.model}
    found |= {f"{what}_{name}": score for name, score in zip(_EDITREWARD, scores, strict=True)}
    return {**found, f"{what}_scores": _scores(side.scores), f"{what}_instruction": side.instruction}


def _about(exchange: Exchange) -> Row:
    critique = exchange.critique
    return {
        "id": exchange.key,
        "role": critique.role,
        "instruction": exchange.instruction,
        "turn_instruction": critique.candidate.instruction,
        "turn": critique.candidate.turn,
        "candidate": critique.candidate.number,
        "scores": _scores(critique.scores),
        "gain": critique.gain,
        "reward": critique.reward,
        "seed": critique.candidate.seed,
        "editor": critique.candidate.editor,
        "thinker": critique.thinker,
        "judge": critique.judge,
        "session": exchange.session,
        "licence": exchange.licence,
        **exchange.ids,
    }


def _scores(scores: Scores | None) -> Row | None:
    if scores is None:
        return None
    return {"semantic": scores.semantic, "quality": scores.quality, "overall": scores.overall}


def _parts(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _blocks(exchange: Exchange) -> list[Row]:
    def block(part: Mapping[str, Any]) -> Row:
        return {"type": "image", "text": None} if part["type"] == "image_url" else {"type": "text", "text": part["text"]}

    return [{"role": each["role"], "content": [block(part) for part in each["content"]]} for each in exchange.messages]


def _reply_blocks(exchange: Exchange) -> list[Row]:
    return [{"role": "assistant", "content": [{"type": "text", "text": exchange.reply}]}]


def _marked(exchange: Exchange) -> list[Row]:
    texts = [part["text"] for each in exchange.messages for part in each["content"] if part["type"] == "text"]
    if any(mark in text for text in texts for mark in _MARKS):
        raise MarkInTextError
    return [
        {
            "role": each["role"],
            "content": "".join(part["text"] if part["type"] == "text" else "<image>" for part in each["content"]),
        }
        for each in exchange.messages
    ]


def _with_urls(exchange: Exchange) -> list[Row]:
    return _named(exchange, [data_url(picture) for picture in exchange.pictures])


def _with_names(exchange: Exchange, names: Sequence[str]) -> list[Row]:
    return _named(exchange, names)


def _named(exchange: Exchange, urls: Sequence[str]) -> list[Row]:
    def part(given: Mapping[str, Any]) -> Row:
        if given["type"] == "text":
            return dict(given)
        return {"type": "image_url", "image_url": {"url": urls[int(given["image_url"]["url"])]}}

    return [{"role": each["role"], "content": [part(given) for given in each["content"]]} for each in exchange.messages]


def _images(exchange: Exchange) -> list[Row]:
    return [_image(picture, f"{exchange.key}-{number}") for number, picture in enumerate(exchange.pictures, 1)]


def _image(picture: bytes, name: str) -> Row:
    return {"bytes": picture, "path": f"{name}.{extension(picture)}"}


def _feature(kind: pa.DataType) -> Any:
    """A column's type as `datasets` writes it into a file's metadata."""
    if kind == _IMAGE:
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return [_feature(kind.value_type)]
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    name = {pa.float64(): "float64", pa.int64(): "int64", pa.string(): "string"}[kind]
    return {"dtype": name, "_type": "Value"}
