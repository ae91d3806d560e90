"""`redraft data split`: long conversations in pieces that a model can be trained on."""

from __future__ import annotations

from typing import Annotated, Literal

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
    dropping,
    processes,
    say_counts,
)
from redraft.cli.data.tokens import Tokenizer, token_count
from redraft.cli.shell import tell


def split(
    file: Source,
    out: Out = STDIO,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Tokens of a piece, at most.")] = 2048,
    tokenizer: Tokenizer = "default",
    too_long: Annotated[
        Literal["keep", "drop"],
        typer.Option(help="What to do with one question and answer over the limit."),
    ] = "keep",
    dropped: Side = None,
    workers: Workers = None,
    strict: Strict = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Split long conversations at their turns.

    Each piece begins with a human's turn and repeats the system message. No turn is lost. The pieces of ID
    are ID#1, ID#2 … For what a template puts around each turn 6 tokens are left.
    """
    from collections import Counter
    from functools import partial

    from redraft.collect.reading import lines_of
    from redraft.collect.split import split_line
    from redraft.collect.work import spread
    from redraft.formats.files import open_output

    work = partial(
        split_line, count=token_count(tokenizer), limit=limit, drop=too_long == "drop", strict=strict
    )
    total: Counter[str] = Counter()
    with dropping(dropped, force=force) as gone, open_output(out, force=force) as sink:
        for done in spread(work, lines_of(file), processes(workers)):
            sink.writelines(done.lines)
            total += done.counts
            for each in done.drops:
                gone.add(each)
    say_counts(total["kept"], gone, quiet=quiet)
    if not quiet:
        tell(f"{total['split']:,} split, {total['too long']:,} kept that are over {limit:,} tokens")
