"""`redraft data dedupe`: keep one of several duplicates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from redraft.cli.data.common import Flags, Source


def dedupe(
    file: Source,
    by: Annotated[
        Literal["exact", "query", "rouge", "minhash"], typer.Option(help="What makes two records duplicates.")
    ] = "exact",
    of: Annotated[
        Literal["all", "query", "instruction"] | None,
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
    from redraft.errors import MissingExtra

    try:
        from redraft.collect.dedupe.dedupe import dedupe as deduped
    except ModuleNotFoundError:
        raise MissingExtra("redraft data dedupe", "data") from None

    deduped(
        file,
        flags.out,
        by=by,
        of=of,
        threshold=threshold,
        letters=letters,
        against=against or (),
        keep=keep,
        **flags.options,
    )
