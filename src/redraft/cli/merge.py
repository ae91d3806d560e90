"""`redraft merge`: the outputs of shares become one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from redraft.cli.shell import flag


def merge(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="The -o of the shares. If it is there, it counts as a part.")
    ],
    parts: Annotated[
        list[Path], typer.Argument(metavar="PART...", help="Outputs of shares: out-*-of-00008.jsonl")
    ],
    source: Annotated[
        Path | None, flag("FILE", "What was answered, if it has moved: OUT gets its order.")
    ] = None,
) -> None:
    """Put the outputs of shares (--shard) together.

    OUT gets each record once, in the order of the input, with the journals, failures and records of the parts
    beside it: what one machine would have written, and can go on from. Parts may be unfinished. Merging again
    does no harm.

    Two equal answers to a record are one; two that differ are refused, and so are parts that were made in
    different ways, and parts that are being written. Folders of diagnose --run are merged file by file.
    """
    from redraft.runs.merge import merge as merged
    from redraft.runs.merge import merge_folders

    many = any(part.is_dir() for part in parts)
    for result in merge_folders(out, parts, source=source) if many else [merged(out, parts, source=source)]:
        typer.echo(str(result))
