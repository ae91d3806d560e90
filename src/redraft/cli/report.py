"""`redraft report`: describe reviews, grades or runs as a table, a page, or JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from redraft.cli.running import AsJson, ReplacePage
from redraft.cli.shell import argument, flag, write
from redraft.jobs.files import not_an_input


def report(
    files: Annotated[list[Path], argument("FILES...", "Files of reviews, grades or chains.")],
    answers: Annotated[list[Path] | None, flag("FILE", "Judged answers, one file per model.")] = None,
    questions: Annotated[Path | None, flag("FILE", "The questions, with their categories.")] = None,
    html: Annotated[Path | None, flag("FILE", "Write a web page. A second page shows the chains.")] = None,
    as_json: AsJson = False,
    force: ReplacePage = False,
) -> None:
    """Describe the verdicts of judges, or the scores of models.

    Reviews (redraft judge A B) give the ratio of scores and the win rate, with 95 % intervals over questions.
    They also give wins and losses in both orders, and the influence of order and length on the judge. The
    figures are for the model of the first --answers file, or else for that of the first review's answer 1.

    Grades (redraft judge A) give the mean by model and judge. Chains (redraft answer, eval) give the share of
    right answers, revisions, stops and cost. Several files are compared record by record. All files have to
    be of the same kind.
    """
    from redraft import __version__
    from redraft.evaluation.reports.report import describe, write_page
    from redraft.evaluation.tables import as_text

    not_an_input({"--html": html}, [*files, *(answers or ()), *filter(None, [questions])])
    found = describe(files, answers=answers or (), questions=questions)
    text = "\n".join(as_text(found.sections()))
    if html:
        drawn = "95 % intervals, not corrected for multiple tests; from 20 questions on, by 10,000 resamples"
        pages = write_page(html, found, f"redraft {__version__} · {drawn}", force=force)
        text += "".join(f"\npage        {each}" for each in pages if str(html) != "-")
    write(json.dumps(found.record(), ensure_ascii=False, indent=1) if as_json else text, table=not as_json)
