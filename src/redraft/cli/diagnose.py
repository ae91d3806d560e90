"""`redraft diagnose`: tell from chains what revising did, and whether it pays."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from redraft.cli.data.common import not_an_input
from redraft.cli.shell import write


def diagnose(
    files: Annotated[
        list[Path], typer.Argument(metavar="CHAINS...", help="Chains of redraft eval, or of redraft answer.")
    ],
    task: Annotated[
        str | None,
        typer.Option(metavar="TASK", help="The task that says what is right.", show_default=False),
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The task's file, which was answered.", show_default=False),
    ] = None,
    score: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHECK", help="A check that says what is right; repeatable.", show_default=False
        ),
    ] = None,
    run_code: Annotated[
        bool,
        typer.Option("--run-code", help="Let humaneval and mbpp run the model's programs, in a sandbox."),
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page with pictures.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the page if it exists.")] = False,
) -> None:
    """Tell from chains what revising did, and whether it pays.

    Prints the share of right answers after each revision, how many answers each revision made right and made
    wrong, whether the verdicts are right, how lengths change, where the gain comes from, and a sentence:
    revise, don't, or how many more items would decide it.

    Chains of redraft eval know which answers are right. For others, name the task with its file, or give
    checks with --score. Else the checks that guided revising score too, and then a gain is nearly automatic.

    Chains with the same id are runs of one item: give the files of several seeds together.
    """
    import json
    from contextlib import nullcontext

    from redraft import __version__
    from redraft.evaluate.diagnose import chains_in
    from redraft.evaluate.diagnose import diagnose as find
    from redraft.evaluate.diagnose_text import as_json as values_of
    from redraft.formats.read.files import open_output

    not_an_input({"--html": html}, [*files, *filter(None, [records])])
    with open_output(html, force=force) if html else nullcontext() as file:
        found = find(chains_in(files), task=task, records=records, score=score or (), run_code=run_code)
        if file:
            from redraft.evaluate.diagnose_page import page

            file.write(page(found, f"redraft {__version__} · 95 % intervals").encode())
    write(json.dumps(values_of(found), ensure_ascii=False, indent=1) if as_json else str(found))
