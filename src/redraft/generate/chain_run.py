"""Make a feedback chain of each record of a file with a teacher, and a card of the file.

`generate_chains` is the function, and `redraft generate chains` the command.
"""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, Unpack

from redraft.chain import Chain, read_jsonl
from redraft.counting import tell
from redraft.errors import OutputError
from redraft.generate import ACCEPT_SCORE, USUAL
from redraft.generate.card import write_card
from redraft.generate.chains import REASONS, ChainCounts, ChainMaking, leaked, refusing
from redraft.generate.estimate import Estimate, spread
from redraft.generate.leaks import DroppedFile
from redraft.generate.options import ChainFlags, ChainOptions
from redraft.licences import clash, remark
from redraft.revision.keywords import ChainKeywords
from redraft.revision.prompts import wording_of
from redraft.revision.settings import Recipes, Settings
from redraft.runs.answers import AnswerRun, FileResult
from redraft.runs.plan import RunPlan


@dataclass
class ChainRun(AnswerRun):
    """A run of `redraft generate chains`."""

    making: ChainMaking = field(default_factory=ChainMaking)  # how records become chains
    sample: int | None = None  # how many chains to make, to estimate what all cost; None makes all
    verb: str = "generate chains"
    summary: ChainCounts = field(default_factory=ChainCounts)
    options = ChainFlags
    may_drop = True
    must_pass = False

    def __post_init__(self) -> None:
        get = self.settings.get
        self._of_run = {"recipe": self.settings.recipe or None} | {
            name: get(name) for name in ("drop_leaks", "refusals")
        }
        self._drops = {"leaks": bool(get("drop_leaks")), "refusals": get("refusals") == "drop"}
        self._dropped = {reason: DroppedFile(self.plan.out, reason) for reason in REASONS}
        self._lengths: dict[str, int] = {}
        self._count, self._mean = 0, 0.0

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
        if values.drop_leaks and not (making.gold or making.verify):
            plan.say("--drop-leaks does nothing without --gold or --verify: nobody saw the gold answer.")
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
        lengths = array("Q", (len(record.prompt.text) for record in super().records()))
        self._count, self._mean = len(lengths), sum(lengths) / max(len(lengths), 1)
        places = spread(lengths, self.sample, self.settings.get("seed") or 0)
        for place, record in enumerate(super().records()):
            if place in places:
                self._lengths[record.id] = lengths[place]
                yield record

    def options_of(self, record: Chain) -> Mapping[str, Any]:
        """Return what a record gives to its chain."""
        return self.making.options(record)

    def begin(self, done: Container[str]) -> None:
        """Remove dropped chains that are made again."""
        for file in self._dropped.values():
            file.tidy(done)

    async def finish(self, chain: Chain, record: Chain) -> Chain | None:
        """Clean up a chain, and drop it if it is of a kind that is not wanted."""
        chain = self.making.finished(chain, record)
        found = {"leaks": leaked(chain), "refusals": bool(refusing(chain))}
        reason = next((name for name in REASONS if self._drops[name] and found[name]), None)
        if reason is None:
            return chain
        self._dropped[reason].add(chain)
        return None

    def end(self) -> None:
        """Write the card, or say why not. Say if licences clash. The run did its work either way."""
        usual = {**USUAL, "accept_score": ACCEPT_SCORE}
        try:
            write_card(self.plan.out, self.summary, self._count_dropped(), usual, self._of_run)
        except OutputError as error:
            self.plan.say("\n  ".join(filter(None, [error.message, error.hint])))
        if clash(self.summary.sources):
            self.plan.say(remark(self.summary.sources))  # a quiet run says it too

    def rows(self) -> list[tuple[str, str]]:
        """Return rows on the dropped chains, and the estimate."""
        found, dropped = [], self._count_dropped()
        for reason, gone in dropped.items():
            if gone.chains:
                usage, usd = gone.usage, gone.usage.cost_usd
                used = f"{usage.completion_tokens:,} new tokens{'' if usd is None else f', {usd:.4f} USD'}"
                what = gone.leaks if reason == "leaks" else gone.with_refusals
                found.append(("dropped", f"{what}, in {self._dropped[reason].path}: {used}"))
        kept = {"leaks": self.summary.leaking, "refusals": self.summary.refused}
        if any(kept[reason] if self._drops[reason] else dropped[reason].chains for reason in REASONS):
            again = f"to sort all alike, remove {self.plan.out} and run this again: replies are stored"
            found.append(("", again))
        return found + (self._estimate() if self.sample else [])

    def _count_dropped(self) -> dict[str, ChainCounts]:
        """Count the chains dropped for each reason, in this run and before."""
        dropped = {reason: ChainCounts() for reason in REASONS}
        for reason, file in self._dropped.items():
            for chain in file.chains():
                dropped[reason].add(chain)
        return dropped

    def _estimate(self) -> list[tuple[str, str]]:
        """Return what all chains will cost as rows, from those of the sample, dropped ones included."""
        files = [read_jsonl(self.plan.out), *(file.chains() for file in self._dropped.values())]
        sample = [chain for file in files for chain in file if chain.id in self._lengths]
        if not sample:
            return [("estimate", "no chain of the sample was made, so there is nothing to estimate from")]
        limits = {name: self.settings.get(name) for name in ("rpm", "tpm")}
        lengths = [self._lengths[chain.id] for chain in sample]
        estimate = Estimate(
            self._count, sample, self.plan.parallel, lengths=lengths, mean=self._mean, **limits
        )
        return estimate.rows()


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
