"""The command line: one small file for each command. Heavy modules are imported inside functions.

A test checks that `redraft --help` imports neither an engine nor pydantic. Ctrl-C is handled before the other
imports, and shows no traceback after the first 40 ms, in which Python starts.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import time
import warnings

INTERRUPTED = 130


def main() -> None:
    """Run the command line."""
    try:
        _run()
    except KeyboardInterrupt:
        warnings.simplefilter("ignore")  # Python warns if Ctrl-C came before a coroutine started
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        if not (type(error).__module__.startswith("pydantic") and "KeyboardInterrupt" in str(error)):
            raise  # otherwise Ctrl-C came while pydantic built a schema
        raise SystemExit(INTERRUPTED) from None


def _run() -> None:
    if handled := signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))  # nothing needs cleaning up yet
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # closed, as by `>&-`: the next file to open would get this number
            way = os.O_RDONLY if name == "stdout" else os.O_RDWR  # so that writes to stdout fail
            os.dup2(os.open(os.devnull, way), number)
            setattr(sys, name, open(number, "w" if number else "r"))  # noqa: PTH123, SIM115
    from redraft.cli.commands import app

    if handled:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.unraisablehook = _unraised
    try:
        app(prog_name="redraft")
    except OSError as error:
        import errno

        from redraft.jobs.counting import tell

        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF):
            raise
        fault = "is closed" if error.errno == errno.EBADF else f"cannot be written: {error.strerror}"
        tell(f"standard output {fault}.")
        raise SystemExit(2) from None
    finally:
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _unraised(dropped: sys.UnraisableHookArgs) -> None:
    if dropped.exc_type is KeyboardInterrupt and not sys.is_finalizing():
        _thread.start_new_thread(_again, ())
    else:
        sys.__unraisablehook__(dropped)


def _again() -> None:
    time.sleep(0.01)
    _thread.interrupt_main()
