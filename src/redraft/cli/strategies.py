"""The flags of `redraft diagnose --run`: how the runs of all strategies are made."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from redraft.cli.running import (
    LimitSeconds,
    LimitTokens,
    LimitUsd,
    Parallel,
    Quiet,
    RetryFailed,
    Shard,
    parallel_of,
)
from redraft.cli.shell import flag, tell
from redraft.errors import UsageError
from redraft.evaluation.diagnosis import SAMPLES, SEEDS

if TYPE_CHECKING:
    from redraft.evaluation.diagnosis.runs import StrategyRuns
    from redraft.revision.settings import Settings

EXAMPLE = "--run gsm8k test.jsonl -o runs"


_with_run = partial(flag, rich_help_panel="With --run")


@dataclass(frozen=True)
class StrategyFlags:
    """What a user said of the runs. None stands for the default."""

    run: Annotated[
        str | None,
        _with_run("TASK", "Answer the task's file in several ways, and compare them."),
    ] = None
    out: Annotated[Path | None, _with_run("FOLDER", "Where the runs go.", "--out", "-o")] = None
    seeds: Annotated[int | None, _with_run("N", f"Rounds over the records.  [{SEEDS}]", min=1)] = None
    samples: Annotated[
        int | None, _with_run("N", f"Most answers of best of N and of a majority vote.  [{SAMPLES}]", min=2)
    ] = None
    limit: Annotated[int | None, _with_run("N", "Only the first N records.", min=1)] = None
    parallel: Parallel = None
    retry_failed: RetryFailed = False
    quiet: Quiet = False
    shard: Shard = None
    limit_usd: LimitUsd = None
    limit_tokens: LimitTokens = None
    limit_seconds: LimitSeconds = None

    @property
    def given(self) -> dict[str, Any]:
        """The values that were given and mean nothing without runs, by name."""
        apart = ("run", "retry_failed", "quiet")
        return {name: value for name, value in vars(self).items() if name not in apart}

    def runs(self, files: list[Path], settings: Settings, *, quiet: bool) -> StrategyRuns:
        """Return the runs on a file of records."""
        from redraft.evaluation.diagnosis.runs import StrategyRuns
        from redraft.jobs.limits import Limits
        from redraft.revision.runs.plan import RunPlan

        if len(files) > 1:
            raise UsageError("--run takes one file of records.", hint=f"Write: {EXAMPLE}")
        if self.out is None:
            raise UsageError("--run needs a folder for its runs.", hint=f"Name one: {EXAMPLE}")
        limits = Limits(self.limit_usd, self.limit_tokens, self.limit_seconds)
        how: Any = {"retry_failed": self.retry_failed, "quiet": quiet, "tell": tell}
        plan = RunPlan(self.out, parallel_of(self.parallel), limits, **how).of_share(self.shard)
        seeds, samples = self.seeds or SEEDS, self.samples or SAMPLES
        return StrategyRuns(settings, files[0], plan, str(self.run), self.limit, seeds, samples)
