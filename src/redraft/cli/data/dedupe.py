"""`redraft data dedupe`: of records that are alike one is kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from redraft.cli.data.common import (
    STDIO,
    Force,
    Out,
    Quiet,
    Side,
    Source,
    Strict,
    Workers,
    at_work,
    lines_in,
    not_twice,
    processes,
    say_counts,
    without_drops,
)
from redraft.cli.data.provenance import Making, fingerprint

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import IO

    from redraft.collect.dedupe.dedupe import Likeness

_By = Literal["exact", "query", "rouge", "minhash"]
_Of = Literal["all", "query", "instruction"]
_USUAL: dict[_By, tuple[_Of, float]] = {
    "exact": ("all", 1.0),
    "query": ("query", 1.0),
    "rouge": ("instruction", 0.7),
    "minhash": ("all", 0.8),
}
"""What is compared, and the threshold, where nothing is said."""


def dedupe(
    file: Source,
    out: Out = STDIO,
    by: Annotated[_By, typer.Option(help="What makes two records alike.")] = "exact",
    of: Annotated[
        _Of | None,
        typer.Option(
            help="What is compared: all that is said, the first user turn, or that without its input.  "
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
            help="rouge: alike is what is over it. minhash: what reaches it.  [0.7; 0.8]",
            show_default=False,
        ),
    ] = None,
    letters: Annotated[
        Literal["all", "ascii"],
        typer.Option(help="rouge: words of all scripts, or of a-z and 0-9 alone as in rouge_score."),
    ] = "all",
    against: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Drop what is like these records too. Can be repeated."),
    ] = None,
    keep: Annotated[
        Literal["best", "first"], typer.Option(help="Which of those that are alike is kept.")
    ] = "best",
    dropped: Side = None,
    workers: Workers = None,
    strict: Strict = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Keep one of the records that are alike.

    exact: all that is said, but for case, white space and Unicode forms. query: so the first user turn.
    rouge: ROUGE-L over the instructions, as Alpaca filtered them. minhash: Jaccard similarity of word
    3-shingles, for millions.

    The best is the one with an answer, then the longest; ties are broken by content, so that the order of
    the input does not matter. All of the input is spooled to disk beside the output.
    """
    from dataclasses import asdict
    from functools import partial

    from redraft.errors import MissingExtra
    from redraft.parallel import spread

    try:
        from redraft.collect.dedupe.dedupe import dedupe as deduped
        from redraft.collect.dedupe.dedupe import examine
    except ModuleNotFoundError:
        raise MissingExtra("redraft data dedupe", "data") from None

    not_twice(file, against or ())
    like, many = _likeness(by, of, threshold, letters), processes(workers)
    pool, lines, others = lines_in(*(against or ())), lines_in(file), against or ()
    making = Making("dedupe", {**asdict(like), "keep": keep, "strict": strict}, file)
    making.more = lambda: {"against": [fingerprint(path) for path in others]}
    with (
        at_work(making, out, dropped, reads=[*others, file], beside=others, force=force, quiet=quiet) as job,
        _spool(out) as spool,
    ):
        watch, first = job.progress.watch, keep == "first"
        known = spread(partial(examine, like=like, strict=True), watch(pool), many)
        found = spread(partial(examine, like=like, strict=strict), watch(lines), many)
        entries, fixed = without_drops(found, job.gone), without_drops(known, job.gone)
        results = deduped(entries, like, spool, against=fixed, first=first, compared=job.progress.compare)
        job.sink.writelines(job.passing(results))
    say_counts(job, quiet=quiet)


def _likeness(by: _By, of: _Of | None, threshold: float | None, letters: str) -> Likeness:
    """What the flags ask for. One that would do nothing is refused."""
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


def _spool(out: Path) -> AbstractContextManager[IO[bytes]]:
    """A file without a name for all records, on the disk that the output goes to."""
    from tempfile import TemporaryFile

    return TemporaryFile(dir=None if out == STDIO else out.parent)
