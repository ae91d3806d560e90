"""Define tasks (plugins of `redraft.tasks`): the prompts for records, and the checks for answers.

The published files are read unchanged. The prompts use redraft's wording, without examples. The results
of a task's checks are stored in the chain's `meta["eval"]`, apart from the results of the guiding checks.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from redraft.chain import Chain, Prompt, Step, is_blank, meta_of
from redraft.chain.read.records import chain_of, place_of
from redraft.chain.texts import gold_answers
from redraft.checks.base import Check, run_checks
from redraft.checks.code import CodeCheck
from redraft.checks.echo import is_echo
from redraft.checks.final import FinalLetter, FinalMaths, Number
from redraft.checks.ifeval import Constraint, loosened
from redraft.checks.parse import checks_in, parse_checks
from redraft.checks.sandbox import find_sandbox
from redraft.errors import CheckSyntaxError, RecordError, UsageError, nearest
from redraft.jobs.ledger import failures
from redraft.jobs.plugins import Kind, plugins

KEY = "eval"  # the field of `meta` with the truth about a chain's answers
UNSCORED = "any prompts"  # the name of a task without checks, for a judge. No plugin can have this name


@dataclass(frozen=True)
class Task(Kind):
    """A task: the prompts for records, and the checks that score the answers."""

    has: str  # the fields that its records should have, as text for errors
    checks: Callable[[str, Chain], Sequence[Check]]  # returns the scoring checks for (gold answer, record)
    prompt: Callable[[Chain], str] | None = None  # returns the prompt for a record; None: the record's own
    groups: tuple[tuple[str, str], ...] = ()  # (field, prefix): each value of the field gets its own score
    runs_code: bool = False  # whether the checks run programs that the model wrote
    # Returns variants of an answer for a loose score: a check passes if any variant passes it.
    loosened: Callable[[str], Iterable[str]] | None = None
    # Functions that make records, by name: each is called with the number of records and a seed.
    draws: Mapping[str, Callable[[int, int], Sequence[Chain]]] = field(default_factory=dict)


def _number(gold: str, _: Chain) -> Sequence[Check]:
    try:
        return [Number.of(gold)]
    except CheckSyntaxError:
        raise CheckSyntaxError(f"the gold answer {gold!r:.40} is not a number.") from None


def _letter(gold: str, record: Chain) -> Sequence[Check]:
    options = meta_of(record, "source").get("options") or []
    letters = "".join(str(option).strip()[:1] for option in options) or "ABCDE"
    if len(gold) != 1 or gold not in letters:
        raise CheckSyntaxError(f"the gold answer {gold!r:.40} is not one of the options.")
    return [FinalLetter(gold, letters)]


def _unit_tests(_: str, record: Chain) -> Sequence[Check]:
    tests = record.meta.get("tests")
    if not isinstance(tests, Mapping) or not tests.get("asserts"):
        raise CheckSyntaxError("the record has no tests.")
    return [CodeCheck(tuple(tests["asserts"]), tests.get("setup") or "")]


def _constraints(_: str, record: Chain) -> Sequence[Check]:
    source = meta_of(record, "source")
    names, values = source.get("instruction_id_list"), source.get("kwargs")
    if not isinstance(names, list) or not isinstance(values, list) or len(names) != len(values) or not names:
        raise CheckSyntaxError("`instruction_id_list` and `kwargs` must be two lists of equal length.")
    return [Constraint.of(name, value) for name, value in zip(names, values, strict=True)]


def _own_checks(_: str, record: Chain) -> Sequence[Check]:
    if not (found := checks_in(record)):
        source = meta_of(record, "source")
        said = f"the record has {'an empty' if source.get('checks') == [] else 'no'} list of `checks`."
        near = (name for name in source if name != "checks" and nearest(str(name), ["checks"]))
        hints = (f"The field {name!r} is not read. Did you mean 'checks'?" for name in near)
        raise CheckSyntaxError(said, hint=next(hints, None))
    return found


_STEPS = "Work it out step by step. "


def _last_line(what: str) -> Callable[[Chain], str]:
    end = f'{_STEPS}Write the last line as "Answer:" with {what} alone behind it.'
    return lambda record: f"{record.prompt.text}\n\n{end}"


def _function(record: Chain) -> str:
    asked = "Complete this Python function. Answer with the whole program in a ```python block."
    return f"{asked}\n\n```python\n{record.prompt.text.rstrip()}\n```"


def _tested(record: Chain) -> str:
    tests = "\n".join(record.meta["tests"]["asserts"])
    asked = "Answer with a Python program in a ```python block. It has to pass these tests:"
    return f"{record.prompt.text}\n\n{asked}\n\n```python\n{tests}\n```"


GSM8K = Task("a `question` and an `answer` that ends in `#### 42`", _number, _last_line("the number"))
AQUA = Task(
    "a `question`, `options` and the `correct` letter", _letter, _last_line("the letter of the right option")
)
MATH = Task(
    "a `problem`, its `solution` and an `answer`",
    lambda gold, _: [FinalMaths.of(gold)],
    lambda record: f"{record.prompt.text}\n\n{_STEPS}Put the final answer in \\boxed{{}}.",
    groups=(("level", "level "), ("subject", "")),
)

HUMANEVAL = Task("a `prompt`, a `test` and an `entry_point`", _unit_tests, _function, runs_code=True)
MBPP = Task("a `text`, `code` and a `test_list`", _unit_tests, _tested, runs_code=True)
IFEVAL = Task("a `prompt`, an `instruction_id_list` and `kwargs`", _constraints, loosened=loosened)
CHECKS = Task('a `prompt` and `checks`, such as ["number=42"]', _own_checks, groups=(("group", ""),))
_UNSCORED = Task("a `prompt` and no checks. Or leave out --judge", lambda _, record: checks_in(record))


def task_named(name: str) -> Task:
    """Return the task with this name. Raise `UsageError` for an unknown name."""
    if name == UNSCORED:
        return _UNSCORED
    known = plugins("redraft.tasks")
    if not isinstance(name, str) or name not in known:
        hint = nearest(str(name), known) or f"Tasks: {', '.join(known)}"
        raise UsageError(f"there is no task {name!r:.40}.", hint=hint)
    plugin = known[name]
    task = plugin.load(Task)
    return replace(
        task,
        checks=plugin.guarded(task.checks, Sequence),
        prompt=task.prompt and plugin.guarded(task.prompt, str),
        loosened=task.loosened and plugin.guarded(task.loosened, Iterable),
    )


def task_of(name: str, *, run_code: bool = False) -> Task:
    """Return the task with this name. Tasks that run the model's programs need `run_code` and a sandbox."""
    task = task_named(name)
    if task.runs_code:
        if not run_code:
            hint = "Add --run-code. docs/checks.md#code says what the sandbox covers."
            message = f"{name} runs programs that a model wrote, which is not allowed by default."
            raise UsageError(message, hint=hint)
        find_sandbox()
    return task


def checks_of(task: Task, record: Chain, file: Path = Path()) -> tuple[Check, ...]:
    """Return the checks that score the answers to a record of the task. Errors name `file`."""
    try:
        found = parse_checks(task.checks("".join(gold_answers(record)[:1]).strip(), record))
        if bool(found) != (task is _UNSCORED):
            return found
        has = "checks, so no judge is needed" if found else "no check that scores"
        problem, hint = f"the record has {has}.", None
    except UsageError as error:
        problem, hint = error.message, error.hint
    raise RecordError(
        f"{place_of(file, record.id)}: {problem}", hint=hint or f"A record should have {task.has}."
    )


def asked(
    task: Task, records: Iterable[Chain], limit: int | None = None, *, file: Path = Path()
) -> Iterator[Chain]:
    """Yield at most `limit` records, each with the task's prompt and without answers."""
    for record in islice(records, limit):
        checks_of(task, record, file)
        prompt = Prompt(instruction=task.prompt(record)) if task.prompt else record.prompt
        yield Chain(id=record.id, prompt=prompt, meta=record.meta)


def unanswered(record: Chain) -> Chain:
    """Return a record's chain with an empty answer as the only step."""
    return record.model_copy(update={"steps": (Step(answer=""),), "best": 0})


def is_answer(step: Step) -> bool:
    """Return whether a step has an answer: a text that is not an echo (`Step.echo`), blank or `lost`."""
    return not step.echo and not is_blank(step.answer) and step.finish != "lost"


def all_pass(results: Sequence[Any]) -> bool:
    """Return whether there are results of checks, and all passed."""
    return bool(results) and all(result.passed for result in results)


def empty_answers(file: Path, done: Container[str]) -> Iterator[Chain]:
    """Yield a chain for each empty answer in an output's `.errors.jsonl`, except for ids in `done`."""
    for name, failure in failures(file).items():
        if failure["error"] == "EmptyReply" and name not in done:
            yield unanswered(chain_of({"chain": None, "message": ""} | failure, f"{file}.errors.jsonl"))


async def scored(chain: Chain, name: str, checks: Sequence[Check]) -> Chain:
    """Return a chain with the check results of each answer in `meta["eval"]`.

    The field contains the task, the record's groups, and the check results of each step and draft. If the
    task has a loose score, the field also tells which checks each step passes loosely.
    """
    task = task_named(name)
    # A given answer may be a copy of the prompt, which contains the words that checks look for.
    steps = [
        step if step.echo else step.model_copy(update={"echo": is_echo(step.answer, chain.prompt)})
        for step in chain.steps
    ]
    chain = chain.model_copy(update={"steps": tuple(steps)})
    source = meta_of(chain, "source")
    groups = [f"{named}{source[key]}" for key, named in task.groups if isinstance(source.get(key), str | int)]
    about: dict[str, Any] = {"task": name, "groups": groups}
    about["steps"] = await results_of(checks, chain.steps, chain.prompt)
    if chain.drafts:
        about["drafts"] = await results_of(checks, chain.drafts, chain.prompt)
    if task.loosened:
        about["loose"] = []
        for step in chain.steps:
            ways = [await run_checks(checks, text, chain.prompt) for text in task.loosened(step.answer)]
            about["loose"].append([any(way.passed for way in found) for found in zip(*ways, strict=True)])
    return chain.model_copy(update={"meta": {**chain.meta, KEY: about}})


async def results_of(
    checks: Sequence[Check], steps: Iterable[Step], prompt: Prompt
) -> list[list[dict[str, Any]]]:
    """Return the results of the checks on each answer as JSON values."""
    found = [await run_checks(checks, step.answer, prompt, step.reasoning) for step in steps]
    return [[result.model_dump() for result in results] for results in found]
