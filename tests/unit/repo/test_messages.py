"""No message shows a regular expression: every model of requests and settings is walked, and given what it refuses."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings

import orchestrator
import services
from orchestrator.loop import events
from services.errors import reason_of
from services.protocol.images_api import explain
from services.serving.command_line import _mistakes

_UNTOUCHED = ("services.editor.pipelines.omnigen2", "services.editor.pipelines.diffusion")
WRONG: list[Any] = ["", "\x00", "?", "x" * 300, "0x0", -1, 1e99, True, None, [], {}, [[]], {"": {}}, b"\xff"]
_MARKS = ("^", "$", "\\S", "\\w", "\\d", "(?", "[0-9", "(auto|", "(debug|")


def modules(package: ModuleType) -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not found.name.startswith(_UNTOUCHED) and not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def models() -> list[type[BaseModel]]:
    """Every model of the services but those of events, which no caller writes."""
    found = {
        value
        for package in (services, orchestrator)
        for module in modules(package)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, BaseModel) and value not in {BaseModel, BaseSettings}
    }
    return sorted(
        (model for model in found if model.__module__ != events.__name__),
        key=lambda model: (model.__module__, model.__qualname__),
    )


MODELS = models()


def test_the_models_are_found() -> None:
    names = {model.__name__ for model in MODELS}

    assert {"ImagesEditFields", "SessionFields", "WorkerFields", "ReferenceRequest", "ChatRequest", "Settings"} <= names
    assert {"EditorSettings", "ThinkerSettings", "Feedback", "NewWebhook"} <= names


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model.__module__}.{model.__name__}")
def test_no_message_shows_a_pattern(model: type[BaseModel]) -> None:
    """For each field and each kind of wrong value, as the APIs and the command lines tell it."""
    for name, field in model.model_fields.items():
        for wrong in WRONG:
            try:
                model.model_validate({field.alias or name: wrong})
            except ValidationError as exc:
                told = [explain(exc, model).message, *_mistakes(exc, "EDITTHINKER_")]
                told += [reason_of(each) for each in exc.errors(include_url=False)]
                assert not [text for text in told if any(mark in text for mark in _MARKS)], (name, wrong)
            except (ValueError, OSError):
                # Settings that read files.
                continue
