"""`redraft answer`: a file of prompts becomes a file of chains, each made once, many at a time, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from redraft.cli.cluster import RayFlags
from redraft.cli.options import FlagGroup, Given, fill_in, takes
from redraft.cli.running import Out, check_files, print_result

FLAGS = FlagGroup("redraft.revision.runs.options:AnswerOptions", in_recipes="redraft.options:Flags")


def answer(
    flags: Given,
    source: Annotated[Path, typer.Argument(metavar="PROMPTS", help="A file of prompts, of any known shape.")],
    out: Out,
    ray: RayFlags,
) -> None:
    """Answer a file of prompts; check and revise each answer.

    FILE gets a line for each prompt, with its id, in the order in which they finish. After any stop, the same
    command resumes: no finished answer is made twice, and a chain that was cut resumes after its last
    complete step, kept in FILE.unfinished.jsonl. Failures are in FILE.errors.jsonl and are tried again.
    FILE.run.json records how FILE was made.

    With --batch requests go through the server's batches: all answers in one, then all feedback, and so on.
    The run may be stopped and continued days later. Each reply is kept in FILE.journal.db.

    With --cache each reply of a model is stored on disk before it is used, and a request whose reply is there
    is not sent again, even for another output. Equal requests share a reply.

    A limit that is reached ends the run with exit status 4: prompts already begun are finished, and no other
    begins. The same command resumes, and counts the limits anew.

    With --shard I/N, one of N shares is made, into FILE-0000I-of-0000N with a journal of its own: redraft
    merge FILE FILE-*-of-0000N puts them together.

    With --ray, Ray makes all shares, on this machine or a cluster, and they are merged (docs/cluster.md).

    A record may have checks of its own: {"prompt": "Describe rain.", "checks": ["words<=50"]}. Its answer has
    to pass them and those of --check.

    The exit status is 1 if an answer in FILE does not pass its checks.
    """
    from redraft.revision.runs.answers import AnswerRun

    check_files(out, "-o out.jsonl, then: redraft show out.jsonl --json", source)
    settings = fill_in(flags, FLAGS)
    given, quiet = {**settings.values.explicit, "recipe": settings.recipe or None}, settings.values.quiet
    ray.make("redraft.revision.runs.answers:aanswer_file", [source], out, given, quiet=quiet)
    print_result(AnswerRun.of(settings, source, out).run, quiet=quiet)


answer = takes(answer, FLAGS)
