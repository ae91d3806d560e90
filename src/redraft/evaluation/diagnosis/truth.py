"""The truth about every answer of a chain: from `redraft eval`, from a task or checks, or its own checks.

Truth is kept in `meta["eval"]`, as `evaluate.tasks` writes it. An echo is never right, nor is an empty text,
whatever a check makes of it (`is_answer`).
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from redraft.chain import Chain, Step
from redraft.counting import counted
from redraft.errors import RecordError
from redraft.evaluation.records import item_of
from redraft.evaluation.reports.inputs import record_kind
from redraft.evaluation.tasks.tasks import (
    KEY,
    asked,
    checks_of,
    empty_answers,
    is_answer,
    results_of,
    scored,
    task_of,
)
from redraft.formats.read.files import decode
from redraft.formats.read.records import RawRecord, raw_records, read_records
from redraft.verify.base import Check

OWN = "own checks"  # the name of the task of chains whose own checks say what is right
SCORE = "given checks"  # the name of the task of chains that were scored with checks of the user


@dataclass(frozen=True)
class Known:
    """A chain with the truth about each of its answers.

    Attributes:
        task: The name of the task, or `OWN`.
        results: What each scoring check found, for each answer: its name and whether it passed.
        loose: Whether each answer is right by IFEval's loose score; empty for other tasks.
        groups: The groups of the record.
        drafts: Whether each first answer that was not chosen is right; empty if that is not known.
    """

    chain: Chain
    task: str
    results: tuple[tuple[tuple[str, bool], ...], ...]
    loose: tuple[bool, ...] = ()
    groups: tuple[str, ...] = ()
    drafts: tuple[bool, ...] = ()

    @cached_property
    def rights(self) -> tuple[bool, ...]:
        """Whether each answer is right."""
        return tuple(
            passed and is_answer(step) for passed, step in zip(self.passes, self.chain.steps, strict=True)
        )

    @cached_property
    def passes(self) -> tuple[bool, ...]:
        """Whether each answer passes all scoring checks, an echo too."""
        return tuple(bool(found) and all(passed for _, passed in found) for found in self.results)

    @property
    def first(self) -> bool:
        """Whether the first answer is right."""
        return self.rights[0]

    @property
    def item(self) -> str:
        """What it is drawn with: runs and turns of one question."""
        return item_of(self.chain)

    @property
    def best(self) -> bool:
        """Whether the best answer is right. Where there is none, it is not."""
        return self.chain.best is not None and self.rights[self.chain.best]

    @property
    def empty(self) -> bool:
        """Whether the model gave no answer at all."""
        return not any(step.answer.strip() for step in self.chain.steps)

    @property
    def tokens(self) -> float:
        """New tokens of all texts; NaN if there is a text and no usage."""
        return self.chain.usage.completion_tokens or (0 if self.empty else math.nan)

    @cached_property
    def guide(self) -> tuple[bool | None, ...]:
        """Whether each answer passes the checks that guided revising; None where it was not checked."""
        return tuple(step.passed for step in _checked_steps(self.chain))

    @property
    def guided(self) -> Set[str]:
        """The names of the checks that guided revising, in their order."""
        return dict.fromkeys(result.name for step in self.chain.steps for result in step.checks).keys()

    @property
    def scored(self) -> Set[str]:
        """The names of the checks that say what is right, in their order."""
        return dict.fromkeys(name for found in self.results for name, _ in found).keys()


@dataclass(frozen=True)
class Material:
    """Chains with truth, and what was left out.

    Attributes:
        chains: The chains with truth.
        left_out: Ids of chains that do not count, by reason.
        again: Ids that several chains have: runs of one item.
        twice: Ids of chains that were given more than once.
    """

    chains: tuple[Known, ...]
    left_out: Mapping[str, tuple[str, ...]]
    again: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()


def chains_in(files: Sequence[Path]) -> Iterator[Chain]:
    """Yield the chains of files, with the ids that they have there: the same id is the same item.

    Raises:
        RecordError: A file cannot be read, or no file has an answer.
    """
    count, answered = 0, False
    for file in files:
        for chain in chains_of(file):
            count, answered = count + 1, answered or bool(chain.steps)
            yield chain
    if not answered:
        raise _no_answer(files, count)


def chains_of(file: Path) -> Iterator[Chain]:
    """Yield the chains of a file, then the empty answers that its `.errors.jsonl` lists (`empty_answers`).

    Raises:
        RecordError: The file cannot be read, or is of another kind.
    """
    done, about = set[str](), dict[str, Any]()
    for raw in raw_records(file):
        chain = raw.chain() if raw.number else _first_chain(raw, file)
        done.add(chain.id)
        about = about or {**_about(chain)}
        yield chain
    yield from empty_answers(file, done, str(about.get("task") or ""))


def _first_chain(raw: RawRecord, file: Path) -> Chain:
    """Decode the first record of a file. If it is no chain, say what may be meant."""
    kind = ""
    with suppress(RecordError):
        kind = record_kind(decode(raw.data, raw.where), raw.where)
    if kind not in ("", "chains"):
        hint = f"{_GIVE} For {kind}: redraft report {file}"
        raise RecordError(f"{raw.where}: has {kind}, and no chains.", hint=hint)
    try:
        return raw.chain()
    except RecordError as error:
        error.hint = _GIVE
        raise


_GIVE = "Give chains: the output of redraft eval or redraft answer."


def _no_answer(files: Sequence[Path], count: int) -> RecordError:
    names = ", ".join(map(str, files))
    if not count:
        return RecordError(f"{names}: is empty.", hint=_GIVE)
    found = f"{counted(count, 'record')}, and none has an answer"
    ask = f"Or answer these: redraft eval TASK {files[0]} -o chains.jsonl"
    return RecordError(f"{names}: has {found}.", hint=f"{_GIVE} {ask}")


def known(chains: Iterable[Chain]) -> Material:
    """Find the truth about chains: in `meta["eval"]` if any of them has it, else their own checks.

    Of equal chains, one counts. Chains with the same id count as runs of one item.

    Raises:
        RecordError: No chain has truth.
    """
    found, twice = _unique(chains)
    read = _told if any(_about(chain) for chain in found) else _own
    good, left_out = [], dict[str, list[str]]()
    for chain in found:
        one = read(chain) if chain.steps else "no answer"
        if isinstance(one, Known):
            good.append(one)
        else:
            left_out.setdefault(one, []).append(chain.id)
    if not good:
        raise _nothing(found)
    times = Counter(one.item for one in good)
    again = tuple(name for name, count in times.items() if count > 1)
    return Material(tuple(good), {why: tuple(ids) for why, ids in left_out.items()}, again, twice)


def _unique(chains: Iterable[Chain]) -> tuple[list[Chain], tuple[str, ...]]:
    """Return the chains without repetitions, and the ids of those that were repeated."""
    found: dict[str, Chain] = {}
    twice: dict[str, None] = {}
    for chain in chains:
        line = chain.to_json()
        if line in found:
            twice[chain.id] = None
        found[line] = chain
    return list(found.values()), tuple(twice)


def _nothing(chains: Sequence[Chain]) -> RecordError:
    if not any(step.answer.strip() for chain in chains for step in chain.steps):
        return RecordError("there is no chain with an answer.", hint="Give a file that redraft answer made.")
    return RecordError(
        "nothing says which answers are right: the chains have no truth and no checks.",
        hint="Name the task with its file, --task gsm8k --records test.jsonl, or a check: "
        "--score 'words<=50'",
    )


def _about(chain: Chain) -> Mapping[str, Any]:
    about = chain.meta.get(KEY)
    return about if isinstance(about, Mapping) and about.get("steps") else {}


def _told(chain: Chain) -> Known | str:
    """Return the chain with the truth in its `meta`, or why there is none."""
    about = _about(chain)
    if not about:
        return "no truth"
    try:
        results = tuple(tuple((r["name"], bool(r["passed"])) for r in found) for found in about["steps"])
        drafts = tuple(
            bool(found) and all(r["passed"] for r in found) and is_answer(step)
            for found, step in zip(about.get("drafts", ()), chain.drafts, strict=False)
        )
        loose = tuple(all(found) for found in about.get("loose", ()))
    except (KeyError, TypeError):
        return "its truth cannot be read"
    if len(results) != len(chain.steps) or len(loose) not in (0, len(results)):
        return "no truth about some of its answers"
    groups = tuple(map(str, about.get("groups", ())))
    return Known(chain, str(about.get("task", "")), results, loose, groups, drafts)


def _own(chain: Chain) -> Known | str:
    """Return the chain with its own checks as truth, or why they cannot tell. A cut answer is wrong."""
    checked = list(_checked_steps(chain))
    if not any(step.answer.strip() for step in chain.steps):
        return "empty"
    if not all(step.checks or step.echo for step in checked):
        return "some answers were not checked" if checked[0].checks else "not checked"
    drafts = [step.passed for step in chain.drafts]
    known_drafts = tuple(map(bool, drafts)) if None not in drafts else ()
    return Known(chain, OWN, tuple(map(_found, checked)), drafts=known_drafts)


def _checked_steps(chain: Chain) -> Iterator[Step]:
    """Yield the steps; for a revision that changed nothing and so was not checked, the step before it."""
    before: Step | None = None
    for step in chain.steps:
        same = before and not step.feedback and step.answer == before.answer
        before = before if same else step
        yield before or step


def _found(step: Step) -> tuple[tuple[str, bool], ...]:
    return tuple((result.name, result.passed and step.complete) for result in step.checks)


def with_task(
    chains: Iterable[Chain], name: str, records: Path, *, run_code: bool = False
) -> Iterator[Chain]:
    """Yield chains with the truth of a task. A chain whose id no record has gets none.

    Args:
        chains: Answers to the records of the task.
        name: Its name.
        records: The task's file, under the name with which it was answered: ids begin with that name.
        run_code: Let humaneval and mbpp run the model's programs, in a sandbox.

    Raises:
        UsageError: There is no such task, or it runs programs and may not.
        RecordError: A record is none of the task, or there is no record of any chain.
    """
    task = task_of(name, run_code=run_code)
    of = {record.id: record for record in asked(task, read_records(records))}
    given = list(chains)
    if not any(chain.id in of for chain in given):
        raise _no_record(given, records, list(of))
    for chain in given:
        record = of.get(chain.id)
        meta = {key: value for key, value in chain.meta.items() if key != KEY}
        bare = chain.model_copy(update={"meta": {**(record.meta if record else {}), **meta}})
        yield asyncio.run(scored(bare, name, checks_of(task, record))) if record else bare


def _no_record(chains: Sequence[Chain], records: Path, ids: Sequence[str]) -> RecordError:
    if not chains:
        return _nothing(chains)
    return RecordError(
        f"{records}: no record has the id of a chain. Chains have {chains[0].id!r} and the like, records "
        f"{', '.join(map(repr, ids[:1])) or 'none'}.",
        hint="Give the file that was answered, under its name: ids begin with the name of the file.",
    )


def with_checks(chains: Iterable[Chain], checks: Sequence[Check]) -> Iterator[Chain]:
    """Yield chains with the results of checks as their truth.

    Raises:
        CheckError: A check crashed.
    """
    for chain in chains:
        yield asyncio.run(_checked(chain, checks))


async def _checked(chain: Chain, checks: Sequence[Check]) -> Chain:
    about = {
        "task": SCORE,
        "steps": await results_of(checks, chain.steps, chain.prompt),
        "drafts": await results_of(checks, chain.drafts, chain.prompt),
    }
    return chain.model_copy(update={"meta": {**chain.meta, KEY: about}})
