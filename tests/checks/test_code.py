from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import resource
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from redraft.chain import Prompt
from redraft.checks import sandbox
from redraft.checks.base import AT_ONCE, Outcome
from redraft.checks.code import MAX_STARTS, CodeCheck, code_check_of, program_of
from redraft.errors import UsageError
from tests.checks.hostile import ATTACKS, Hostile, Prey, marked, marking, none_left
from tests.cli.verbs import wait_until

needs_sandbox = pytest.mark.usefixtures("a_sandbox")


def run(answer: str, *tests: str, setup: str = "", seconds: float = 5.0) -> Outcome:
    return asyncio.run(CodeCheck(tests, setup, seconds).check(answer, Prompt()))


# What passes


PROGRAM = """
import collections, dataclasses

class Node:
    def __init__(self, value, left=None):
        self.value, self.left = value, left

@dataclasses.dataclass
class Point:
    x: "int"

LIMIT = 10
def sort(row): row.sort()
def depth(node): return 0 if node is None else 1 + depth(node.left)
def refuse(x): raise ValueError(f"no {x}")
def half(x): return x / 2
def sum(a, b): return a * 100 + b
def big(): return 7 ** 9000
"""

RIGHT = [
    "row = [3, 1, 2]\nsort(row)\nassert row == [1, 2, 3]",
    "assert depth(Node(1, Node(2))) == 2 and isinstance(Node(1), Node) and Point(3).x == 3 and LIMIT == 10",
    "assert abs(half(1) - 0.5) < 1e-9 and math.isclose(half(1), 0.5) and Fraction(half(1)) == Fraction(1, 2)",
    "try:\n    refuse(1)\n    assert False\nexcept ValueError as error:\n    assert str(error) == 'no 1'",
    "assert sum(1, 2) == 102",
    "assert big() == 7 ** 9000",
    "def check(candidate):\n    for n in range(50):\n        assert candidate(n) == n / 2\ncheck(half)",
]


@needs_sandbox
def test_tests_use_the_program_as_if_it_were_theirs() -> None:
    setup = "from fractions import Fraction"
    outcome = run(PROGRAM, *RIGHT, setup=setup)
    assert (outcome.passed, outcome.message) == (True, f"The program passes all {len(RIGHT)} tests.")
    assert run("def nothing(): pass", *RIGHT, setup=setup).score == 0


@needs_sandbox
def test_the_setup_runs_before_the_program_or_after_it() -> None:
    assert run("def f(): return helper(2)", "assert f() == 4", setup="def helper(n): return n * 2").passed
    tree = "class Node:\n    def __init__(self, n): self.n = n\ndef value(node): return node.n"
    assert run(tree, "assert value(root) == 7", setup="root = Node(7)").passed
    outcome = run("def f(): return 1", "assert f() == 1", setup="root = Node(7)")
    assert outcome.message == "The program fails when it is loaded: NameError: name 'Node' is not defined."


@needs_sandbox
def test_threads_and_exit_handlers_do_not_keep_a_program() -> None:
    program = (
        "import atexit, threading, time\natexit.register(time.sleep, 600)\n"
        "threading.Thread(target=time.sleep, args=[600]).start()\nprint('x' * 10**7)\ndef f(): return 1"
    )
    assert run(program, "assert f() == 1", seconds=300).passed  # they would keep it for 600


# What is said of the others


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("def f(x): return 7", "Test 1: f(3) returned 7, which is wrong."),
        (
            "def f(x):\n    return 1 / 0",
            "Test 1: f(3) raised ZeroDivisionError: division by zero on line 2 of the answer.",
        ),
        (
            "def f(): return 1",
            "Test 1: f(3) raised TypeError: f() takes 0 positional arguments but 1 was given.",
        ),
        ("def g(x): return 1", "Test 1: the program does not define f."),
        ("import os\ndef f(x): os._exit(0)", "Test 1: f(…) ended the interpreter, or used too much memory."),
        ("def f(x):\n    while x: pass", "Test 1: f(…) took longer than 2 s."),
        ("def f(x): return None", "Test 1: f(3) returned None, which is wrong."),
        ("def f(x): raise SystemExit(0)", "Test 1: f(3) raised SystemExit: 0 on line 1 of the answer."),
        ("def f(x): assert x < 0", "Test 1: f(3) raised AssertionError on line 1 of the answer."),
        ("import atexit, os\natexit.register(os._exit, 0)", "Test 1: the program does not define f."),
        ("def f(x): return 'a' * 500", f"Test 1: f(3) returned '{'a' * 118}…, which is wrong."),
    ],
)
@needs_sandbox
def test_the_message_says_what_a_test_got(answer: str, message: str) -> None:
    found = run(answer, "assert f(3) == 987654", seconds=2).message
    assert found == f"The program passes 0 of 1 test.\n{message}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            "Try:\n```python\ndef f(x:\n```",
            "is not valid Python: '(' was never closed on line 3 of the answer.",
        ),
        ("while True: pass", "took longer than 2 s while it was loaded, before any test."),
        ("```python\n\n1 / 0\n```", "fails on line 3 of the answer when it is loaded: ZeroDivisionError: "),
        ("import numpy", "fails on line 1 of the answer when it is loaded: ModuleNotFoundError: No module"),
        ("import os; os._exit(0)", "ended the interpreter, or used too much memory while it was loaded, bef"),
    ],
)
@needs_sandbox
def test_the_message_says_why_a_program_is_not_loaded(answer: str, message: str) -> None:
    outcome = run(answer, "assert f(3) == 3", "assert f(4) == 4", seconds=2)
    assert (outcome.passed, outcome.score) == (False, 0.0)
    assert outcome.message.startswith(f"The program {message}")


@needs_sandbox
def test_an_answer_without_a_program_is_told_where_to_put_one() -> None:
    outcome = run("Rain is wet.", "assert f(3) == 3")
    assert outcome.message.startswith("The answer is not a Python program: invalid syntax on line 1")
    assert outcome.message.endswith("Put the program in a ```python block.")


@needs_sandbox
def test_the_score_is_the_share_of_tests_and_three_failures_are_shown() -> None:
    outcome = run("def f(x): return x if x < 2 else -1", *[f"assert f({n}) == {n}" for n in range(8)])
    assert (outcome.passed, outcome.score) == (False, 2 / 8)
    assert outcome.message.split("\n") == [
        "The program passes 2 of 8 tests.",
        *(f"Test {n + 1}: f({n}) returned -1, which is wrong." for n in (2, 3, 4)),
        "3 more tests do not pass.",
    ]


@needs_sandbox
def test_a_program_is_started_again_after_a_test_that_ended_it() -> None:
    ends = "import os\ndef f(x): return x if x % 2 else os._exit(0)"
    assert run(ends, *[f"assert f({n}) == {n}" for n in (1, 2, 3)]).score == 2 / 3
    many = run(ends, *["assert f(2) == 2"] * MAX_STARTS, "assert f(1) == 1")
    assert many.score == 0
    assert "1 more test" in many.message


@needs_sandbox
def test_no_message_or_demand_reveals_what_is_expected() -> None:
    check = CodeCheck(
        ("assert f(3) == 987654", "assert f(g(1)) == [987654]", "want = 987654\nassert f(1) == want")
    )
    assert "f, g" in check.demand
    assert "987654" not in check.demand + check.name
    for program in ("def f(x): return x\ng = f", "def f(x): return {}[x]\ng = f", "f = g = 3", "g = 1", ""):
        assert "987654" not in asyncio.run(check.check(program, Prompt())).message


@needs_sandbox
def test_the_demand_names_what_tests_take_from_the_program() -> None:
    assert CodeCheck(
        ("assert abs(area(Box(1)) - math.pi) < 1", "def check(c):\n    assert c(1)\ncheck(area)"),
        "import math",
    ).demand.startswith("Answer with a Python program that defines area, Box, in a ```python block;")


@pytest.mark.parametrize(
    ("answer", "test", "places"),
    [
        ("def f(x): return 1\n\ndef f(x): return 3\n", "assert f(2) == 2", ["def f(x): return 3"]),
        ("a = 1\rdef f(x):\r  return 3\r", "assert f(2) == 2", ["def f(x):\r  return 3"]),
        ("def f(g):\n  return 3\n\ndef g():\n  return 1 / 0", "assert f(g())", ["def g():\n  return 1 / 0"]),
        (
            "async def f(x):\r\n  return 3\r\n",
            "assert asyncio.run(f(2)) == 2",
            ["async def f(x):\r\n  return 3"],
        ),
        ("Try:\n```python\nx = 1\ny = (\n\n```\nIt may do.", "assert x", ["y = ("]),
        ("def g(x): return x", "assert g(f(1)) == 2", []),  # it has no f
        ("class A:\n  def f(self): return 1", "assert f(A()) == 2", []),
        ("x = 1\ny = 2", "assert 1 == 2", []),
    ],
)
@needs_sandbox
def test_a_failed_test_has_a_place(answer: str, test: str, places: list[str]) -> None:
    assert [answer[slice(*place)] for place in run(answer, test).places] == places  # type: ignore[misc]


@needs_sandbox
def test_a_report_that_a_program_forges_has_no_place() -> None:
    said = {"passed": False, "fault": {"line": "1", "type": "E", "text": "", "syntax": False}}
    forge = "import os\nfor n in range(3, 64):\n  try: os.write(n, b'%s\\n')\n  except OSError: pass"
    outcome = run(forge % json.dumps(said), "assert 0")
    assert (outcome.message, outcome.places) == (
        "The program fails on line 1 of the answer when it is loaded: E.",
        (),
    )


# Which part of the answer is the program


@pytest.mark.parametrize(
    ("answer", "program"),
    [
        ("x = 1", "x = 1"), ("Say:\n```python\nx = 1\n```\nDone.", "\n\nx = 1\n\n"),
        ("```\nx = 1\n```", "\nx = 1\n"), ("```py\nx = 1\n```\n```\noutput\n```", "\nx = 1\n\n\n\n"),
        ("```python\nx = 1\n```\nand\n```Python\ny = 2\n```", "\nx = 1\n\n\n\ny = 2\n"),
        ("1. So:\n   ```python\n   if x:\n       y\n   ```", "\n\nif x:\n    y\n"),
        ("```python\r\nx = 1\r\n", "\nx = 1\n"), ("```python\n```", "\n"), ("```python", ""),
    ],
)  # fmt: skip
def test_the_program_in_an_answer(answer: str, program: str) -> None:
    assert program_of(answer)[0] == program


# Checks and records


@needs_sandbox
def test_the_check_of_a_record() -> None:
    meta = {
        "tests": {"setup": "import math", "asserts": ["assert f(1) == 1"], "challenge": ["assert f(2) == 2"]}
    }
    assert code_check_of(meta) == CodeCheck(("assert f(1) == 1", "assert f(2) == 2"), "import math")
    for other in (None, {"asserts": []}, {"public": [{"input": "1", "output": "2"}]}):
        assert code_check_of({"tests": other}) is None


@pytest.mark.parametrize(
    ("tests", "setup", "message"),
    [
        ((), "", "a code check has no tests"),
        (
            ("assert f(1) == 1", "assert f(1 =="),
            "",
            "test 2 of a code check is not valid Python on line 1: 'assert f",
        ),
        (("assert f(1)",), "import", "the setup of a code check is not valid Python on line 1: 'import'"),
    ],
)
def test_tests_that_are_wrong(tests: tuple[str, ...], setup: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CodeCheck(tests, setup)


@pytest.mark.parametrize(
    ("program", "problem", "hint"),
    [
        (None, "needs bubblewrap, which is not installed", "apt install bubblewrap"),
        ("echo 'bwrap: No permissions to create new namespace.' >&2; exit 1", "No permissions", "allow user"),
        ("exec sleep 600", "timed out", "allow user"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the error is another")
def test_without_a_sandbox_the_check_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str | None, problem: str, hint: str
) -> None:
    if program:
        (tmp_path / "bwrap").write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sandbox, "TRY_SECONDS", 0.5)
    sandbox.find_sandbox.cache_clear()
    try:
        with pytest.raises(UsageError, match=problem) as caught:
            CodeCheck(("assert f(1) == 1",))
    finally:
        sandbox.find_sandbox.cache_clear()
    assert hint.lower() in (caught.value.hint or "").lower()


# Programs that want to do harm


def runs(programs: list[Hostile], prey: Prey) -> list[Outcome]:
    """Run programs, four at a time, and see that nothing of them is left, and nothing harmed."""
    mark = uuid.uuid4().hex

    async def one(program: Hostile, four: asyncio.Semaphore) -> Outcome:
        async with four:
            return await prey.attacked_by(program)

    async def all_of_them() -> list[Outcome]:
        four = asyncio.Semaphore(4)
        return await asyncio.gather(*(one(program, four) for program in programs))

    with marking(mark):
        outcomes = asyncio.run(all_of_them())
    assert none_left(mark)
    assert prey.harm() == []
    return outcomes


@needs_sandbox
def test_no_hostile_program_harms_or_outlives_the_run(tmp_path: Path) -> None:
    with Prey(tmp_path) as prey:
        outcomes = runs(ATTACKS, prey)
    found = dict(zip(ATTACKS, outcomes, strict=True))
    assert [program.name for program, outcome in found.items() if outcome.score > 0] == []
    # our own mistakes
    broken = ("NameError", "SyntaxError", "UnboundLocal", "not valid Python", "ImportError")
    assert [outcome.message for outcome in outcomes if any(word in outcome.message for word in broken)] == []
    late = [program for program, outcome in found.items() if "took longer" in outcome.message]
    assert late == [program for program in ATTACKS if program.waits]


CLINGS = """
import ctypes, os, signal, time
ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
for leave in (os.setsid, lambda: os.setpgid(0, 0)):
    try: leave()
    except OSError: pass
for n in range(1, 32):
    try: signal.signal(n, signal.SIG_IGN)
    except (OSError, ValueError): pass
time.sleep(600)
"""
"""Wants no signal when its parent dies (PR_SET_PDEATHSIG), and leaves its group."""


@needs_sandbox
def test_a_program_dies_with_redraft() -> None:
    mark = uuid.uuid4().hex
    script = f"""
import asyncio
from redraft.chain import Prompt
from redraft.checks.code import CodeCheck
from tests.checks.hostile import marking
with marking({mark!r}): asyncio.run(CodeCheck(("assert f()",), "", 600).check({CLINGS!r}, Prompt()))
"""
    parent = subprocess.Popen([sys.executable, "-c", script])
    wait_until(lambda: len(marked(mark)) >= 2)
    time.sleep(0.2)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert none_left(mark)


@pytest.mark.parametrize("milliseconds", [0, 5, 20, 150])
@needs_sandbox
def test_cancelling_at_any_moment_leaves_nothing(milliseconds: int) -> None:
    mark = uuid.uuid4().hex

    async def cancelled() -> None:
        check = CodeCheck(("assert f() == 1",))
        task = asyncio.ensure_future(check.check("import time; time.sleep(60)", Prompt()))
        await asyncio.sleep(milliseconds / 1000)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    gc.collect()  # what earlier tests left
    before = len([*Path("/proc/self/fd").iterdir()])
    with marking(mark):
        asyncio.run(asyncio.wait_for(cancelled(), 300))
    gc.collect()  # a pipe left open is a ResourceWarning, which is an error here
    assert len([*Path("/proc/self/fd").iterdir()]) <= before
    assert none_left(mark)


@pytest.mark.slow
@needs_sandbox
def test_a_thousand_answers_of_a_batch_wait_for_their_turn() -> None:
    """Each check has some seven open files; many systems allow a process 1,024."""
    opened = len(list(Path("/proc/self/fd").iterdir()))  # by other tests of this process
    answers, allowed = 3 * AT_ONCE + 10, opened + 64 + 10 * AT_ONCE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def check_all() -> list[Outcome]:
        check = CodeCheck(("assert f(1) == 2",))
        one = (check.check("def f(x): return x + 1", Prompt(instruction="?")) for _ in range(answers))
        return await asyncio.gather(*one)

    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    try:
        outcomes = asyncio.run(check_all())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert all(outcome.passed for outcome in outcomes)
