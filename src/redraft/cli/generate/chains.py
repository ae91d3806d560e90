"""`redraft generate chains`: a teacher makes a feedback chain of each record, resumable, and paid for once.

`cli.answer` does the work. This module adds what a record gives to its chain, and what is done with the chain
(`generate.chains`).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redraft.cli.answer import Form, Making, Out, answer_file, records_to
from redraft.cli.options import FlagGroup, fill_in, takes
from redraft.cli.running import First, OwnJournal, RetryFailed, RunFlags, own_journal
from redraft.options import TEACHER, ChainFlags

if TYPE_CHECKING:
    from redraft.chain import Chain
    from redraft.generate.chains import ChainCounts, ChainMaking
    from redraft.generate.leaks import DroppedFile
    from redraft.revision.settings import Settings

USUAL = {
    "prompts": "teacher",
    "temperature": 1.0,
    "max_tokens": 512,
    "feedback_tokens": 256,
    "max_revisions": 4,
}
"""SelFee's settings (reference/selfee.md), but for feedback: its 128 tokens cut off one verdict in ten."""

ACCEPT_SCORE = 9.0
"""SelFee's too. It is the default where a critic is asked for a score."""

OF_A_RUN = ("recipe", "drop_leaks", "refusals")
"""Settings that the card names, and that may differ between two runs."""

FLAGS = FlagGroup(
    ChainFlags, USUAL, "generate", TEACHER, never_default=frozenset({"check"}), other="generate instructions"
)
"""Checks replace the critic, so those of the config file, meant for answers, do not apply."""


def chains(
    flags: ChainFlags,
    source: Annotated[
        Path, typer.Argument(metavar="RECORDS", help="A file of records, of any known shape; '-' is stdin.")
    ],
    out: Out,
    run: RunFlags,
    limit: First = None,
    journal: OwnJournal = None,
    retry_failed: RetryFailed = False,
    run_code: Annotated[
        bool,
        typer.Option(
            "--run-code",
            help="Let --verify code run the model's programs, in a sandbox.",
            rich_help_panel=TEACHER,
        ),
    ] = False,
    estimate: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=2, help="Make N chains alone, and estimate what all cost.", show_default=False
        ),
    ] = None,
) -> None:
    """Make feedback chains with a teacher, to learn from.

    FILE gets a chain for each record. The model answers, criticises its answer with a score and a verdict,
    and corrects it until the score is good enough. Where the model's server keeps to JSON schemas, score and
    verdict are fields; otherwise they are read from the text.

    Every reply is stored before it is used, in FILE.journal.db: after any stop, the same command goes on, and
    nothing is paid for twice. Failures are in FILE.errors.jsonl and are tried again.

    With --gold the critic sees the record's gold answer, and the writer never does; feedback that quotes it
    is counted. With --first the record's own answer is criticised. With --verify no teacher's opinion is
    asked: a check with the gold answer gives the verdict.
    """
    from redraft.generate.chains import ChainMaking
    from redraft.revision.prompts import wording_of

    settings = fill_in(flags, FLAGS)
    making = ChainMaking.of(settings.values, run_code=run_code)
    if not making.verify and wording_of(settings.values["prompts"]).scores:
        settings.values.setdefault("accept_score", ACCEPT_SCORE)
    settings = replace(settings, stand_ins=making.stand_ins)
    _tell_idle(settings, run_code=run_code)
    records = records_to(limit)
    sample = Sample(settings, out, run.at_once, estimate, records) if estimate else None
    answer_file(
        source,
        out,
        settings,
        form=Form("chain", None),
        run=run,
        journal=own_journal(journal, out),
        retry_failed=retry_failed,
        making=_making(
            making,
            out,
            sample,
            {name: flags.get(name) or settings.get(name) for name in OF_A_RUN},
            sample.records if sample else records,
        ),
    )


def _tell_idle(settings: Settings, *, run_code: bool) -> None:
    """Tell the user of flags that do nothing with these settings."""
    from redraft.cli.shell import tell

    if run_code and settings.get("verify") != "code":
        tell("--run-code does nothing without --verify code.")
    if settings.get("drop_leaks") and not (settings.get("gold") or settings.get("verify")):
        tell("--drop-leaks does nothing without --gold or --verify: nobody saw the gold answer.")


@dataclass
class Sample:
    """The records of an estimate.

    Attributes:
        size: How many there should be.
        read: Reads all records of a file.
    """

    settings: Settings
    out: Path
    parallel: int
    size: int
    read: Callable[[Path], Iterator[Chain]]
    _lengths: dict[str, int] = field(default_factory=dict)
    _count: int = 0
    _mean: float = 0.0

    def records(self, file: Path) -> Iterator[Chain]:
        """Yield the records of the sample."""
        from redraft.generate.estimate import spread

        lengths = array("Q", (len(record.prompt.text) for record in self.read(file)))
        self._count, self._mean = len(lengths), sum(lengths) / max(len(lengths), 1)
        places = spread(lengths, self.size, self.settings.get("seed") or 0)
        for place, record in enumerate(self.read(file)):
            if place in places:
                self._lengths[record.id] = lengths[place]
                yield record

    def rows(self) -> list[tuple[str, str]]:
        """Return the estimate as rows for the summary."""
        from redraft.chain import read_jsonl
        from redraft.generate.chains import REASONS
        from redraft.generate.estimate import Estimate
        from redraft.generate.leaks import DroppedFile

        files = [read_jsonl(self.out), *(DroppedFile(self.out, reason).chains() for reason in REASONS)]
        made = (chain for file in files for chain in file if chain.id in self._lengths)
        sample = list(made)
        if not sample:
            return [("estimate", "no chain of the sample was made, so there is nothing to estimate from")]
        limits = {name: self.settings.get(name) for name in ("rpm", "tpm")}
        lengths = [self._lengths[chain.id] for chain in sample]
        return Estimate(self._count, sample, self.parallel, lengths=lengths, mean=self._mean, **limits).rows()


def _making(
    making: ChainMaking,
    out: Path,
    sample: Sample | None,
    of_run: Mapping[str, Any],
    records: Callable[[Path], Iterator[Chain]],
) -> Making:
    """Return what records give to their chains, and what is done with these."""
    from redraft.generate.chains import REASONS, ChainCounts, leaked, refusing
    from redraft.generate.leaks import DroppedFile

    files = {reason: DroppedFile(out, reason) for reason in REASONS}
    drops = {"leaks": bool(of_run["drop_leaks"]), "refusals": of_run["refusals"] == "drop"}
    counts = ChainCounts()

    def begin(done: Container[str]) -> None:
        for file in files.values():
            file.tidy(done)

    def finished(chain: Chain, record: Chain) -> Chain | None:
        chain = making.finished(chain, record)
        found = {"leaks": leaked(chain), "refusals": bool(refusing(chain))}
        reason = next((name for name in REASONS if drops[name] and found[name]), None)
        if reason is None:
            return chain
        files[reason].add(chain)
        return None

    def rows() -> list[tuple[str, str]]:
        found, dropped = [], _dropped(files)
        for reason, gone in dropped.items():
            if gone.chains:
                usage, usd = gone.usage, gone.usage.cost_usd
                used = f"{usage.completion_tokens:,} new tokens{'' if usd is None else f', {usd:.4f} USD'}"
                what = gone.leaks if reason == "leaks" else gone.with_refusals
                found.append(("dropped", f"{what}, in {files[reason].path}: {used}"))
        kept = {"leaks": counts.leaking, "refusals": counts.refused}
        if any(kept[reason] if drops[reason] else dropped[reason].chains for reason in REASONS):
            found.append(("", f"to sort all alike, remove {out} and run this again: replies are stored"))
        return found + (sample.rows() if sample else [])

    return Making(
        "generate chains",
        FLAGS,
        records,
        making.options,
        finished,
        may_drop=True,
        begin=begin,
        summary=counts,
        rows=rows,
        must_pass=False,
        ended=lambda: _end(out, counts, files, of_run),
    )


def _dropped(files: Mapping[str, DroppedFile]) -> dict[str, ChainCounts]:
    """Count the chains dropped for each reason, in this run and before."""
    from redraft.generate.chains import ChainCounts

    dropped = {reason: ChainCounts() for reason in files}
    for reason, file in files.items():
        for chain in file.chains():
            dropped[reason].add(chain)
    return dropped


def _end(out: Path, counts: ChainCounts, files: Mapping[str, DroppedFile], of_run: Mapping[str, Any]) -> None:
    """Write the card of an output, or say why not. Say if licences clash. The run did its work either way."""
    from redraft.cli.shell import tell
    from redraft.errors import OutputError
    from redraft.generate.card import write_card
    from redraft.licences import clash, remark

    try:
        write_card(out, counts, _dropped(files), {**USUAL, "accept_score": ACCEPT_SCORE}, of_run)
    except OutputError as error:
        tell(error.message, error.hint)
    if clash(counts.sources):
        tell(remark(counts.sources))  # a quiet run says it too


chains = takes(chains, FLAGS)
