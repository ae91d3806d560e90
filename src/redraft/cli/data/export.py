"""`redraft data export`: write chains in the formats of other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.data import common
from redraft.cli.data.common import Flags, Source
from redraft.formats import ExportFormat

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator

    from redraft.collect.export import Exported


def export(
    file: Source,
    to: Annotated[
        ExportFormat,
        typer.Option(help="The format.", show_default=False),
    ],
    *,
    flags: Flags,
) -> None:
    """Write chains in the formats of other programs.

    alpaca and sharegpt are one JSON array; the others are JSON lines. In a preference pair, the first answer
    is rejected, and the correction that was judged best is chosen. A chain becomes a critique for each of its
    feedbacks. Everything that a format cannot hold is left out and counted; licences are in OUT.run.json.
    """
    from collections import Counter
    from functools import partial

    from redraft.collect.export import export_line, with_unique_ids, write_records
    from redraft.counting import counted
    from redraft.formats.write import ARRAYS
    from redraft.jobs.provenance import Provenance

    work, lines = partial(export_line, to=to, strict=flags.strict), common.lines_in(file)
    provenance = Provenance("data export", {"to": to, "strict": flags.strict}, file)
    lost, licences = Counter[str](), Counter[str]()
    with common.writing(provenance, flags, about=lambda: {"licences": dict(licences)}) as output:
        done = output.spread(work, lines)
        records = with_unique_ids(_counted(output.passing(done), lost, licences))
        count = write_records(output.sink, records, array=to in ARRAYS)
    output.tell_counts()
    if to == "critique":
        output.tell(counted(count, "critique"))
    for part, many in sorted(lost.items()):
        output.tell(f"{many:,} {_LOST[part]}", f"To keep them: --to {_KEEPS[part]}")


_LOST = {
    "answers": "with later answers than the one written, which are left out",
    "fields": "with other fields of messages, such as a weight, which are left out",
    "tools": "with tools, which are left out",
    "turns": "with several turns, which become one instruction",
}
_KEEPS = {
    "answers": "selfee, for revisions",
    "fields": "messages",
    "tools": "messages",
    "turns": "messages or sharegpt",
}


def _counted(
    chains: Iterable[list[Exported]], lost: Counter[str], licences: Counter[str]
) -> Iterator[Exported]:
    """Give the records of all chains, and count what was lost of each chain, and the chains by licence."""
    for records in chains:
        lost.update(records[0].lost)
        licences[records[0].licence] += 1
        yield from records
