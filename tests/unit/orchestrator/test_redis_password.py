"""The password of Redis, which is a secret of its own, completes the URL."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from orchestrator.settings import RedisSettings, Settings

UPSTREAM = {"x": {"url": "http://127.0.0.1:1/v1", "model": "x"}}


@pytest.mark.parametrize(
    ("url", "reads"),
    [
        ("redis://redis:6379/0", "redis://:p%40ss@redis:6379/0"),
        ("redis://user@redis:6379/0", "redis://user:p%40ss@redis:6379/0"),
        ("redis://user:own@redis:6379/0", "redis://user:own@redis:6379/0"),
        ("unix:///run/redis.sock", "unix://:p%40ss@/run/redis.sock"),
    ],
)
def test_it_completes_the_url_of_one_server(url: str, reads: str) -> None:
    settings = RedisSettings(redis_url=url, redis_password=SecretStr("p@ss"))

    assert settings.redis().url == reads


@pytest.mark.parametrize("url", ["redis+sentinel://one,two/main", "redis+cluster://one", "redis+cluster://user@one"])
def test_sentinels_and_clusters_get_it_too(url: str) -> None:
    settings = RedisSettings(redis_url=url, redis_password=SecretStr("p@ss"))

    assert dict(settings.redis().options)["password"] == "p@ss"


def test_it_is_read_from_a_file_and_never_logged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "editthinker_redis_password").write_text("from-a-file\n")
    monkeypatch.setenv("EDITTHINKER_SECRETS_DIR", str(tmp_path))
    settings = Settings.model_validate({"editors": UPSTREAM, "thinkers": UPSTREAM})

    assert settings.redis().url == "redis://:from-a-file@127.0.0.1:6379/0"
    assert "from-a-file" in settings.secrets()
    assert "from-a-file" not in repr(settings)
