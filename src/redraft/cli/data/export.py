"""`redraft data export`: chains as other programs read them."""

from __future__ import annotations

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
    dropping,
    processes,
    say_counts,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from redraft.collect.dropped import Drop, Dropped


def export(
    file: Source,
    to: Annotated[
        Literal["selfee", "alpaca", "sharegpt", "messages", "preference"],
        typer.Option(help="The format.", show_default=False),
    ],
    out: Out = STDIO,
    dropped: Side = None,
    workers: Workers = None,
    strict: Strict = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Write chains as other programs read them.

    SelFee's training records, messages and preference pairs are JSON lines; Alpaca's records and ShareGPT's
    conversations are one array. Of a pair, the first answer is rejected and the best chosen. What a format
    cannot hold is left out and counted.
    """
    from functools import partial

    from redraft.collect.export import ARRAYS, export_line, write_records
    from redraft.collect.reading import lines_of
    from redraft.collect.work import spread
    from redraft.formats.files import open_output

    work = partial(export_line, to=to, strict=strict)
    with dropping(dropped, force=force) as gone, open_output(out, force=force) as sink:
        done = spread(work, lines_of(file), processes(workers))
        count = write_records(sink, _kept(done, gone), array=to in ARRAYS)
    say_counts(count, gone, quiet=quiet)


def _kept(done: Iterable[bytes | Drop], gone: Dropped) -> Iterator[bytes]:
    for each in done:
        if isinstance(each, bytes):
            yield each
        else:
            gone.add(each)
