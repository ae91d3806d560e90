"""Make the runs of a model on a task: each strategy answers the records, once for each seed.

A run is like `redraft eval` with a strategy's options, and writes a separate file. All runs share a cache, so
no reply is requested twice. All strategies but `alone` and `steered` start with the same first answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from redraft.chain import Chain, read_jsonl
from redraft.chain.read.records import read_records
from redraft.checks.base import Check, form_of
from redraft.checks.parse import parse_checks
from redraft.errors import UsageError
from redraft.evaluation.diagnosis import strategies
from redraft.evaluation.diagnosis.strategies import REVIEWED, SAMPLED, Strategy, strategies_of
from redraft.evaluation.diagnosis.truth import pairs_in
from redraft.evaluation.judging.run import JudgeRun
from redraft.evaluation.tasks.run import ScoredRun
from redraft.evaluation.tasks.tasks import KEY, asked, checks_of, task_named
from redraft.jobs.causes import in_words
from redraft.jobs.counting import counted
from redraft.jobs.harness import ItemCounts, JobResult
from redraft.jobs.limits import Limits, Spent
from redraft.jobs.provenance import RunFile
from redraft.options import MachineOptions
from redraft.revision.runs.plan import RunPlan
from redraft.revision.settings import Settings

CACHE = "replies.db"  # contains the replies of all runs, in their folder
_OF_MODEL = ("temperature", "max_tokens", "seed", "price", *MachineOptions.model_fields)
"""Options of the answering model, which the judge does not get."""


@dataclass
class StrategyRun(ScoredRun):
    """A run of a strategy."""

    strategy: Strategy = None  # type: ignore[assignment]
    given: tuple[Chain, ...] = ()
    guides: tuple[Check, ...] = ()  # the checks that guide; if empty, the task's checks do
    revised: Path = Path()  # the file of the strategy `revise`, with the feedback that is shuffled

    def __post_init__(self) -> None:
        self.verb = f"diagnose {self.task}"

    def records(self) -> Iterator[Chain]:
        """Yield the given records."""
        return iter(self.given)

    @cached_property
    def _told(self) -> Mapping[str, str]:
        return strategies.strangers(read_jsonl(self.revised)) if self.strategy.kind == "shuffled" else {}

    def options_of(self, record: Chain) -> Mapping[str, Any]:
        """Return the option `checks` for a record. Some strategies drop checks, or change their messages."""
        if self.strategy.kind == "alone":
            return {"checks": ()}
        checks = self.guides or self.checks(record)
        if self.strategy.kind in ("blind", "shuffled"):
            checks = strategies.retold(checks, self._told.get(record.id, ""))
        elif self.strategy.kind in ("vote", "early"):
            checks = strategies.retold(checks, never=True)
        return {"checks": checks}

    async def finish(self, chain: Chain, record: Chain) -> Chain:
        """Hold the vote if the strategy has one, then add the check results of all answers to the chain."""
        early = self.strategy.kind == "early"
        said = strategies.reader_of(self.checks(record)) if early or self.strategy.kind == "vote" else None
        return await super().finish(strategies.voted(chain, said, early=early) if said else chain, record)


class Ended(NamedTuple):
    """The combined result of the runs so far."""

    status: int  # the highest exit status
    reached: str  # the limit that ended the runs, in words; empty if none did
    left: Limits  # the limits that remain


@dataclass(frozen=True)
class StrategyRuns:
    """The runs of all strategies over the records of a task, for each seed."""

    settings: Settings  # of `DiagnoseOptions`
    source: Path
    plan: RunPlan  # the plan of each run. `out` is the folder
    task: str
    kinds: tuple[str, ...]  # keys of `strategies.NAMES`
    # For --choose: the part of the records to answer, drawn at random. Drafts are then 2, 4, 8 …
    share: float | None = None

    def run(self, so_far: Ended) -> Ended:
        """Execute every unfinished run, and return the combined result of `so_far` and these runs.

        Raises:
            OutputError: The folder contains runs with other settings, or is in use.
        """
        for strategy in self.strategies:
            for file in sorted(self.plan.out.glob(f"seed-*/{strategy.name}.jsonl")):
                made = file.parent.name.removeprefix("seed-")
                if made.isdecimal() and file.stat().st_size:
                    RunFile(file).check(self._run_of(strategy, int(made), self.plan.limits).provenance())
        first, (status, _, limits) = self.settings.get("seed") or 0, so_far
        ways = [*self.strategies, *[REVIEWED] * bool(self.settings.get("judge"))]
        runs = [*product(range(first, first + self.settings.values.seeds), ways)]
        needed = ((seed, way) for seed, way in runs if self.share is not None or self._fits(way, seed))
        number, told = 0, not self.plan.quiet and self.share is None
        for number, (seed, strategy) in enumerate(needed, 1):
            if not self.plan.quiet:
                of = f"run {number} of at most {len(runs)}" if told else counted(len(self.records), "prompt")
                self.plan.say(f"{strategy.called}, seed {seed}: {of}")
            result = (self._judge if strategy == REVIEWED else self._make)(strategy, seed, limits)
            status = max(status, result.exit_status)
            if result.counts.limit:
                return Ended(status, result.counts.limit, limits)
            limits = limits.after(result.spent, result.seconds)
        if told and number < len(runs):
            why = "fewer drafts already took as many tokens as each way with one draft"
            self.plan.say(f"{len(runs) - number} of {len(runs)} runs are not needed: {why}.")
        return Ended(status, "", limits)

    def _fits(self, strategy: Strategy, seed: int) -> bool:
        """Return False if a smaller size already took as many tokens as each strategy outside `SAMPLED`."""
        if strategy.kind not in SAMPLED:
            return True
        first = self.settings.get("seed") or 0
        if seed != first:
            return self._file(strategy, first).exists()
        ways = [way for way in self.strategies if self._file(way, first).exists()]
        fewer = [way for way in ways if way.kind == strategy.kind and way.texts < strategy.texts]
        others = (self._tokens(way, first) for way in ways if way.kind not in SAMPLED)
        return not fewer or max(self._tokens(way, first) for way in fewer) < max(others)

    def _tokens(self, strategy: Strategy, seed: int) -> int:
        return sum(chain.usage.completion_tokens for chain in read_jsonl(self._file(strategy, seed)))

    def _file(self, strategy: Strategy, seed: int) -> Path:
        return self.plan.out / f"seed-{seed}" / f"{strategy.name}.jsonl"

    @cached_property
    def records(self) -> tuple[Chain, ...]:
        """The records to answer, with the task's prompts and without repeats."""
        task, limit = task_named(self.task), self.settings.values.limit
        records = [*asked(task, read_records(self.source), limit, file=self.source)][::-1]
        if any(KEY in record.meta for record in records):
            said = f"{self.source} has answers of redraft eval, but --tasks needs prompts to answer."
            hint = f"Give a file of prompts. To diagnose these answers: redraft diagnose {self.source}"
            raise UsageError(said, hint=hint)
        asks = (f"{each.prompt!r} {[check.name for check in checks_of(task, each)]}" for each in records)
        found = tuple(dict(zip(asks, records, strict=True)).values())[::-1]  # the first of equal records
        if (again := len(records) - len(found)) and not self.plan.quiet:
            left_out = f"{counted(again, 'prompt')} that {self.source.name} repeats with the same checks"
            self.settings.tell(f"Left out: {left_out}.")
        if self.share is None:
            return found
        # A file may be sorted by topic, and may have grown since some of its records were answered.
        one = self._file(Strategy("plain", 1), self.settings.get("seed") or 0)
        answered = {chain.id for chain in read_jsonl(one)} if one.exists() else set[str]()
        mixed = sorted(found, key=lambda each: (each.id not in answered, sha256(each.id.encode()).digest()))
        return tuple(mixed[: max(1, round(self.share * len(mixed)))])

    @cached_property
    def voteless(self) -> list[str]:
        """The ids of records whose votes cannot be counted, because no check finds a result in answers."""
        asks = ((record.id, checks_of(task_named(self.task), record)) for record in self.records)
        return [name for name, checks in asks if strategies.reader_of(checks) is None]

    @cached_property
    def strategies(self) -> list[Strategy]:
        """The strategies for the task, without `steered` if there are no checks, or if --steer steers all."""
        needless = self.settings.get("steer") or self._chooser  # all are steered, or there is no check
        kinds = [kind for kind in self.kinds if kind != "steered" or not needless]
        if len(kinds) < len(self.kinds) and not self.plan.quiet:
            why = "only checks can steer, and there are none" if self._chooser else "--steer steers all ways"
            self.settings.tell(f"`steered` is left out: {why}.")
        values = self.settings.values
        drawn = [n for n in range(2, values.samples + 1) if self.share is None or n.bit_count() == 1]
        return strategies_of(kinds, values.max_revisions, drawn, voting=not self.voteless)

    @property
    def _chooser(self) -> str | None:
        return None if self.settings.get("check") else self.settings.get("judge")

    @cached_property
    def _common(self) -> Settings:
        guides = parse_checks(self.settings.get("check") or ())
        of_task = (check for record in self.records for check in checks_of(task_named(self.task), record))
        # With --choose, the engine stays the same after the steered way is dropped.
        steers = self.share is not None or "steered" in self.kinds or self.settings.get("steer")
        because = "one way is steered" if steers and any(map(form_of, guides or of_task)) else ""
        common = replace(self.settings, llamacpp_because=because)
        stand_ins = {"checks": () if self._chooser else ("json",)}
        return replace(common.over(judge=self._chooser), stand_ins=stand_ins)

    def _make(self, strategy: Strategy, seed: int, limits: Limits) -> JobResult:
        run = self._run_of(strategy, seed, limits)
        file = run.plan.out
        file.parent.mkdir(parents=True, exist_ok=True)
        result = run.run().job
        if result.causes and not result.counts.limit:
            failed = counted(result.causes.total(), "prompt")
            self.plan.say(f"{file}: {failed} failed: {in_words(result.causes)}.")
        return result

    def _judge(self, _: Strategy, seed: int, limits: Limits) -> JobResult:
        plan = replace(self.plan, out=self._file(REVIEWED, seed), cache=self.plan.out / CACHE, limits=limits)
        pairs = dict.fromkeys(pair for way in self.strategies for pair in pairs_in(self._file(way, seed)))
        if not pairs:
            return JobResult(ItemCounts(), Spent(), 0.0, 0, plan.out)
        told = self.settings.over(**dict.fromkeys(_OF_MODEL), model=self.settings.get("judge"))
        result = JudgeRun(told, [], plan, given=[*pairs]).run()
        result.job.counts.exit_status = result.exit_status  # not 0 if most reviews are unreadable
        return result.job

    def _run_of(self, strategy: Strategy, seed: int, limits: Limits) -> StrategyRun:
        checks, file = self.settings.get("check") or [], self._file(strategy, seed)
        return StrategyRun(
            self._common.over(check=checks, **strategy.options, seed=seed),
            self.source,
            replace(self.plan, out=file, cache=self.plan.out / CACHE, limits=limits),
            task=self.task,
            strategy=strategy,
            given=self.records,
            guides=parse_checks(checks),
            revised=self._file(replace(strategy, kind="revise"), seed),
        )
