"""`redraft data import`: files of others as chains, each with where it comes from and under which licence."""

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
    Strict,
    Workers,
    dropping,
    processes,
    say_counts,
)
from redraft.cli.shell import tell

if TYPE_CHECKING:
    from redraft.collect.dropped import Drop, Dropped

SHOWN = 5
"""Faults that are told one by one; the others are counted, and kept with --dropped."""

Paths = Annotated[
    list[Path],
    typer.Argument(
        metavar="PATH",
        help="Files of JSON lines, JSON, CSV, Parquet or Arrow, also .gz and .zst; folders of them; "
        "a dataset saved on disk, or org/name of the hub; '-' is stdin.",
    ),
]
Named = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="NAME",
        help="The source, where the fields do not tell it: alpaca, sharegpt, gpt4all, questions …",
        show_default=False,
    ),
]
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="TARGET=FIELD,…",
        help="What the fields are: instruction=question,reference=answer.",
        show_default=False,
    ),
]
Licence = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="The licence, instead of the source's.", show_default=False),
]
Which = Annotated[
    Literal["best", "all"], typer.Option("--paths", help="Of trees: the best path, or every one.")
]


def import_(
    paths: Paths,
    out: Out = STDIO,
    name: Named = None,
    fields: Map = None,
    licence: Licence = None,
    which: Which = "best",
    dropped: Side = None,
    workers: Workers = None,
    strict: Strict = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Read what others published as chains.

    What a record is, is told by its fields, or by --map. Gold answers, rationales and tests are kept for
    training and checking, and where each record comes from, with its licence.
    """
    from collections import Counter

    from redraft.collect.dropped import Drop
    from redraft.collect.fieldmap import parse_map
    from redraft.collect.origin import UNKNOWN
    from redraft.collect.sources import Reader, import_all, items_of, source_named
    from redraft.errors import UsageError
    from redraft.formats.files import open_output

    reader = Reader(
        source=source_named(name).name if name else None,
        licence=licence,
        fields=parse_map(fields) if fields else None,
        paths=which,
    )
    _insist_on_paths(paths)
    results = import_all(items_of(paths), reader, workers=processes(workers), strict=strict)
    kept: Counter[str] = Counter()
    with dropping(dropped, force=force) as gone, open_output(out, force=force) as sink:
        for result in results:
            if isinstance(result, Drop):
                _show(result, gone, quiet=quiet)
                gone.add(result)
            else:
                sink.write(result.json + b"\n")
                kept[result.licence] += 1
    say_counts(kept.total(), gone, quiet=quiet)
    if gone.counts and not kept:
        raise UsageError("no record could be read.", hint="Say what the fields are: --map instruction=…")
    if kept[UNKNOWN] and not quiet:
        tell(
            f"{kept[UNKNOWN]:,} of unknown licence",
            "Name the source with --as, or the licence with --licence.",
        )


def _show(drop: Drop, gone: Dropped, *, quiet: bool) -> None:
    """The first few are told one by one."""
    if not quiet and gone.counts.total() < SHOWN:
        tell(f"{drop.where}: {drop.reason}")


def _insist_on_paths(paths: list[Path]) -> None:
    """Says what to type where a source is named as if it were a file."""
    from redraft.collect.sources import SOURCES
    from redraft.errors import UsageError

    for path in paths:
        if str(path) in SOURCES and not path.exists():
            raise UsageError(
                f"{path} is a source, and no file of that name is here.",
                hint=f"redraft data import FILE --as {path}",
            )
