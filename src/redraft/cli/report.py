"""`redraft report`: describe reviews as a table, a page, or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from redraft.cli.shell import write


def report(
    reviews: Annotated[
        list[Path], typer.Argument(metavar="REVIEWS...", help="Reviews of SelFee, FastChat or redraft.")
    ],
    answers: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Answers that were judged, one file a model.", show_default=False),
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What was asked, with categories.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    draws: Annotated[int, typer.Option(metavar="N", min=100, help="Resamples of the questions.")] = 10_000,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Decides the resamples.")] = 1,
) -> None:
    """Describe what judges said about pairs of answers.

    Prints the ratio of scores and the win rate with 95 % intervals over questions, wins and losses in both
    orders, and how far order and length of the answers sway the judge. Figures are those of the model
    whose --answers come first, or whose answers the first review shows first. Questions without a readable
    review in each order do not count; they are listed.
    """
    import json

    from redraft.evaluate.report import as_json as values_of
    from redraft.evaluate.report import as_text
    from redraft.evaluate.report import report as describe

    found = describe(reviews, answers=answers or (), questions=questions, draws=draws, seed=seed)
    if as_json:
        write(json.dumps(values_of(found), ensure_ascii=False, indent=1))
    else:
        write("\n".join(as_text(found)))
