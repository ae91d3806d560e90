"""`redraft show`: chains of a file, to read. Any record that redraft reads will do; nothing is changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.shell import write

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from redraft.chain import Chain


def show(
    files: Annotated[list[Path], typer.Argument(help="Files of chains, answers, conversations or prompts.")],
    chain_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Show this one alone.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Show the first N.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print chains as JSON, one a line.")] = False,
) -> None:
    """Show the chains of a file.

    Each answer, what was said of it, and what the next one changed; the best answer is marked.
    Plain text when piped: redraft show out.jsonl | less
    """
    from rich.console import Console

    from redraft.cli.render import render_chain

    console = Console(highlight=False)
    for number, chain in enumerate(_chosen(files, chain_id, limit)):
        if as_json:
            write(chain.to_json())
            continue
        if number:
            console.print()
        console.print(render_chain(chain, console))


def _chosen(files: Sequence[Path], chain_id: str | None, limit: int | None) -> Iterator[Chain]:
    from itertools import islice

    from redraft.errors import UsageError
    from redraft.formats.records import read_records

    chains = (chain for path in files for chain in read_records(path))
    if chain_id is None:
        yield from islice(chains, limit)
        return
    near: list[str] = []
    for chain in chains:
        if chain.id == chain_id:
            yield chain
            return
        near.append(chain.id)
    names = ", ".join(str(path) for path in files)
    known = f"Ids there: {', '.join(near[:5])}{' …' if len(near) > 5 else ''}"
    raise UsageError(f"nothing in {names} has the id {chain_id!r}.", hint=known if near else None)
