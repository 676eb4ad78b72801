"""Which Host and Origin a request may have where no key is needed, CORS, and the headers that every response has."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from services.serving import api_docs, middleware
from services.serving.origins import OriginPolicy, host_of, hosts_in, origins_in

APP = "https://app.example.com"


def policy(listens_on: str = "127.0.0.1", **options: object) -> OriginPolicy:
    given: dict[str, object] = {"keyless": True, "setting": "EDITTHINKER_", "cors": "", **options}
    return OriginPolicy.of(listens_on, **given)  # type: ignore[arg-type]


def application(allowed: OriginPolicy) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None)
    middleware.install(app, max_body=1000, policy=allowed)
    api_docs.install(app)
    app.state.edits = 0

    @app.post("/v1/edits")
    def edit() -> dict[str, int]:
        app.state.edits += 1
        return {"edits": app.state.edits}

    @app.get("/studio")
    @app.get("/studio/sessions/{name}")
    def studio() -> str:
        return "a page without data"

    @app.get("/v1/sessions")
    def sessions() -> list[str]:
        return ["a secret"]

    @app.get("/healthz")
    @app.get("/readyz")
    @app.get("/metrics")
    def alive() -> str:
        return "ok"

    @app.get("/bug")
    def bug() -> None:
        raise ZeroDivisionError

    return app


async def ask(allowed: OriginPolicy, method: str = "GET", path: str = "/v1/sessions", **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(application(allowed), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8080") as client:
        return await client.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.8.8.8:1", "[::1]:8080", "[::1]", "localhost.:80"]
)
async def test_a_loopback_server_answers_to_loopback_names(host: str) -> None:
    assert (await ask(policy(), host=host)).status_code == 200


HOSTILE = ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.nip.io", "127.0.0.1@evil.example", "", "a b"]


@pytest.mark.parametrize("host", [*HOSTILE, "localhost:x", "[::1", "[evil]", "192.168.1.7", "laptop", "localhost:99999999"])
async def test_a_loopback_server_without_keys_refuses_all_other_hosts(host: str) -> None:
    refused = await ask(policy(), "POST", "/v1/edits", host=host)

    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (403, "forbidden", "Host")
    assert "EDITTHINKER_ALLOWED_HOSTS" in error["message"]
    assert refused.headers["x-request-id"]


@pytest.mark.parametrize("host", HOSTILE)
async def test_an_open_server_on_a_network_refuses_public_names(host: str) -> None:
    assert (await ask(policy("0.0.0.0"), host=host)).status_code == 403


@pytest.mark.parametrize(
    "host", ["10.1.2.3:8080", "[fd00::1]:8080", "orchestrator:8080", "pool.editthinker.svc", "a.b.svc.cluster.local", "gpu.local"]
)
async def test_an_open_server_on_a_network_answers_to_addresses_and_private_names(host: str) -> None:
    assert (await ask(policy("0.0.0.0"), host=host)).status_code == 200


async def test_configured_names_are_accepted() -> None:
    named = policy(hosts="edit.example.com, ::5", public_url="https://Pictures.example.com/edit")

    assert (await ask(named, host="edit.example.com:444")).status_code == 200
    assert (await ask(named, host="[::5]")).status_code == 200
    assert (await ask(named, host="pictures.example.com")).status_code == 200
    assert (await ask(named, host="pictures.example.com", origin="https://pictures.example.com")).status_code == 200
    assert (await ask(named, host="example.com")).status_code == 403


async def test_two_hosts_are_refused() -> None:
    headers = [("host", "localhost"), ("host", "evil.example")]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(application(policy())), base_url="http://localhost") as client:
        assert (await client.get("/v1/sessions", headers=headers)).status_code == 403


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_probes_are_answered_under_every_name(path: str) -> None:
    assert (await ask(policy(), path=path, host="10.1.2.3", sec_fetch_site="cross-site")).status_code == 200


FOREIGN = ["https://evil.example", "null", "http://localhost:3000", "https://localhost:8080.evil.example", "file://", "http://"]


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/edits"), ("GET", "/v1/sessions"), ("GET", "/docs"), ("OPTIONS", "/v1/edits")]
)
async def test_foreign_origins_are_refused_on_every_route(origin: str, method: str, path: str) -> None:
    allowed = policy()
    refused = await ask(allowed, method, path, origin=origin)

    assert (refused.status_code, refused.json()["error"]["param"]) == (403, "Origin")
    assert "EDITTHINKER_CORS_ORIGINS" in refused.json()["error"]["message"]
    assert "access-control-allow-origin" not in refused.headers
    assert next(iter(allowed.refused.collect())).samples[0].value == 1


async def test_the_servers_own_pages_may_call_it() -> None:
    own = await ask(policy(), "POST", "/v1/edits", origin="http://localhost:8080", sec_fetch_site="same-origin")
    assert own.json() == {"edits": 1}
    # Behind a proxy that ends TLS the scheme differs.
    assert (await ask(policy(hosts="x.example"), host="x.example", origin="https://x.example")).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site", "anything"])
async def test_cross_site_requests_without_an_origin_are_refused(site: str) -> None:
    refused = await ask(policy(), sec_fetch_site=site)

    assert (refused.status_code, refused.json()["error"]["param"]) == (403, "Sec-Fetch-Site")


@pytest.mark.parametrize(
    ("path", "mode", "dest", "status"),
    [
        ("/studio", "navigate", "document", 200),
        ("/studio/sessions/ses_1", "navigate", "document", 200),
        ("/studio", "navigate", "iframe", 403),
        ("/studio", "no-cors", "script", 403),
        ("/studiox", "navigate", "document", 403),
        ("/v1/sessions", "navigate", "document", 403),
    ],
)
async def test_a_link_of_another_site_leads_to_the_studio_alone(path: str, mode: str, dest: str, status: int) -> None:
    """Its page has no data, and may not be framed; the Host is checked as ever."""
    headers = {"sec_fetch_site": "cross-site", "sec_fetch_mode": mode, "sec_fetch_dest": dest}

    assert (await ask(policy(), path=path, **headers)).status_code == status
    assert (await ask(policy(), path=path, host="evil.example", **headers)).status_code == 403


@pytest.mark.parametrize("site", ["none", "same-origin"])
async def test_what_the_user_typed_and_the_own_page_are_answered(site: str) -> None:
    assert (await ask(policy(), sec_fetch_site=site)).status_code == 200


async def test_with_keys_neither_host_nor_origin_matters() -> None:
    seen = await ask(policy(keyless=False), host="evil.example", origin="https://evil.example", sec_fetch_site="cross-site")

    assert seen.status_code == 200
    assert "access-control-allow-origin" not in seen.headers
    assert "vary" not in seen.headers


@pytest.mark.parametrize("cors", ["", "https://other.example"])
async def test_a_preflight_of_another_page_is_told_what_allows_it(cors: str) -> None:
    """Where keys are required, nothing else is refused for its origin."""
    keyed = policy(keyless=False, cors=cors)
    seen = await ask(keyed, "OPTIONS", "/v1/edits", origin=APP, access_control_request_method="POST")

    assert (seen.status_code, seen.json()["error"]["param"]) == (403, "Origin")
    assert APP in seen.json()["error"]["message"] and "EDITTHINKER_CORS_ORIGINS" in seen.json()["error"]["message"]
    assert (await ask(keyed, "OPTIONS", "/v1/edits", origin=APP)).status_code == 405


async def test_a_preflight_of_an_allowed_page_is_answered() -> None:
    asked = {"access_control_request_method": "POST", "access_control_request_headers": "authorization,x-stainless-lang,x-odd"}
    seen = await ask(policy(keyless=False, cors=f"{APP}, http://localhost:3000"), "OPTIONS", "/v1/edits", origin=APP, **asked)

    assert (seen.status_code, seen.content) == (204, b"")
    assert seen.headers["access-control-allow-origin"] == APP
    assert set(seen.headers["access-control-allow-methods"].split(", ")) == {"GET", "HEAD", "POST", "DELETE"}
    headers = set(seen.headers["access-control-allow-headers"].split(", "))
    assert {"authorization", "content-type", "idempotency-key", "last-event-id", "prefer", "x-stainless-lang"} <= headers
    assert "x-odd" not in headers
    assert (seen.headers["access-control-max-age"], seen.headers["vary"]) == ("600", "Origin")
    assert "access-control-allow-credentials" not in seen.headers


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        ("GET", "/v2/things", "nothing at this path; /docs lists"),
        ("GET", "/v1/sessions/", "ends with a slash; send the request to /v1/sessions"),
        ("PUT", "/v1/sessions", "does not take PUT; send GET"),
    ],
)
async def test_a_wrong_path_or_method_is_told_with_what_to_send(method: str, path: str, told: str) -> None:
    error = (await ask(policy(), method, path)).json()["error"]

    assert told in error["message"]


@pytest.mark.parametrize("path", ["/v1/sessions", "/missing", "/bug"])
async def test_an_allowed_page_reads_responses_and_errors(path: str) -> None:
    seen = await ask(policy(keyless=False, cors=APP), path=path, origin=APP)

    assert seen.headers["access-control-allow-origin"] == APP
    assert {"x-request-id", "retry-after", "location", "preference-applied"} <= set(
        seen.headers["access-control-expose-headers"].split(", ")
    )


async def test_an_allowed_page_reads_that_its_body_is_too_large() -> None:
    seen = await ask(policy(keyless=False, cors=APP), "POST", "/v1/edits", origin=APP, content_length="1001")

    assert (seen.status_code, seen.headers["access-control-allow-origin"]) == (413, APP)


@pytest.mark.parametrize("headers", [{}, {"origin": "https://evil.example"}, {"origin": f"{APP}.evil.example"}])
async def test_other_pages_get_no_cors_headers_but_caches_are_told(headers: dict[str, str]) -> None:
    seen = await ask(policy(keyless=False, cors=APP), **headers)

    assert "access-control-allow-origin" not in seen.headers
    assert seen.headers["vary"] == "Origin"


async def test_an_allowed_page_may_call_a_server_without_keys() -> None:
    seen = await ask(policy(cors=APP), "POST", "/v1/edits", origin=APP, sec_fetch_site="cross-site")

    assert (seen.status_code, seen.headers["access-control-allow-origin"]) == (200, APP)


@pytest.mark.parametrize("path", ["/v1/sessions", "/missing", "/healthz", "/bug"])
async def test_every_response_has_the_security_headers(path: str) -> None:
    headers = (await ask(policy(), path=path)).headers

    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
    assert headers["cross-origin-resource-policy"] == "same-origin"


async def test_the_documentation_loads_nothing_from_elsewhere() -> None:
    page = await ask(policy(), path="/docs")

    csp = page.headers["content-security-policy"]
    assert csp.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in csp
    sources = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert sources
    assert all(source.startswith(("/docs/", "data:,")) for source in sources)
    for source in sources[1:]:
        assert (await ask(policy(), path=source)).status_code == 200
    assert (await ask(policy(), path="/docs/README.md")).status_code == 404
    assert (await ask(policy(), path="/docs/..%2Forigins.py")).status_code == 404


def test_the_vendored_files_are_those_of_the_package() -> None:
    folder = Path(api_docs.__file__).parent / "swagger_ui"
    listed = dict(re.findall(r"\| `([^`]+)` \| `([0-9a-f]{64})` \|", (folder / "README.md").read_text()))

    assert len(listed) == 2
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in listed} == listed


@pytest.mark.parametrize(
    "text", ["*", "https://*.example.com", "app.example.com", "https://a.example/path", "null", "https://u@a"]
)
def test_what_is_no_origin_is_refused_at_start(text: str) -> None:
    with pytest.raises(ValueError, match="is not an origin"):
        origins_in(text)


@pytest.mark.parametrize("text", ["*", "https://a.example", "a.example:80", "a/b", "*.example.com"])
def test_what_is_no_host_is_refused_at_start(text: str) -> None:
    with pytest.raises(ValueError, match="is not a host name"):
        hosts_in(text)


def test_hosts_are_read_without_their_port() -> None:
    assert [host_of(text) for text in ("A.b:1", "[::1]:2", "[::1]", "a.", "a:b", ":80", "a_b")] == [
        *("a.b", "::1", "::1", "a"),
        *(None, None, "a_b"),
    ]
