"""Make a feedback chain of each record of a file with a teacher.

`generate_chains` is the function, and `redraft generate chains` the command.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, Unpack

from redraft.chain import Chain, Usage, read_jsonl
from redraft.data.generate import ACCEPT_SCORE, USUAL, estimated
from redraft.data.generate.chains import ChainCounts, ChainMaking
from redraft.data.generate.options import ChainFlags, ChainOptions
from redraft.jobs.counting import tell
from redraft.jobs.licences import clash, remark
from redraft.jobs.provenance import RunFile
from redraft.revision.keywords import ChainKeywords
from redraft.revision.prompts import wording_of
from redraft.revision.runs.answers import AnswerRun, FileResult
from redraft.revision.runs.plan import RunPlan
from redraft.revision.settings import Recipes, Settings


@dataclass
class ChainRun(AnswerRun):
    """A run of `redraft generate chains`."""

    making: ChainMaking = field(default_factory=ChainMaking)  # how records become chains
    sample: int | None = None  # how many chains to make, to say what all cost; None makes all
    verb: str = "generate chains"
    summary: ChainCounts = field(default_factory=ChainCounts)
    options = ChainFlags
    must_pass = False

    _count: int = field(default=0, init=False)
    _sampled: set[str] = field(default_factory=set, init=False)

    @classmethod
    def of(cls, settings: Settings, source: str | Path, output: str | Path, name: str = "") -> Self:
        """Return the run that `ChainOptions` ask for, with SelFee's settings where they say nothing.

        Raises:
            UsageError: Two options do not go together, or there is no sandbox.
        """
        values = settings.values
        making = ChainMaking.of(values.explicit, run_code=values.run_code)
        if not making.verify and wording_of(values.prompts).scores and values.accept_score is None:
            settings = settings.over(accept_score=ACCEPT_SCORE)
        settings = replace(settings, stand_ins=making.stand_ins)
        plan = RunPlan.of(output, settings, journal=True)
        if values.run_code and making.verify != "code":
            plan.say("--run-code does nothing without --verify code.")
        run = cls(settings, Path(source), plan, limit=values.limit, name=name, making=making)
        run.sample = values.estimate
        return run

    def prepare(self) -> None:
        """Say that the checks of records are not used: here a critic judges, or what `--verify` says."""
        super().prepare()
        first = next(super().records(), None)
        if first is not None and "checks" in first.meta.get("source", ()):
            self.plan.say("The `checks` of the records are not used. Checks for all: --check.")

    def records(self) -> Iterator[Chain]:
        """Yield the records, or those of the sample."""
        if self.sample is None:
            yield from super().records()
            return
        self._count = sum(1 for _ in super().records())
        count = min(self.sample, self._count)
        places = {k * self._count // count for k in range(count)}
        for place, record in enumerate(super().records()):
            if place in places:
                self._sampled.add(record.id)
                yield record

    def options_of(self, record: Chain) -> Mapping[str, Any]:
        """Return what a record gives to its chain."""
        return self.making.options(record)

    async def finish(self, chain: Chain, record: Chain) -> Chain:
        """Clean up a chain, and mark it."""
        return self.making.finished(chain, record)

    def end(self) -> None:
        """Say if licences clash."""
        if clash(self.summary.sources):
            self.plan.say(remark(self.summary.sources))  # a quiet run says it too

    def rows(self) -> list[tuple[str, str]]:
        """Return what all runs paid, if there were several, and the estimate, if one was asked for."""
        sessions = (RunFile(self.plan.out).read() or {}).get("sessions") or []
        found = []
        if len(sessions) > 1:
            tokens, usd = (sum(each.get(name) or 0 for each in sessions) for name in ("tokens", "usd"))
            least = "" if all("tokens" in each for each in sessions) else "at least "  # one was killed
            money = f", {usd:,.4f} USD" if usd else ""
            how = " (estimated)" * any(each.get("estimated") for each in sessions)
            text = f"{least}{tokens:,} new tokens{money}{how} in {len(sessions)} runs, failures included"
            found.append(("paid", text))
        if not self.sample:
            return found
        made = [chain.usage for chain in read_jsonl(self.plan.out) if chain.id in self._sampled]
        if not made:
            none = "no chain of the sample was made, so there is nothing to estimate from"
            return [*found, ("estimate", none)]
        what = f"all {self._count:,} records, at the rate of {len(made):,}"
        return found + estimated(what, sum(made, Usage()), self._count / len(made), self.plan.parallel)


def generate_chains(source: str | Path, output: str | Path, **options: Unpack[ChainKeywords]) -> FileResult:
    """Make feedback chains of records with a teacher. As `redraft generate chains`, and in the same files.

    After any stop, the same call resumes, and so does the command. Works in notebooks too.

    Args:
        source: A file of records, of any known shape.
        output: Where the chains go.
        **options: As listed below; all can be left out. The model, which is the teacher, is a reference.

    Raises:
        UsageError: An option is unknown, or two do not fit together.
        RecordError: The records cannot be read, or lack what an option needs.
        OutputError: `output` cannot be written, is in use, or was made in another way.
        EngineError, CheckError: What ended the run. What was made until then is in `output`.
        KeyboardInterrupt: Ctrl-C ended the run. What was made until then is in `output`.
    """
    return _run_of(source, output, options).run()


async def agenerate_chains(
    source: str | Path, output: str | Path, **options: Unpack[ChainKeywords]
) -> FileResult:
    """Do what `generate_chains` does, in the running event loop. Same arguments and errors."""
    return await _run_of(source, output, options).arun()


def _run_of(source: str | Path, output: str | Path, options: Mapping[str, Any]) -> ChainRun:
    recipes = Recipes(ChainFlags, "generate", other="generate instructions")
    settings = Settings.read(ChainOptions, options, below=USUAL, recipes=recipes, tell=tell)
    return ChainRun.of(settings, source, output)
