"""Make a feedback chain of each record of a file with a teacher, and a card of the file."""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from redraft.chain import Chain, read_jsonl
from redraft.errors import OutputError
from redraft.generate.card import write_card
from redraft.generate.chains import REASONS, ChainCounts, ChainMaking, leaked, refusing
from redraft.generate.estimate import Estimate, spread
from redraft.generate.leaks import DroppedFile
from redraft.licences import clash, remark
from redraft.options import ChainFlags
from redraft.runs.answers import AnswerRun

OF_A_RUN = ("recipe", "drop_leaks", "refusals")
"""Settings that the card names, and that may differ between two runs."""


@dataclass
class ChainRun(AnswerRun):
    """A run of `redraft generate chains`.

    Attributes:
        making: How records become chains.
        of_run: Settings of this run that the card names.
        usual: Settings that the card need not name, with their values.
        sample: Make so many chains, and estimate what all cost; None makes all.
    """

    making: ChainMaking = field(default_factory=ChainMaking)
    of_run: Mapping[str, Any] = field(default_factory=dict)
    usual: Mapping[str, Any] = field(default_factory=dict)
    sample: int | None = None
    verb: str = "generate chains"
    summary: ChainCounts = field(default_factory=ChainCounts)
    options = ChainFlags
    may_drop = True
    must_pass = False

    def __post_init__(self) -> None:
        self._dropped = {reason: DroppedFile(self.plan.out, reason) for reason in REASONS}
        self._drops = {
            "leaks": bool(self.of_run.get("drop_leaks")),
            "refusals": self.of_run.get("refusals") == "drop",
        }
        self._lengths: dict[str, int] = {}
        self._count, self._mean = 0, 0.0

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
        try:
            write_card(self.plan.out, self.summary, self._count_dropped(), self.usual, self.of_run)
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
