"""Sessions over the REST API, against a real Redis and scripted upstreams."""

from __future__ import annotations

import httpx

from tests.doubles.upstreams import Script, picture


def create(api: httpx.Client, **fields: object) -> httpx.Response:
    """A session from a small picture."""
    wait = fields.pop("wait", None)
    headers = {"Prefer": f"wait={wait}"} if wait else {}
    data = {"prompt": "make it golden", **{key: str(value) for key, value in fields.items()}}
    return api.post("/v1/sessions", files={"image": ("a.png", picture(), "image/png")}, data=data, headers=headers)


def test_a_session_refines_until_it_is_satisfied(api: httpx.Client, script: Script) -> None:
    """Turn after turn from the source, with the thinker's instruction; the best one is the answer."""
    reply = create(api, wait=20, seed=5)
    session = reply.json()

    assert reply.status_code == 200, reply.text
    assert session["status"] == "succeeded"
    assert session["finish_reason"] == "satisfied"
    assert [turn["instruction"] for turn in session["turns"]] == ["make it golden", "make it golden +", "make it golden + +"]
    assert [turn["author"] for turn in session["turns"]] == ["caller", "thinker", "thinker"]
    assert session["best"] == {"turn": 3, "candidate": 1}
    assert session["scores"] == {
        "semantic": 9.0,
        "quality": 9.0,
        "overall": 9.0,
        "semantic_spread": 0.0,
        "quality_spread": 0.0,
    }
    assert [edit["seed"] for edit in script.edits] == ["5", "5", "5"]
    image = api.get(session["urls"]["image"])
    assert image.headers["content-type"] == "image/png"
    third = api.get(session["turns"][2]["candidates"][0]["image"]["url"])
    assert third.content == image.content
