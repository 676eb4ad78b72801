"""Random requests: valid ones, and such with one thing wrong, which the answer must name."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, field
from random import Random

from services.editor.pipelines import Capabilities
from services.errors import shown
from services.imaging import codec
from tests.fuzz import pictures

_TEXTS = (
    "x",
    "make it 20% warmer",
    'write "Grüße, 世界" on the wall',
    "🏳️‍🌈🧑🏽‍🚀 a\u200dhat",
    "שלום \u202eabc\u202c",
    "line\nbreak\ttab\r\n",
    "e\u0301\u0301\u0301 \ufeff\x01\x7f",
    "{prompt} %s <b>&amp; {{ x }}",
    "<image1> like <image2>",
    "\U0010ffff\ufffe",
)
MAX_SEED = 2**32 - 10


@dataclass
class Asked:
    """One request, and what must come of it.

    Attributes:
        fields: of the form, in order.
        files: (name, bytes) of the form, in order.
        headers: of the request.
        size: of the result, if all is right; None: as the model made it.
        wrong: fields one of which a refusal must name; empty if all is right.
        leave_s: seconds after which the caller disconnects; None: it waits.
        delete_s: seconds after which the edit is stopped by its key.
        conflicts: whether its key may stand for another request.
        stopped: whether a request with its key is stopped.
    """

    fields: list[tuple[str, bytes]]
    files: list[tuple[str, bytes]]
    headers: dict[str, str]
    size: tuple[int, int] | None
    wrong: frozenset[str] = frozenset()
    leave_s: float | None = None
    delete_s: float | None = None
    conflicts: bool = False
    stopped: bool = False

    @property
    def streams(self) -> bool:
        """Whether it asks for events."""
        return ("stream", b"true") in self.fields

    @property
    def raw(self) -> bool:
        """Whether it asks for the picture's bytes alone."""
        return "accept" in self.headers

    @property
    def key(self) -> str | None:
        """Its Idempotency-Key."""
        return self.headers.get("idempotency-key")

    def __str__(self) -> str:
        fields = {name: value if len(value) < 60 else f"{value[:20]!r}… ({len(value)})" for name, value in self.fields}
        return f"{fields} {self.headers} {[(name, len(data)) for name, data in self.files]}"

    @property
    def given(self) -> dict[str, str]:
        """Its fields as texts."""
        return {name: value.decode("utf-8", "replace") for name, value in self.fields}

    def body(self) -> tuple[bytes, str]:
        """The form, and its content type."""
        boundary = uuid.uuid4().hex
        parts = [f'form-data; name="{name}"\r\n\r\n'.encode() + value for name, value in self.fields]
        typed = "Content-Type: application/octet-stream"
        parts += [f'form-data; name="{name}"; filename="a"\r\n{typed}\r\n\r\n'.encode() + value for name, value in self.files]
        lines = b"".join(f"--{boundary}\r\nContent-Disposition: ".encode() + part + b"\r\n" for part in parts)
        return lines + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


@dataclass
class Asker:
    """Makes requests for one worker.

    Args:
        random: decides everything.
        capabilities: the worker's.
        aspect: the largest aspect ratio of a source.
        draft_aspect: the largest of a draft.
        few: how many steps more than the fewest are asked for at most.
    """

    random: Random
    capabilities: Capabilities
    aspect: float
    draft_aspect: float = math.inf
    few: int = 3
    _parameters: dict[str, float] = field(default_factory=dict)

    def asked(self) -> Asked:
        """A request with everything right, or with one thing wrong."""
        random, able = self.random, self.capabilities
        data, size = pictures.source(random, self._size())
        elongated = max(size) / min(size)
        fields = {"prompt": self._prompt()}
        headers: dict[str, str] = {}
        files = [("image", data)]
        if random.random() < 0.3:
            more = min(able.max_images - 1, random.choice((1, 2, 3, able.max_images)))
            others = [pictures.source(random, self._size()) for _ in range(more)]
            files += [("image", data) for data, _ in others]
            elongated = max(elongated, *(max(each) / min(each) for _, each in others)) if others else elongated
        if able.mask and len(files) == 1 and random.random() < 0.5:
            files.append(("mask", pictures.mask(random, size)))
        fields |= self._numbers()
        if able.resize and random.random() < 0.4:
            size = random.choice(
                ((1, 1), (64, 64), (97, 31), (300, 7), (3, 250), (random.randint(1, 200), random.randint(1, 200)))
            )
            fields["size"] = f"{size[0]}x{size[1]}"
        if random.random() < 0.8:
            fields["seed"] = str(random.choice((0, 1, MAX_SEED, random.randint(0, MAX_SEED))))
        if random.random() < 0.15:
            fields["n"] = str(random.randint(1, 3))
        fields |= self._output(headers, n=int(fields.get("n", "1")))
        extensions = self._extensions(draft=able.draft and elongated <= self.draft_aspect)
        fields |= extensions
        native = extensions.get("draft") == "true" or (extensions.get("native_size") == "true" and able.native_pixels is not None)
        asked = Asked([(name, value.encode()) for name, value in fields.items()], files, headers, None if native else size)
        if random.random() < 0.35:
            self._spoil(asked)
        if random.random() < 0.3:
            headers["idempotency-key"] = f"{random.getrandbits(64):x}"
            asked.delete_s = random.choice((None, None, random.uniform(0, 0.3)))
        if random.random() < 0.12:
            asked.leave_s = random.uniform(0, 0.4)
        if random.random() < 0.2:
            headers["priority"] = random.choice(("u=0", "u=7, i", "u=9", "x", "u=2;a"))
        return asked

    def _size(self) -> tuple[int, int]:
        short = self.random.choice((1, 16, 17, 40, 64, self.random.randint(1, 120)))
        long = self.random.choice((short, 64, self.random.randint(short, 160), 700, int(short * min(self.aspect, 60))))
        long = max(short, min(long, 3000, int(short * min(self.aspect, 3000))))
        return (short, long) if self.random.random() < 0.5 else (long, short)

    def _prompt(self) -> str:
        most = self.capabilities.prompt_tokens
        if self.random.random() < 0.1:
            # One less: a tokenizer may have a token for the beginning of a word.
            return "a" * min((most or 601) - 1, 600)
        if self.random.random() < 0.1:
            return "".join(chr(self.random.randint(0x20, 0x2FFF)) for _ in range(10))
        return self.random.choice(_TEXTS)

    def _numbers(self) -> dict[str, str]:
        """Parameters in their ranges, and a negative prompt where it has an effect."""
        random, able = self.random, self.capabilities
        chosen: dict[str, float] = {}
        for name, allowed in able.parameters.items():
            if name == "num_inference_steps":
                chosen[name] = random.randint(int(allowed.low), int(min(allowed.high, allowed.low + self.few)))
            elif random.random() < 0.6:
                chosen[name] = random.choice((allowed.low, allowed.high, round(random.uniform(allowed.low, allowed.high), 3)))
        if chosen.get("image_guidance_scale", 1) > 1 and chosen.get("guidance_scale", 2) <= 1:
            del chosen["guidance_scale"]
        texts = {name: f"{value:g}" if name == "num_inference_steps" else str(value) for name, value in chosen.items()}
        needs = able.negative_prompt_needs
        scale = 2.0 if needs is None else chosen.get(needs, able.parameters[needs].default)
        if able.negative_prompt and scale > 1 and random.random() < 0.5:
            texts["negative_prompt"] = random.choice(("", "ugly", self._prompt()))
        return texts

    def _extensions(self, *, draft: bool) -> dict[str, str]:
        """Drafts, native sizes and LoRAs."""
        random, able = self.random, self.capabilities
        fields: dict[str, str] = {}
        if random.random() < 0.25:
            fields["native_size"] = random.choice(("true", "true", "false"))
        if draft and random.random() < 0.25:
            fields["draft"] = random.choice(("true", "true", "false"))
        if able.loras and random.random() < 0.6:
            fields[random.choice(("lora", "model"))] = random.choice(sorted(able.loras))
            if random.random() < 0.5:
                fields["lora_scale"] = random.choice(("0", "-1", "0.5", "1", "4"))
        return fields

    def _output(self, headers: dict[str, str], *, n: int) -> dict[str, str]:
        random = self.random
        fields: dict[str, str] = {}
        if random.random() < 0.3:
            fields["output_format"] = random.choice(("png", "jpeg", "webp"))
            if fields["output_format"] != "png" and random.random() < 0.5:
                fields["output_compression"] = str(random.choice((0, 50, 100)))
        if random.random() < 0.25:
            fields["stream"] = "true"
            if random.random() < 0.6:
                fields["partial_images"] = str(random.randint(0, 3))
        elif n == 1 and random.random() < 0.2:
            headers["accept"] = "application/vnd.editthinker.image"
        return fields

    def _spoil(self, asked: Asked) -> None:
        """Make one thing wrong."""
        random, able = self.random, self.capabilities
        texts = ["prompt", *(["negative_prompt"] if any(name == "negative_prompt" for name, _ in asked.fields) else [])]
        text = random.choice(texts)
        long = "word " * 6401 if able.prompt_tokens is None else "a" * (able.prompt_tokens + 1)
        values: list[tuple[str, bytes]] = [
            ("prompt", b""),
            ("prompt", b" \n"),
            ("prompt", b"\x00"),
            ("prompt", "\ud83d".encode("utf-8", "surrogatepass")),
            ("prompt", b"\xff\xfe"),
            (text, long.encode()),
            (text, (random.choice(sorted(able.special_tokens)) if able.special_tokens else "\x00").encode()),
            ("seed", random.choice((b"-1", b"4294967296", b"x", b"1.5", b"1e400", b"nan"))),
            ("n", random.choice((b"0", b"11", b"-1", b"x"))),
            ("size", random.choice((b"0x5", b"99999x99999", b"10x", b"-1x4", b"40000x1", b"\xd9\xa3x4", b"9e9x1"))),
            ("output_format", b"gif"),
            ("output_compression", b"101"),
            ("partial_images", b"4"),
            ("stream", b"perhaps"),
            ("response_format", b"url"),
            ("model", b"another"),
            ("quality", b"best"),
            ("strength", b"0.5"),
            ("foo", b"1"),
            ("\u200b", b"1"),
            ("native_size", b"perhaps"),
            ("draft", b"perhaps" if able.draft else b"true"),
            ("lora", random.choice((b"../x", b"nothing", b""))),
            ("lora_scale", random.choice((b"nan", b"5", b"-inf", b"x"))),
        ]
        for name in ("num_inference_steps", "guidance_scale", "true_cfg_scale", "image_guidance_scale"):
            allowed = able.parameters.get(name)
            bad = [b"nan", b"inf", b"1e400", b"abc", b"", b"-1"]
            if allowed is None:
                bad = [b"2"]
            else:
                bad += [str(allowed.high + 1).encode(), str(allowed.low - 0.5).encode()]
            values.append((name, random.choice(bad)))
        kind = random.random()
        if kind < 0.6:
            name, value = random.choice(values)
            asked.fields = [each for each in asked.fields if each[0] != name] + [(name, value)]
            asked.wrong = frozenset({shown(name)})
            if name == "stream":
                asked.wrong |= {"partial_images"}
            elif name in able.parameters:
                # A negative prompt is refused first where its guidance is missing.
                asked.wrong |= {"negative_prompt", "image_guidance_scale"}
        elif kind < 0.7:
            asked.files = [each for each in asked.files if each[0] != "mask"]
            asked.files += [asked.files[0]] * (able.max_images + 1 - len(asked.files))
            asked.wrong = frozenset({"image"})
        elif kind < 0.8:
            asked.files[random.randrange(len([1 for name, _ in asked.files if name == "image"]))] = (
                "image",
                pictures.broken(random),
            )
            asked.wrong = frozenset({"image"})
        elif kind < 0.85 and self.aspect < 100:
            short = random.randint(1, 20)
            asked.files = [("image", pictures.source(random, (int(short * self.aspect) + 1, short))[0])]
            asked.wrong = frozenset({"image"})
        elif kind < 0.9:
            asked.files = [each for each in asked.files if each[0] == "image"]
            size = codec.decode(asked.files[0][1]).size
            asked.files.append(("mask", pictures.wrong_mask(random, size)))
            if able.max_images > 1 and random.random() < 0.5:
                asked.files = [asked.files[0], ("image", asked.files[0][1]), ("mask", pictures.mask(random, size))]
            asked.wrong = frozenset({"mask"})
        elif kind < 0.93:
            asked.files = [each for each in asked.files if each[0] != "image"]
            asked.wrong = frozenset({"image"})
        elif kind < 0.96:
            asked.fields.append(random.choice(asked.fields))
            asked.wrong = frozenset({asked.fields[-1][0]})
        elif able.resize:
            asked.fields = [each for each in asked.fields if each[0] not in {"size", "output_format"}]
            asked.fields += [("size", b"20000x1"), ("output_format", b"webp")]
            asked.wrong = frozenset({"output_format"})
