"""`redraft.evaluate`: score a model from Python, for regression suites.

Everything happens in memory; `redraft eval` writes a file and resumes. With the option `cache`, no reply is
asked for twice here either.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Unpack

from redraft.chain import Chain
from redraft.errors import EmptyReply, RecordError, UsageError
from redraft.evaluation.tasks.tally import FIRST, Tally
from redraft.evaluation.tasks.tasks import asked, checks_of, scored, task_of, unanswered
from redraft.formats.read.records import chain_of, read_records
from redraft.revision.api import revise
from redraft.revision.keywords import RevisionKeywords
from redraft.stats import Estimate
from redraft.verify.base import Check
from redraft.verify.parse import parse_checks

Record = Mapping[str, Any] | Chain  # a record of a task, as its file has it

PARALLEL = 4


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        chains: All chains, in the order of the records, with the truth in `meta["eval"]`.
        tally: The counts.
    """

    chains: tuple[Chain, ...]
    tally: Tally

    @property
    def rate(self) -> Estimate:
        """The share of right answers, 0 to 1: `value`, and the 95 % interval from `low` to `high`."""
        return self.tally.score.rate

    @property
    def first(self) -> Estimate:
        """The same of first answers, before any revision."""
        return self.tally.beside[FIRST].rate

    @property
    def groups(self) -> dict[str, Estimate]:
        """The rate of each group."""
        return {name: share.rate for name, share in self.tally.groups.items()}

    @property
    def wrong(self) -> list[Chain]:
        """The chains whose best answer is wrong."""
        ids = {*self.tally.wrong}
        return [chain for chain in self.chains if chain.id in ids]

    def to_json(self) -> str:
        """Return what `redraft eval --json` prints. Keep it for `redraft report --against`."""
        return json.dumps(self.tally.record(), ensure_ascii=False, indent=1)

    def __str__(self) -> str:
        """Return the table of `redraft eval`."""
        return "\n".join(self.tally.table())


def evaluate(
    task: str | Iterable[Record],
    records: str | Path | Iterable[Record] | None = None,
    *,
    parallel: int = PARALLEL,
    limit: int | None = None,
    guided: bool = False,
    run_code: bool = False,
    **options: Unpack[RevisionKeywords],
) -> Evaluation:
    """Answer records, and score the answers.

    Args:
        task: The name of a task, as for `redraft eval`; or records with `prompt` and `checks`. These may be
            functions and other checks, too.
        records: The task's file, or its records.
        parallel: Chains at once.
        limit: Most records.
        guided: Let the task's own checks guide revising too.
        run_code: Let humaneval and mbpp run the model's programs, in a sandbox.
        **options: As for `redraft.revise`. `checks` guide revising, and do not score.

    Raises:
        UsageError: The task or the options are wrong.
        RecordError: A record is none of the task, or there is none.
        EngineError, CheckError: As for `redraft.revise`. An empty answer is wrong, and raises nothing.
    """
    if parallel < 1:
        raise UsageError(f"parallel is {parallel}.", hint="At least one chain at once.")
    name, given = (task, records) if isinstance(task, str) else ("checks", task)
    if given is None:
        raise UsageError("there are no records.", hint=f'Write evaluate({name!r}, "records.jsonl", …).')
    task_of(name, run_code=run_code)
    items = list(islice(_items(name, given), limit))
    if not items:
        raise RecordError("there is no record to evaluate.", hint="Give at least one.")

    def make(item: _Item) -> Chain:
        own: Any = {**options, "id": item.asked.id}
        if guided:
            own["checks"] = (*options.get("checks", ()), *item.checks)
        try:
            chain = revise(item.asked.prompt, **own)
        except EmptyReply:
            return asyncio.run(scored(unanswered(item.asked), name, item.checks))
        chain = chain.model_copy(update={"meta": {**item.asked.meta, **chain.meta}})
        return asyncio.run(scored(chain, name, item.checks))

    chains, tally = tuple(_each(make, items, parallel)), Tally(task=name)
    for chain in chains:
        tally.add(chain)
    return Evaluation(chains, tally)


@dataclass(frozen=True)
class _Item:
    """A record, and the checks that score its answers."""

    asked: Chain
    checks: tuple[Check, ...]


def _items(name: str, records: str | Path | Iterable[Record]) -> Iterator[_Item]:
    task = task_of(name, run_code=True)
    if isinstance(records, str | Path):
        for chain in asked(task, read_records(Path(records))):
            yield _Item(chain, checks_of(task, chain))
        return
    for number, record in enumerate(records, start=1):
        where = f"record {number}"
        if (
            name == "checks"
            and isinstance(record, Mapping)
            and isinstance(record.get("checks"), list | tuple)
        ):
            rest = {field: value for field, value in record.items() if field != "checks"}
            chain = _chain(rest, where)
            yield _Item(chain, _parsed(record["checks"], where))
        else:
            chain = next(asked(task, [_chain(record, where)]))
            yield _Item(chain, checks_of(task, chain))


def _chain(record: Record, where: str) -> Chain:
    chain = record if isinstance(record, Chain) else chain_of(dict(record), where)
    return chain if chain.id else chain.model_copy(update={"id": where})


def _parsed(checks: Iterable[Any], where: str) -> tuple[Check, ...]:
    """Parse checks of the program that calls; they may be of any kind."""
    if found := parse_checks(checks):
        return found
    raise RecordError(f"{where}: it has no checks.", hint='Write {"prompt": "…", "checks": ["words<=50"]}.')


def _each(make: Callable[[_Item], Chain], items: list[_Item], parallel: int) -> Iterator[Chain]:
    """Yield the chains in the order of the items. The first failure ends all."""
    pool = ThreadPoolExecutor(parallel)
    try:
        yield from pool.map(make, items)
    finally:
        pool.shutdown(cancel_futures=True)
