"""`redraft merge`: merge the outputs of shares into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from redraft.cli.shell import argument


def merge(
    out: Annotated[
        Path, argument("OUT", "The output that all shares named (-o). If it exists, it counts as a part.")
    ],
    parts: Annotated[list[Path], argument("PART...", "Outputs of shares: out-*-of-00008.jsonl")],
) -> None:
    """Merge the outputs of shares (--shard).

    OUT gets each record once, in the order of the input. The parts' journals, failures and run records are
    merged beside OUT, and a run can resume from them. Parts may be unfinished: if records are missing, the
    exit status is 1. Merging again does no harm.

    If a record has two equal answers, one is kept. Answers that differ are refused, and so are parts that
    were made with different settings or are still being written.
    """
    from redraft.revision.runs.merge import merge as merged

    typer.echo(str(result := merged(out, parts)))
    raise typer.Exit(1 if result.missing else 0)
