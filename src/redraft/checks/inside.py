"""Run a program and tests of the program. `sandbox` starts this file inside the sandbox.

The program and tests are read from standard input, as JSON. A line of JSON is written when this script is
ready, when the program is loaded, and after each test. Because program and tests share this interpreter, a
program can fake results (docs/checks.md). Only the standard library is available.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import types
from collections.abc import Callable, Iterator

TYPE_CHECKING = False  # importing typing would make each start slower
if TYPE_CHECKING:
    from typing import Any

FILE = "<program>"  # the name of the program in tracebacks
SHOWN = 120  # most characters of a value or a call in a report

MEMORY = 512 * 1024 * 1024  # most address space in bytes. It bounds threads too, which reserve 8 MB each.
FILES = 64  # most open files
DISK = 64 * 1024 * 1024  # most bytes in a file, and in /tmp


def main(seconds: int) -> None:
    """Read a program and tests from standard input, and run them within `seconds` of CPU time."""
    job = json.loads(sys.stdin.readline())
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    _limit(seconds)
    for line in _lines(job):
        out.write(json.dumps(line) + "\n")
        out.flush()
    os._exit(0)  # neither threads nor exit handlers of the program may keep this process alive


def _limit(seconds: int) -> None:
    import resource  # only Unix has it

    printed = os.open("/tmp", os.O_TMPFILE | os.O_RDWR)  # noqa: S108  (a file system of its own)
    for number in (0, 1, 2):
        os.dup2(printed, number)
    os.close(printed)
    for limit, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, DISK),
        (resource.RLIMIT_NOFILE, FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    sys.set_int_max_str_digits(0)


def _lines(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"ready": True}
    module = sys.modules["program"] = types.ModuleType("program")
    try:
        _load(job["program"], job["setup"], module.__dict__)
    except BaseException as error:  # noqa: BLE001  (a program may raise anything)
        yield {"passed": False, "fault": _fault_of(error)}
        return
    yield {"passed": True}
    for test in job["tests"]:
        yield _tried(test, module.__dict__)


def _load(program: str, setup: str, space: dict[str, Any]) -> None:
    try:
        exec(compile(setup, "<setup>", "exec"), space)  # noqa: S102  (this is what the sandbox is for)
        again = False
    except NameError:
        again = True
    exec(compile(program, FILE, "exec"), space)  # noqa: S102
    if again:
        exec(compile(setup, "<setup>", "exec"), space)  # noqa: S102


def _tried(test: str, names: dict[str, Any]) -> dict[str, Any]:
    last: dict[str, str] = {}
    space = dict(names)
    for name, value in names.items():
        if isinstance(value, types.FunctionType) and value.__code__.co_filename == FILE:
            space[name] = _noted(name, value, last)
    try:
        exec(compile(test, "<test>", "exec"), space)  # noqa: S102
    except BaseException as error:  # noqa: BLE001  (a test may raise anything)
        fault, within = _fault_of(error), {} if "value" in last else last
        if within or fault["line"]:
            return {"passed": False, **within, "fault": fault}
        if isinstance(error, NameError) and error.name not in names and not last:
            return {"passed": False, "missing": str(error.name)}
        raised = None if isinstance(error, AssertionError) else type(error).__name__
        return {"passed": False, **last, "raised": raised}
    return {"passed": True}


def _noted(name: str, function: Callable[..., Any], last: dict[str, str]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        shown = [_shown(arg) for arg in args] + [f"{key}={_shown(value)}" for key, value in kwargs.items()]
        last.clear()
        last["call"] = _short(f"{name}({', '.join(shown)})")
        value = function(*args, **kwargs)
        last["value"] = _shown(value)
        return value

    return call


def _shown(value: Any) -> str:
    try:
        return _short(repr(value))
    except Exception:  # noqa: BLE001  (`__repr__` may be the program's own)
        return f"<{type(value).__name__} object>"


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _fault_of(error: BaseException) -> dict[str, Any]:
    line, place, text = None, error.__traceback__, str(error)
    while place is not None:
        if place.tb_frame.f_code.co_filename == FILE:
            line = place.tb_lineno
        place = place.tb_next
    if isinstance(error, SyntaxError) and error.filename == FILE:
        line, text = error.lineno, error.msg
    kind = {"type": type(error).__name__[:60], "syntax": isinstance(error, SyntaxError)}
    return {**kind, "text": " ".join(text[:1000].split())[:200], "line": line}


if __name__ == "__main__":
    main(int(sys.argv[1]))
