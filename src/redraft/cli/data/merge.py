"""`redraft data merge`: mix files by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from redraft.cli.data.common import Flags


def merge(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE", help="A YAML file, or selfee, alpaca, vicuna, stablevicuna."),
    ],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="DIR",
            help="Folder of the parts' files.  [the recipe's; this one for a shipped recipe]",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Override the recipe's seed.", show_default=False)
    ] = None,
    skip_missing: Annotated[bool, typer.Option("--skip-missing", help="Leave missing files out.")] = False,
    *,
    flags: Flags,
) -> None:
    """Mix files of chains by a recipe.

    Records of each part are drawn with the seed, then all are shuffled. The same recipe, seed and files give
    the same output. OUT.run.json records recipe, seed, counts, licences and checksums.
    """
    from redraft.collect.merge import merge as merged

    merged(recipe, flags.out, folder=folder, seed=seed, skip_missing=skip_missing, **flags.options)
