"""The command line: all commands in one app."""

from __future__ import annotations

from typing import Annotated

import typer

from redraft import __version__
from redraft.cli import (
    answer,
    ask,
    chat,
    data,
    diagnose,
    doctor,
    eval_,
    generate,
    judge,
    model,
    report,
    serve,
    show,
    train,
    vote,
    weights,
)
from redraft.cli.options import check_help
from redraft.cli.shell import Verb, Verbs, debug_log

app = typer.Typer(
    name="redraft",
    cls=Verbs,
    help="Models that check and rewrite their own answers.",
    epilog="Exit status: 0 done, 1 checks not passed, 2 usage, 3 engine trouble, 4 limit of a run reached, "
    "130 interrupted.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"redraft {__version__}")
        raise typer.Exit


def _log_engines(context: typer.Context, wanted: bool) -> None:
    if wanted:
        context.with_resource(debug_log())


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            callback=_log_engines,
            help="Log requests and replies, without keys, to standard error.",
        ),
    ] = False,
) -> None:
    pass


_CHECKS = "\b\n" + check_help()  # \b: typer keeps the lines of the paragraph as they are

app.command("ask", cls=Verb, epilog=_CHECKS)(ask.ask)
app.command("chat", cls=Verb, epilog=_CHECKS)(chat.chat)
app.command("answer", cls=Verb, epilog=_CHECKS)(answer.answer)
app.command("serve", cls=Verb, epilog=_CHECKS)(serve.serve)
app.command("show", cls=Verb)(show.show)
app.add_typer(model.app, name="model")
app.add_typer(generate.app, name="generate")
app.add_typer(data.app, name="data")
app.add_typer(weights.app, name="weights")
app.add_typer(train.app, name="train")
app.command("eval", cls=Verb, epilog=_CHECKS)(eval_.evaluate)
app.command("judge", cls=Verb)(judge.judge)
app.command("vote", cls=Verb)(vote.vote)
app.command("report", cls=Verb)(report.report)
app.command("diagnose", cls=Verb)(diagnose.diagnose)
app.command("doctor", cls=Verb)(doctor.doctor)
