"""A check that runs a model's Python program against unit tests, in a sandbox.

docs/checks.md lists what a program can fake. The check has no short form and is made only in Python code, so
no `--check`, recipe or file can start a program that a model wrote.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from redraft.chain import Prompt
from redraft.checks.base import Outcome, failed, passed
from redraft.checks.json_reading import fenced
from redraft.checks.sandbox import Job, Report, find_sandbox, run_job
from redraft.errors import UsageError
from redraft.jobs.counting import counted

TEST_SECONDS = 5.0  # the default time limit of a test, and of loading the program

MAX_STARTS = 3
"""The limit on a program's starts. After a hang or an exit, a new start runs the remaining tests."""

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BREAK = re.compile(r"\r\n?|\n")  # a line break in Python

MAX_SHOWN = 3  # most failed tests in a message: a model does not correct more at once


@dataclass(frozen=True)
class CodeCheck:
    """A check that the Python program in an answer passes unit tests."""

    # Python code, such as `assert f(1) == 2`. Each test runs alone, and passes if it raises nothing.
    tests: tuple[str, ...]
    # Code that runs before the program, and again after it if it needs the program's names.
    setup: str = ""
    seconds: float = TEST_SECONDS

    def __post_init__(self) -> None:
        """Parse the tests and try the sandbox, before any answer is paid for."""
        if not self.tests:
            raise UsageError("a code check has no tests.", hint='Write CodeCheck(("assert f(1) == 2",)).')
        _ = self._prepared
        find_sandbox()

    @property
    def name(self) -> str:
        """The check's name in results."""
        return f"code, {counted(len(self.tests), 'test')}"

    @property
    def demand(self) -> str:
        """A sentence that asks for a program with the names that the tests use."""
        names = dict.fromkeys(name for _, names in self._prepared for name in names)
        defining = f" that defines {', '.join(names)}" if names else ""
        program = f"a Python program{defining}, in a ```python block"
        return f"Answer with {program}; it may use the standard library."

    @cached_property
    def _prepared(self) -> list[tuple[str, list[str]]]:
        known = _bound(_parse(self.setup, "the setup of a code check"))
        trees = [_parse(test, f"test {at} of a code check") for at, test in enumerate(self.tests, start=1)]
        return [_prepare(test, tree, known) for test, tree in zip(self.tests, trees, strict=True)]

    async def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Run the tests. The score is the share of tests that pass."""
        program, fenced = program_of(answer)
        reports: list[Report] = []
        for _ in range(MAX_STARTS):
            tests = [test for test, _ in self._prepared[len(reports) :]]
            job: Job = {"program": program, "setup": self.setup, "tests": tests}
            loaded, *found = await run_job(job, self.seconds)
            if not loaded["passed"]:
                message = _load_message(loaded, self.seconds, fenced=fenced)
                return failed(message, places=_places(answer, [(loaded, [])]))
            reports += found
            if len(reports) == len(self.tests):
                break
        right, total = sum(report["passed"] for report in reports), len(self.tests)
        if right == total:
            return passed(f"The program passes {'the test' if total == 1 else f'all {total} tests'}.")
        pairs = enumerate(zip(reports, self._prepared, strict=False), start=1)
        wrong = [(at, report, names) for at, (report, (_, names)) in pairs if not report["passed"]]
        shown = wrong[:MAX_SHOWN]
        told = [f"Test {at}: {_test_message(report, names, self.seconds)}" for at, report, names in shown]
        if left := total - right - len(told):
            told.append(f"{left} more {'test does' if left == 1 else 'tests do'} not pass.")
        passes = f"The program passes {right} of {counted(total, 'test')}."
        places = _places(answer, [(report, names) for _, report, names in wrong])
        return failed("\n".join([passes, *told]), score=right / total, places=places)


def code_check_of(meta: Mapping[str, Any]) -> CodeCheck | None:
    """Return the check for the `tests` in a record's `meta`; None without `asserts`.

    `tests` is `{"setup": text, "asserts": [text], "challenge": [text]}`; `challenge` has harder assertions.
    """
    tests = meta.get("tests")
    if not isinstance(tests, Mapping) or not tests.get("asserts"):
        return None
    return CodeCheck((*tests["asserts"], *(tests.get("challenge") or ())), tests.get("setup") or "")


def program_of(answer: str) -> tuple[str, bool]:
    """Return the program in an answer, and whether the program was fenced.

    The program is all blocks marked as Python, or else all unmarked blocks, or else the whole answer. Other
    lines become empty, to keep the line numbers.
    """
    text = _BREAK.sub("\n", answer)
    blocks = fenced(text)
    for marks in (("python", "py", "python3"), ("",)):
        if chosen := [block for block in blocks if block.mark in marks]:
            kept = [""] * (text.count("\n") + 1)
            for block in chosen:
                lines = textwrap.dedent(text[block.begin : block.end]).split("\n")
                first = text.count("\n", 0, block.begin)
                kept[first : first + len(lines)] = lines
            return "\n".join(kept), True
    return text, False


def _parse(code: str, what: str) -> ast.Module:
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        where = f" on line {line}" if line else ""
        raise UsageError(f"{what} is not valid Python{where}: {code.strip()!r:.80}.") from None


def _bound(tree: ast.AST) -> set[str]:
    found = set[str]()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.add(node.name)
            case ast.alias():
                found.add((node.asname or node.name).partition(".")[0])
            case ast.arg():
                found.add(node.arg)
            case ast.ExceptHandler(name=str(name)) | ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
    return found


def _prepare(test: str, tree: ast.Module, known: set[str]) -> tuple[str, list[str]]:
    bound = _bound(tree) | known | {*dir(builtins)}
    nodes = list(ast.walk(tree))
    parts = [node.value for node in nodes if isinstance(node, ast.Attribute)]
    modules = {part.id for part in parts if isinstance(part, ast.Name)} & sys.stdlib_module_names - bound
    used = [node.id for node in nodes if isinstance(node, ast.Name) and node.id not in bound | modules]
    return "".join(f"import {module}\n" for module in sorted(modules)) + test, used


def parts_of(answer: str) -> list[tuple[range, int, int, str | None]]:
    """Return the parts of the program in an answer: functions, outer before inner, then statements.

    Each part is (lines, begin, end, name). The name is None for a statement that is not a definition. If a
    fenced program cannot be parsed, each unindented line begins a part with the name "".
    """
    program, marked_off = program_of(answer)
    found, parts = list[tuple[int, int, str | None]](), list[tuple[range, int, int, str | None]]()
    try:
        nodes = _parse(program, "a program").body
        functions = [part for node in nodes for part in ast.walk(node) if isinstance(part, _FUNCTIONS)]
        for node in [*functions, *nodes]:
            first = min(each.lineno for each in (node, *getattr(node, "decorator_list", ())))
            found.append((first, node.end_lineno or first, getattr(node, "name", None)))
    except UsageError:
        rows = [(at, row) for at, row in enumerate(program.split("\n"), 1) if row.strip() and marked_off]
        heads = [place for place, (_, row) in enumerate(rows) if row[0] not in " \t)]}"]
        found += [(rows[a][0], rows[b - 1][0], "") for a, b in pairwise([*heads, len(rows)])]
    begins = [0, *(each.end() for each in _BREAK.finditer(answer)), len(answer)]
    for first, last, name in found:
        begin, end = begins[first - 1], begins[last]
        text = answer[begin:end]
        parts.append((range(first, last + 1), end - len(text.lstrip()), begin + len(text.rstrip()), name))
    return parts


def _places(answer: str, faults: Iterable[tuple[Report, list[str]]]) -> list[tuple[int, int]]:
    places, parts = set[tuple[int, int]](), parts_of(answer)
    for report, names in faults:
        line, call = (report.get("fault") or {}).get("line"), report.get("call") or "".join(names[:1])
        name = "" if "missing" in report else str(call).partition("(")[0]
        held = [part for part in parts if line in part[0]]
        # If several functions have this name, the last one is called.
        held = held or [part for part in reversed(parts) if name and part[3] == name]
        if not held:
            return []
        places.add(held[0][1:3])
    return sorted(places)


def _load_message(report: Report, seconds: float, *, fenced: bool) -> str:
    if not (fault := report.get("fault")):
        return f"The program {_end(report, seconds)} while it was loaded, before any test."
    where = f" on line {fault['line']} of the answer" if fault.get("line") else ""
    if not fault["syntax"]:
        return f"The program fails{where} when it is loaded: {_error(fault)}."
    if fenced:
        return f"The program is not valid Python: {fault['text']}{where}."
    hint = "Put the program in a ```python block."
    return f"The answer is not a Python program: {fault['text']}{where}. {hint}"


def _test_message(report: Report, names: list[str], seconds: float) -> str:
    if "missing" in report:
        return f"the program does not define {report['missing']}."
    call = report.get("call") or (f"{names[0]}(…)" if names else "the program")
    if report.get("ended") or report.get("late"):
        return f"{call} {_end(report, seconds)}."
    if fault := report.get("fault"):
        line = f" on line {fault['line']} of the answer" if fault.get("line") else ""
        return f"{call} raised {_error(fault)}{line}."
    if "value" not in report:
        return "it fails."
    raised = report.get("raised")
    why = f", and the test raised {raised}" if raised else ", which is wrong"
    return f"{call} returned {report['value']}{why}."


def _end(report: Report, seconds: float) -> str:
    if report.get("late"):
        return f"took longer than {seconds:g} s"
    return "ended the interpreter, or used too much memory"


def _error(fault: dict[str, Any]) -> str:
    return f"{fault['type']}: {fault['text']}" if fault["text"] else str(fault["type"])
