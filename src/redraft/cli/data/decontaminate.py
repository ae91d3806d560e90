"""`redraft data decontaminate`: take out what models are evaluated on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    not_twice,
    processes,
    say_counts,
)
from redraft.cli.shell import tell

if TYPE_CHECKING:
    from collections.abc import Set

    from redraft.collect.decontaminate import Items


def decontaminate(
    file: Source,
    against: Annotated[
        list[Path], typer.Option(metavar="FILE", help="Evaluation items of any known shape. Can be repeated.")
    ],
    out: Out = STDIO,
    ngram: Annotated[int, typer.Option("--ngram", "-n", metavar="N", min=5, help="Words in a row.")] = 13,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="List what matched: record, item, words in common.", show_default=False
        ),
    ] = None,
    dropped: Side = None,
    workers: Workers = None,
    strict: Strict = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Drop the records that contain evaluation items.

    A record goes if it has 13 words in a row of an item's question, gold answer or rationale, whatever their
    case and punctuation. A shorter question must be there as a whole, and one of fewer than 8 words must be
    all of a turn.
    """
    from contextlib import ExitStack
    from functools import partial
    from tempfile import TemporaryDirectory

    from redraft.collect.reading import lines_of
    from redraft.collect.work import spread
    from redraft.errors import MissingExtra
    from redraft.formats.files import open_output, to_line

    try:
        from redraft.collect.decontaminate import Checked, Items, check, contaminated
    except ModuleNotFoundError:
        raise MissingExtra("redraft data decontaminate", "data") from None

    not_twice(file, against)
    items, seen, kept = Items(ngram), set[int](), 0
    for path in against:
        items.add(path)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="redraft-")))
        items.save(folder)
        gone = stack.enter_context(dropping(dropped, force=force))
        found = stack.enter_context(open_output(report, force=force)) if report else None
        sink = stack.enter_context(open_output(out, force=force))
        work = partial(check, folder=folder, strict=strict)
        for each in spread(work, lines_of(file), processes(workers)):
            if not isinstance(each, Checked):
                gone.add(each)
            elif not each.matches:
                sink.write(each.line)
                kept += 1
            else:
                seen.update(match.item for match in each.matches)
                gone.add(contaminated(each, items))
                if found:
                    found.writelines(
                        to_line({"id": each.id, "where": each.where, **row})
                        for row in items.match(each.matches)
                    )
    say_counts(kept, gone, quiet=quiet)
    if not quiet:
        tell("items found", _by_file(items, seen))


def _by_file(items: Items, seen: Set[int]) -> str:
    """How many items of each file were found."""
    from collections import Counter

    total = Counter(items.files)
    found = Counter(items.files[item] for item in seen)
    return "\n".join(f"{found[name]:,} of {count:,}  {name}" for name, count in total.items())
