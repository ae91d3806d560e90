"""The rules that reject what a teacher wrote, each with a name by which rejects are counted.

Those of Alpaca: `short`, `long`, `blocked`, `program`, `start`, `similar`, `cut`. Those of Self-Instruct:
`same`, `colon`, `conflict`. The others catch what chat models add: refusals, loops, markers of formats.
A task is rejected by the first rule that finds a fault. Whether an answer is right is not judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from redraft.checks.language import BY_NAME, language_of, near
from redraft.checks.segment import count_words
from redraft.data.clean.rules import ALPACA
from redraft.data.generate.instructions.tasks import Task
from redraft.data.generate.instructions.wording import NO_INPUT, Wanted
from redraft.data.generate.leaks import is_refusal


class Fault(NamedTuple):
    """The rule that rejects a text, and what it found."""

    rule: str
    reason: str


class Found(NamedTuple):
    """A task in a reply, and its fault if the reply itself shows one."""

    task: Task
    fault: Fault | None = None


_MARKERS = re.compile(
    rf"{NO_INPUT}|<\|\w+\|>|\[/?INST\]|^#+ *(?:instruction|input|response|answer|feedback|revision)\b[ \d]*:",
    re.IGNORECASE | re.MULTILINE,
)
_LOOP = range(8, 202)  # characters of what a loop repeats, with a space
_TIMES = 5
_LOOKED_AT = 4000  # characters at the end in which a loop is looked for
_OPENING = "\"'“”‘’«»„¿¡("
_PROGRAM = "write a program"


def repeats(text: str) -> str:
    """Return what a text repeats at its end, five times or more; empty if nothing. Spaces do not matter."""
    end = " " + " ".join(text[-_LOOKED_AT:].split())
    units = (end[-length:] for length in _LOOP)
    return next((unit.strip() for unit in units if end.endswith(unit * _TIMES)), "")


def fault_of_reply(text: str, *, cut: bool) -> Fault:
    """Return why nothing could be read in a reply. `cut` says that it ends at the limit of tokens."""
    if not text.strip():
        return Fault("empty", "the reply is empty")
    if is_refusal(text):
        return Fault("refusal", f"the reply refuses: {text.strip()[:60]!r}")
    if looped := repeats(text):
        return Fault("repeats", f"{looped[:60]!r} again and again")
    if cut:
        return Fault("cut", "the reply ends at the limit of tokens, before anything is whole")
    return Fault("format", "the reply is not in the form that was asked for")


def check_instruction(task: Task, wanted: Wanted) -> Fault | None:
    """Return the first fault of an instruction, or None. Whether it is new is the pool's to say."""
    return next(_instruction_faults(task.instruction, wanted), None)


def _instruction_faults(text: str, wanted: Wanted) -> Iterator[Fault]:
    if not text:
        yield Fault("empty", "the instruction is empty")
    number = count_words(text)
    if number < wanted.least_words:
        yield Fault("short", f"the instruction has {number} words, at least {wanted.least_words}")
    if number > wanted.most_words:
        yield Fault("long", f"the instruction has {number} words, at most {wanted.most_words}")
    first = text[0]
    foreign = not first.isascii() and _code(wanted.language) == "en"
    if first not in _OPENING and (foreign or not first.isalnum()):
        yield Fault("start", f"the instruction begins with {first!r}")
    if word := ALPACA.find(text):
        yield Fault("blocked", f"{word!r}: not a task for text alone")
    if text.casefold().startswith(_PROGRAM):
        yield Fault("program", f"begins with {_PROGRAM!r}, without saying for what to run it")
    yield from _marked(text)


def _marked(text: str) -> Iterator[Fault]:
    if found := _MARKERS.search(text):
        yield Fault("markers", f"{found[0].strip()!r} belongs to the form of a prompt")


def check_answer(task: Task, wanted: Wanted) -> Fault | None:
    """Return the first fault of a task's input and output, or None."""
    return next(_answer_faults(task, wanted), None)


def _answer_faults(task: Task, wanted: Wanted) -> Iterator[Fault]:
    if not task.output:
        yield Fault("empty", "the output is empty")
    if is_refusal(task.output):
        yield Fault("refusal", f"the output refuses: {task.output[:60]!r}")
    if looped := repeats(task.output) or repeats(task.input):
        yield Fault("repeats", f"{looped[:60]!r} again and again")
    yield from _marked(f"{task.input}\n{task.output}")
    if task.output == task.input:
        yield Fault("same", "the output is the input")
    if task.output.endswith(":") or task.input.endswith(":"):
        yield Fault("colon", "input or output ends with a colon: something is missing")
    text = f"{task.instruction}\n{task.output}"
    if (wrong := language_of(text)) and (code := _code(wanted.language)) and code not in near(wrong):
        yield Fault("language", f"is in {wrong!r}, not in {code!r}")


def _code(language: str) -> str:
    """Return the ISO 639 code of a language; empty if it is not known, so that nothing is judged by it."""
    name = language.strip().lower()
    return BY_NAME.get(name, name if len(name) in (2, 3) else "")


def check_instances(tasks: Sequence[Task], wanted: Wanted) -> list[Found]:
    """Return the instances of one instruction with their faults, those of Self-Instruct included.

    An input that comes with different outputs spoils all its instances. An instance that repeats another is
    dropped.
    """
    outputs: dict[str, set[str]] = {}
    for task in tasks:
        outputs.setdefault(task.input, set()).add(task.output)
    seen: set[Task] = set()
    found = []
    for task in tasks:
        fault = check_answer(task, wanted)
        if fault is None and len(outputs[task.input]) > 1:
            fault = Fault("conflict", "this input has several outputs")
        elif fault is None and task in seen:
            fault = Fault("duplicate", "repeats an instance of the instruction")
        seen.add(task)
        found.append(Found(task, fault))
    return found
