"""Families whose edits are one indivisible piece of work, as a pipeline."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

from services.editor.pipelines.base import Capabilities, Edit, EditJob, EditResult, OutOfMemoryError, PipelineError, Whole


@dataclass(slots=True)
class WholeEdit:
    """An edit that its first advance also ends."""

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


class OneByOne:
    """Runs a `Whole` family's edits one after another; they cannot be stopped midway."""

    stoppable = False
    most_active = 1

    def __init__(self, family: Whole) -> None:
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

    def open(self, job: EditJob) -> WholeEdit:
        """An edit of this job."""
        return WholeEdit(job)

    def advance(self, edits: Sequence[Edit]) -> None:
        """Do the one edit. Raises as `Pipeline.advance`."""
        (edit,) = edits
        assert isinstance(edit, WholeEdit)
        edit.started = True
        try:
            edit.result = self._family.edit(edit.job)
        except MemoryError:
            edit.started = False
        except PipelineError:
            raise
        # A picture that one edit cannot take must not cost the others theirs.
        except Exception as exc:  # noqa: BLE001 - the executor logs it
            edit.error = exc
        if not edit.started:
            # Out of the handler: inside it the failed edit's arrays would stay alive.
            raise OutOfMemoryError("the edit needs more memory than there is", [edit])

    def close(self, edit: Edit) -> None:
        """Nothing is held."""

    def reclaim(self) -> None:
        """Nothing is kept."""

    def memory(self) -> None:
        """Not measured."""

    def figures(self) -> Mapping[str, float]:
        """Nothing is counted."""
        return {}

    def finish(self, job: EditJob, result: EditResult) -> EditResult:
        """Nothing to do: the family returns the size that was asked for."""
        del job
        return result
