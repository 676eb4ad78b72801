"""Names of version 0.1 still work, with a warning."""

from __future__ import annotations

import importlib

import pytest

from editthinker import client
from editthinker.client import Retries
from editthinker.client.errors import RENAMED, AuthenticationError, PermissionDeniedError


@pytest.mark.parametrize("name", sorted(RENAMED))
def test_an_old_exception_name_catches_what_the_new_one_raises(name: str) -> None:
    """`except Denied` still catches both 401 and 403, which have names of their own now."""
    module = importlib.import_module("editthinker.client")
    with pytest.warns(DeprecationWarning, match=rf"editthinker\.client\.{name} is now \w+Error"):
        kind = getattr(module, name)
    assert kind is RENAMED[name]
    assert not hasattr(client, "NoSuchName")
    if name == "Denied":
        assert issubclass(AuthenticationError, kind)
        assert issubclass(PermissionDeniedError, kind)


def test_old_names_of_other_classes_are_found() -> None:
    for module, old, new in (
        ("editthinker.client", "Place", "CandidateRef"),
        ("editthinker.client", "ImageSource", "Picture"),
        ("editthinker.local", "DataDirBusy", "DataDirBusyError"),
        ("editthinker.local", "ServiceFailed", "ServiceFailedError"),
    ):
        found = importlib.import_module(module)
        with pytest.warns(DeprecationWarning, match=new):
            kind = getattr(found, old)
        assert kind is getattr(found, new)


def test_old_fields_of_retries_are_taken() -> None:
    with pytest.warns(DeprecationWarning, match="Retries") as warned:
        retries = Retries(first=1.0, longest=2.0, obey=3.0)
    assert retries == Retries(initial=1.0, max=2.0, max_retry_after=3.0)
    assert [str(warning.message) for warning in warned] == [
        "Retries(first=…) is now initial=…",
        "Retries(longest=…) is now max=…",
        "Retries(obey=…) is now max_retry_after=…",
    ]
