"""Every diffusion family as a real worker: a tiny model from a folder, through HTTP, against plain diffusers."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from services.editor.pipelines import EditJob
from tests.doubles.diffusion import Plain, drawn_alike, pixels, png, source, worker
from tests.tiny import BUILDERS


@pytest.mark.parametrize("family", sorted(BUILDERS))
def test_a_family_is_served_as_plain_diffusers_would_draw_it(family: str, tmp_path: Path) -> None:
    """`model_index.json` says which family it is; sizes, defaults and refusals are the family's."""
    image = source(1)
    job = EditJob(image, "make it snow", seed=5, parameters={"num_inference_steps": 3})
    with worker(family, tmp_path) as process, httpx.Client(base_url=process.url, timeout=120, trust_env=False) as http:
        model = http.get("/v1/models").json()["data"][0]
        fields = {"prompt": job.prompt, "seed": job.seed, "num_inference_steps": 3, "n": 2}
        reply = http.post("/v1/images/edits", data=fields, files={"image": png(image)})
        sized = http.post("/v1/images/edits", data={**fields, "n": 1, "size": "40x24"}, files={"image": png(image)})
        refused = http.post("/v1/images/edits", data={**fields, "strength": 0.5}, files={"image": png(image)})
    assert model["id"] == family
    assert reply.status_code == 200, reply.text
    body = reply.json()
    assert body["seeds"] == [5, 6] and body["timings"]["steps"] == 6
    assert body["size"] == "64x64"
    takes_sizes = model["capabilities"]["size"]
    assert sized.json()["size"] == "40x24" if takes_sizes else sized.json()["error"]["param"] == "size"
    assert refused.json()["error"]["code"] == "unsupported_parameter"
    plain = Plain(family, tmp_path)
    for place, data in enumerate(body["data"]):
        wanted = plain.picture(job.with_seed(5 + place))
        assert drawn_alike(pixels(data["b64_json"]), wanted)
    assert (pixels(body["data"][0]["b64_json"]) != pixels(body["data"][1]["b64_json"])).any()
