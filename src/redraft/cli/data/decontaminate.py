"""`redraft data decontaminate`: drop records that contain evaluation items."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from redraft.cli.data.common import Flags, Source


def decontaminate(
    file: Source,
    against: Annotated[
        list[Path], typer.Option(metavar="FILE", help="Evaluation items of any known shape. Can be repeated.")
    ],
    ngram: Annotated[
        int, typer.Option("--ngram", "-n", metavar="N", min=5, help="Consecutive words that make a match.")
    ] = 13,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="List the matches: record, item, shared words.", show_default=False
        ),
    ] = None,
    *,
    flags: Flags,
) -> None:
    """Drop the records that contain evaluation items.

    A record is dropped if it shares 13 consecutive words with an item's question, gold answer or rationale,
    ignoring case and punctuation. A shorter question must match completely; one of fewer than 8 words must
    be a whole turn.
    """
    from redraft.errors import MissingExtra

    try:
        from redraft.collect.dedupe.decontaminate import decontaminate as decontaminated
    except ModuleNotFoundError:
        raise MissingExtra("redraft data decontaminate", "data") from None

    decontaminated(file, flags.out, against=against, ngram=ngram, report=report, **flags.options)
