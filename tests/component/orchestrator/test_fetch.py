"""Fetching a caller's URL: public https and nothing else, however the private address is dressed."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable
from typing import Any

import httpcore
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.egress import fetch
from orchestrator.egress.addresses import is_public, is_public_or_local
from orchestrator.egress.fetch import fetch_image
from orchestrator.egress.resolver import NameResolver
from services.errors import ApiError
from tests.doubles.waiting import turns

PRIVATE = {
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "nowhere": ["0.0.0.0", "0.1.2.3", "::"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fdff::1"],
    "metadata of a cloud": ["fd00:ec2::254"],
    "link-local": ["169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "febf::1"],
    "site-local": ["fec0::1", "feff::1"],
    "shared by a carrier": ["100.64.0.1", "100.127.255.255"],
    "for documents and tests": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "198.18.0.1", "198.19.255.255"],
    "reserved": ["192.0.0.1", "240.0.0.1", "255.255.255.255", "4000::1", "1::1"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"],
    "discard": ["100::1"],
    "mapped": ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:0"],
    "compatible": ["::127.0.0.1", "::7f00:1", "::10.0.0.1"],
    "6to4": ["2002:808:808::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:0a00:0001::"],
    "Teredo": ["2001:0:4136:e378:8000:63bf:80ff:fffe", "2001::1", "2001:0:1:2:3:4:f5ff:fffe"],
    "NAT64": ["64:ff9b::7f00:1", "64:ff9b::169.254.169.254", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "64:ff9b:1:fffe::8.8.8.8"],
}
PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "2a00:1450:4001::8a"]
PUBLIC += ["::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]
ADDRESSES = [(kind, address) for kind, addresses in PRIVATE.items() for address in addresses]


@pytest.mark.parametrize(("kind", "address"), ADDRESSES)
def test_an_address_that_is_not_everybodys(kind: str, address: str) -> None:
    """Every block that leads into a network of ours, directly or through a translator."""
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet(address: str) -> None:
    """What everybody reaches is allowed, translated forms of it included."""
    assert is_public(address)


@pytest.mark.parametrize(("kind", "address"), ADDRESSES)
def test_only_networks_of_ones_own_may_be_allowed_besides(kind: str, address: str) -> None:
    """This machine and private networks, in their plain form: no link-local address, where clouds keep credentials."""
    assert is_public_or_local(address) == (kind in {"loopback", "private"})


@given(number=st.integers(0, 2**32 - 1))
def test_no_form_of_a_private_address_is_public(number: int) -> None:
    """An IPv6 form is as public as the IPv4 address it leads to, and an abandoned form is never public."""
    inner = ipaddress.IPv4Address(number)
    forms = [0xFFFF << 32 | number, 0x64FF9B << 96 | number]

    assert {is_public(str(ipaddress.IPv6Address(form))) for form in forms} == {is_public(str(inner))}
    assert not is_public(str(ipaddress.IPv6Address(number)))
    assert not is_public(str(ipaddress.IPv6Address(0x2002 << 112 | number << 80)))


async def fetched(url: str, max_bytes: int, reserved: list[int] | None = None) -> bytes:
    async def reserve(size: int) -> None:
        if reserved is not None:
            reserved.append(size)

    return await fetch_image(url, max_bytes=max_bytes, param="mask", tenant="ann", resolver=NameResolver(), reserve=reserve)


def refusal(url: str, max_bytes: int = 100) -> ApiError:
    with pytest.raises(ApiError) as caught:
        asyncio.run(fetched(url, max_bytes))
    assert caught.value.param == "mask" and caught.value.message.startswith("mask: ")
    return caught.value


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Any name is looked up in vain; which ones were asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/x.png",
        "ftp://example.com/x.png",
        "file:///etc/passwd",
        "gopher://example.com/",
        "://example.com",
        "https://",
        "https:///etc/passwd",
        "https:example.com",
        "//example.com/x.png",
        "https://user@example.com/x.png",
        "https://user:secret@example.com/x.png",
        "https://:@example.com/x.png",
        "https://example.com@127.0.0.1/x.png",
        "https://example.com:99999/x.png",
        "https://example.com:-1/x.png",
        "https://example.com:0/x.png",
        "https://example.com:port/x.png",
        "https://[::1/x.png",
        "https://exa\nmple.com/",
        "https://\x00/",
        "https://xn--/",
        "https://256.1.1.1/",
        "https://example.com/" + "x" * 70_000,
        "https://a..b/",
        "https://" + "a" * 64 + ".com/",
        "https://" + "a." * 200 + "com/",
    ],
)
def test_a_url_of_another_kind_is_not_fetched(no_network: list[str], url: str) -> None:
    """Nothing is looked up for what is not a plain https URL."""
    assert refusal(url).code == "invalid_url"
    assert no_network == []


@pytest.mark.parametrize(("kind", "address"), [pair for pair in ADDRESSES if "%" not in pair[1]])
def test_a_private_address_in_a_url_is_forbidden(no_network: list[str], kind: str, address: str) -> None:
    """Before anything is looked up."""
    host = f"[{address}]" if ":" in address else address

    assert refusal(f"https://{host}/x.png").code == "url_forbidden"
    assert no_network == []


@pytest.mark.parametrize(
    "host",
    [
        *("2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "127.1", "127.0.1", "0", "2852039166"),
        *("localhost", "LOCALHOST", "[::ffff:127.0.0.1]", "[0:0:0:0:0:0:0:1]"),
        *("\uff11\uff12\uff17.\uff10.\uff10.\uff11", "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460"),
    ],
)
def test_other_spellings_of_a_private_address(host: str) -> None:
    """Decimal, octal, hexadecimal, shortened or in other digits: what it resolves to counts."""
    assert refusal(f"https://{host}/x.png").code in {"url_forbidden", "invalid_url"}


def _resolving(monkeypatch: pytest.MonkeyPatch, addresses: Callable[[], list[str]]) -> None:
    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses()]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["169.254.169.254"], ["::1"], ["64:ff9b::7f00:1"], ["fe80::1%lo"], []]
)
def test_a_name_that_leads_inside_is_forbidden(monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> None:
    """One private address among public ones is enough."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _resolving(monkeypatch, lambda: addresses)
        assert refusal(f"https://public.example:{listener.getsockname()[1]}/x.png").code == "url_forbidden"
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_the_address_that_was_checked_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that changes its mind after the check changes nothing."""
    answers = iter([["8.8.8.8"], ["127.0.0.1"], ["127.0.0.1"]])
    connected: list[str] = []

    class Backend(httpcore.AsyncMockBackend):
        async def connect_tcp(self, host: str, *args: Any, **options: Any) -> Any:
            connected.append(host)
            raise httpcore.ConnectError("no network in this test")

    _resolving(monkeypatch, lambda: next(answers))
    monkeypatch.setattr(httpcore, "AnyIOBackend", lambda: Backend([]))

    assert refusal("https://rebinding.example/x.png").code == "url_unreachable"
    assert connected == ["8.8.8.8"]


class _Wire(httpcore.AsyncMockBackend):
    """A public server that says these bytes; what it was sent."""

    def __init__(self, *reply: bytes) -> None:
        super().__init__(list(reply))
        self.connected: list[str] = []

    async def connect_tcp(self, host: str, *args: Any, **options: Any) -> Any:
        self.connected.append(host)
        stream = await super().connect_tcp(host, *args, **options)
        stream.write = self.keep  # type: ignore[method-assign,assignment]
        self.sent = b""
        return stream

    async def keep(self, data: bytes, timeout: float | None = None) -> None:
        self.sent += data


def _answering(monkeypatch: pytest.MonkeyPatch, *reply: bytes) -> _Wire:
    wire = _Wire(*reply)
    monkeypatch.setattr(fetch, "CheckedNetworkBackend", lambda *_: wire)
    return wire


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("https://example.com", "example.com", b"/"),
        ("https://example.com/a b.png?x=1&y=%20#part", "example.com", b"/a%20b.png?x=1&y=%20"),
        ("HTTPS://EXAMPLE.com:8443/x.png", "example.com", b"/x.png"),
        ("https://bücher.example/schön.png", "xn--bcher-kva.example", b"/sch%C3%B6n.png"),
        ("https://example.com/\\@127.0.0.1/", "example.com", b"/\\@127.0.0.1/"),
    ],
)
def test_what_is_asked_of_the_server(monkeypatch: pytest.MonkeyPatch, url: str, host: str, target: bytes) -> None:
    """Names and paths in any script, by GET, with no credentials."""
    wire = _answering(monkeypatch, OK)

    assert asyncio.run(fetched(url, 5)) == b"hello"
    assert wire.connected == [host]
    assert wire.sent.startswith(b"GET " + target + b" HTTP/1.1\r\n")
    assert b"\r\nHost: " + host.encode() in wire.sent
    assert b"authorization" not in wire.sent.lower() and b"cookie" not in wire.sent.lower()


@pytest.mark.parametrize(
    ("head", "size"),
    [
        (b"content-length: 5", 5),
        (b"content-length: 99999", 1000),
        (b"transfer-encoding: chunked", 1000),
    ],
)
def test_bytes_are_reserved_before_they_are_read(monkeypatch: pytest.MonkeyPatch, head: bytes, size: int) -> None:
    """As many as the server tells, and never more than the limit; a server that tells nothing may send that much."""
    _answering(monkeypatch, b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\nhello")
    reserved: list[int] = []
    with contextlib.suppress(ApiError):
        asyncio.run(fetched("https://example.com/x.png", 1000, reserved))

    assert reserved == [size]


def test_a_server_that_does_not_tell_the_length_reserves_what_it_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen small pictures would otherwise hold sixteen times the limit of one."""
    monkeypatch.setattr(fetch, "_STEP", 4)
    _answering(monkeypatch, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n")
    reserved: list[int] = []

    assert asyncio.run(fetched("https://example.com/x.png", 1000, reserved)) == b"helloworld"
    assert reserved == [4, 4, 4]


@pytest.mark.parametrize("length", [b"content-length: 5", b"connection: close"])
def test_waiting_for_other_requests_is_not_the_urls_time(monkeypatch: pytest.MonkeyPatch, length: bytes) -> None:
    """What it waits for has an error of its own, which can be retried."""
    _answering(monkeypatch, b"HTTP/1.1 200 OK\r\n" + length + b"\r\n\r\nhello")

    async def reserve(_: int) -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", lambda now=loop.time: now() + 10 * fetch._TIMEOUT_S)
        await turns()

    fetching = fetch_image(
        "https://example.com/x.png", max_bytes=9, param="image", tenant="ann", resolver=NameResolver(), reserve=reserve
    )
    assert asyncio.run(fetching) == b"hello"


@pytest.mark.parametrize("status", [301, 302, 307, 308, 204, 206, 304, 401, 403, 404, 500])
def test_only_200_is_an_answer(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Redirects above all: where they lead was not checked."""
    reply = f"HTTP/1.1 {status} X\r\nlocation: https://127.0.0.1/\r\ncontent-length: 0\r\n\r\n"
    wire = _answering(monkeypatch, reply.encode())
    error = refusal("https://example.com/x.png")

    assert error.code == "url_unreachable"
    assert str(status) in error.message and "redirects are not followed" in error.message
    assert wire.connected == ["example.com"]


@pytest.mark.parametrize("encoding", [b"gzip", b"gzip, gzip", b"br", b"x\x1b]52"])
def test_an_encoded_answer_is_refused(monkeypatch: pytest.MonkeyPatch, encoding: bytes) -> None:
    """It is never decoded: a few kilobytes can stand for gigabytes."""
    wire = _answering(monkeypatch, OK.replace(b"content-length", b"content-encoding: " + encoding + b"\r\ncontent-length"))
    error = refusal("https://example.com/x.png")

    assert error.code == "url_unreachable" and error.message.isprintable()
    assert b"accept-encoding: identity" in wire.sent.lower()


@pytest.mark.parametrize("head", [b"content-length: 200\r\n\r\n", b"connection: close\r\n\r\n"])
def test_a_file_that_is_too_large_is_cut(monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    """Whether it says so or not."""
    _answering(monkeypatch, b"HTTP/1.1 200 OK\r\n" + head, *[b"x" * 50] * 4)

    assert refusal("https://example.com/x.png", max_bytes=100).code == "image_too_large"


@pytest.mark.parametrize(("count", "size", "code"), [(6000, 1, "url_unreachable"), (4000, 1, ""), (6000, 512, "")])
def test_a_file_in_tiny_chunks_is_refused(monkeypatch: pytest.MonkeyPatch, count: int, size: int, code: str) -> None:
    """A megabyte a second of them takes all of this process's time."""
    piece = b"%x\r\n%s\r\n" % (size, b"x" * size)
    _answering(monkeypatch, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", *[piece] * count, b"0\r\n\r\n")
    if code:
        error = refusal("https://example.com/x.png", max_bytes=10_000_000)
        assert error.code == code and "small chunks" in error.message
    else:
        assert len(asyncio.run(fetched("https://example.com/x.png", 10_000_000))) == count * size


@pytest.mark.parametrize(
    "reply", [b"", b"SSH-2.0\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx", b"HTTP/1.1 200 OK\r\n\x00: \r\n\r\n"]
)
def test_a_server_that_breaks_is_unreachable(monkeypatch: pytest.MonkeyPatch, reply: bytes) -> None:
    """Cut, or no HTTP: the caller is told, and no exception of the library leaks."""
    _answering(monkeypatch, reply)

    assert refusal("https://example.com/x.png").code == "url_unreachable"


def test_a_server_that_stalls_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole fetch has one time limit."""

    class Stalling(_Wire):
        async def connect_tcp(self, host: str, *args: Any, **options: Any) -> Any:
            await asyncio.Event().wait()

    monkeypatch.setattr(fetch, "CheckedNetworkBackend", lambda *_: Stalling())
    monkeypatch.setattr(fetch, "_TIMEOUT_S", 0.1)

    assert refusal("https://example.com/x.png").code == "url_unreachable"


def test_a_name_nobody_knows_is_unreachable(no_network: list[str]) -> None:
    """It is looked up once."""
    assert refusal("https://nowhere.invalid/x.png").code == "url_unreachable"
    assert no_network == ["nowhere.invalid"]


hosts = st.text(max_size=12) | st.sampled_from(["example.com", "127.0.0.1", "[::1]", "a" * 64, "..", "xn--a"])


@pytest.fixture(scope="module")
def unreachable() -> Any:
    with pytest.MonkeyPatch.context() as patch:

        def getaddrinfo(host: str, *_: Any, **__: Any) -> list[Any]:
            host.encode("idna")
            raise socket.gaierror(-2, "Name or service not known")

        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        # Making a context reads all certificates; no connection is made here.
        patch.setattr(httpx, "create_ssl_context", lambda: None)
        yield


@given(scheme=st.sampled_from(["https://", "https:", "http://", ""]), host=hosts, rest=st.text(max_size=12))
def test_any_url_raises_only_our_error(unreachable: Any, scheme: str, host: str, rest: str) -> None:
    """Every text gives an `ApiError` that blames the caller."""
    assert refusal(scheme + host + rest).status == 400
