"""Makes a pipeline of a family whose edit is one indivisible call."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

from services.editor.pipelines.base import (
    Capabilities,
    Edit,
    EditJob,
    EditResult,
    OutOfMemoryError,
    PipelineError,
    SingleStepFamily,
)


@dataclass(slots=True)
class SingleStepEdit:
    """An edit that is finished by its first advance."""

    job: EditJob
    started: bool = False
    group: Hashable | None = None
    cost: int = 1
    calls: int = 0
    calls_done: int = 0
    steps: int = 0
    step: int = 0
    preview: Image.Image | None = None
    timings: dict[str, float] = field(default_factory=dict)
    result: EditResult | None = None
    error: Exception | None = None
    blamed: str = "prompt"
    pending: None = None
    side_s: float = 0.0


class SingleStepPipeline:
    """Runs a `SingleStepFamily`'s edits one at a time; they cannot be interrupted."""

    interruptible = False
    max_active = 1
    lags = False
    overlaps = False

    def __init__(self, family: SingleStepFamily) -> None:
        self._family = family

    @property
    def name(self) -> str:
        """The family's."""
        return self._family.name

    @property
    def capabilities(self) -> Capabilities:
        """The family's."""
        return self._family.capabilities

    @property
    def warm_up(self) -> EditJob:
        """The family's."""
        return self._family.warm_up

    def prepare(self, job: EditJob) -> EditJob:
        """Nothing to do."""
        return job

    def open(self, job: EditJob) -> SingleStepEdit:
        """An edit of this job."""
        return SingleStepEdit(job)

    def advance(self, edits: Sequence[Edit]) -> None:
        """Run the one edit. Raises as `Pipeline.advance`."""
        (edit,) = edits
        assert isinstance(edit, SingleStepEdit)
        edit.started = True
        try:
            edit.result = self._family.edit(edit.job)
        except MemoryError:
            edit.started = False
        except PipelineError:
            raise
        # A failure of one edit must not affect the others.
        except Exception as exc:  # noqa: BLE001 - the executor logs it
            edit.error = exc
        if not edit.started:
            # Outside the handler, in which the failed edit's arrays would stay alive.
            raise OutOfMemoryError("the edit needs more memory than there is", [edit])

    def close(self, edit: Edit) -> None:
        """Nothing to release."""

    def reclaim(self) -> None:
        """Nothing to free."""

    def memory(self) -> None:
        """Not measured."""

    def figures(self) -> Mapping[str, float]:
        """No metrics."""
        return {}

    def finish(self, job: EditJob, result: EditResult) -> EditResult:
        """Nothing to do: the family returns the requested size."""
        del job
        return result

    def shutdown(self) -> None:
        """Nothing to end."""
