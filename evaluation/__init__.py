"""Does thinking pay? Benchmarks on any editor, thinker and judge, and sessions that become training data.

Everything here is a client of the public API: it imports the client and the wire's names, never a service.

>>> import evaluation
>>> evaluation.run({"gedit": "data/gedit"}, "out", strategies=["single", "think"])  # doctest: +SKIP
>>> evaluation.make_report("out")  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.arms import Arm
    from evaluation.report.model import Report
    from evaluation.results import Row
    from evaluation.running import Outcome
    from evaluation.scoring.work import Tally

__all__ = ["make_report", "read", "run", "score"]


def run(
    data: Mapping[str, str | Path],
    folder: str | Path,
    *,
    strategies: Sequence[str] = (),
    arms: Sequence[Arm] = (),
    server: str | None = None,
    api_key: str | None = None,
    **options: Any,
) -> Outcome:
    """Run datasets through arms, as ``editthinker eval run`` does; a run that was stopped goes on.

    Args:
        data: the path of each kind of dataset (see `evaluation.datasets.KINDS`).
        strategies: an arm for each, with the seed 0.
        arms: further ones.
        server: its URL; the embedded stack is started if None.
        options: of `evaluation.running.Run`, such as ``jobs``, ``limit``, ``budget`` and ``retry_failed``.

    Raises:
        DatasetError, ArmError, JournalError: for what cannot be run.
        EditThinkerError: when the server refuses what every item needs, or does not answer.
    """
    from evaluation import arms as grids  # noqa: PLC0415 - so that importing the package needs none of the extra's packages
    from evaluation import datasets, running  # noqa: PLC0415

    made = grids.grid({"strategy": list(strategies), "seed": [0]}) if strategies else ()
    loaded = [datasets.load(kind, Path(path)) for kind, path in data.items()]
    plan = running.Run(loaded, grids.distinct([*made, *arms]), Path(folder), **options)
    return running.carry_out(plan, server, api_key, quiet=True)


def score(
    folder: str | Path,
    *,
    url: str,
    model: str,
    api_key: str = "",
    name: str | None = None,
    prompts: Mapping[str, str | Path] | None = None,
    **options: Any,
) -> Tally:
    """Let a judge answer each benchmark's questions about the results of a run, as ``editthinker eval score`` does.

    Args:
        url, model, api_key: of the judge, a server with OpenAI's chat completions.
        name: of the judge in reports; the model's if None.
        prompts: the benchmark's own file by kind of dataset; our words where there is none.
        options: of `evaluation.scoring.work.Scoring`, such as ``jobs``.

    Raises:
        JudgeError: when the judge does not answer.
    """
    from evaluation import datasets, running  # noqa: PLC0415
    from evaluation.scoring import prompts as texts  # noqa: PLC0415
    from evaluation.scoring import work  # noqa: PLC0415
    from evaluation.scoring.judge import Judge  # noqa: PLC0415

    home = Path(folder)
    found = datasets.reopen(running.manifest(home))
    files = {kind: Path(path) for kind, path in (prompts or {}).items()}
    asked = {each.name: texts.load(each.name, files.get(each.name)) for each in found}
    return work.carry_out(work.Scoring(home, found, asked, name or model, **options), Judge(url, model, api_key))


def make_report(folder: str | Path, *, baseline: str | None = None) -> Report:
    """Write ``report.html`` into a run's folder; its numbers.

    Raises:
        ReportError: when there are no results, or the baseline is none of the arms.
    """
    from evaluation import datasets, running  # noqa: PLC0415
    from evaluation.report import model, page  # noqa: PLC0415
    from evaluation.results import write_file  # noqa: PLC0415

    home = Path(folder)
    found = datasets.reopen(running.manifest(home))
    made = model.build(home, found, read(home), baseline)
    write_file(home / "report.html", page.render(made, found).encode())
    return made


def read(folder: str | Path) -> list[Row]:
    """The rows of a run, also of one that is under way. ``results.parquet`` has the same for pandas and `datasets`."""
    from evaluation import results  # noqa: PLC0415

    return results.read(Path(folder))
