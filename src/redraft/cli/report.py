"""`redraft report`: describe reviews, grades or runs as a table, a page, or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from redraft.cli.running import AsJson, ReplacePage
from redraft.cli.shell import flag, tell, write
from redraft.files import not_an_input


def report(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILES...", help="Reviews, grades, chains, or scores of a task.")
    ],
    answers: Annotated[list[Path] | None, flag("FILE", "Answers that were judged, one file a model.")] = None,
    questions: Annotated[Path | None, flag("FILE", "What was asked, with categories.")] = None,
    against: Annotated[Path | None, flag("FILE", "Say what changed since this report (its JSON).")] = None,
    html: Annotated[Path | None, flag("FILE", "Write a page with all answers, and one of chains.")] = None,
    as_json: AsJson = False,
    draws: Annotated[
        int, typer.Option(metavar="N", min=100, max=1_000_000, help="Resamples of the questions.")
    ] = 10_000,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Decides the resamples.")] = 1,
    force: ReplacePage = False,
) -> None:
    """Describe what judges said of answers, or how models scored.

    For reviews (redraft judge A B) it prints the ratio of scores and the win rate with 95 % intervals over
    questions, wins and losses in both orders, and how far order and length of the answers sway the judge.
    The figures are for the model whose --answers come first,
    or else whose answers the first review shows first.
    Questions without a readable review in each order do not count; they are listed. A file that cannot be
    read is left out and named, and the exit status is 2.

    For grades (redraft judge A) it prints their mean by model and judge. For chains (redraft answer, eval),
    and for what redraft eval --json prints, it prints the share of right answers, revisions, stops and
    cost. Several files are compared record by record. All files have to be of one kind.
    """
    import json
    from contextlib import nullcontext

    from redraft import __version__
    from redraft.evaluation.reports.describe import describe
    from redraft.evaluation.reports.inputs import BadFiles
    from redraft.evaluation.tables import as_text
    from redraft.formats.read.files import open_output

    given = [*files, *(answers or ()), *filter(None, [questions, against])]
    not_an_input({"--html": html}, given)
    with open_output(html, force=force, flag="--html") if html else nullcontext() as file:
        bad, given_answers = BadFiles(), answers or ()
        how = {"questions": questions, "against": against}
        found = describe(files, answers=given_answers, **how, draws=draws, seed=seed, bad=bad)
        for reason in bad.reasons:
            tell(f"left out: {reason.message}", reason.hint)
        if html and file:
            from redraft.evaluation.reports.chains import Links
            from redraft.evaluation.reports.page import chains_of, page

            drawn = f"95 % intervals, {draws:,} resamples of the questions, seed {seed}; each row alone"
            made = f"redraft {__version__} · {drawn}"
            made += "".join(f" · left out: {reason.message}" for reason in bad.reasons)
            title, version = f"{found.title}: chains", f"redraft {__version__}"
            links = Links.write(html, title, [*chains_of(found)], version, force=force)
            file.write(page(found, made, links).encode())
    if as_json:
        left_out = {"left_out_files": [reason.message for reason in bad.reasons]} if bad.reasons else {}
        write(json.dumps(found.record() | left_out, ensure_ascii=False, indent=1))
    else:
        write("\n".join(as_text(found.sections())))
    if bad.reasons:
        raise typer.Exit(bad.reasons[0].exit_status)
