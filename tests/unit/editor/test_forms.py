"""Forms that the worker does not read as something else than they are."""

from __future__ import annotations

import pytest

from tests.unit.editor.workers import client, png, running


@pytest.mark.parametrize("path", ["/v1/images/edits", "/edit-upload"])
async def test_a_form_that_is_not_whole_or_not_utf_8_is_refused(path: str) -> None:
    name = "image" if path == "/v1/images/edits" else "image_file"
    file = f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="a"\r\n\r\n'.encode() + png() + b"\r\n"
    text = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nbrighter'
    headers = {"content-type": "multipart/form-data; boundary=b"}
    async with running() as app, client(app) as http:
        cut = await http.post(path, content=file + text, headers=headers)
        odd = await http.post(path, content=file + text + b"\xe9\r\n--b--\r\n", headers=headers)
        good = await http.post(path, content=file + text + b"\r\n--b--\r\n", headers=headers)
    assert (cut.status_code, cut.json()["error"]["code"]) == (400, "invalid_multipart")
    assert (odd.status_code, odd.json()["error"]["param"]) == (400, "prompt") and "UTF-8" in odd.json()["error"]["message"]
    assert good.status_code == 200, good.text
