"""`redraft data merge` and `split`: mix files by a recipe, and cut long conversations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from redraft.cli.data.common import Flags, Source, Tokenizer, token_count, tokenizer_fingerprint
from redraft.cli.shell import flag
from redraft.jobs.formats import TrainingFormat


def merge(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A YAML file, or selfee, alpaca, vicuna, stablevicuna.")
    ],
    folder: Annotated[
        Path | None,
        flag("DIR", "Folder of the parts' files.  [the recipe's; this one for a shipped recipe]", "--from"),
    ] = None,
    seed: Annotated[int | None, flag("N", "Override the recipe's seed.", min=0)] = None,
    skip_missing: Annotated[bool, typer.Option("--skip-missing", help="Leave missing files out.")] = False,
    *,
    flags: Flags,
) -> None:
    """Mix files of chains by a recipe.

    Records of each part are drawn with the seed, then all are shuffled. The same recipe, seed and files give
    the same output. OUT.run.json records recipe, seed, counts, licences and checksums.
    """
    from redraft.data.merge import merge as merged

    merged(recipe, flags.out, folder=folder, seed=seed, skip_missing=skip_missing, **flags.options)


def split(
    file: Source,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Most tokens of a piece.")] = 2048,
    tokenizer: Tokenizer = "default",
    form: Annotated[
        TrainingFormat, typer.Option("--format", help="The training text to count, as in `train sft`.")
    ] = "selfee",
    too_long: Annotated[
        Literal["keep", "drop"], typer.Option(help="What to do with a single exchange over the limit.")
    ] = "keep",
    *,
    flags: Flags,
) -> None:
    """Split long conversations at their turns.

    Each piece begins with a user's turn and repeats the system message. No turn is lost. The pieces of ID
    are ID#1, ID#2 … Tokens are those of the training text: --format is the one of redraft train sft, and chat
    leaves 6 tokens a turn for the model's template.
    """
    from redraft.data.clean.split import split as parted

    count = token_count(tokenizer)
    parted(
        file,
        flags.out,
        count,
        limit=limit,
        format=form,
        drop=too_long == "drop",
        tokenizer=tokenizer,
        fingerprint=tokenizer_fingerprint(count.path),
        **flags.options,
    )
