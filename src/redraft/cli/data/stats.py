"""`redraft data stats`: describe data as a table, a page, or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from redraft import __version__
from redraft.cli.data.common import Force, Strict, Workers, token_count
from redraft.cli.shell import flag, write


def stats(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Records of any known shape; '-' is stdin.")
    ],
    html: Annotated[Path | None, flag("FILE", "Write a page with a histogram and samples.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    tokenizer: Annotated[str | None, flag("REF", "Count tokens of this folder or model.  [words]")] = None,
    long: Annotated[
        int, typer.Option(metavar="N", min=1, help="Length above which a record is very long.")
    ] = 2048,
    workers: Workers = None,
    strict: Strict = False,
    force: Force = False,
) -> None:
    """Describe data, and warn of its faults.

    Counts turns, lengths, languages, sources, licences, answers, verdicts and scores. Warns of leaked gold
    answers, missing verdicts, low last scores, repeats, empty answers and roles out of order. Of a file that
    a teacher's run wrote, also counts failures (FILE.errors.jsonl).
    """
    import json
    from contextlib import nullcontext

    from redraft.chain.read.files import open_output
    from redraft.chain.read.inputs import check_records
    from redraft.checks.segment import count_words
    from redraft.data.output import not_twice
    from redraft.data.report import as_json as json_of
    from redraft.data.report import describe, lines, page
    from redraft.jobs.files import not_an_input
    from redraft.jobs.machine import all_cores
    from redraft.jobs.progress import RecordProgress, size_of

    not_twice(files[0], files[1:])
    not_an_input({"--html": html}, files)
    for path in files:
        check_records(path)
    count = token_count(tokenizer) if tokenizer else count_words
    with open_output(html, force=force, flag="--html") if html else nullcontext() as file:
        with RecordProgress(size_of(files)) as progress:
            report = describe(
                files,
                count,
                unit="tokens" if tokenizer else "words",
                long=long,
                workers=workers or all_cores(),
                strict=strict,
                read=progress.advance,
            )
        if file:
            by = f"tokens of {tokenizer}" if tokenizer else "words"
            file.write(page(report, f"redraft {__version__} · lengths in {by}").encode())
    write(json.dumps(json_of(report), ensure_ascii=False, indent=1) if as_json else "\n".join(lines(report)))
