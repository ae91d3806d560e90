"""`redraft data dedupe`: keep one of several duplicates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from redraft.cli.data import common
from redraft.cli.data.common import STDIO, Flags, Source

if TYPE_CHECKING:
    from redraft.collect.dedupe.dedupe import Likeness

_By = Literal["exact", "query", "rouge", "minhash"]
_Of = Literal["all", "query", "instruction"]
_USUAL: dict[_By, tuple[_Of, float]] = {
    "exact": ("all", 1.0),
    "query": ("query", 1.0),
    "rouge": ("instruction", 0.7),
    "minhash": ("all", 0.8),
}
"""The defaults of --of and --threshold."""


def dedupe(
    file: Source,
    by: Annotated[_By, typer.Option(help="What makes two records duplicates.")] = "exact",
    of: Annotated[
        _Of | None,
        typer.Option(
            help="Compare all texts, the first user turn, or that turn without its input.  "
            "[all; rouge: instruction]",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            min=0.1,
            max=1.0,
            help="Similarity of duplicates: above it for rouge, at least it for minhash.  [0.7; 0.8]",
            show_default=False,
        ),
    ] = None,
    letters: Annotated[
        Literal["all", "ascii"],
        typer.Option(help="rouge: use words of all scripts, or only a-z and 0-9 as rouge_score does."),
    ] = "all",
    against: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Also drop duplicates of these records. Can be repeated."),
    ] = None,
    keep: Annotated[Literal["best", "first"], typer.Option(help="Which duplicate to keep.")] = "best",
    *,
    flags: Flags,
) -> None:
    """Keep one of several duplicates.

    exact: the same texts, ignoring case, white space and Unicode forms. query: the same first user turn.
    rouge: ROUGE-L of the instructions, as Alpaca filtered them. minhash: Jaccard similarity of word
    3-shingles, for millions of records.

    The best record has an answer, then is the longest; content breaks ties, so the order of the input does
    not matter. The input is spooled to disk beside the output.
    """
    from dataclasses import asdict
    from functools import partial
    from tempfile import TemporaryFile

    from redraft.errors import MissingExtra
    from redraft.jobs.provenance import Provenance

    try:
        from redraft.collect.dedupe.dedupe import dedupe as deduped
        from redraft.collect.dedupe.dedupe import examine
    except ModuleNotFoundError:
        raise MissingExtra("redraft data dedupe", "data") from None

    common.not_twice(file, against or ())
    like, others = _likeness(by, of, threshold, letters), against or ()
    pool, lines = common.lines_in(*others), common.lines_in(file)
    provenance = Provenance("data dedupe", {**asdict(like), "keep": keep, "strict": flags.strict}, file)
    writer = common.writing(provenance, flags, reads=[*others, file], inputs={"against": others})
    disk = None if flags.out == STDIO else flags.out.parent
    with writer as output, TemporaryFile(dir=disk) as spool:
        known = output.spread(partial(examine, like=like, strict=True), pool)
        found = output.spread(partial(examine, like=like, strict=flags.strict), lines)
        entries, fixed = common.without_drops(found, output.gone), common.without_drops(known, output.gone)
        compared = output.progress.compare
        results = deduped(entries, like, spool, against=fixed, first=keep == "first", compared=compared)
        output.sink.writelines(output.passing(results))
    output.tell_counts()


def _likeness(by: _By, of: _Of | None, threshold: float | None, letters: str) -> Likeness:
    """Return the measure that the flags ask for. Refuse flags without effect."""
    from redraft.collect.dedupe.dedupe import Likeness
    from redraft.errors import UsageError

    usual_of, usual_threshold = _USUAL[by]
    useless = {
        "--of": of is not None and by == "query",
        "--threshold": threshold is not None and by in ("exact", "query"),
        "--letters": letters != "all" and by != "rouge",
    }
    for flag in (name for name, wrong in useless.items() if wrong):
        raise UsageError(f"{flag} does nothing with --by {by}.", hint="redraft data dedupe --help")
    return Likeness(by, of or usual_of, threshold or usual_threshold, letters == "ascii")
