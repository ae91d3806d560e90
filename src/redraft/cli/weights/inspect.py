"""`redraft weights verify` and `info`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from redraft.cli.shell import write
from redraft.cli.weights.common import Pickle, Quiet, model_of, progress_over


def verify(
    path: Annotated[str, typer.Argument(metavar="DIR|FILE", help="A folder, a file, or org/name.")],
    allow_pickle: Pickle = False,
    quiet: Quiet = False,
) -> None:
    """Look for faults in a model, delta or adapter.

    Checks that all files are there, that index, shapes, configuration and tokenizer agree, that no value is
    NaN or infinite, and that checksums match the manifest. The exit status is 1 if there is a fault.
    """
    from redraft.weights.verify import verify as look

    source = model_of(path, allow_pickle)
    with progress_over(source, quiet, resumes=False) as progress:
        report = look(source, allow_pickle=allow_pickle, progress=progress)
    write("\n".join(report.lines()))
    if not report.sound:
        raise typer.Exit(1)


def info(
    path: Annotated[str, typer.Argument(metavar="DIR|FILE", help="A folder, a file, default, or org/name.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
    allow_pickle: Pickle = False,
) -> None:
    """Describe a model, delta or adapter, as a table or JSON."""
    from redraft.weights.info import describe

    found = describe(model_of(path, allow_pickle), allow_pickle=allow_pickle)
    write(json.dumps(found.json(), indent=2, ensure_ascii=False) if as_json else "\n".join(found.lines()))
