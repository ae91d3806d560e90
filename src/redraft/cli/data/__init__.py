"""`redraft data`: turn published files into clean chains. Each command is one small file.

Every command reads records of any known shape from a file or standard input, and writes chains to a file or
standard output, so commands can be piped.
"""

from __future__ import annotations

import typer

from redraft.cli.data import clean, decontaminate, dedupe, export, import_, merge, split, stats
from redraft.cli.data.common import takes_flags
from redraft.cli.shell import Verb

app = typer.Typer(
    help="Collect, clean, deduplicate, merge and describe data.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def _end_well(context: typer.Context) -> None:
    from redraft.jobs.signals import ended_by_sigterm

    context.with_resource(ended_by_sigterm())


app.command("import", cls=Verb)(takes_flags(import_.import_))
app.command("clean", cls=Verb)(takes_flags(clean.clean))
app.command("split", cls=Verb)(takes_flags(split.split))
app.command("dedupe", cls=Verb)(takes_flags(dedupe.dedupe))
app.command("decontaminate", cls=Verb)(takes_flags(decontaminate.decontaminate))
app.command("merge", cls=Verb)(takes_flags(merge.merge))
app.command("export", cls=Verb)(takes_flags(export.export))
app.command("stats", cls=Verb)(stats.stats)
