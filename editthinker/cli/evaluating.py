"""``editthinker eval``: run benchmarks, score, compare and report. The work is in the package `evaluation`, of an extra."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from editthinker.cli import target
from editthinker.cli.failures import FAILED, UsageError, friendly, interruptible
from editthinker.printable import block, json_text, one_line

app = typer.Typer(name="eval", help="Whether thinking pays: benchmarks on any editor, thinker and judge.", no_args_is_help=True)
STOPPED: Final = 4
"""Exit status of a run whose budget is used up."""

FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of the run.")]
DataOption = Annotated[
    list[str],
    typer.Option("--data", metavar="KIND=PATH", help="imgedit, gedit, risebench, krisbench or own, and where it is; repeatable."),
]
LanguageOption = Annotated[str, typer.Option(help="Of GEdit-Bench: en, cn or all.")]
InstructionOption = Annotated[str | None, typer.Option(help="For own=PATH that is a folder of pictures without a table.")]
FirstOption = Annotated[
    bool, typer.Option("--first-picture-only", help="Of KRIS-Bench's items with several pictures send the first, as EditThinker.")
]


@contextmanager
def needed() -> Iterator[None]:
    """Turn expected errors into one line, and a missing package into what to install."""
    with friendly(), interruptible():
        try:
            yield
        except ModuleNotFoundError as exc:
            if exc.name is None or exc.name.partition(".")[0] not in {"evaluation", "numpy", "PIL", "pyarrow"}:
                raise
            message = f"this command needs more packages ({exc.name}): pip install 'editthinker[eval]'"
            raise UsageError(message) from exc
        except (ValueError, RuntimeError) as exc:
            if not type(exc).__module__.startswith("evaluation."):
                raise
            raise UsageError(str(exc)) from exc


@app.command("run")
def run(  # noqa: PLR0913 - one parameter for each option of the command
    folder: FolderArgument,
    data: DataOption,
    *,
    server: target.ServerOption = None,
    api_key: target.KeyOption = None,
    strategy: Annotated[list[str] | None, typer.Option(help="Strategies to compare; repeatable.")] = None,
    editor: Annotated[list[str] | None, typer.Option(help="Editors to compare; repeatable.")] = None,
    thinker: Annotated[list[str] | None, typer.Option(help="Thinkers to compare; repeatable.")] = None,
    judge: Annotated[list[str] | None, typer.Option(help="Judges of the sessions to compare; repeatable.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seeds; repeatable. 0 if absent.")] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:OPTION=VALUE,…", help="An arm of its own, as two:strategy=think,max_turns=2; repeatable."),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="OPTION=VALUE", help="An option of every arm, as max_turns=3; repeatable.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Sessions at a time.")] = 4,
    limit: Annotated[int | None, typer.Option(min=1, help="Of each dataset its first items alone.")] = None,
    max_edits: Annotated[int | None, typer.Option(min=1, help="Stop when about so many edits were made.")] = None,
    max_editor_seconds: Annotated[float | None, typer.Option(min=0, help="Stop when about so many were used.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try items again that failed before.")] = False,
    fresh: Annotated[str, typer.Option(metavar="WORD", help="Do not share sessions with runs in other folders.")] = "",
    language: LanguageOption = "en",
    instruction: InstructionOption = None,
    first_picture_only: FirstOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Run datasets through strategies, editors, thinkers and judges; results go into FOLDER in the benchmarks' own layouts.

    A run that was stopped goes on where it was when the same command runs again. Without --server it starts the embedded
    stack. Exit status 1 when an item failed, 4 when the budget is used up.
    """
    with needed():
        from evaluation import arms, progress, running  # noqa: PLC0415 - an extra

        shared = arms.parse(f"shared:{','.join(option or ())}").options
        named = [arms.parse(words) for words in arm or ()]
        named = [arms.Arm(each.name, {"seed": 0, **shared, **each.options}) for each in named]
        varied: dict[str, list[Any]] = {"strategy": strategy or [], "editor": editor or [], "thinker": thinker or []}
        varied |= {"judge": judge or [], "seed": list(seed or [0])}
        given = any(values for name, values in varied.items() if name != "seed")
        made = arms.grid(varied, shared) if given or not named else ()
        datasets = _datasets(data, language, instruction, first_picture_only=first_picture_only)
        plan = running.Run(
            datasets,
            arms.distinct([*made, *named]),
            folder,
            jobs=jobs,
            budget=running.Budget(max_edits, max_editor_seconds),
            retry_failed=retry_failed,
            limit=limit,
            fresh=fresh,
        )
        with progress.shown(sum(1 for _ in running.tasks(plan)), folder, quiet=quiet) as display:
            outcome = running.carry_out(plan, server, api_key, display.add, quiet=quiet)
            display.ended(outcome)
        if outcome.left:
            raise typer.Exit(STOPPED)
        if any(row.status == "failed" for row in outcome.rows):
            raise typer.Exit(FAILED)


@app.command("score")
def score(  # noqa: PLR0913 - one parameter for each option of the command
    folder: FolderArgument,
    *,
    judge_url: Annotated[str, typer.Option(metavar="URL", help="A server with OpenAI's chat completions, with /v1.")],
    judge_model: Annotated[str, typer.Option(metavar="NAME", help="The model's name there.")],
    judge_key: Annotated[
        str,
        typer.Option(
            envvar="JUDGE_API_KEY",
            metavar="KEY",
            help="Its API key; better given by the variable, since others can read the command line.",
        ),
    ] = "",
    name: Annotated[str | None, typer.Option(help="The name of the judge in reports; the model's if absent.")] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND=FILE", help="The benchmark's own prompts (.json, or .py, which is not run); repeatable."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Requests at a time.")] = 8,
    unread_again: Annotated[bool, typer.Option("--unread-again", help="Ask again what could not be read.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Let a judge answer each benchmark's questions about the results of a run.

    Replies are kept: the same command goes on where it was, and asks nothing twice. The scores that the sessions have are in
    every report already. Exit status 1 when a question was refused.
    """
    with needed():
        from evaluation import datasets, running  # noqa: PLC0415 - an extra
        from evaluation.scoring import prompts as texts  # noqa: PLC0415
        from evaluation.scoring import work  # noqa: PLC0415
        from evaluation.scoring.judge import Judge  # noqa: PLC0415

        files = dict(datasets.parse(words) for words in prompts or ())
        found = datasets.reopen(running.manifest(folder))
        asked = {each.name: texts.load(each.name, files.get(each.name)) for each in found}
        scoring = work.Scoring(folder, found, asked, name or judge_model, jobs=jobs, unread_again=unread_again)
        tally = work.carry_out(scoring, Judge(judge_url, judge_model, judge_key))
        if not quiet:
            _say(f"{tally.asked} questions answered, {tally.known} before, {tally.unread} unread; in {folder}")
            for each in tally.failures[:10]:
                _say(f"failed: {one_line(each)}")
        if tally.failures:
            raise typer.Exit(FAILED)


@app.command("report")
def report(
    folder: FolderArgument,
    *,
    baseline: Annotated[str | None, typer.Option(help="The arm to compare with; single, or the first, if absent.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The page; FOLDER/report.html if absent.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Write one self-contained HTML page: whether it paid, where, and at what cost; and the tables as parquet and JSON lines."""
    with needed():
        from evaluation import datasets, results, running  # noqa: PLC0415 - an extra
        from evaluation.report import model, page, tables  # noqa: PLC0415

        found = datasets.reopen(running.manifest(folder))
        rows = results.read(folder)
        made = model.build(folder, found, rows, baseline)
        path = output or folder / "report.html"
        target.writable(path)
        target.write_atomically(path, page.render(made, found).encode())
        results.write(folder, "results", [results.as_dict(row) for row in rows])
        results.write(folder, "scores", tables.scores(folder, found, rows))
        if json:
            _say(json_text(tables.as_json(made)))
        else:
            _say(block(f"{tables.as_text(made)}report: {path}"))


@app.command("compare")
def compare(  # noqa: PLR0913 - one parameter for each option of the command
    folder: FolderArgument,
    *,
    judge: Annotated[
        list[str],
        typer.Option(metavar="NAME:url=…,model=…", help="A judge: its URL, with /v1, model, and key_env=VARIABLE; repeatable."),
    ],
    repeats: Annotated[int, typer.Option(min=1, help="Times that each picture is scored, for self-consistency.")] = 1,
    pairs: Annotated[bool, typer.Option("--pairs/--no-pairs", help="Show pairs in both orders, for position bias.")] = True,
    votes: Annotated[
        Path | None, typer.Option(metavar="JSONL", help="People's votes: what GET /v1/preferences/export gives.")
    ] = None,
    server: target.ServerOption = None,
    api_key: target.KeyOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Of each dataset its first items alone.")] = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Requests at a time, for each judge.")] = 8,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The page; FOLDER/compare.html if absent.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Put judges side by side over the pictures of a run: with each other, with people's votes, and with themselves.

    Nothing is edited. Replies are kept, and nothing is asked twice. The pictures of votes come from --server.
    """
    with needed():
        from evaluation import datasets, running  # noqa: PLC0415 - an extra
        from evaluation.comparing import page, work  # noqa: PLC0415

        found = datasets.reopen(running.manifest(folder))
        judges = work.parse_judges(judge, os.environ)
        voted = work.read_votes(votes, server, api_key) if votes else ()
        pictures = work.pictures_of(folder, found, limit)
        comparing = work.Comparing(folder, pictures, voted, repeats=repeats, pairs=pairs, jobs=jobs)
        findings = work.carry_out(comparing, judges)
        path = output or folder / "compare.html"
        target.writable(path)
        target.write_atomically(path, page.render(comparing, findings).encode())
        _say(json_text(page.as_json(comparing, findings)) if json else block(f"{page.as_text(findings)}report: {path}"))
        if findings.failures:
            raise typer.Exit(FAILED)


@app.command("export")
def export(
    folder: FolderArgument,
    *,
    layout: Annotated[
        str, typer.Option("--as", metavar="LAYOUT", help="genarena, or geditv2: folders that pairwise arenas read.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to write.")],
) -> None:
    """Write a run's pictures as the folders of GenArena or of GEditBench v2's gallery, whose own scripts rank them."""
    with needed():
        from datetime import UTC, datetime  # noqa: PLC0415

        from evaluation import datasets, galleries, results, running  # noqa: PLC0415 - an extra

        if layout not in {"genarena", "geditv2"}:
            message = f"--as {layout}: write genarena or geditv2"
            raise UsageError(message)
        target.folder_for(output)
        found, rows = datasets.reopen(running.manifest(folder)), results.read(folder)
        if layout == "genarena":
            count = galleries.genarena(folder, found, rows, output, datetime.now(UTC).strftime("%Y%m%d"))
        else:
            count = galleries.geditv2(folder, found, rows, output)
        _say(f"{count} pictures in {output}")


def _datasets(data: list[str], language: str, instruction: str | None, *, first_picture_only: bool) -> list[Any]:
    from evaluation import datasets  # noqa: PLC0415 - an extra

    found: list[Any] = []
    for words in data:
        kind, path = datasets.parse(words)
        if kind in {each.name for each in found}:
            message = f"--data {words}: one dataset of a kind; use another folder for the second"
            raise UsageError(message)
        options: dict[str, Any] = {"language": language, "instruction": instruction, "first_source_only": first_picture_only}
        found.append(datasets.load(kind, path, **options))
    return found


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
