"""`redraft show`: print the chains of a file, in any format that redraft reads."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.running import ReplacePage
from redraft.cli.shell import argument, flag, switch, write
from redraft.errors import RecordError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from redraft.chain import Chain


def show(
    files: Annotated[list[Path], argument("FILES...", "Files of chains, answers, conversations or prompts.")],
    chain_id: Annotated[str | None, flag("ID", "Show this chain. 12 also finds the id x/12.", "--id")] = None,
    limit: Annotated[int | None, flag("N", "Show the N chains that finished first.", min=0)] = None,
    html: Annotated[Path | None, flag("FILE", "Write one page to look through chains in a browser.")] = None,
    force: ReplacePage = False,
    as_json: Annotated[bool, switch("Print chains as JSON, one per line.", "--json")] = False,
) -> None:
    """Show the chains of a file.

    Shows each answer, its feedback, its score, and what the next answer changes. The best answer is marked.
    Failed chains (FILE.errors.jsonl) and unfinished chains (FILE.unfinished.jsonl) are shown, too. In a pipe,
    the output is plain text. Texts are cut after 100,000 characters; --json prints whole texts.

    With --html (extra 'eval'), writes one self-contained page: a timeline of each chain, filters, search.
    """
    from rich.console import Console

    from redraft.cli.render import render_chain

    if html is not None:
        if as_json:
            raise UsageError("--html writes a page, but --json prints lines.", hint="Leave one of them out.")
        from redraft import __version__
        from redraft.chain.read.files import open_output
        from redraft.evaluation.reports.chains import chains_page, entries
        from redraft.jobs.files import not_an_input

        not_an_input({"--html": html}, files)
        with open_output(html, force=force, flag="--html") as file:
            title, chains = ", ".join(path.name for path in files), _chosen(files, chain_id, limit)
            file.write(chains_page(title, entries(chains), f"redraft {__version__}").encode())
        return
    console = Console(highlight=False)
    for number, chain in enumerate(_chosen(files, chain_id, limit)):
        if as_json:
            write(chain.to_json())
            continue
        with console.capture() as drawn:
            console.print(*[""] * bool(number), render_chain(chain, console), sep="\n")
        typer.echo(re.sub(" +$", "", drawn.get(), flags=re.MULTILINE), nl=False, color=True)


def _chosen(files: Sequence[Path], chain_id: str | None, limit: int | None) -> Iterator[Chain]:
    from redraft.chain import chain_named
    from redraft.chain.read.records import read_records

    names, chains = ", ".join(map(str, files)), (chain for path in files for chain in read_records(path))
    if chain_id is not None:
        yield chain_named(chain_id, chains, names)
        return
    shown = False
    for chain in islice(chains, limit):
        shown = True
        yield chain
    if not shown and limit != 0:
        raise RecordError(f"{names}: there are no records.")
