"""`redraft generate`: make training data with a teacher, in runs that resume and pay for no reply twice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from redraft.cli.cluster import RayFlags
from redraft.cli.options import Given, fill_in, takes
from redraft.cli.running import Out, check_files, print_result
from redraft.cli.shell import argument, setting
from redraft.cli.verb import group

CHAIN_FLAGS = "redraft.data.generate.options:ChainOptions"
TASK_FLAGS = "redraft.data.generate.options:InstructionOptions"


@takes(CHAIN_FLAGS)
def chains(
    flags: Given,
    source: Annotated[Path, argument("RECORDS", "A file of records, of any known shape.")],
    out: Out,
    ray: RayFlags,
) -> None:
    """Make feedback chains for training, with a teacher.

    FILE gets a chain for each record. The model answers, criticises its answer with a score and a verdict,
    and corrects it until the score is good enough.

    Every reply is stored in FILE.journal.db before it is used: after any stop, the same command resumes, and
    nothing is paid for twice. Failures are in FILE.errors.jsonl and are tried again.

    With --gold the critic sees the record's gold answer, and the writer never does. Feedback that quotes a
    gold answer is counted. With --first the record's own answer is criticised. With --verify a check against
    the gold answer gives the verdict.
    """
    from redraft.data.generate.chain_run import ChainRun

    check_files(out, "-o out.jsonl, then: redraft show out.jsonl --json", source)
    settings = fill_in(flags, CHAIN_FLAGS)
    given = {**settings.values.explicit, "recipe": settings.recipe or None}
    ray.make("redraft.data.generate.chain_run:agenerate_chains", [source], out, given)
    print_result(ChainRun.of(settings, source, out).run, quiet=settings.values.quiet)


@takes(TASK_FLAGS)
def instructions(
    flags: Given, out: Annotated[Path, setting("FILE", "Where the tasks go, as chains.", "--out", "-o")]
) -> None:
    """Generate instructions with inputs and outputs.

    FILE gets a chain for each task; for Alpaca's shape: redraft data export FILE --to alpaca. After any stop,
    the same command resumes, and a larger --count adds tasks. Each reply is stored in FILE.journal.db before
    it is used, so no reply is paid for twice.

    Rejected tasks are in FILE.rejected.jsonl, with the rule and the nearest instruction. FILE.run.json
    records how FILE was made.

    The run ends when there are enough instructions, at a limit (exit status 4), or when 25 requests in a row
    give no new, valid instruction (exit status 3).
    """
    from redraft.data.generate.instructions.run import InstructionRun

    check_files(out, "-o tasks.jsonl")
    settings = fill_in(flags, TASK_FLAGS)
    print_result(InstructionRun.of(settings, out).run, quiet=settings.values.quiet)


app = group("Generate training data with a teacher.", chains, instructions)
