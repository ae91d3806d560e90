"""`redraft diagnose`: tell from chains what revising did, and whether it pays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.shell import write

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from redraft.chain import Chain


def diagnose(
    files: Annotated[list[Path], typer.Argument(metavar="CHAINS...", help="Files of chains.")],
) -> None:
    """Tell from chains what revising did, and whether it pays."""
    from redraft.evaluate.diagnose import diagnose as find
    from redraft.evaluate.diagnose_text import as_text

    write("\n".join(as_text(find(_chains(files)))))


def _chains(files: Sequence[Path]) -> Iterator[Chain]:
    from redraft.formats.read.records import raw_records

    for path in files:
        yield from (raw.chain() for raw in raw_records(path))
