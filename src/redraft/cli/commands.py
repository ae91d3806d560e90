"""The command line: all commands in one app. A command is imported only to run it or to show help."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer._click import ClickException
from typer.core import TyperCommand
from typer.main import get_group, solve_typer_info_help
from typer.models import TyperInfo

from redraft import __version__
from redraft.cli.shell import Verbs, debug_log
from redraft.cli.verb import CHECKS, Verb
from redraft.jobs.plugins import OWN, PluginError, plugins

if TYPE_CHECKING:
    from typer._click import Command, Context, HelpFormatter

_GROUPS = {
    "Ask": ("ask", "chat", "answer", "show", "checks"),
    "Serve": ("serve", "mcp"),
    "Measure": ("eval", "judge", "vote", "report", "diagnose"),
    "Build": ("generate", "data", "train", "weights", "run", "merge"),
    "Set up": ("model", "doctor"),
}
_FIRST = [name for names in _GROUPS.values() for name in names]


def verbs() -> list[str]:
    """Return the names of all `redraft.commands` plugins, in the order of the help."""
    found = plugins("redraft.commands")
    return sorted(found, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))


class _Commands(Mapping[str, "Command"]):
    def __getitem__(self, name: str) -> Command:
        if name not in plugins("redraft.commands"):
            raise KeyError(name)
        return _command(name)

    def __iter__(self) -> Iterator[str]:
        return iter(verbs())

    def __len__(self) -> int:
        return len(verbs())


@cache
def _command(name: str) -> Command:
    found, app = _loaded(name), typer.Typer(rich_markup_mode=None)
    if isinstance(found, typer.Typer):
        app.add_typer(found, name=name)
    else:
        shows_checks = name in ("ask", "chat", "answer", "serve", "eval")
        app.command(name, cls=Verb, epilog=CHECKS if shows_checks else None)(found)
    command, plugin = get_group(app).commands[name], plugins("redraft.commands")[name]
    passing = (typer.Exit, typer.Abort, ClickException, EOFError, OSError, SystemExit)
    command.invoke = plugin.guarded(command.invoke, object, passing)  # type: ignore[method-assign]
    return command


def _loaded(name: str) -> Any:
    try:
        found = (plugin := plugins("redraft.commands")[name]).load(object)
        plain = inspect.isfunction(found) and not inspect.iscoroutinefunction(found)
        if plain or isinstance(found, typer.Typer) or plugin.package == OWN:
            return found
        raise plugin.fault(f"does not load: {found!r:.60} is neither a plain function nor a typer.Typer.")
    except PluginError as error:
        fault = error

    def broken() -> None:
        raise fault

    broken.__doc__ = fault.message
    return broken


class _App(Verbs):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**{**attributes, "commands": _Commands()})

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        asks = args[:1] == ["help"] and "help" not in verbs()
        return super().parse_args(ctx, [*args[1:], "--help"] if asks else args)

    def format_commands(self, _ctx: Context, formatter: HelpFormatter) -> None:
        """List each command with the first sentence of the help, without building the command's options."""
        longest, there = max(map(len, verbs())), set(verbs())
        for title, names in {**_GROUPS, "From other packages": sorted(there.difference(_FIRST))}.items():
            shown = [
                (name.ljust(longest), self._short(name, formatter.width - 6 - longest))
                for name in names
                if name in there
            ]
            if shown:
                with formatter.section(title):
                    formatter.write_dl(shown)

    @staticmethod
    def _short(name: str, width: int) -> str:
        found = _loaded(name)
        is_group = isinstance(found, typer.Typer)
        text = solve_typer_info_help(TyperInfo(found)) if is_group else inspect.getdoc(found)
        return TyperCommand(name, help=text).get_short_help_str(width)


app = typer.Typer(
    name="redraft",
    cls=_App,
    help="Answers that pass your checks, from the model that you run.",
    epilog="Exit status: 0 done, 1 checks not passed, 2 wrong usage or file, 3 engine failed or model cannot "
    "be loaded, 4 limit of a run reached, 130 interrupted, 141 output no longer read.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"redraft {__version__}")
        raise typer.Exit


_VERSION = typer.Option(
    "--version", "-V", "-v", callback=_print_version, is_eager=True, help="Show the version."
)
_DEBUG = typer.Option("--debug", help="Log requests and replies, without keys, to standard error.")


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[bool, _VERSION] = False,  # noqa: ARG001  (its callback prints it)
    debug: Annotated[bool, _DEBUG] = False,
) -> None:
    import logging  # `redraft --version` does not need it

    if logging.lastResort:  # print warnings like the command's own messages
        logging.lastResort.setFormatter(logging.Formatter("redraft: %(message)s"))
    if debug:
        context.with_resource(debug_log())
