"""`redraft data import`: read published files as chains with their origin and licence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from redraft.cli.data.common import Flags

Paths = Annotated[
    list[Path],
    typer.Argument(
        metavar="PATH",
        help="Files of JSON lines, JSON, CSV, Parquet or Arrow, also .gz and .zst; folders of them; "
        "a dataset saved on disk, or org/name or org/name/part of the hub; '-' is stdin.",
    ),
]
Named = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="NAME",
        help="The source, if the fields do not reveal it: alpaca, sharegpt, gpt4all, questions …",
        show_default=False,
    ),
]
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="TARGET=FIELD,…",
        help="Read other fields: instruction=question,reference=answer.",
        show_default=False,
    ),
]
Licence = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Override the source's licence.", show_default=False),
]
Which = Annotated[
    Literal["best", "all"], typer.Option("--paths", help="Read the best path of a tree, or every path.")
]
Questions = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Questions for answer files, joined by question_id or id.",
        show_default=False,
    ),
]


def import_(
    paths: Paths,
    name: Named = None,
    fields: Map = None,
    licence: Licence = None,
    which: Which = "best",
    questions: Questions = None,
    *,
    flags: Flags,
) -> None:
    """Read published data as chains.

    The fields of a record, or --map, decide how it is read. Gold answers, rationales and tests are kept for
    training and checking, together with each record's origin and licence.
    """
    from redraft.collect.read.importing import import_files

    import_files(
        paths,
        flags.out,
        name=name,
        fields=fields,
        licence=licence,
        which=which,
        questions=questions,
        **flags.options,
    )
