"""`redraft data import`, `export` and `push`: between published files and chains."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from redraft.cli.data.common import Flags, Source
from redraft.cli.shell import flag, tell, write
from redraft.jobs.formats import ExportFormat


def import_(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="Files of JSON lines, JSON, CSV, Parquet or Arrow, also .gz and .zst; folders of them; "
            "a dataset saved on disk, or org/name or org/name/part of the hub; '-' is stdin.",
        ),
    ],
    name: Annotated[
        str | None,
        flag(
            "NAME",
            "The source, if the fields do not reveal it: alpaca, sharegpt, gpt4all, questions …",
            "--as",
        ),
    ] = None,
    fields: Annotated[
        list[str] | None,
        flag("TARGET=FIELD,…", "Read other fields: instruction=question,reference=answer.", "--map"),
    ] = None,
    licence: Annotated[str | None, flag("TEXT", "Override the source's licence.")] = None,
    which: Annotated[
        Literal["best", "all"], typer.Option("--paths", help="Read the best path of a tree, or every path.")
    ] = "best",
    questions: Annotated[
        Path | None, flag("FILE", "Questions for answer files, joined by question_id or id.")
    ] = None,
    *,
    flags: Flags,
) -> None:
    """Read published data as chains.

    The fields of a record, or --map, decide how it is read. Gold answers, rationales and tests are kept for
    training and checking, together with each record's origin and licence.
    """
    from redraft.data.read.published import import_files

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


def export(
    file: Source,
    to: Annotated[ExportFormat, typer.Option(help="The format.", show_default=False)],
    *,
    flags: Flags,
) -> None:
    """Write chains in the formats of other programs.

    alpaca and sharegpt are one JSON array; the others are JSON lines. In a preference pair, the first answer
    is rejected, and the correction that was judged best is chosen. A chain becomes a critique for each of its
    feedbacks. Everything that a format cannot hold is left out and counted; licences are in OUT.run.json.
    """
    from redraft.data.export import export as exported

    exported(file, flags.out, to, **flags.options)


def push(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Records of any known shape.")],
    name: Annotated[str, typer.Argument(metavar="ORG/NAME", help="The dataset. It is made if need be.")],
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it.")] = False,
) -> None:
    """Push records to the Hugging Face hub, with a card.

    The card has counts, lengths, languages and licences. The dataset is private, unless --public. A card that
    is there already stays. Log in before: hf auth login.
    """
    from redraft.integrations.hub import push as pushed

    address, said = pushed(file, name, public=public)
    if said:
        tell(said)
    write(address)
