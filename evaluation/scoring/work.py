"""Asks a judge every question about every result of a run that it has not answered, and keeps its replies in a journal.

The journal has the replies as they came. What they say is read when they are needed, so that a mended parser needs no judge.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from editthinker.cli import several
from editthinker.cli.records import Journal
from editthinker.cli.records import read as read_journal
from evaluation import results
from evaluation.aggregation.scored import Scored
from evaluation.items import Dataset, DatasetError, Item
from evaluation.results import Row
from evaluation.scoring import official, questions
from evaluation.scoring.judge import Judge, QuestionError
from evaluation.scoring.prompts import Prompts

JOURNAL: Final = "replies.jsonl"
SERVER: Final = "server"
"""The judge whose scores are those of the sessions: no question is asked."""
_TRIES: Final = 2
"""Times that a question is asked whose reply cannot be read: VIEScore asks twice, too."""


class ScoringError(ValueError):
    """Results that cannot be scored."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """What is scored.

    Attributes:
        folder: of the run.
        judge: the name under which the scores are kept.
        prompts: by kind of dataset.
        jobs: requests at a time.
        unread_again: ask again what was answered and could not be read.
    """

    folder: Path
    datasets: Sequence[Dataset]
    prompts: Mapping[str, Prompts]
    judge: str
    jobs: int = 8
    unread_again: bool = False


@dataclass(slots=True)
class Tally:
    """How far the scoring is.

    Attributes:
        asked: questions that were answered now.
        known: those that were answered before.
        unread: replies that could not be read.
        failures: questions that the judge refused, or whose pictures cannot be read, and why.
    """

    total: int = 0
    asked: int = 0
    known: int = 0
    unread: int = 0
    failures: list[str] = field(default_factory=list)


def carry_out(scoring: Scoring, judge: Judge, on_progress: Callable[[Tally], None] = lambda _: None) -> Tally:
    """Ask what was not answered yet. Replies go into the journal, and into the files of the official scripts.

    Raises:
        ScoringError: when the judge's name is taken, or nothing was run.
        JudgeError: when the judge does not answer.
        KeyboardInterrupt: for Ctrl-C and SIGTERM. The answered questions are kept.
    """
    if scoring.judge == SERVER:
        message = f"{SERVER!r} names the scores of the sessions themselves; give the judge another name"
        raise ScoringError(message)
    rows = [row for row in results.read(scoring.folder) if row.answered]
    if not rows:
        message = f"{scoring.folder} has no results; run `editthinker eval run` first"
        raise ScoringError(message)
    with Journal(scoring.folder / JOURNAL) as journal:
        work = _Work(scoring, judge, journal, on_progress)
        several.run(work.go(list(_results(scoring, rows))))
    records = read_journal(scoring.folder / JOURNAL)
    for dataset in scoring.datasets:
        official.write(dataset, scoring.folder, rows, Answers(records, scoring.judge))
    return work.tally


@dataclass(frozen=True, slots=True)
class _Result:
    """A result to score."""

    dataset: Dataset
    item: Item
    row: Row


def _results(scoring: Scoring, rows: Sequence[Row]) -> Iterator[_Result]:
    for dataset in scoring.datasets:
        items = {item.id: item for item in dataset.items}
        for row in rows:
            if row.dataset == dataset.name and row.item in items:
                yield _Result(dataset, items[row.item], row)


class _Work:
    def __init__(self, scoring: Scoring, judge: Judge, journal: Journal, on_progress: Callable[[Tally], None]) -> None:
        self._scoring = scoring
        self._judge = judge
        self._journal = journal
        self._on_progress = on_progress
        self._answers = Answers(journal.records, scoring.judge)
        self.tally = Tally()

    async def go(self, found: Sequence[_Result]) -> None:
        """Ask about all results, several at a time."""
        self.tally.total = sum(len(questions.expected(each.dataset.name, each.item)) for each in found)
        waiting = iter(found)

        async def work() -> None:
            for result in waiting:
                await self._result(result)
                self._on_progress(self.tally)

        async with self._judge, asyncio.TaskGroup() as group:
            for _ in range(self._scoring.jobs):
                group.create_task(work())

    async def _result(self, result: _Result) -> None:
        kind = result.dataset.name
        try:
            picture = await asyncio.to_thread(results.picture(self._scoring.folder, result.row).read)
            asked = await asyncio.to_thread(questions.questions, kind, result.item, picture, self._scoring.prompts[kind])
        except DatasetError as exc:
            self.tally.failures.append(f"{result.row.task}: {exc}")
            return
        digest = digest_of(picture)
        for question in asked:
            known = self._answers.reply(result.row.task, digest, question.name)
            if known is None or (self._scoring.unread_again and _unread(result, question.name, known)):
                await self._ask(result, digest, question)
            else:
                self.tally.known += 1
                self.tally.unread += _unread(result, question.name, known)

    async def _ask(self, result: _Result, digest: str, question: questions.Question) -> None:
        task = result.row.task
        prompt = completion = 0
        seconds = 0.0
        reply = ""
        for _ in range(_TRIES):
            try:
                answer = await self._judge.ask(question.text, question.pictures)
            except QuestionError as exc:
                self.tally.failures.append(f"{task}, {question.name}: {exc}")
                return
            reply, seconds = answer.text, seconds + answer.seconds
            prompt, completion = prompt + answer.prompt_tokens, completion + answer.completion_tokens
            if not _unread(result, question.name, reply):
                break
        used = {"prompt_tokens": prompt, "completion_tokens": completion, "seconds": round(seconds, 3)}
        named = {"task": task, "picture": digest, "judge": self._scoring.judge, "model": self._judge.model}
        origin = self._scoring.prompts[result.dataset.name].origin
        self._journal.append({**named, "question": question.name, "reply": reply, "prompts": origin, **used})
        self.tally.asked += 1
        self.tally.unread += _unread(result, question.name, reply)


def _unread(result: _Result, question: str, reply: str) -> bool:
    return any(value is None for value in questions.read(result.dataset.name, result.item, question, reply).values())


def digest_of(picture: bytes) -> str:
    """Names a picture by its bytes, so that scores of a picture that was made again are not taken for the new one's."""
    return hashlib.sha256(picture).hexdigest()[:16]


class Answers:
    """The replies of a judge.

    Args:
        records: of the journal of scores.
    """

    def __init__(self, records: Sequence[Mapping[str, Any]], judge: str) -> None:
        self._records = {
            (record.get("task"), record.get("picture"), record.get("question")): record
            for record in records
            if record.get("judge") == judge and isinstance(record.get("reply"), str)
        }
        self._digests: dict[Path, str] = {}

    def reply(self, task: str, picture: str, question: str) -> str | None:
        """The last reply to a question; None if it was not answered."""
        record = self._records.get((task, picture, question))
        return None if record is None else str(record["reply"])

    def of(self, folder: Path, row: Row, question: str) -> str | None:
        """The last reply about a row's picture; None if it was not asked, or the picture is gone."""
        name = folder / (row.output or "")
        if name not in self._digests:
            try:
                self._digests[name] = digest_of(name.read_bytes())
            except OSError:
                self._digests[name] = ""
        return self.reply(row.task, self._digests[name], question)

    def origins(self) -> list[str]:
        """Whose texts were asked."""
        return sorted({str(record.get("prompts")) for record in self._records.values()})

    def used(self, name: str) -> float:
        """The sum of ``prompt_tokens``, ``completion_tokens`` or ``seconds``."""
        return float(sum(record.get(name) or 0 for record in self._records.values()))


def judges(folder: Path) -> list[str]:
    """The judges that scored a run, in the order of their first replies."""
    found = (record.get("judge") for record in read_journal(folder / JOURNAL))
    return list(dict.fromkeys(name for name in found if isinstance(name, str)))


def scored(folder: Path, dataset: Dataset, rows: Sequence[Row], judge: str) -> dict[str, dict[str, Scored]]:
    """Each arm's scored items by id: those with an answer to every question.

    Args:
        rows: of the run.
        judge: a judge's name, or `SERVER`.
    """
    items = {item.id: item for item in dataset.items}
    answers = Answers([] if judge == SERVER else read_journal(folder / JOURNAL), judge)
    found: dict[str, dict[str, Scored]] = {}
    for row in rows:
        if row.dataset != dataset.name or row.item not in items or not row.answered:
            continue
        item = items[row.item]
        values = _server_values(row) if judge == SERVER else _values(folder, dataset.name, item, row, answers)
        if values is not None:
            made = Scored(item.id, item.group, values) if judge == SERVER else questions.scored(dataset.name, item, values)
            found.setdefault(row.arm, {})[item.id] = made
    return found


def _server_values(row: Row) -> dict[str, float | None] | None:
    return None if row.overall is None else {"semantic": row.semantic, "quality": row.quality, "overall": row.overall}


def _values(folder: Path, kind: str, item: Item, row: Row, answers: Answers) -> dict[str, float | None] | None:
    values: dict[str, float | None] = {}
    for name in questions.expected(kind, item):
        reply = answers.of(folder, row, name)
        if reply is None:
            return None
        values |= questions.read(kind, item, name, reply)
    return values
