"""Every answer belongs to its request: two tenants, direct and behind real proxies, and real clients that offer HTTP/2."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.crossing import MODES, cross, proxied
from tests.attacks.target import IMAGE, Target, target
from tests.doubles.debian import NoProgramError

pytestmark = pytest.mark.xdist_group("attacks")
_JAVA = """\
import java.net.URI;
import java.net.http.*;
import java.nio.file.*;
public class Edit {
    public static void main(String[] args) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (int i = 0; i < 3; i++) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(args[0]))
                .header("Authorization", "Bearer " + args[1])
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofFile(Path.of(args[2]))).build();
            HttpResponse<String> reply = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(reply.statusCode());
        }
    }
}
"""


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with target(tmp_path_factory.mktemp("crossing")) as running:
        yield running


@pytest.mark.parametrize("mode", MODES)
def test_every_answer_belongs_to_its_request(attacked: Target, tmp_path: Path, mode: str) -> None:
    try:
        with proxied(attacked, tmp_path / "proxy", mode) as port:
            seen = cross(attacked, port, 480)
    except NoProgramError as exc:
        pytest.skip(str(exc))

    assert not seen.crossed, "\n".join(seen.crossed[:5])
    refused = seen.answered.pop("refused by the proxy", 0)
    assert sum(seen.answered.values()) + refused + seen.cut == 480
    # 503 is told where a busy machine's Redis does not answer in time.
    assert set(seen.answered) <= {"200", "202", "400", "404", "503"}, seen.answered
    assert mode == "HAProxy" or not refused


def test_curl_with_an_offer_of_http2_is_served(attacked: Target, tmp_path: Path) -> None:
    """Curl sends ``Upgrade: h2c`` with the first request of a connection."""
    if shutil.which("curl") is None:
        pytest.skip("install curl")
    picture = tmp_path / "a.png"
    picture.write_bytes(IMAGE)
    command = ["curl", "--silent", "--show-error", "--http2", "--max-time", "60", "--noproxy", "*"]
    command += ["-H", f"Authorization: Bearer {attacked.keys['ann']}", "-F", f"image=@{picture}", "-F", "prompt=warmer"]
    done = subprocess.run(
        [*command, "-F", "max_turns=1", f"{attacked.process.url}/v1/images/edits"], capture_output=True, timeout=90, check=False
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["data"][0]["b64_json"]


def test_the_default_client_of_java_is_served(attacked: Target, tmp_path: Path) -> None:
    """It offers ``h2c`` with every request."""
    if shutil.which("java") is None:
        pytest.skip("install a JDK of version 11 or later (Debian's openjdk-17-jdk-headless)")
    source = tmp_path / "Edit.java"
    source.write_text(_JAVA)
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"image": base64.b64encode(IMAGE).decode(), "prompt": "warmer", "max_turns": 1}))
    url = f"{attacked.process.url}/v1/sessions"
    done = subprocess.run(
        ["java", str(source), url, attacked.keys["ann"], str(body)], capture_output=True, text=True, timeout=180, check=False
    )
    if "not find" in done.stderr and "compiler" in done.stderr:
        pytest.skip("this Java has no compiler; install a JDK")

    assert done.stdout.split() == ["202"] * 3, done.stderr
