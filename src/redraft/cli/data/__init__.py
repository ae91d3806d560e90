"""`redraft data`: turn published files into clean chains.

Every command reads records of any known shape from a file or standard input, and writes chains to a file or
standard output, so commands can be piped.
"""

from __future__ import annotations

import typer

from redraft.cli.data import clean, dedupe, import_export, merge_split, stats
from redraft.cli.data.common import takes_flags
from redraft.cli.verb import group

app = group(
    "Collect, clean, deduplicate, merge and describe data.",
    {
        "import": takes_flags(import_export.import_),
        "clean": takes_flags(clean.clean),
        "split": takes_flags(merge_split.split),
        "dedupe": takes_flags(dedupe.dedupe),
        "decontaminate": takes_flags(dedupe.decontaminate),
        "merge": takes_flags(merge_split.merge),
        "export": takes_flags(import_export.export),
        "push": import_export.push,
        "stats": stats.stats,
    },
)


@app.callback()
def _end_well(context: typer.Context) -> None:
    from redraft.jobs.signals import ended_by_sigterm

    context.with_resource(ended_by_sigterm())
