"""`redraft data dedupe` and `decontaminate`: drop what is there twice, or in an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from redraft.cli.data.common import Flags, Source
from redraft.cli.shell import flag


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
        flag(
            "X",
            "Similarity of duplicates: above it for rouge, at least it for minhash.  [0.7; 0.8]",
            min=0.1,
            max=1.0,
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
        from redraft.data.dedupe.dedupe import dedupe as deduped
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


def decontaminate(
    file: Source,
    against: Annotated[
        list[Path], typer.Option(metavar="FILE", help="Evaluation items of any known shape. Can be repeated.")
    ],
    ngram: Annotated[
        int, typer.Option("--ngram", "-n", metavar="N", min=5, help="Consecutive words that make a match.")
    ] = 13,
    *,
    flags: Flags,
) -> None:
    """Drop the records that contain evaluation items.

    A record is dropped if it shares 13 consecutive words with an item's question, gold answer or rationale,
    ignoring case and punctuation. A shorter question must match completely; one of fewer than 8 words must
    be a whole turn. The file of --dropped has the matches: item, shared words.
    """
    from redraft.errors import MissingExtra

    try:
        from redraft.data.dedupe.decontaminate import decontaminate as decontaminated
    except ModuleNotFoundError:
        raise MissingExtra("redraft data decontaminate", "data") from None

    decontaminated(file, flags.out, against=against, ngram=ngram, **flags.options)
