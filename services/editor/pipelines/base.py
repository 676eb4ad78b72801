"""What every editing pipeline is to the service: a name, its capabilities, and ``edit``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from PIL import Image


class PipelineBroken(Exception):
    """The pipeline cannot do any further edit (a lost device, a poisoned context): its process must be replaced."""


@dataclass(frozen=True, slots=True)
class Range:
    """The values that a numeric parameter may take, both ends included, and the one used when none is given."""

    low: float
    high: float
    default: float
    whole: bool = False

    def admits(self, value: float) -> bool:
        """Whether ``value`` lies in the range (and is a whole number where it must be)."""
        return self.low <= value <= self.high and (not self.whole or float(value).is_integer())


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a pipeline family can honour. A request that asks for more is refused, never half done.

    ``parameters`` maps the API's extension names (``num_inference_steps``, ``guidance_scale``) to their ranges; a name
    that is absent is refused. ``max_images`` counts input pictures.
    """

    mask: bool = False
    negative_prompt: bool = False
    resize: bool = True
    max_images: int = 1
    partial_images: int = 0
    parameters: Mapping[str, Range] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EditJob:
    """One picture to edit.

    ``image`` is RGB or RGBA. ``mask``, where given, has the image's size: its alpha is 0 where the edit may act (an
    opaque mode without alpha is read as white = edit). ``size`` is (width, height) of the result, None for the
    natural one. ``seed`` decides everything that is random. ``parameters`` holds what the capabilities declare.
    """

    image: Image.Image
    prompt: str
    seed: int = 0
    mask: Image.Image | None = None
    negative_prompt: str | None = None
    size: tuple[int, int] | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EditResult:
    """The edited picture (same mode as the input) and an honest account of what was done.

    ``applied`` lists the operations carried out, ``not_understood`` the phrases of the prompt that were not.
    """

    image: Image.Image
    applied: tuple[str, ...] = ()
    not_understood: tuple[str, ...] = ()


class Pipeline(Protocol):
    """An editing family. ``edit`` is called by one thread at a time and blocks until the picture is done."""

    @property
    def name(self) -> str:
        """The model name that the service announces."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What the family can honour."""
        ...

    def edit(self, job: EditJob) -> EditResult:
        """Edit one picture. Raises ``ValueError`` when the job asks for what the capabilities do not declare."""
        ...
