"""`redraft data split`: cut long conversations to the length of a training sequence."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from redraft.cli.data.common import Flags, Source
from redraft.cli.data.tokens import Tokenizer, token_count, tokenizer_fingerprint
from redraft.formats import TrainingFormat


def split(
    file: Source,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Most tokens of a piece.")] = 2048,
    tokenizer: Tokenizer = "default",
    form: Annotated[
        TrainingFormat,
        typer.Option("--format", help="The training text to count, as in `train sft`."),
    ] = "selfee",
    too_long: Annotated[
        Literal["keep", "drop"],
        typer.Option(help="What to do with a single exchange over the limit."),
    ] = "keep",
    *,
    flags: Flags,
) -> None:
    """Split long conversations at their turns.

    Each piece begins with a user's turn and repeats the system message. No turn is lost. The pieces of ID
    are ID#1, ID#2 … Tokens are those of the training text: --format is the one of redraft train sft, and chat
    leaves 6 tokens a turn for the model's template.
    """
    from redraft.collect.clean.split import split as parted

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
