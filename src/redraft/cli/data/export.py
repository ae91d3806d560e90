"""`redraft data export`: write chains in the formats of other programs."""

from __future__ import annotations

from typing import Annotated

import typer

from redraft.cli.data.common import Flags, Source
from redraft.formats import ExportFormat


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
    from redraft.collect.export import export as exported

    exported(file, flags.out, to, **flags.options)
