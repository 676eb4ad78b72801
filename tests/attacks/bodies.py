"""Attacks in the body of a request: pictures, forms, JSON, lengths."""

from __future__ import annotations

import base64
import gzip
import threading
import zlib
from collections.abc import Iterator

from tests.attacks import pictures
from tests.attacks.attack import Answer, Attack, exchange, head
from tests.attacks.target import IMAGE, MIB, Target

FIELDS = {"prompt": "x", "max_turns": "1"}
TEXT = base64.b64encode(IMAGE).decode()
SESSIONS = "/v1/sessions"


def bombs(target: Target) -> Iterator[Answer]:
    with target.client() as client:
        for name, data in pictures.REFUSED.items():
            yield Answer.of(client.post(SESSIONS, files={"image": ("a.png", data, "image/png")}, data=FIELDS), name)
            yield Answer.of(client.post("/v1/images/edits", files={"image": data}, data=FIELDS), name)
            yield Answer.of(client.post(SESSIONS, json={"image": base64.b64encode(data).decode(), "prompt": "x"}), name)


def polyglots(target: Target) -> Iterator[Answer]:
    with target.client() as client:
        for name, data in pictures.CLEANED.items():
            reply = client.post(SESSIONS, files={"image": data}, data=FIELDS)
            yield Answer.of(reply, name)
            if reply.status_code != 202:
                continue
            served = client.get(f"{SESSIONS}/{reply.json()['id']}/source")
            assert served.headers["x-content-type-options"] == "nosniff", name
            assert served.headers["content-type"] in {"image/png", "image/jpeg", "image/webp"}, name
            assert not any(word in served.content for word in (b"script", b"somebody", b"prVt", b"Exif")), name


def largest(count: int, bits: int, kind: int) -> Attack:
    data = pictures.png(7071, 7071, bits=bits, kind=kind)

    def send(target: Target) -> list[Answer]:
        answers: list[Answer] = []

        def one() -> None:
            with target.client() as client:
                answers.append(Answer.of(client.post(SESSIONS, files={"image": data}, data=FIELDS, timeout=120 * target.busy)))

        threads = [threading.Thread(target=one) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    name = f"{count} pictures of 50 megapixels together, {len(data) // 1000} kB each"
    return Attack(name, f"PNG of zeros, {bits} bit, the largest allowed", send, frozenset({202}), 1300, 5 * count)


def part(*headers: str, body: bytes = b"x") -> bytes:
    return b"--b\r\n" + "\r\n".join(headers).encode("latin-1") + b"\r\n\r\n" + body + b"\r\n"


def named(name: str, more: str = "") -> str:
    return f'Content-Disposition: form-data; name="{name}"{more}'


GOOD = part(named("image", '; filename="a"'), body=IMAGE) + part(named("max_turns"), body=b"1")
LAST = b"--b--\r\n"

FORMS: dict[str, tuple[str, bytes]] = {
    "100,000 fields": ("b", part(named("a")) * 100_000 + LAST),
    "100,000 files": ("b", part(named("a", '; filename="a"')) * 100_000 + LAST),
    "a part's header of 8 MB": ("b", part("x-a: " + "a" * 8_000_000) + LAST),
    "a part's name of 8 MB": ("b", part(named("a" * 8_000_000)) + LAST),
    "20,000 headers of a part": ("b", part(*["x-a: b"] * 20_000) + LAST),
    "a disposition of quotes": ("b", part("Content-Disposition: form-data; name=" + '"\\' * 2000) + LAST),
    "a disposition of semicolons": ("b", part("Content-Disposition: form-data" + ";" * 4000) + LAST),
    "a file name of a path": ("b", part(named("image", '; filename="../../../etc/passwd"'), body=b"x") + LAST),
    "a form in a part": ("b", part(named("image"), "Content-Type: multipart/mixed; boundary=b", body=GOOD + LAST) + LAST),
    "8 MB of line ends before it": ("b", b"\r\n" * 4_000_000 + GOOD + LAST),
    "8 MB after it": ("b", part(named("a")) + LAST + b"\r\n" * 4_000_000),
    "almost boundaries": ("b" * 60, (b"\r\n--" + b"b" * 59 + b"a") * 100_000),
    "a boundary of 8,000": ("b" * 8000, b"--" + b"b" * 8000 + b"\r\n\r\n"),
    "no boundary": ("", LAST),
    "a field of 2 MB": ("b", part(named("prompt"), body=b"x" * 2 * MIB) + LAST),
    "a charset that decodes slowly": ("b; charset=punycode", part(named("prompt"), body=b"a-" + b"9" * 1_000_000) + LAST),
    "a charset of domain names": ("b; charset=idna", part(named("prompt"), body=b"xn--" + b"a" * 1_000_000) + LAST),
    "a charset that unpacks": ("b; charset=zlib", part(named("prompt"), body=zlib.compress(bytes(10_000_000))) + LAST),
    "a charset of escapes": ("b; charset=unicode_escape", part(named("prompt"), body=b"\\N{" * 100_000) + LAST),
    "an unknown charset": ("b; charset=" + "x" * 5000, GOOD + LAST),
    "a charset with a NUL": ("b; charset=\x01\x00", LAST),
    "the same field 90 times": ("b", part(named("prompt")) * 90 + LAST),
    "a name of NUL and line ends": ("b", part(named("a%00%0d%0a\x00")) + LAST),
    "prompts of NUL": ("b", part(named("image", '; filename="a"'), body=IMAGE) + part(named("prompt"), body=b"\0" * 9) + LAST),
}


def forms(target: Target) -> Iterator[Answer]:
    with target.client() as client:
        for name, (boundary, body) in FORMS.items():
            kind = f"multipart/form-data; boundary={boundary}".encode("latin-1")
            if b"\x00" in kind:
                continue
            for path in (SESSIONS, "/v1/images/edits"):
                yield Answer.of(client.post(path, content=body, headers={b"content-type": kind}), name)


def _session(**fields: object) -> str:
    pairs = {"image": f'"{TEXT}"', "prompt": '"x"', **fields}
    return "{" + ", ".join(f'"{name}": {value}' for name, value in pairs.items()) + "}"


JSON: dict[str, bytes] = {
    "100,000 brackets": b"[" * 100_000,
    "100,000 objects": b'{"a":' * 100_000,
    "20 million brackets": b"[" * 20_000_000,
    "nested in a field": _session(prompt="[" * 5000 + "]" * 5000).encode(),
    "7 million empty objects": b"[" + b"{}," * 7_000_000 + b"{}]",
    "5 million keys": b"{" + b'"":1,' * 4_000_000 + b'"a":1}',
    "an integer of 100,000 digits": _session(seed="9" * 100_000).encode(),
    "a number of a thousand powers": _session(deadline_s="1e1000").encode(),
    "NaN": _session(semantic_threshold="NaN").encode(),
    "keys twice": b'{"image": "%s", "prompt": "a", "prompt": 7}' % TEXT.encode(),
    "a prompt of 10 MB": _session(prompt='"' + "x" * 10_000_000 + '"').encode(),
    "a prompt of 10 MB of escapes": _session(prompt='"' + "\\u0041" * 1_600_000 + '"').encode(),
    "half a surrogate pair": _session(prompt='"\\ud83d"').encode(),
    "NUL": _session(prompt='"\\u0000"').encode(),
    "10 MB of white space in base64": _session(image='"' + " " * 10_000_000 + '?"').encode(),
    "10 MB of line ends in base64": _session(image='"' + "\\n" * 5_000_000 + '?"').encode(),
    "10 MB of equals signs": _session(image='"' + "=" * 10_000_000 + '"').encode(),
    "base64 with one emoji": _session(image='"' + "A" * 9_000_000 + "😀" + '"').encode(),
    "a data URL of commas": _session(image='"data:' + "," * 150_000 + '"').encode(),
    "a data URL of HTML": _session(image='"data:text/html;base64,PGh0bWw+"').encode(),
    "UTF-16": _session().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + _session().encode(),
    "compressed bytes": gzip.compress(b" " * 50_000_000),
    "prototype": _session(__proto__='{"admin": true}').encode(),
    "a string": b'"x"',
    "nothing": b"",
}
ODD_PROMPTS = [
    "\u202egnp.exe",
    "\u200b" * 1000,
    "\x1b[2J\x1b]0;owned\x07",
    "a\r\nb\x85c\u2028d",
    "Z\u0300" * 9000,
    "\ufeff\uffff",
]


def documents(target: Target) -> Iterator[Answer]:
    with target.client(**{"content-type": "application/json"}) as client:
        for name, body in JSON.items():
            for path in (SESSIONS, "/v1/webhooks", f"{SESSIONS}/ses_{'0' * 32}/feedback"):
                yield Answer.of(client.post(path, content=body), f"{name} at {path}")
        packed = gzip.compress(_session().encode())
        yield Answer.of(client.post(SESSIONS, content=packed, headers={"content-encoding": "gzip"}), "gzip")


def odd_prompts(target: Target) -> Iterator[Answer]:
    with target.client() as client:
        for prompt in ODD_PROMPTS:
            reply = client.post(SESSIONS, json={"image": TEXT, "prompt": prompt, "user": prompt[:500], "max_turns": 1})
            yield Answer.of(reply, repr(prompt[:20]))
            if reply.status_code == 202:
                assert client.get(f"{SESSIONS}/{reply.json()['id']}").json()["instruction"] == prompt


def lengths(target: Target) -> Iterator[Answer]:
    kind = "content-type: application/json"
    for length in ("-1", "+4", "4, 4", "4, 5", "0x4", "1e3", "9" * 30, "4;", "\uff14"):
        what = f"content-length: {length}"
        yield exchange(target, head(target, f"POST {SESSIONS}", kind, what.encode().decode("latin-1")) + b"{}  ", what)
    two_ends = {
        "two lengths": ("content-length: 4", "content-length: 5"),
        "a length and a coding": ("content-length: 4", "transfer-encoding: chunked"),
        "an unknown coding": ("transfer-encoding: xchunked",),
        "a coding twice": ("transfer-encoding: chunked", "transfer-encoding: identity"),
        "a space before the colon": ("content-length : 4",),
        "a folded coding": ("transfer-encoding:\r\n chunked",),
    }
    hidden = head(target, f"DELETE {SESSIONS}/hidden")
    for what, headers in two_ends.items():
        answer = exchange(target, head(target, f"POST {SESSIONS}", kind, *headers) + b"0\r\n\r\n" + hidden, what)
        yield answer
    for what, body in {
        "a chunk of a negative length": b"-1\r\nx\r\n",
        "a chunk of 2^64": b"10000000000000000\r\nx\r\n",
        "a chunk without an end": b"4\r\nabcdefgh\r\n0\r\n\r\n",
    }.items():
        yield exchange(target, head(target, f"POST {SESSIONS}", kind, "transfer-encoding: chunked") + body, what)
    chunked = head(target, f"POST {SESSIONS}", "content-type: multipart/form-data; boundary=b", "transfer-encoding: chunked")
    piece = b"%x\r\n%s\r\n" % (MIB, bytes(MIB))
    opened = part(named("image", '; filename="a"'), body=b"")[:-2]
    first = b"%x\r\n%s\r\n" % (len(opened), opened)
    yield exchange(target, [chunked, first, *[piece] * 80], "endless chunks", seconds=20)
    stranger = head(target, f"POST {SESSIONS}", "transfer-encoding: chunked", tenant=None)
    yield exchange(target, [stranger, *[piece] * 80], "endless chunks without a key", seconds=20)


REFUSALS = frozenset({400, 404, 413, 415, 422})
ATTACKS = [
    Attack(
        "bombs",
        f"{len(pictures.REFUSED)} files: giant sizes, compressed texts, frames, other formats; 3 ways each",
        bombs,
        frozenset({400}),
        100,
        20,
    ),
    Attack(
        "polyglots and metadata",
        f"{len(pictures.CLEANED)} pictures with pages, comments, chunks, EXIF",
        polyglots,
        frozenset({202, 400}),
        400,
        15,
    ),
    largest(3, 1, 0),
    Attack("forms", f"{len(FORMS)} forms: 100,000 parts, endless part headers, nested, odd charsets", forms, REFUSALS, 100, 20),
    Attack(
        "JSON", f"{len(JSON)} bodies at 3 routes: depth, digits, millions of values, white space", documents, REFUSALS, 150, 20
    ),
    Attack("odd prompts", "bidi, zero-width, control, combining letters", odd_prompts, frozenset({202, 400}), 32, 10),
    Attack("lengths", "false lengths, two ends, endless chunks", lengths, frozenset({0, 400, 401, 404, 408, 413, 422}), 100, 20),
]
HEAVY = [largest(8, 16, 6)]
