"""`redraft answer`: turn a file of prompts into a file of chains, many at a time, in resumable runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from redraft.cli.cluster import RayFlags
from redraft.cli.options import Given, fill_in, takes
from redraft.cli.running import Out, check_files, print_result
from redraft.cli.shell import argument

FLAGS = "redraft.revision.runs.options:AnswerOptions"


@takes(FLAGS)
def answer(
    flags: Given,
    source: Annotated[Path, argument("PROMPTS", "A file of prompts, of any known shape.")],
    out: Out,
    ray: RayFlags,
) -> None:
    """Answer a file of prompts; check and revise each answer.

    FILE gets a line for each prompt, with its id, in the order in which answers finish. After any stop, the
    same command resumes: no finished answer is made twice. Interrupted chains are in FILE.unfinished.jsonl,
    failures in FILE.errors.jsonl, and FILE.run.json records how FILE was made.

    A run that reaches a limit ends with exit status 4. With --shard 0/8, the run makes one of 8 shares;
    to join them: redraft merge out.jsonl out-*-of-00008.jsonl. With --batch, requests go through the server's
    batch API, and the run may be resumed days later. With --cache, equal requests share a reply, even in runs
    with other outputs.

    A record may have checks: {"prompt": "Describe rain.", "checks": ["words<=50"]}. The exit status is 1 if
    an answer in FILE fails a check.
    """
    from redraft.revision.runs.answers import AnswerRun

    check_files(out, "-o out.jsonl, then: redraft show out.jsonl --json", source)
    settings = fill_in(flags, FLAGS)
    given = {**settings.values.explicit, "recipe": settings.recipe or None}
    ray.make("redraft.revision.runs.answers:aanswer_file", [source], out, given)
    print_result(AnswerRun.of(settings, source, out).run, quiet=settings.values.quiet)
