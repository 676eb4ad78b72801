"""What the hub is asked before a model is loaded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants

from services.editor.pipelines.diffusion import hub, loading
from tests.doubles.processes import free_port

USUAL, MODULAR = loading.INDEXES


class Hub:
    """A hub on this machine.

    Attributes:
        files: those of every repository.
        error: the code with which it answers for the others.
        asked: the files that it was asked for.
    """

    def __init__(self) -> None:
        self.files: tuple[str, ...] = ()
        self.error = (404, "EntryNotFound")
        self.asked: list[str] = []


def _ask(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Ask this hub."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    # Made of the other one when it was imported.
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub in place of the real one."""
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            file = self.path.rpartition("/")[2]
            state.asked.append(file)
            status, code = (200, "") if file in state.files else state.error
            self.send_response(status)
            for name, value in (("x-error-code", code), ("x-repo-commit", "a" * 40), ("etag", '"b"'), ("content-length", "0")):
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    _ask(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("file", [USUAL, MODULAR])
def test_a_model_with_either_index_is_there(there: Hub, file: str) -> None:
    """FLUX 3's repository has the index of modular pipelines only."""
    there.files = (file,)
    hub.check("owner/model", None, loading.INDEXES)
    assert there.asked[-1] == file


def test_a_repository_with_neither_index_is_refused_for_want_of_the_usual_one(there: Hub) -> None:
    with pytest.raises(ValueError, match=r"owner/model has no model_index\.json on the hub: it is no pipeline of diffusers"):
        hub.check("owner/model", None, loading.INDEXES)
    assert there.asked == [USUAL, MODULAR]


def test_a_hub_that_refuses_a_model_is_asked_once(there: Hub) -> None:
    there.error = (403, "GatedRepo")
    with pytest.raises(ValueError, match="owner/model is gated: accept its licence"):
        hub.check("owner/model", None, loading.INDEXES)
    assert there.asked == [USUAL]


def test_a_hub_that_does_not_answer_is_no_missing_file(monkeypatch: pytest.MonkeyPatch) -> None:
    _ask(monkeypatch, f"http://127.0.0.1:{free_port()}")  # where nobody listens
    with pytest.raises(ValueError, match=r"some/model is no folder here .* and the hub cannot be reached \("):
        hub.check("some/model", None, loading.INDEXES)


def test_a_folder_that_is_not_there_is_no_hub_id() -> None:
    with pytest.raises(ValueError, match="there is no folder /no/such/folder, and it is no hub id"):
        hub.check("/no/such/folder", None, loading.INDEXES)
