"""`redraft generate chains`: a teacher makes a feedback chain of each record, resumable, and paid for once.

`cli.answer` does the work. This module adds what a record gives to its chain, and what is done with the chain
(`generate.chains`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.answer import (
    Form,
    LimitSeconds,
    LimitTokens,
    LimitUsd,
    Making,
    Out,
    Parallel,
    Quiet,
    answer_file,
)
from redraft.cli.options import FlagGroup, FlagValues, fill_in, takes
from redraft.options import ChainFlags

if TYPE_CHECKING:
    from redraft.chain import Chain

USUAL = {
    "prompts": "teacher",
    "temperature": 1.0,
    "max_tokens": 512,
    "feedback_tokens": 256,
    "max_revisions": 4,
    "accept_score": 9.0,
}
"""SelFee's settings (reference/selfee.md), but for feedback: its 128 tokens cut off one verdict in ten."""

FLAGS = FlagGroup(ChainFlags, USUAL, "generate")


def chains(
    flags: ChainFlags,
    source: Annotated[
        Path, typer.Argument(metavar="RECORDS", help="A file of records, of any known shape; '-' is stdin.")
    ],
    out: Out,
    parallel: Parallel = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            "--journal", metavar="FILE", help="Where replies are stored.  [FILE.replies]", show_default=False
        ),
    ] = None,
    quiet: Quiet = False,
    limit_usd: LimitUsd = None,
    limit_tokens: LimitTokens = None,
    limit_seconds: LimitSeconds = None,
) -> None:
    """Have a teacher answer, criticise and revise, and write the chains to learn from.

    FILE gets a chain for each record. The model criticises its answer with a score and a verdict, and
    corrects it until the score is good enough. Where the model's server keeps to JSON schemas, score and
    verdict are fields; otherwise they are read from the text.

    Every reply is stored before it is used, in FILE.replies: after any stop, the same command goes on, and
    nothing is paid for twice. Failures are in FILE.errors.jsonl and are tried again.

    With --gold the critic sees the record's gold answer, and the writer never does; feedback that quotes it
    is counted. With --first the record's own answer is criticised. With --verify no teacher's opinion is
    asked: a check with the gold answer gives the verdict.
    """
    settings = fill_in(flags, FLAGS)
    answer_file(
        source,
        out,
        settings,
        form=Form("chain", None),
        parallel=parallel,
        limits=(limit_usd, limit_tokens, limit_seconds),
        journal=journal or out.with_name(f"{out.name}.replies"),
        quiet=quiet,
        making=_making(settings, out),
    )


def _making(settings: FlagValues, out: Path) -> Making:
    """Return what records give to their chains, and what is done with these."""
    from redraft.generate.chains import ChainCounts, ChainMaking, leaked
    from redraft.jobs.lines import LineFile

    making, counts = ChainMaking.of(settings.values), ChainCounts()

    def finished(chain: Chain, record: Chain) -> Chain | None:
        chain = making.finished(chain, record)
        counts.add(chain)
        if not (settings.get("drop_leaks") and leaked(chain)):
            return chain
        file = LineFile(out.with_name(f"{out.name}.leaks.jsonl"), made_up=True)
        file.append(chain.to_json())
        file.close()
        return None

    return Making("generate chains", FLAGS, making.options, finished, counts.rows)


chains = takes(chains, FLAGS)
