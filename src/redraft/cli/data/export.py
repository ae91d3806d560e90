"""`redraft data export`: write chains in the formats of other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from redraft.cli.data import common
from redraft.cli.data.common import Flags, Source

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator

    from redraft.collect.export import Exported


def export(
    file: Source,
    to: Annotated[
        Literal["selfee", "alpaca", "sharegpt", "messages", "preference"],
        typer.Option(help="The format.", show_default=False),
    ],
    *,
    flags: Flags,
) -> None:
    """Write chains in the formats of other programs.

    selfee, messages and preference are JSON lines; alpaca and sharegpt are one JSON array. In a preference
    pair, the first answer is rejected and the best is chosen. Everything that a format cannot hold is left
    out and counted.
    """
    from collections import Counter
    from functools import partial

    from redraft.collect.export import export_line, with_unique_ids, write_records
    from redraft.formats.write import ARRAYS
    from redraft.jobs.provenance import Provenance

    work, lines = partial(export_line, to=to, strict=flags.strict), common.lines_in(file)
    provenance = Provenance("data export", {"to": to, "strict": flags.strict}, file)
    with common.writing(provenance, flags) as output:
        done = output.spread(work, lines)
        lost = Counter[str]()
        write_records(output.sink, with_unique_ids(_counted(output.passing(done), lost)), array=to in ARRAYS)
    output.tell_counts()
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


def _counted(records: Iterable[Exported], lost: Counter[str]) -> Iterator[Exported]:
    """Give the records, and count what each format lost."""
    for record in records:
        lost.update(record.lost)
        yield record
