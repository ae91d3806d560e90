"""`redraft weights diff` and `apply`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from redraft.cli.weights.common import (
    Base,
    Force,
    Out,
    Pickle,
    Quiet,
    model_of,
    running,
)


def diff(
    base: Base,
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="The tuned model: a folder, a file, or org/name.")
    ],
    out: Out,
    exact: Annotated[
        bool, typer.Option("--exact", help="Make a delta that restores the target bit for bit.")
    ] = False,
    force: Force = False,
    allow_pickle: Pickle = False,
    quiet: Quiet = False,
) -> None:
    """Make a delta: target minus base.

    The delta has the target's configuration, tokenizer and files. A plain delta, like those of SelFee and
    Vicuna, restores the target except for rounding.
    """
    from redraft.weights.delta import diff as make

    ours, theirs = model_of(base, allow_pickle), model_of(target, allow_pickle)
    with running(theirs, force, allow_pickle, quiet) as run:
        make(ours, theirs, out, run, exact=exact)


def apply(
    base: Base,
    delta: Annotated[str, typer.Argument(metavar="DELTA", help="The delta: a folder, a file, or org/name.")],
    out: Out,
    vocab: Annotated[
        Literal["none", "zero", "mean"] | None,
        typer.Option(help="What rows that the base lacks count as.  [detected]", show_default=False),
    ] = None,
    force: Force = False,
    allow_pickle: Pickle = False,
    quiet: Quiet = False,
) -> None:
    """Apply a delta: base plus delta.

    A wrong base is refused before anything is written. The result has the delta's configuration and
    tokenizer. Known faults in old ones are repaired and listed.
    """
    from redraft.weights.delta import apply as make

    ours, theirs = model_of(base, allow_pickle), model_of(delta, allow_pickle)
    with running(theirs, force, allow_pickle, quiet) as run:
        make(ours, theirs, out, run, vocab=vocab)
