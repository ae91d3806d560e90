"""`redraft data decontaminate`: drop records that contain evaluation items."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.data import common
from redraft.cli.data.common import Flags, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Set
    from typing import IO

    from redraft.collect.dedupe.decontaminate import CheckedRecord, Items
    from redraft.collect.output import Drop


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
    from contextlib import ExitStack
    from functools import partial
    from tempfile import TemporaryDirectory

    from redraft.collect.read.inputs import check_records
    from redraft.errors import MissingExtra
    from redraft.formats.read.files import open_output
    from redraft.jobs.provenance import Provenance

    try:
        from redraft.collect.dedupe.decontaminate import Items, check
    except ModuleNotFoundError:
        raise MissingExtra("redraft data decontaminate", "data") from None

    common.not_twice(file, against)
    items, seen = Items(ngram), set[int]()
    for path in against:
        check_records(path)
        items.add(path)
    provenance = Provenance("data decontaminate", {"ngram": ngram, "strict": flags.strict}, file)
    writer = common.writing(provenance, flags, inputs={"against": against}, report=report)
    lines = common.lines_in(file)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="redraft-")))
        items.save(folder)
        output = stack.enter_context(writer)
        found = (
            stack.enter_context(open_output(report, force=flags.force, flag="--report")) if report else None
        )
        checked = output.spread(partial(check, folder=folder, strict=flags.strict), lines)
        output.sink.writelines(output.passing(_judged(checked, items, seen, found)))
    output.tell_counts()
    output.tell("items found", _by_file(items, seen))


def _judged(
    checked: Iterable[CheckedRecord | Drop], items: Items, seen: set[int], found: IO[bytes] | None
) -> Iterator[bytes | Drop]:
    """Give clean records as lines and others as drops. Note the matched items, and list them in `found`."""
    from redraft.collect.dedupe.decontaminate import CheckedRecord, contaminated
    from redraft.formats.read.files import to_line

    for each in checked:
        if not isinstance(each, CheckedRecord):
            yield each
        elif not each.matches:
            yield each.line
        else:
            seen.update(match.item for match in each.matches)
            yield contaminated(each, items)
            if found:
                rows = items.match(each.matches)
                found.writelines(to_line({"id": each.id, "where": each.where, **row}) for row in rows)


def _by_file(items: Items, seen: Set[int]) -> str:
    """Count the matched items of each file."""
    from collections import Counter

    total = Counter(items.files)
    found = Counter(items.files[item] for item in seen)
    return "\n".join(f"{found[name]:,} of {count:,}  {name}" for name, count in total.items())
