"""The command line: one small file a verb. Heavy imports happen inside the verbs.

`redraft --help` imports neither an engine nor pydantic: a test holds that. Nothing is imported here before
Ctrl-C is handled, because a program that is interrupted while it starts should end without a traceback.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redraft.cli.commands import app as app

INTERRUPTED = 130


def main() -> None:
    """Run the command line: what the `redraft` script calls."""
    try:
        _run()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def _run() -> None:
    if handled := signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))  # nothing is begun that needs an end
        sys.unraisablehook = _interrupt_again
    from redraft.cli.commands import app
    from redraft.cli.shell import standard_output

    if handled:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with standard_output():
        app(prog_name="redraft")


def _interrupt_again(unraisable: Any) -> None:
    """Repeat a Ctrl-C that came where Python can only print it, such as in a callback during an import."""
    if unraisable.exc_type is KeyboardInterrupt:
        signal.raise_signal(signal.SIGINT)
    else:
        sys.__unraisablehook__(unraisable)


def __getattr__(name: str) -> Any:
    if name == "app":
        from redraft.cli.commands import app

        return app
    raise AttributeError(name)
