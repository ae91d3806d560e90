"""`redraft judge`: turn files of answers into a file of reviews, in resumable runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from redraft.cli.cluster import RayFlags
from redraft.cli.options import Given, fill_in, takes
from redraft.cli.running import check_files, print_result
from redraft.cli.shell import argument, flag

FLAGS = "redraft.evaluation.judging.options:JudgeFileOptions"


@takes(FLAGS)
def judge(
    flags: Given,
    answers: Annotated[list[Path], argument("ANSWERS...", "Answers of a model A, and of its opponent B.")],
    out: Annotated[Path, flag("FILE", "Where the reviews go.", "--out", "-o")],
    ray: RayFlags,
) -> None:
    """Have a model judge the answers of two models, or of one.

    A and B are files of answers or chains, joined by question_id. FILE gets a review for each question and
    order, in SelFee's and FastChat's shape, for redraft report. By default, the judge sees both orders.

    After any stop, the same command resumes. FILE.journal.db stores replies, so none is paid for twice. If
    most of the first 20 reviews cannot be read, the run stops and says why; the exit status is 3. Failures
    are in FILE.errors.jsonl, and FILE.run.json records how FILE was made.
    """
    from redraft.evaluation.judging.run import JudgeRun

    check_files(out, "-o reviews.jsonl")
    settings, named = fill_in(flags, FLAGS), "model" in flags or "recipe" in flags
    judging = JudgeRun.of(settings, answers, out, named=named)
    given = {**settings.values.explicit, "model": judging.model}
    ray.make("redraft.evaluation.judging.run:ajudge", [answers], out, given)
    print_result(judging.run, quiet=settings.values.quiet)
