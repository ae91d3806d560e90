from __future__ import annotations

import asyncio
import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from redraft.chain import CheckResult, Prompt
from redraft.checks.base import Outcome, failed, passed, run_check
from redraft.checks.function import FunctionCheck, demands
from redraft.checks.parse import parse_checks
from redraft.errors import CheckError, CheckSyntaxError

MODULE = """
from own_rules_helper import BAD

def polite(answer):
    return "It is rude: " + BAD if BAD in answer else None

async def on_topic(answer, prompt):
    return prompt.text in answer

LIMIT = 3
"""


@pytest.fixture
def folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (here / "own_rules.py").write_text(MODULE)
    (here / "own_rules_helper.py").write_text("BAD = 'fool'")
    (here / "broken_rules.py").write_text("1 / 0")
    (here / "needy_rules.py").write_text("import no_such_thing")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in ("own_rules", "own_rules_helper"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return here


def run(function: Callable[..., Any] | FunctionCheck, answer: str = "fool") -> CheckResult:
    check = function if isinstance(function, FunctionCheck) else FunctionCheck.around(function)
    return asyncio.run(run_check(check, answer, Prompt(instruction="rain")))


def test_a_function_of_the_current_folder_is_called(folder: Path) -> None:
    polite = FunctionCheck.of("own_rules.polite")
    assert (polite.name, run(polite).message) == ("python:own_rules.polite", "It is rude: fool")
    assert run(polite, "friend").passed


def test_an_async_function_with_the_prompt(folder: Path) -> None:
    on_topic = FunctionCheck.of("own_rules.on_topic")
    assert run(on_topic, "It will rain.").passed
    result = run(on_topic)
    assert not result.passed
    assert result.message == "on_topic rejects the answer."


@pytest.mark.parametrize(
    ("said", "passes", "score"),
    [
        (True, True, 1), (False, False, 0), (None, True, 1), (1, True, 1), (1.0, True, 1), (0, False, 0),
        (0.4, False, 0.4), ("Too rude.", False, 0),
        (failed("So-so", score=0.5), False, 0.5),
        (Outcome(passed=True, score=0.9, message="Fine"), True, 0.9),
    ],
)  # fmt: skip
def test_what_a_function_may_return(said: object, passes: bool, score: float) -> None:
    async def later(answer: str) -> object:
        return said

    def now(answer: str) -> object:
        return said

    for function in (now, later):
        result = run(function)
        assert (result.passed, result.score) == (passes, score)
        assert result.message


@pytest.mark.parametrize("said", [None, 2, -0.1, float("nan"), [], {"passed": True}, "", " \n", failed("")])
def test_what_says_nothing_about_an_answer_is_a_fault_of_the_check(said: object) -> None:
    with pytest.raises(CheckError, match="which is not a valid result") as caught:
        run(lambda answer: said)
    assert "Return True or None to pass" in str(caught.value.hint)
    line = test_what_says_nothing_about_an_answer_is_a_fault_of_the_check.__code__.co_firstlineno
    assert re.search(rf"\(test_function.py:{line + 3}\) returned", caught.value.message)
    rejects = f"The function at test_function.py:{line + 8} rejects the answer."
    assert run(lambda answer: False).message == rejects


def test_a_function_that_only_says_false_repeats_its_demand() -> None:
    assert run(demands("Say please.")(lambda answer: False)).message == "This is not met: Say please."


def named(answer: str, prompt: Prompt | None = None) -> str:
    return f"{answer} {prompt.text if prompt else None}"


def two(answer: str, asked: Prompt, *, more: int = 0) -> str:
    return f"{answer} {asked.text}"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda answer: answer, "fool"), (lambda answer, limit=3: f"{answer} {limit}", "fool 3"),
        (named, "fool rain"), (two, "fool rain"),
        (functools.partial(two, more=1), "fool rain"),
        (lambda *texts: " ".join(texts), "fool"),
        (str.upper, "FOOL"), (max, "o"),
    ],
)  # fmt: skip
def test_the_prompt_is_given_to_those_that_want_it(function: Callable[..., Any], message: str) -> None:
    assert run(function).message == message


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("polite", "does not name a function in a module"),
        ("own_rules.", "does not name a function in a module"),
        ("own rules.polite", "does not name a function in a module"),
        ("no_rules.polite", "there is no module 'no_rules'"),
        ("own_rules.sub.polite", "there is no module 'own_rules.sub'"),
        ("own_rules.rude", r"own_rules \(.*own_rules.py\) has no function 'rude'"),
        ("own_rules.LIMIT", "has no callable 'LIMIT'"),
    ],
)
def test_a_wrong_path_is_refused(folder: Path, path: str, problem: str) -> None:
    with pytest.raises(CheckSyntaxError, match=problem):
        FunctionCheck.of(path)


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        ("broken_rules", "broken_rules failed: broken_rules.py:1, in <module>: ZeroDivisionError: division"),
        ("needy_rules", "it needs the module 'no_such_thing', which is not installed"),
    ],
)
def test_a_module_that_fails_is_a_fault_of_the_check(folder: Path, module: str, problem: str) -> None:
    with pytest.raises(CheckError, match=problem):
        FunctionCheck.of(f"{module}.check")


def test_a_module_of_the_folder_does_not_hide_an_installed_one(folder: Path) -> None:
    (folder / "wave.py").write_text("def open(answer): return 'hidden'")
    assert FunctionCheck.of("wave.open").function.__module__ == "wave"
    assert str(folder) not in str(sys.modules["wave"].__file__)


def test_a_crash_names_its_file_and_line(folder: Path) -> None:
    (folder / "crashing.py").write_text(
        "import json\n\ndef divides(answer):\n    return 1 / 0\n\n\n"
        "def reads(answer):\n    return json.loads(answer)\n\n\n"
        "async def waits(answer):\n    raise KeyError('x')\n\n\n"
        "async def quits(answer):\n    raise SystemExit(3)\n"
    )
    (folder / "script.py").write_text("raise SystemExit(0)\n")
    for name, said in {
        "divides": "crashed: crashing.py:4, in divides: ZeroDivisionError: division by zero",
        "reads": "crashed: crashing.py:8, in reads: JSONDecodeError: Expecting value",
        "waits": "crashed: crashing.py:12, in waits: KeyError: 'x'",
        "quits": "crashed: crashing.py:16, in quits: SystemExit: 3",
    }.items():
        with pytest.raises(CheckError, match=re.escape(said)):
            run(FunctionCheck.of(f"crashing.{name}"))
    with pytest.raises(CheckError, match=r"importing script failed: script.py:1, in <module>: SystemExit"):
        FunctionCheck.of("script.check")


class ClassWithTheParts:
    name = "toy"

    def check(self, answer: str, prompt: Prompt) -> Outcome:
        return passed("")


@pytest.mark.parametrize("wrong", [lambda: True, lambda a, b, c: True, ClassWithTheParts, dict])
def test_what_cannot_be_called_with_an_answer_is_refused_before_there_is_one(wrong: Any) -> None:
    with pytest.raises(CheckSyntaxError, match="python:"):
        parse_checks([wrong])


@pytest.mark.parametrize(
    ("kind", "given", "passes"), [("bool_", 1, True), ("bool_", 0, False), ("float64", 0.5, False)]
)
def test_numpys_booleans_and_numbers_are_results(kind: str, given: float, passes: bool) -> None:
    value = getattr(pytest.importorskip("numpy"), kind)(given)
    found: Any = FunctionCheck.around(lambda answer: value).check("It rains.", Prompt())
    assert found.passed is passes


@pytest.mark.parametrize("places", [[(-3, 1000)], [(5, 2)], [(0, 5)], ["x"], [3]])
def test_a_place_outside_of_the_answer_is_a_fault_of_the_check(places: Any) -> None:
    with pytest.raises(CheckError) as caught:
        run(lambda _: failed("bad", places=places))
    assert "or a JSON pointer such as '/a'" in str(caught.value.hint)
